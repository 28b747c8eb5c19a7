#include "base/clock.h"
#include "base/error.h"
#include "engines/engine.h"
#include "engines/onnxruntime/onnxruntime.h"
#ifdef PTGC_HAS_TENSORRT
#include "engines/gpu/tensorrt.h"
#endif

namespace ptgc {
namespace {

#ifdef PTGC_HAS_TENSORRT
constexpr const char* kPresent = "onnxruntime, tensorrt, tensorrt-rtx";
#else
constexpr const char* kPresent = "onnxruntime";
#endif

bool IsTensorRt(const std::string& name) { return name == "tensorrt" || name == "tensorrt-rtx"; }

}  // namespace

std::vector<double> TimeRuns(Call& call, int repeats) {
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    const Clock::time_point start = Clock::now();
    call.Run();
    seconds.push_back(SecondsSince(start));
  }
  return seconds;
}

std::unique_ptr<Backend> MakeBackend(const BackendChoice& choice) {
  const std::string& name = choice.name;
  if (name == "onnxruntime") {
    const auto make = choice.device == "cuda" ? MakeOnnxRuntimeCudaBackend : MakeOnnxRuntimeBackend;
    return make(choice.library, choice.api, choice.min_onnxruntime);
  }
#ifdef PTGC_HAS_TENSORRT
  if (IsTensorRt(name)) return MakeTensorRtBackend(name, choice.library);
#endif
  std::string action = "Build the bundle with --backend onnxruntime";
  if (IsTensorRt(name)) action += ", or compile ptgc with TensorRT's headers (-DTensorRT_ROOT=...)";
  throw Error(ErrorCode::kBackend,
              "This ptgc was built without the backend '" + name + "'; it has: " + kPresent + ".",
              action + ".");
}

}  // namespace ptgc
