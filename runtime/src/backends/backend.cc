#include "backends/onnxruntime.h"
#include "clock.h"
#include "engine.h"
#include "error.h"

namespace ptgc {

std::vector<double> TimeRuns(Call& call, int repeats) {
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    const Clock::time_point start = Clock::now();
    call.Run();
    seconds.push_back(SecondsSince(start));
  }
  return seconds;
}

std::unique_ptr<Backend> MakeBackend(const std::string& name, const std::string& library,
                                     const void* api) {
  if (name == "onnxruntime") return MakeOnnxRuntimeBackend(library, api);
  throw Error(ErrorCode::kBackend,
              "This ptgc was built without the backend '" + name + "'; it has: onnxruntime.",
              "Build the bundle with --backend onnxruntime.");
}

}  // namespace ptgc
