#include "backends/onnxruntime.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <utility>
#include <vector>

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>

#include "backends/onnxruntime_memory.h"
#include "error.h"

namespace ptgc {
namespace {

constexpr const char* kInstall =
    "Install ONNX Runtime (pip install \"ptgc[cpu]\"), or set PTGC_ONNXRUNTIME to its library.";

// The library; there is one per process, because its C++ header keeps one API table.
struct Library {
  const OrtApiBase* base = nullptr;  // The same for all who open the same file.
  std::string version;               // As the library names it.
  // Never destroyed: engines may outlive static objects.
  Ort::Env* env = nullptr;              // What engines share.
  OnnxRuntimeMemory* memory = nullptr;  // What they live in.
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
void ShareMemory(const Library& library) {
  if (OrtStatus* refused = Ort::GetApi().RegisterAllocator(*library.env, library.memory)) {
    Ort::GetApi().ReleaseStatus(refused);
  }
}

Library InitLibrary(const OrtApiBase* base) {
  Library library;
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

// The library at `path`, which is never closed, or the one that `given` belongs to.
const Library& SharedLibrary(const std::string& path, const OrtApiBase* given) {
  static std::mutex mutex;
  static Library library;
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
  switch (dtype) {
    case DType::kFloat32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case DType::kFloat16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case DType::kBFloat16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
    case DType::kInt64:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    case DType::kInt32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    case DType::kBool:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

// Runs `body`; what the library throws becomes an error of ours.
template <typename Body>
auto Translated(const std::string& what, Body body) {
  try {
    return body();
  } catch (const Ort::Exception& error) {
    throw Error(ErrorCode::kBackend, what + ": " + error.what(),
                "Check the build with `ptgc check`, or build again.");
  }
}

// Input or output names and element types of a graph.
struct GraphPort {
  std::string name;                // The name in the graph.
  ONNXTensorElementDataType type;  // Its element type.
};

// A binding whose values stay where they are.
class OnnxRuntimeCall : public Call {
 public:
  explicit OnnxRuntimeCall(Ort::Session& session) : session_(session), binding_(session) {}

  void Add(const Tensor& tensor, bool is_input) {
    const Ort::Value& value = ValueOf(tensor);
    if (is_input) {
      binding_.BindInput(tensor.name.c_str(), value);
    } else {
      binding_.BindOutput(tensor.name.c_str(), value);
    }
  }

  void Run() override {
    Translated("ONNX Runtime failed in a round", [&] { session_.Run(options_, binding_); });
  }

 private:
  // One value per buffer: an output that shares an input's is written in place.
  const Ort::Value& ValueOf(const Tensor& tensor) {
    const auto known = std::find(data_.begin(), data_.end(), tensor.data);
    if (known != data_.end()) return values_[static_cast<std::size_t>(known - data_.begin())];
    data_.push_back(tensor.data);
    values_.push_back(Ort::Value::CreateTensor(memory_, tensor.data, tensor.bytes(),
                                               tensor.shape.data(), tensor.shape.size(),
                                               ElementType(tensor.dtype)));
    return values_.back();
  }

  Ort::Session& session_;    // Not owned; outlives this.
  Ort::RunOptions options_;  // Defaults, made once.
  Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<void*> data_;         // Buffers that have a value.
  std::vector<Ort::Value> values_;  // Views of the caller's buffers.
  Ort::IoBinding binding_;          // What goes in and out.
};

class OnnxRuntimeEngine : public Engine {
 public:
  explicit OnnxRuntimeEngine(Ort::Session session) : session_(std::move(session)) {
    Ort::AllocatorWithDefaultOptions allocator;
    for (std::size_t i = 0; i < session_.GetInputCount(); ++i) {
      inputs_.push_back({session_.GetInputNameAllocated(i, allocator).get(),
                         TypeOf(session_.GetInputTypeInfo(i))});
    }
    for (std::size_t i = 0; i < session_.GetOutputCount(); ++i) {
      outputs_.push_back({session_.GetOutputNameAllocated(i, allocator).get(),
                          TypeOf(session_.GetOutputTypeInfo(i))});
    }
  }

  bool HasInput(std::string_view name) const override {
    return std::any_of(inputs_.begin(), inputs_.end(),
                       [&](const GraphPort& port) { return port.name == name; });
  }

  std::unique_ptr<Call> Bind(std::span<const Tensor> inputs,
                             std::span<const Tensor> outputs) override {
    return Translated("ONNX Runtime refused the buffers of a round", [&] {
      auto call = std::make_unique<OnnxRuntimeCall>(session_);
      for (const GraphPort& port : inputs_) {
        call->Add(Match(inputs, port.name, port, "input"), /*is_input=*/true);
      }
      for (const Tensor& tensor : outputs) {
        const auto port = std::find_if(outputs_.begin(), outputs_.end(),
                                       [&](const GraphPort& p) { return p.name == tensor.name; });
        if (port == outputs_.end()) {
          throw Error(ErrorCode::kBackend, "The engine has no output '" + tensor.name + "'.",
                      "Build again with this version of ptgc.");
        }
        call->Add(Match(outputs, tensor.name, *port, "output"), /*is_input=*/false);
      }
      return std::unique_ptr<Call>(std::move(call));
    });
  }

 private:
  static ONNXTensorElementDataType TypeOf(const Ort::TypeInfo& info) {
    return info.GetTensorTypeAndShapeInfo().GetElementType();
  }

  // The tensor for a port of the graph; refuses ports that the runtime does not know.
  static const Tensor& Match(std::span<const Tensor> tensors, const std::string& name,
                             const GraphPort& port, const char* kind) {
    const auto tensor = std::find_if(tensors.begin(), tensors.end(), [&](const Tensor& candidate) {
      return candidate.name == name;
    });
    if (tensor == tensors.end()) {
      throw Error(ErrorCode::kBackend,
                  std::string("The engine has the ") + kind + " '" + name +
                      "', which this runtime does not provide.",
                  "Build again with this version of ptgc.");
    }
    if (ElementType(tensor->dtype) != port.type) {
      throw Error(ErrorCode::kBackend,
                  std::string("The engine's ") + kind + " '" + name + "' is not of type " +
                      std::string(Name(tensor->dtype)) + ".",
                  "Build again with this version of ptgc.");
    }
    return *tensor;
  }

  Ort::Session session_;            // The loaded graph.
  std::vector<GraphPort> inputs_;   // What it takes.
  std::vector<GraphPort> outputs_;  // What it gives.
};

class OnnxRuntimeBackend : public Backend {
 public:
  explicit OnnxRuntimeBackend(const Library& library) : library_(library) {}

  std::string Version() const override { return library_.version; }

  std::unique_ptr<Engine> Load(const std::filesystem::path& path,
                               const EngineOptions& options) override {
    return Translated("ONNX Runtime refused '" + path.filename().string() + "'", [&] {
      Ort::SessionOptions session_options;
      session_options.SetIntraOpNumThreads(options.num_threads);
      session_options.SetGraphOptimizationLevel(GraphOptimizationLevel::ORT_ENABLE_ALL);
      session_options.AddConfigEntry("session.use_env_allocators", "1");
      if (options.takes_turns) {
        // Threads that wait for more work of their engine would hold up the next engine: with a
        // small drafter, a round of drafts and target took twice as long.
        session_options.AddConfigEntry("session.force_spinning_stop", "1");
      }
      for (const auto& [key, value] : options.entries) {
        session_options.AddConfigEntry(key.c_str(), value.c_str());
      }
      Ort::Session session(*library_.env, path.c_str(), session_options);
      library_.memory->Trim();
      return std::unique_ptr<Engine>(std::make_unique<OnnxRuntimeEngine>(std::move(session)));
    });
  }

 private:
  const Library& library_;  // The process's.
};

}  // namespace

std::unique_ptr<Backend> MakeOnnxRuntimeBackend(const std::string& library, const void* api) {
  return std::make_unique<OnnxRuntimeBackend>(
      SharedLibrary(PathOf(library), static_cast<const OrtApiBase*>(api)));
}

}  // namespace ptgc
