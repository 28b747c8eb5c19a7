#include "engines/gpu/captured_backend.h"

#include <utility>

#include "base/error.h"
#include "engines/gpu/captured_engine.h"

namespace ptgc {

void RefuseOptions(const EngineOptions& options) {
  if (options.entries.empty()) return;
  throw Error(ErrorCode::kBackend,
              "Engines of this library have no option '" + options.entries.begin()->first + "'.",
              "Build again with this version of ptgc.");
}

std::unique_ptr<Engine> CapturedBackend::Load(const EngineSource& source,
                                              const EngineOptions& options) {
  std::unique_ptr<GpuProgram> program = share_->library().Load(source, options);
  if (program == nullptr) Refuse(source.path);
  return std::make_unique<CapturedEngine>(
      share_, std::move(program), source.path.filename().string(), options.updates_in_place);
}

// The file's hash was verified, so it is not damaged. Unless the device's memory is full, the
// library refuses it because it was built for another library or device.
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
