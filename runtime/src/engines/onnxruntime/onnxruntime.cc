#define ORT_API_MANUAL_INIT
#include "engines/onnxruntime/onnxruntime.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engines/onnxruntime/onnxruntime_library.h"
#include "engines/onnxruntime/onnxruntime_operators.h"
#include "engines/onnxruntime/onnxruntime_values.h"

namespace ptgc {
namespace {

// Input or output names and element types of a graph.
struct GraphPort {
  std::string name;                // The name in the graph.
  ONNXTensorElementDataType type;  // Its element type.
};

// A binding whose values keep their addresses.
class OnnxRuntimeCall : public Call {
 public:
  explicit OnnxRuntimeCall(Ort::Session& session) : session_(session), binding_(session) {}

  void Add(const Tensor& tensor, bool is_input) {
    const Ort::Value& value = values_.Of(tensor);
    if (is_input) {
      binding_.BindInput(tensor.name.c_str(), value);
      pieces_.insert(pieces_.end(), tensor.pieces.begin(), tensor.pieces.end());
    } else {
      binding_.BindOutput(tensor.name.c_str(), value);
    }
  }

  void Start() override {
    TakePieces(pieces_);
    Translated("ONNX Runtime failed in a round", [&] { session_.Run(options_, binding_); });
  }

 private:
  Ort::Session& session_;    // Not owned; outlives this.
  Ort::RunOptions options_;  // Default options, made once.
  Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<Piece> pieces_;          // Pieces of inputs that other engines write.
  OnnxRuntimeValues values_{memory_};  // Values in the caller's buffers.
  Ort::IoBinding binding_;             // Bound inputs and outputs.
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
  std::vector<GraphPort> inputs_;   // Inputs of the graph.
  std::vector<GraphPort> outputs_;  // Outputs of the graph.
};

class OnnxRuntimeBackend : public Backend {
 public:
  explicit OnnxRuntimeBackend(const OnnxRuntimeLibrary& library) : library_(library) {}

  std::string Version() const override { return library_.version; }

  std::unique_ptr<Engine> Load(const EngineSource& source, const EngineOptions& options) override {
    return Translated("ONNX Runtime refused '" + source.path.filename().string() + "'", [&] {
      Ort::SessionOptions session_options;
      session_options.SetIntraOpNumThreads(options.num_threads);
      session_options.SetGraphOptimizationLevel(GraphOptimizationLevel::ORT_ENABLE_ALL);
      session_options.AddConfigEntry("session.use_env_allocators", "1");
      if (options.takes_turns) {
        // Threads that spin while waiting for more work would delay the next engine: with a small
        // drafter, a round of drafts and target took twice as long.
        session_options.AddConfigEntry("session.force_spinning_stop", "1");
      }
      Configure(session_options, source, options);
      AddOperators(session_options);
      Ort::Session session(*library_.env, source.content.data(), source.content.size(),
                           session_options);
      library_.memory->Trim();
      return std::unique_ptr<Engine>(std::make_unique<OnnxRuntimeEngine>(std::move(session)));
    });
  }

 private:
  const OnnxRuntimeLibrary& library_;  // The library of the process.
};

}  // namespace

std::unique_ptr<Backend> MakeOnnxRuntimeBackend(const std::string& library, const void* api,
                                                const std::string& minimum) {
  return std::make_unique<OnnxRuntimeBackend>(OpenOnnxRuntime(library, api, minimum));
}

}  // namespace ptgc
