#include "backends/onnxruntime.h"
#include "engine.h"
#include "error.h"

namespace ptgc {

std::unique_ptr<Backend> MakeBackend(const std::string& name, const std::string& library,
                                     const void* api) {
  if (name == "onnxruntime") return MakeOnnxRuntimeBackend(library, api);
  throw Error(ErrorCode::kBackend,
              "This ptgc was built without the backend '" + name + "'; it has: onnxruntime.",
              "Build the bundle with --backend onnxruntime.");
}

}  // namespace ptgc
