#define ORT_API_MANUAL_INIT
#include "backends/onnxruntime_library.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <mutex>
#include <utility>

namespace ptgc {
namespace {

constexpr const char* kInstall =
    "Install ONNX Runtime (pip install \"ptgc[cpu]\"), or set PTGC_ONNXRUNTIME to its library.";

constexpr std::pair<ONNXTensorElementDataType, DType> kTypes[] = {
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, DType::kFloat32},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, DType::kFloat16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, DType::kBFloat16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, DType::kInt64},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, DType::kInt32},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, DType::kBool},
};

std::string PathOf(const std::string& library) {
  if (!library.empty()) return library;
  const char* given = std::getenv("PTGC_ONNXRUNTIME");
  return given != nullptr && *given != '\0' ? given : "libonnxruntime.so.1";
}

const OrtApiBase* ApiBase(void* handle, const std::string& path) {
  using GetApiBase = const OrtApiBase* (*)();
  const auto get_api_base = reinterpret_cast<GetApiBase>(dlsym(handle, "OrtGetApiBase"));
  if (get_api_base == nullptr) {
    throw Error(ErrorCode::kBackend, "'" + path + "' is not ONNX Runtime.", kInstall);
  }
  return get_api_base();
}

void* OpenFile(const std::string& path) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle != nullptr) return handle;
  throw Error(ErrorCode::kBackend, std::string("Cannot open ONNX Runtime: ") + dlerror() + ".",
              kInstall);
}

// Engines share one memory. Where a host has registered another allocator with its environment,
// which is the process's, theirs is that one.
void ShareMemory(const OnnxRuntimeLibrary& library) {
  if (OrtStatus* refused = Ort::GetApi().RegisterAllocator(*library.env, library.memory)) {
    Ort::GetApi().ReleaseStatus(refused);
  }
}

OnnxRuntimeLibrary InitLibrary(const OrtApiBase* base) {
  OnnxRuntimeLibrary library;
  library.base = base;
  library.version = base->GetVersionString();
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    throw Error(ErrorCode::kBackend,
                "ONNX Runtime " + library.version + " is too old; ptgc needs 1." +
                    std::to_string(ORT_API_VERSION) + " or newer.",
                kInstall);
  }
  Ort::InitApi(api);
  library.env = new Ort::Env(ORT_LOGGING_LEVEL_ERROR, "ptgc");
  library.memory = new OnnxRuntimeMemory;
  ShareMemory(library);
  return library;
}

}  // namespace

const OnnxRuntimeLibrary& OpenOnnxRuntime(const std::string& file, const void* api) {
  const std::string path = PathOf(file);
  const auto* given = static_cast<const OrtApiBase*>(api);
  static std::mutex mutex;
  static OnnxRuntimeLibrary library;
  const std::lock_guard<std::mutex> lock(mutex);
  void* handle = given == nullptr ? OpenFile(path) : nullptr;
  const OrtApiBase* base = given == nullptr ? ApiBase(handle, path) : given;
  if (library.base == nullptr) library = InitLibrary(base);
  if (base == library.base) return library;
  if (handle != nullptr) dlclose(handle);
  throw Error(ErrorCode::kBackend,
              "This process already runs ONNX Runtime " + library.version + " from another file" +
                  (given == nullptr ? " than '" + path + "'." : "."),
              "Use one library per process.");
}

ONNXTensorElementDataType ElementType(DType dtype) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [&](const auto& pair) { return pair.second == dtype; });
  return found == std::end(kTypes) ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED : found->first;
}

std::optional<DType> DTypeOf(ONNXTensorElementDataType type) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [&](const auto& pair) { return pair.first == type; });
  return found == std::end(kTypes) ? std::nullopt : std::optional(found->second);
}

}  // namespace ptgc
