#define ORT_API_MANUAL_INIT
#include "engines/gpu/onnxruntime_gpu.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engines/onnxruntime/onnxruntime_values.h"

namespace ptgc {
namespace {

constexpr std::int64_t kAnySize = std::numeric_limits<std::int64_t>::max();

// An input or output of a graph, with the names of its dimensions.
struct OnnxPort {
  GpuPort port;                         // The port.
  std::vector<std::string> dimensions;  // A name for each dimension; empty if fixed or unnamed.
};

// What the contexts of a program share.
struct OnnxRuntimeProgramParts {
  Ort::Session session{nullptr};  // The loaded graph.
  Ort::RunOptions run_options;    // Options of every run.
  Ort::MemoryInfo memory;         // Memory of the ports.
  std::vector<OnnxPort> ports;    // Ports of the graph.
  std::string error;              // Message about the last failure.
};

// Whether `body` succeeded; otherwise the library's message is stored.
template <typename Body>
bool Tried(OnnxRuntimeProgramParts& parts, Body body) {
  try {
    body();
    return true;
  } catch (const Ort::Exception& error) {
    parts.error = error.what();
    return false;
  }
}

class OnnxRuntimeContext : public GpuContext {
 public:
  explicit OnnxRuntimeContext(OnnxRuntimeProgramParts& parts)
      : parts_(parts), values_(parts.memory), binding_(parts.session) {}

  bool SetShape(const std::string& port, std::span<const std::int64_t> shape) override {
    const OnnxPort& known = Find(port);
    for (std::size_t i = 0; i < shape.size(); ++i) {
      const std::string& name = known.dimensions[i];
      if (name.empty()) continue;
      const auto [size, is_new] = sizes_.emplace(name, shape[i]);
      if (is_new || size->second == shape[i]) continue;
      parts_.error = "its size '" + name + "' is " + std::to_string(size->second) + " already";
      return false;
    }
    return true;
  }

  std::vector<std::int64_t> Shape(const std::string& port) const override {
    const OnnxPort& known = Find(port);
    std::vector<std::int64_t> shape = known.port.shape;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      const auto size = sizes_.find(known.dimensions[i]);
      if (shape[i] < 0 && size != sizes_.end()) shape[i] = size->second;
    }
    return shape;
  }

  bool SetAddress(const std::string& port, std::span<const std::int64_t> shape,
                  void* data) override {
    const OnnxPort& known = Find(port);
    return Tried(parts_, [&] {
      const Tensor tensor{port, known.port.dtype, data, {shape.begin(), shape.end()}};
      const Ort::Value& value = values_.Of(tensor);
      if (known.port.is_input) {
        binding_.BindInput(port.c_str(), value);
      } else {
        binding_.BindOutput(port.c_str(), value);
      }
    });
  }

  bool Enqueue() override {
    return Tried(parts_, [&] { parts_.session.Run(parts_.run_options, binding_); });
  }

 private:
  const OnnxPort& Find(const std::string& name) const {
    return *std::find_if(parts_.ports.begin(), parts_.ports.end(),
                         [&](const OnnxPort& known) { return known.port.name == name; });
  }

  OnnxRuntimeProgramParts& parts_;             // Shared parts of the program; outlive this.
  std::map<std::string, std::int64_t> sizes_;  // Sizes by name.
  OnnxRuntimeValues values_;                   // Values in the device's memory.
  Ort::IoBinding binding_;                     // Bound inputs and outputs.
};

class OnnxRuntimeProgram : public GpuProgram {
 public:
  explicit OnnxRuntimeProgram(OnnxRuntimeProgramParts parts) : parts_(std::move(parts)) {
    for (const OnnxPort& port : parts_.ports) ports_.push_back(port.port);
  }
  const std::vector<GpuPort>& ports() const override { return ports_; }
  // The library has its own arena, which the sessions of a stream do not share.
  std::size_t context_bytes() const override { return 0; }
  bool needs_every_output() const override { return false; }
  std::unique_ptr<GpuContext> MakeContext(void*, std::size_t) override {
    std::unique_ptr<GpuContext> context;
    Tried(parts_, [&] { context = std::make_unique<OnnxRuntimeContext>(parts_); });
    return context;
  }
  std::string error() const override { return parts_.error; }

 private:
  OnnxRuntimeProgramParts parts_;  // Shared with its contexts.
  std::vector<GpuPort> ports_;     // The ports without names of dimensions.
};

OnnxPort PortOf(const std::string& name, const Ort::TypeInfo& info, bool is_input) {
  const auto tensor = info.GetTensorTypeAndShapeInfo();
  const std::optional<DType> dtype = DTypeOf(tensor.GetElementType());
  if (!dtype) {
    throw Error(ErrorCode::kBackend,
                "The engine has '" + name + "' of a type that this runtime does not have.",
                "Build again with this version of ptgc.");
  }
  GpuPort port{name, *dtype, is_input, tensor.GetShape(), {}, {}};
  for (const std::int64_t size : port.shape) {
    port.least.push_back(size < 0 ? 1 : size);
    port.most.push_back(size < 0 ? kAnySize : size);
  }
  std::vector<const char*> names(port.shape.size());
  tensor.GetSymbolicDimensions(names.data(), names.size());
  return {std::move(port), {names.begin(), names.end()}};
}

std::vector<OnnxPort> PortsOf(const Ort::Session& session) {
  Ort::AllocatorWithDefaultOptions allocator;
  std::vector<OnnxPort> ports;
  for (std::size_t i = 0; i < session.GetInputCount(); ++i) {
    ports.push_back(PortOf(session.GetInputNameAllocated(i, allocator).get(),
                           session.GetInputTypeInfo(i), /*is_input=*/true));
  }
  for (std::size_t i = 0; i < session.GetOutputCount(); ++i) {
    ports.push_back(PortOf(session.GetOutputNameAllocated(i, allocator).get(),
                           session.GetOutputTypeInfo(i), /*is_input=*/false));
  }
  return ports;
}

class OnnxRuntimeGpuLibrary : public GpuLibrary {
 public:
  OnnxRuntimeGpuLibrary(const OnnxRuntimeLibrary& library, OnnxRuntimePlace place)
      : library_(library), place_(std::move(place)) {}

  std::string Version() const override { return library_.version; }
  std::unique_ptr<GpuProgram> Load(const EngineSource& source,
                                   const EngineOptions& options) override {
    return Translated("ONNX Runtime refused '" + source.path.filename().string() + "'", [&] {
      Ort::SessionOptions session_options;
      session_options.SetIntraOpNumThreads(1);  // The host only computes sizes.
      session_options.SetGraphOptimizationLevel(GraphOptimizationLevel::ORT_ENABLE_ALL);
      // Otherwise the second run of a shape would allocate its memory as one new block during
      // capture.
      session_options.DisableMemPattern();
      Configure(session_options, source, options);
      place_.add_provider(session_options);
      OnnxRuntimeProgramParts parts{
          Ort::Session(*library_.env, source.content.data(), source.content.size(),
                       session_options),
          {},
          Ort::MemoryInfo(place_.memory, OrtDeviceAllocator, place_.device, OrtMemTypeDefault),
          {},
          ""};
      // The caller waits for queued runs itself, once per round.
      parts.run_options.AddConfigEntry("disable_synchronize_execution_providers", "1");
      parts.ports = PortsOf(parts.session);
      return std::make_unique<OnnxRuntimeProgram>(std::move(parts));
    });
  }
  std::string error() const override { return ""; }

 private:
  const OnnxRuntimeLibrary& library_;  // The library of the process.
  OnnxRuntimePlace place_;             // Where sessions run.
};

}  // namespace

std::unique_ptr<GpuLibrary> MakeOnnxRuntimeGpuLibrary(const OnnxRuntimeLibrary& library,
                                                      OnnxRuntimePlace place) {
  return std::make_unique<OnnxRuntimeGpuLibrary>(library, std::move(place));
}

}  // namespace ptgc
