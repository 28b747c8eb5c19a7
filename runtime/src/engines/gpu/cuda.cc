#include "engines/gpu/cuda.h"

#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"

namespace ptgc {
namespace {

// Declarations of the parts of the CUDA runtime that are used. They are the same in CUDA 12 and 13,
// so one binary can open either, and CUDA is not needed to compile.
using Status = int;  // cudaError_t
enum CopyKind : int { kHostToDevice = 1, kDeviceToHost = 2, kDeviceToDevice = 3 };
constexpr int kAttributeMajor = 75, kAttributeMinor = 76;  // cudaDevAttrComputeCapability*
constexpr int kCaptureRelaxed = 2;                         // Allows allocations during capture.
constexpr unsigned kStreamNonBlocking = 1;                 // Does not wait for the default stream.

struct CudaApi {
  const char* (*GetErrorString)(Status);
  Status (*GetLastError)();
  Status (*GetDeviceCount)(int*);
  Status (*GetDevice)(int*);
  Status (*SetDevice)(int);
  Status (*DeviceGetAttribute)(int*, int, int);
  Status (*MemGetInfo)(std::size_t*, std::size_t*);
  Status (*Malloc)(void**, std::size_t);
  Status (*Free)(void*);
  Status (*HostRegister)(void*, std::size_t, unsigned);
  Status (*HostUnregister)(void*);
  Status (*MemsetAsync)(void*, int, std::size_t, void*);
  Status (*MemcpyAsync)(void*, const void*, std::size_t, int, void*);
  Status (*Memcpy2DAsync)(void*, std::size_t, const void*, std::size_t, std::size_t, std::size_t,
                          int, void*);
  Status (*StreamCreateWithFlags)(void**, unsigned);
  Status (*StreamDestroy)(void*);
  Status (*StreamSynchronize)(void*);
  Status (*StreamBeginCapture)(void*, int);
  Status (*StreamEndCapture)(void*, void**);
  Status (*GraphInstantiateWithFlags)(void**, void*, unsigned long long);
  Status (*GraphLaunch)(void*, void*);
  Status (*GraphExecDestroy)(void*);
  Status (*GraphDestroy)(void*);
};

[[noreturn]] void Refuse(const std::string& message, const std::string& action) {
  throw Error(ErrorCode::kBackend, message, action);
}

// Opens the library for the life of the process.
void* OpenRuntime() {
  std::vector<std::string> names = {"libcudart.so.13", "libcudart.so.12"};
  const char* given = std::getenv("PTGC_CUDA_RUNTIME");
  if (given != nullptr && *given != '\0') names = {given};
  std::string words;
  for (const std::string& name : names) {
    void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) return handle;
    words += (words.empty() ? "" : "; ") + std::string(dlerror());
  }
  Refuse("Cannot open the CUDA runtime: " + words + ".",
         "Install it (CUDA 12 or 13, or pip install nvidia-cuda-runtime), or set PTGC_CUDA_RUNTIME "
         "to its library.");
}

template <typename Function>
void Resolve(void* handle, const std::string& name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(handle, ("cuda" + name).c_str()));
  if (function != nullptr) return;
  Refuse("The CUDA runtime has no cuda" + name + ".", "Install CUDA 12 or 13.");
}

CudaApi ReadApi(void* handle) {
  CudaApi api{};
#define PTGC_RESOLVE(name) Resolve(handle, #name, api.name)
  PTGC_RESOLVE(GetErrorString);
  PTGC_RESOLVE(GetLastError);
  PTGC_RESOLVE(GetDeviceCount);
  PTGC_RESOLVE(GetDevice);
  PTGC_RESOLVE(SetDevice);
  PTGC_RESOLVE(DeviceGetAttribute);
  PTGC_RESOLVE(MemGetInfo);
  PTGC_RESOLVE(Malloc);
  PTGC_RESOLVE(Free);
  PTGC_RESOLVE(HostRegister);
  PTGC_RESOLVE(HostUnregister);
  PTGC_RESOLVE(MemsetAsync);
  PTGC_RESOLVE(MemcpyAsync);
  PTGC_RESOLVE(Memcpy2DAsync);
  PTGC_RESOLVE(StreamCreateWithFlags);
  PTGC_RESOLVE(StreamDestroy);
  PTGC_RESOLVE(StreamSynchronize);
  PTGC_RESOLVE(StreamBeginCapture);
  PTGC_RESOLVE(StreamEndCapture);
  PTGC_RESOLVE(GraphInstantiateWithFlags);
  PTGC_RESOLVE(GraphLaunch);
  PTGC_RESOLVE(GraphExecDestroy);
  PTGC_RESOLVE(GraphDestroy);
#undef PTGC_RESOLVE
  return api;
}

// The driver's name of a device, because the runtime's is in a struct that CUDA 13 changed. Empty
// if there is none.
std::string NameOf(int device) {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) return "";
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto get_name =
      reinterpret_cast<int (*)(char*, int, int)>(dlsym(driver, "cuDeviceGetName"));
  std::array<char, 256> name{};
  if (init == nullptr || get_name == nullptr || init(0) != 0 ||
      get_name(name.data(), static_cast<int>(name.size()), device) != 0) {
    return "";
  }
  return name.data();
}

class CudaDevice;

class CudaGraph : public GpuGraph {
 public:
  CudaGraph(CudaDevice& device, void* graph) : device_(device), graph_(graph) {}
  ~CudaGraph() override;
  bool Launch() override;

 private:
  CudaDevice& device_;  // Outlives it.
  void* graph_;         // cudaGraphExec_t
};

class CudaDevice : public GpuDevice {
 public:
  CudaDevice() : api_(ReadApi(OpenRuntime())) {
    int count = 0;
    if (!Check(api_.GetDeviceCount(&count)) || count == 0) {
      Refuse("There is no NVIDIA GPU that can be used: " + error() + ".",
             "Install the driver, so that nvidia-smi lists the GPU, or use a build for the CPU.");
    }
    if (Check(api_.GetDevice(&device_)) &&
        Check(api_.StreamCreateWithFlags(&stream_, kStreamNonBlocking))) {
      return;
    }
    Refuse("The GPU cannot be used: " + error() + ".", "Look at it with nvidia-smi.");
  }
  ~CudaDevice() override {
    api_.StreamSynchronize(stream_);
    api_.StreamDestroy(stream_);
  }
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  int number() const override { return device_; }
  std::string name() const override {
    const std::string name = NameOf(device_);
    return name.empty() ? "the GPU" : name;
  }
  std::string compute_capability() const override {
    int major = 0, minor = 0;
    api_.DeviceGetAttribute(&major, kAttributeMajor, device_);
    api_.DeviceGetAttribute(&minor, kAttributeMinor, device_);
    return std::to_string(major) + "." + std::to_string(minor);
  }
  std::size_t free_memory() const override {
    std::size_t free = 0, total = 0;
    return api_.MemGetInfo(&free, &total) == 0 ? free : 0;
  }
  std::string error() const override {
    return failed_ == 0 ? "no device is there" : api_.GetErrorString(failed_);
  }
  void* stream() const override { return stream_; }

  void* Allocate(std::size_t bytes) override {
    void* data = nullptr;
    return Use() && Check(api_.Malloc(&data, bytes)) ? data : nullptr;
  }
  void Free(void* data) noexcept override {
    Use();
    Synchronise();
    Check(api_.Free(data));
  }
  bool Register(void* host, std::size_t bytes) override {
    return Use() && Check(api_.HostRegister(host, bytes, 0));
  }
  void Unregister(void* host) noexcept override {
    Use();
    Synchronise();  // A failed round may have left copies queued.
    Check(api_.HostUnregister(host));
  }
  bool Zero(void* data, std::size_t bytes) override {
    return Use() && Check(api_.MemsetAsync(data, 0, bytes, stream_));
  }
  bool CopyIn(void* data, const void* host, std::size_t bytes) override {
    return Use() && Check(api_.MemcpyAsync(data, host, bytes, kHostToDevice, stream_));
  }
  bool CopyOut(void* host, const void* data, std::size_t bytes) override {
    return Use() && Check(api_.MemcpyAsync(host, data, bytes, kDeviceToHost, stream_));
  }
  bool CopyWithin(const Move& move) override {
    if (!Use()) return false;
    if (move.count == 1) {
      return Check(api_.MemcpyAsync(move.to, move.from, move.bytes, kDeviceToDevice, stream_));
    }
    return Check(api_.Memcpy2DAsync(move.to, move.to_stride, move.from, move.from_stride,
                                    move.bytes, move.count, kDeviceToDevice, stream_));
  }

  bool BeginCapture() override {
    return Use() && Check(api_.StreamBeginCapture(stream_, kCaptureRelaxed));
  }
  std::unique_ptr<GpuGraph> EndCapture() override {
    void* recorded = nullptr;
    void* graph = nullptr;
    if (!Check(api_.StreamEndCapture(stream_, &recorded)) || recorded == nullptr) return nullptr;
    const bool made = Check(api_.GraphInstantiateWithFlags(&graph, recorded, 0));
    api_.GraphDestroy(recorded);
    return made ? std::make_unique<CudaGraph>(*this, graph) : nullptr;
  }
  bool Synchronise() override { return Check(api_.StreamSynchronize(stream_)); }

  bool Launch(void* graph) { return Use() && Check(api_.GraphLaunch(graph, stream_)); }
  void Destroy(void* graph) { api_.GraphExecDestroy(graph); }

 private:
  // The current device is set per thread, and the rest of the process may have changed it.
  bool Use() { return Check(api_.SetDevice(device_)); }
  // Remembers a failure, and clears the runtime's own record of it.
  bool Check(Status status) {
    if (status == 0) return true;
    failed_ = status;
    api_.GetLastError();
    return false;
  }

  CudaApi api_;             // The library's functions.
  int device_ = 0;          // Number of the device.
  void* stream_ = nullptr;  // The stream for everything.
  Status failed_ = 0;       // The last failure.
};

CudaGraph::~CudaGraph() { device_.Destroy(graph_); }
bool CudaGraph::Launch() { return device_.Launch(graph_); }

}  // namespace

std::string CudaDeviceName() { return NameOf(0); }

std::unique_ptr<GpuDevice> OpenCuda() { return std::make_unique<CudaDevice>(); }

}  // namespace ptgc
