#include "engines/gpu/tensorrt.h"

#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "engines/gpu/captured_backend.h"
#include "engines/gpu/cuda.h"
#include "engines/gpu/gpu.h"

namespace ptgc {
namespace {

constexpr const char* kRtx = "tensorrt-rtx";

// Collects the library's error messages, which may come from any thread.
class Complaints : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    if (severity > Severity::kERROR) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (words_.size() < kEnough) words_ += (words_.empty() ? "" : "; ") + std::string(message);
  }
  void Forget() {
    const std::lock_guard<std::mutex> lock(mutex_);
    words_.clear();
  }
  std::string words() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return words_;
  }

 private:
  static constexpr std::size_t kEnough = 2000;  // Characters; the first messages matter.
  mutable std::mutex mutex_;                    // Guards the messages.
  std::string words_;                           // All messages.
};

constexpr std::pair<nvinfer1::DataType, DType> kTypes[] = {
    {nvinfer1::DataType::kFLOAT, DType::kFloat32}, {nvinfer1::DataType::kHALF, DType::kFloat16},
    {nvinfer1::DataType::kBF16, DType::kBFloat16}, {nvinfer1::DataType::kINT64, DType::kInt64},
    {nvinfer1::DataType::kINT32, DType::kInt32},   {nvinfer1::DataType::kBOOL, DType::kBool},
};

std::vector<std::int64_t> Sizes(const nvinfer1::Dims& dims) {
  return {dims.d, dims.d + std::max(dims.nbDims, 0)};
}

class TensorRtContext : public GpuContext {
 public:
  TensorRtContext(std::unique_ptr<nvinfer1::IExecutionContext> context, cudaStream_t stream)
      : context_(std::move(context)), stream_(stream) {}
  bool SetShape(const std::string& port, std::span<const std::int64_t> shape) override {
    nvinfer1::Dims dims{};
    if (shape.size() > nvinfer1::Dims::MAX_DIMS) return false;
    dims.nbDims = static_cast<std::int32_t>(shape.size());
    std::copy(shape.begin(), shape.end(), dims.d);
    return context_->setInputShape(port.c_str(), dims);
  }
  std::vector<std::int64_t> Shape(const std::string& port) const override {
    return Sizes(context_->getTensorShape(port.c_str()));
  }
  bool SetAddress(const std::string& port, std::span<const std::int64_t>, void* data) override {
    return context_->setTensorAddress(port.c_str(), data);
  }
  bool Enqueue() override { return context_->enqueueV3(stream_); }

 private:
  std::unique_ptr<nvinfer1::IExecutionContext> context_;  // The context for one shape point.
  cudaStream_t stream_;                                   // The stream to queue runs on.
};

class TensorRtProgram : public GpuProgram {
 public:
  TensorRtProgram(std::unique_ptr<nvinfer1::ICudaEngine> engine, Complaints& complaints,
                  cudaStream_t stream)
      : engine_(std::move(engine)), complaints_(complaints), stream_(stream) {
    for (std::int32_t i = 0; i < engine_->getNbIOTensors(); ++i)
      AddPort(engine_->getIOTensorName(i));
  }
  const std::vector<GpuPort>& ports() const override { return ports_; }
  std::size_t context_bytes() const override {
    return static_cast<std::size_t>(engine_->getDeviceMemorySizeV2());
  }
  std::unique_ptr<GpuContext> MakeContext(void* memory, std::size_t bytes) override {
    complaints_.Forget();
    std::unique_ptr<nvinfer1::IExecutionContext> context(engine_->createExecutionContext(
        nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED));
    if (context == nullptr) return nullptr;
    context->setDeviceMemoryV2(memory, static_cast<std::int64_t>(bytes));
    return std::make_unique<TensorRtContext>(std::move(context), stream_);
  }
  std::string error() const override { return complaints_.words(); }

 private:
  void AddPort(const char* name) {
    const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& known) {
      return known.first == engine_->getTensorDataType(name);
    });
    if (type == std::end(kTypes) ||
        engine_->getTensorLocation(name) == nvinfer1::TensorLocation::kHOST) {
      throw Error(ErrorCode::kBackend,
                  "The port '" + std::string(name) +
                      "' of an engine has a type or place that this runtime does not have.",
                  "Build again with this version of ptgc.");
    }
    const bool is_input = engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
    GpuPort port{name, type->second, is_input, Sizes(engine_->getTensorShape(name)), {}, {}};
    if (is_input) {
      port.least = Sizes(engine_->getProfileShape(name, 0, nvinfer1::OptProfileSelector::kMIN));
      port.most = Sizes(engine_->getProfileShape(name, 0, nvinfer1::OptProfileSelector::kMAX));
      if (port.most.empty()) port.least = port.most = port.shape;  // A fixed size.
    }
    ports_.push_back(std::move(port));
  }

  std::unique_ptr<nvinfer1::ICudaEngine> engine_;  // The deserialised file.
  Complaints& complaints_;                         // The library's messages.
  cudaStream_t stream_;                            // The device's.
  std::vector<GpuPort> ports_;                     // What goes in and out.
};

class TensorRtLibrary : public GpuLibrary {
 public:
  TensorRtLibrary(const std::string& name, const std::string& path, void* stream)
      : name_(name), stream_(static_cast<cudaStream_t>(stream)) {
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // Never closed.
    if (handle == nullptr) Refuse("Cannot open it: " + std::string(dlerror()));
    const auto create = reinterpret_cast<decltype(&createInferRuntime_INTERNAL)>(
        dlsym(handle, "createInferRuntime_INTERNAL"));
    const auto major = reinterpret_cast<Number>(dlsym(handle, "getInferLibMajorVersion"));
    const auto minor = reinterpret_cast<Number>(dlsym(handle, "getInferLibMinorVersion"));
    if (create == nullptr || major == nullptr || minor == nullptr) Refuse("It is another library");
    version_ = std::to_string(major()) + "." + std::to_string(minor());
    // The layout of the classes in these headers depends on the major version.
    if (name_ != kRtx && major() != NV_TENSORRT_MAJOR) {
      Refuse("It is version " + version_ + "; this ptgc was compiled for " +
             std::to_string(NV_TENSORRT_MAJOR));
    }
    runtime_.reset(static_cast<nvinfer1::IRuntime*>(create(&complaints_, NV_TENSORRT_VERSION)));
    if (runtime_ == nullptr) Refuse(complaints_.words());
  }
  std::string Version() const override {
    return (name_ == kRtx ? "TensorRT-RTX " : "TensorRT ") + version_;
  }
  std::unique_ptr<GpuProgram> Load(const EngineSource& source,
                                   const EngineOptions& options) override {
    RefuseOptions(options);
    complaints_.Forget();
    std::unique_ptr<nvinfer1::ICudaEngine> engine(
        runtime_->deserializeCudaEngine(source.content.data(), source.content.size()));
    if (engine == nullptr) return nullptr;
    return std::make_unique<TensorRtProgram>(std::move(engine), complaints_, stream_);
  }
  std::string error() const override { return complaints_.words(); }

 private:
  using Number = std::int32_t (*)();
  [[noreturn]] void Refuse(const std::string& why) const {
    const char* rtx = "Install it (pip install tensorrt-rtx), or set PTGC_TENSORRT to its library.";
    const char* full = "Install TensorRT or JetPack, or set PTGC_TENSORRT to its library.";
    throw Error(ErrorCode::kBackend, "The library of the backend '" + name_ + "': " + why + ".",
                name_ == kRtx ? rtx : full);
  }

  std::string name_;                             // The backend's.
  cudaStream_t stream_;                          // The device's.
  std::string version_;                          // The library's messages.
  Complaints complaints_;                        // Outlives what complains.
  std::unique_ptr<nvinfer1::IRuntime> runtime_;  // Deserialises.
};

std::string PathOf(const std::string& name, const std::string& library) {
  if (!library.empty()) return library;
  const char* given = std::getenv("PTGC_TENSORRT");
  if (given != nullptr && *given != '\0') return given;
  return name == kRtx ? "libtensorrt_rtx.so.1"
                      : "libnvinfer.so." + std::to_string(NV_TENSORRT_MAJOR);
}

}  // namespace

std::unique_ptr<Backend> MakeTensorRtBackend(const std::string& name, const std::string& library) {
  if (name == kRtx && NV_TENSORRT_MAJOR < 11) {
    throw Error(ErrorCode::kBackend,
                "This ptgc was compiled for TensorRT 10, without tensorrt-rtx.",
                "Compile ptgc with the headers of TensorRT 11.");
  }
  std::unique_ptr<GpuDevice> device = OpenCuda();
  auto opened = std::make_unique<TensorRtLibrary>(name, PathOf(name, library), device->stream());
  return std::make_unique<CapturedBackend>(name, std::move(device), std::move(opened));
}

}  // namespace ptgc
