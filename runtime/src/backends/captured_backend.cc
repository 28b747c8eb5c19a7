#include "backends/captured_backend.h"

#include <fstream>
#include <utility>
#include <vector>

#include "backends/captured_engine.h"
#include "error.h"

namespace ptgc {

std::vector<char> ReadEngine(const std::filesystem::path& path, const EngineOptions& options) {
  for (const auto& [key, value] : options.entries) {
    throw Error(ErrorCode::kBackend, "Engines of this library have no option '" + key + "'.",
                "Build again with this version of ptgc.");
  }
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  std::vector<char> content(file ? static_cast<std::size_t>(file.tellg()) : 0);
  file.seekg(0);
  if (file.read(content.data(), static_cast<std::streamsize>(content.size()))) return content;
  throw Error(ErrorCode::kStorage, "Cannot read '" + path.string() + "'.",
              "Look whether the file is there and may be read.");
}

std::unique_ptr<Engine> CapturedBackend::Load(const std::filesystem::path& path,
                                              const EngineOptions& options) {
  std::unique_ptr<GpuProgram> program = share_->library().Load(path, options);
  if (program == nullptr) Refuse(path);
  return std::make_unique<CapturedEngine>(share_, std::move(program), path.filename().string(),
                                          options.updates_in_place);
}

// The file has the hash of the one that was built, so that what the library dislikes about it is
// where it was built, unless the device is full.
void CapturedBackend::Refuse(const std::filesystem::path& path) const {
  const std::string words = share_->library().error();
  const std::string engine = "The engine '" + path.filename().string() + "'";
  for (const char* full : {"out of memory", "OutOfMemory", "out_of_memory"}) {
    if (words.find(full) != std::string::npos) {
      ThrowGpuError(engine + " does not fit on the GPU", words);
    }
  }
  GpuDevice& device = share_->device();
  const std::filesystem::path build = path.parent_path();
  throw Error(ErrorCode::kEngineStale,
              engine + " was not made for " + Version() + " on " + device.name() +
                  " (compute capability " + device.compute_capability() +
                  "): " + (words.empty() ? "no reason is given" : words) + ".",
              "Compile it again on this machine: ptgc build " +
                  build.parent_path().parent_path().string() + " --backend " + name_ +
                  " --stage compile --id " + build.filename().string());
}

}  // namespace ptgc
