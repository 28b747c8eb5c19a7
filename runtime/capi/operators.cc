// What onnxruntime.SessionOptions.register_custom_ops_library asks this library for. ONNX Runtime's
// Python module is another copy of it than the file that engines open, so the core of ptgc's Python
// module, which has one copy's functions, cannot serve both.
#define ORT_API_MANUAL_INIT
#include <dlfcn.h>
#include <onnxruntime_cxx_api.h>

#include <exception>

#include "engines/onnxruntime/onnxruntime_operators.h"

namespace {

const int kHere = 0;  // An address of this library.

// The library stays loaded: operators may be called as long as sessions live.
void Stay() {
  Dl_info info;
  if (dladdr(&kHere, &info) != 0) dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) OrtStatus* ORT_API_CALL
RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr) return base->GetApi(1)->CreateStatus(ORT_FAIL, "ptgc needs a newer version.");
  try {
    Stay();
    ptgc::AddOperators(options, *api);
  } catch (const std::exception& error) {
    return api->CreateStatus(ORT_FAIL, error.what());
  }
  return nullptr;
}
