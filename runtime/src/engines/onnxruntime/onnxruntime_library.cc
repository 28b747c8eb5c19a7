#define ORT_API_MANUAL_INIT
#include "engines/onnxruntime/onnxruntime_library.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace ptgc {
namespace {

std::string Install(const std::string& minimum) {
  const std::string least = minimum.empty() ? "" : ">=" + minimum;
  const std::string newer = minimum.empty() ? "" : " " + minimum + " or newer";
  return "Install ONNX Runtime" + newer + " (pip install \"onnxruntime" + least +
         "\"), or set PTGC_ONNXRUNTIME to its library.";
}

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

const OrtApiBase* ApiBase(void* handle, const std::string& path, const std::string& minimum) {
  using GetApiBase = const OrtApiBase* (*)();
  const auto get_api_base = reinterpret_cast<GetApiBase>(dlsym(handle, "OrtGetApiBase"));
  if (get_api_base == nullptr) {
    throw Error(ErrorCode::kBackend, "'" + path + "' is not ONNX Runtime.", Install(minimum));
  }
  return get_api_base();
}

void* OpenFile(const std::string& path, const std::string& minimum) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle != nullptr) return handle;
  throw Error(ErrorCode::kBackend, std::string("Cannot open ONNX Runtime: ") + dlerror() + ".",
              Install(minimum));
}

// Makes engines share one allocator. If the host program has already registered another one with
// the environment, which is shared by the process, that one is used.
void ShareMemory(const OnnxRuntimeLibrary& library) {
  if (OrtStatus* refused = Ort::GetApi().RegisterAllocator(*library.env, library.memory)) {
    Ort::GetApi().ReleaseStatus(refused);
  }
}

struct CloseFile {
  void operator()(void* handle) const { dlclose(handle); }
};

// The numbers of a version; anything after them is ignored.
std::vector<int> Numbers(const std::string& version) {
  std::vector<int> numbers;
  const char* at = version.c_str();
  for (char* end = nullptr; *at != '\0'; at = *end == '.' ? end + 1 : "") {
    numbers.push_back(static_cast<int>(std::strtol(at, &end, 10)));
  }
  return numbers;
}

// Checks the version before anything else is used, because the library's own error about a missing
// operator does not name a version.
void CheckVersion(const OrtApiBase* base, const std::string& minimum) {
  const std::string version = base->GetVersionString();
  const bool has_api = base->GetApi(ORT_API_VERSION) != nullptr;
  if (has_api && Numbers(version) >= Numbers(minimum)) return;
  const std::string least = minimum.empty() ? "1." + std::to_string(ORT_API_VERSION) : minimum;
  throw Error(
      ErrorCode::kBackend,
      "ONNX Runtime " + version + " is too old for this build, which needs " + least + " or newer.",
      Install(least));
}

OnnxRuntimeLibrary InitLibrary(const OrtApiBase* base) {
  OnnxRuntimeLibrary library;
  library.base = base;
  library.version = base->GetVersionString();
  Ort::InitApi(base->GetApi(ORT_API_VERSION));
  library.env = new Ort::Env(ORT_LOGGING_LEVEL_ERROR, "ptgc");
  library.memory = new OnnxRuntimeMemory;
  ShareMemory(library);
  return library;
}

}  // namespace

const OnnxRuntimeLibrary& OpenOnnxRuntime(const std::string& file, const void* api,
                                          const std::string& minimum) {
  const std::string path = PathOf(file);
  const auto* given = static_cast<const OrtApiBase*>(api);
  static std::mutex mutex;
  static OnnxRuntimeLibrary library;
  const std::lock_guard<std::mutex> lock(mutex);
  std::unique_ptr<void, CloseFile> handle(given == nullptr ? OpenFile(path, minimum) : nullptr);
  const OrtApiBase* base = given == nullptr ? ApiBase(handle.get(), path, minimum) : given;
  CheckVersion(base, minimum);
  if (library.base == nullptr) {
    library = InitLibrary(base);
    handle.release();  // It stays open.
  }
  if (base == library.base) return library;
  throw Error(ErrorCode::kBackend,
              "This process already runs ONNX Runtime " + library.version + " from another file" +
                  (given == nullptr ? " than '" + path + "'." : "."),
              "Use one library per process.");
}

void Configure(Ort::SessionOptions& session_options, const EngineSource& source,
               const EngineOptions& options) {
  for (const auto& [key, value] : options.entries) {
    session_options.AddConfigEntry(key.c_str(), value.c_str());
  }
  session_options.AddConfigEntry("session.load_model_format", "ONNX");
  session_options.AddConfigEntry("session.model_external_initializers_file_folder_path",
                                 source.path.parent_path().c_str());
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
