#include "drafters/datastore.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "bundle/bundle_limits.h"

namespace ptgc {
namespace {

static_assert(std::endian::native == std::endian::little, "Files are read as they are.");

[[noreturn]] void Refuse(const std::filesystem::path& path, const std::string& reason) {
  throw Error(ErrorCode::kBundle,
              "Cannot use the datastore '" + path.string() + "': " + reason + ".",
              "Make one: ptgc datastore TEXT... --tokenizer BUNDLE -o FILE");
}

// A descriptor, closed at the end of the scope.
class OpenFile {
 public:
  // O_NONBLOCK, because opening a pipe must not wait for a writer.
  explicit OpenFile(const std::filesystem::path& path)
      : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~OpenFile() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;  // Below 0 if it is not open.
};

// Why a header cannot be used; empty if it can.
std::string Problem(const DatastoreHeader& header, std::size_t bytes) {
  if (header.magic != DatastoreHeader::kMagic) return "it is no datastore";
  if (header.version == std::uint32_t{DatastoreHeader::kVersion} << 24U) {
    return "it was written on a machine of another byte order";
  }
  if (header.version != DatastoreHeader::kVersion) {
    return "it has version " + std::to_string(header.version) + ", and this ptgc reads version " +
           std::to_string(DatastoreHeader::kVersion);
  }
  const auto most_entries = static_cast<std::uint64_t>(limits::kVocabSize.most) - 1;
  if (header.vocab_size < 1 || header.vocab_size > most_entries ||
      header.token_bytes != Datastore::TokenBytes(header.vocab_size) ||
      header.num_tokens > Datastore::kMostTokens || header.num_documents > header.num_tokens) {
    return "its header is damaged";
  }
  const std::uint64_t needed = sizeof(header) +
                               Datastore::NumSuffixes(header.num_tokens) * sizeof(std::uint32_t) +
                               header.num_tokens * header.token_bytes;
  if (needed == bytes) return "";
  return "it has " + std::to_string(bytes) + " bytes in place of " + std::to_string(needed) +
         (bytes < needed ? ": it is truncated" : "");
}

}  // namespace

Datastore::Datastore(const std::filesystem::path& path) {
  const OpenFile file(path);
  struct stat status = {};
  if (file.descriptor() < 0 || fstat(file.descriptor(), &status) != 0) {
    Refuse(path, std::generic_category().message(errno));
  }
  if (!S_ISREG(status.st_mode)) Refuse(path, "it is no regular file");
  bytes_ = static_cast<std::size_t>(status.st_size);
  if (bytes_ < sizeof(header_)) Refuse(path, "it is no datastore");
  mapped_ = mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (mapped_ == MAP_FAILED) Refuse(path, std::generic_category().message(errno));
  std::memcpy(&header_, mapped_, sizeof(header_));
  const std::string problem = Problem(header_, bytes_);
  if (!problem.empty()) {
    munmap(mapped_, bytes_);
    Refuse(path, problem);
  }
  const auto* const begin = static_cast<const unsigned char*>(mapped_) + sizeof(header_);
  suffixes_ = {reinterpret_cast<const std::uint32_t*>(begin), NumSuffixes(header_.num_tokens)};
  tokens_ = {begin + suffixes_.size_bytes(), header_.num_tokens, header_.token_bytes,
             static_cast<std::uint32_t>(header_.vocab_size)};
}

Datastore::~Datastore() { munmap(mapped_, bytes_); }

// Below 0 if what is written there comes before the query, 0 if it begins with it.
int Datastore::Compare(std::uint64_t suffix, Query query) const {
  std::uint64_t place = std::uint64_t{suffixes_[suffix]} * kStride;
  for (const TokenId token : query) {
    const auto written = static_cast<TokenId>(tokens_.At(place++));
    if (written != token) return written < token ? -1 : 1;
  }
  return 0;
}

// The first suffix of a range whose comparison is `above` or more; the range's end if there is
// none.
std::uint64_t Datastore::FirstAfter(std::uint64_t first, std::uint64_t last, Query query,
                                    int above) const {
  while (first < last) {
    const std::uint64_t middle = first + (last - first) / 2;
    if (Compare(middle, query) < above) {
      first = middle + 1;
    } else {
      last = middle;
    }
  }
  return first;
}

Datastore::Occurrences Datastore::Search(Query query) const {
  const std::uint64_t first = FirstAfter(0, suffixes_.size(), query, 0);
  if (first == suffixes_.size() || Compare(first, query) != 0) return {};
  // Most ranges are short, so their end is looked for near their beginning.
  std::uint64_t step = 1;
  while (first + step < suffixes_.size() && Compare(first + step, query) == 0) step *= 2;
  const std::uint64_t last = FirstAfter(
      first + step / 2, std::min<std::uint64_t>(first + step, suffixes_.size()), query, 1);
  return {first, last, static_cast<int>(query.size())};
}

// The longest end of a text whose length is `shortest` or more by a multiple of kStride. If one of
// them occurs at an even place, so do all shorter ones.
Datastore::Occurrences Datastore::LongestOf(Query text, int shortest, int longest) const {
  constexpr int kStep = kStride;
  Occurrences best;
  int low = 0, high = longest < shortest ? 0 : (longest - shortest) / kStep + 1;
  while (low < high) {
    const int middle = (low + high) / 2;
    const Occurrences found =
        Search(text.last(static_cast<std::size_t>(shortest + middle * kStep)));
    if (found.length > 0) {
      best = found;
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return best;
}

void Datastore::Collect(const Occurrences& found, std::size_t capacity,
                        std::vector<std::uint64_t>& places) const {
  const std::uint64_t all = found.last - found.first;
  const std::uint64_t count = std::min<std::uint64_t>(all, capacity);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t suffix = suffixes_[found.first + i * all / count];
    places.push_back(suffix * kStride + static_cast<std::uint64_t>(found.length));
  }
}

// The longest end's occurrences at even places, and those of the same end without its first token:
// among them are the longest end's occurrences at odd places.
int Datastore::Find(std::span<const TokenId> text, int shortest, int longest, std::size_t capacity,
                    std::vector<std::uint64_t>& places) const {
  places.clear();
  longest = std::min({longest, kSortedTokens, static_cast<int>(text.size())});
  Occurrences best = LongestOf(text, shortest, longest);
  Occurrences other = LongestOf(text, shortest + 1, longest);
  if (best.length < other.length) std::swap(best, other);
  if (best.length == 0) return 0;
  Collect(best, capacity, places);
  if (other.length + 1 == best.length) Collect(other, capacity - places.size(), places);
  return best.length;
}

}  // namespace ptgc
