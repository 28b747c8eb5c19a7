#include "base/whole_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/sha256.h"

namespace ptgc {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20U;

// A regular file, open for reading.
class RegularFile {
 public:
  RegularFile(const std::filesystem::path& path, const std::string& action)
      : path_(path), action_(action), file_(Open(path)) {
    struct stat status = {};
    if (file_ < 0 || fstat(file_, &status) != 0) RefuseAndClose(ErrorOfSystem());
    if (!S_ISREG(status.st_mode)) RefuseAndClose("it is no regular file");
    size_ = static_cast<std::uint64_t>(status.st_size);
  }
  ~RegularFile() { Close(); }
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;

  std::uint64_t size() const { return size_; }
  // Continues reading; returns the number of bytes read, 0 at the end.
  std::size_t Read(std::span<char> bytes) const {
    for (;;) {
      const ssize_t count = read(file_, bytes.data(), bytes.size());
      if (count >= 0) return static_cast<std::size_t>(count);
      if (errno != EINTR) Refuse(ErrorOfSystem());
    }
  }
  [[noreturn]] void Refuse(const std::string& reason) const {
    throw Error(ErrorCode::kBundle, "Cannot read '" + path_.string() + "': " + reason + ".",
                action_);
  }

 private:
  // O_NONBLOCK, because opening a pipe must not wait for a writer.
  static int Open(const std::filesystem::path& path) {
    return open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  }
  static std::string ErrorOfSystem() { return std::generic_category().message(errno); }
  void Close() const {
    if (file_ >= 0) close(file_);
  }
  [[noreturn]] void RefuseAndClose(const std::string& reason) const {
    Close();
    Refuse(reason);
  }

  const std::filesystem::path& path_;  // Its path.
  const std::string& action_;          // The action for errors.
  int file_;                           // The descriptor; below 0 if not open.
  std::uint64_t size_ = 0;             // Bytes when it was opened.
};

}  // namespace

std::string ReadWholeFile(const std::filesystem::path& path, std::uint64_t most,
                          const std::string& action) {
  const RegularFile file(path, action);
  if (file.size() > most) {
    file.Refuse("it has " + std::to_string(file.size()) + " bytes, and at most " +
                std::to_string(most) + " are read");
  }
  std::string content(file.size(), '\0');
  std::size_t filled = 0;
  while (filled < content.size()) {
    const std::size_t count = file.Read(std::span(content).subspan(filled));
    if (count == 0) break;  // The file became shorter.
    filled += count;
  }
  content.resize(filled);
  return content;
}

bool IsInside(const std::filesystem::path& path) {
  if (path.empty() || path.is_absolute()) return false;
  return std::none_of(path.begin(), path.end(),
                      [](const std::filesystem::path& part) { return part == ".."; });
}

std::string Sha256OfFile(const std::filesystem::path& path, const std::string& action) {
  const RegularFile file(path, action);
  std::vector<char> bytes(kBlockBytes);
  Sha256 digest;
  while (const std::size_t count = file.Read(bytes)) {
    digest.Update({reinterpret_cast<const unsigned char*>(bytes.data()), count});
  }
  return digest.Finish();
}

}  // namespace ptgc
