#define ORT_API_MANUAL_INIT
#include <array>
#include <memory>
#include <string>
#include <utility>

#include "engines/gpu/captured_backend.h"
#include "engines/gpu/cuda.h"
#include "engines/gpu/onnxruntime_gpu.h"
#include "engines/onnxruntime/onnxruntime.h"
#include "engines/onnxruntime/onnxruntime_library.h"

namespace ptgc {
namespace {

struct ReleaseCudaOptions {
  void operator()(OrtCUDAProviderOptionsV2* options) const {
    Ort::GetApi().ReleaseCUDAProviderOptions(options);
  }
};

// Options: exact float32 products, sums of squares in float32, and no more memory than requested.
void AddCuda(Ort::SessionOptions& session_options, const GpuDevice& device) {
  const OrtApi& api = Ort::GetApi();
  OrtCUDAProviderOptionsV2* made = nullptr;
  Ort::ThrowOnError(api.CreateCUDAProviderOptions(&made));
  const std::unique_ptr<OrtCUDAProviderOptionsV2, ReleaseCudaOptions> options(made);
  const std::string number = std::to_string(device.number());
  const std::array<const char*, 4> keys = {
      "device_id", "use_tf32", "enable_skip_layer_norm_strict_mode", "arena_extend_strategy"};
  const std::array<const char*, 4> values = {number.c_str(), "0", "1", "kSameAsRequested"};
  Ort::ThrowOnError(api.UpdateCUDAProviderOptions(made, keys.data(), values.data(), keys.size()));
  Ort::ThrowOnError(
      api.UpdateCUDAProviderOptionsWithValue(made, "user_compute_stream", device.stream()));
  session_options.AppendExecutionProvider_CUDA_V2(*options);
}

}  // namespace

std::unique_ptr<Backend> MakeOnnxRuntimeCudaBackend(const std::string& library, const void* api,
                                                    const std::string& minimum) {
  const OnnxRuntimeLibrary& opened = OpenOnnxRuntime(library, api, minimum);
  std::unique_ptr<GpuDevice> device = OpenCuda();
  const GpuDevice& gpu = *device;  // Outlives the sessions on it.
  OnnxRuntimePlace place{"Cuda", gpu.number(),
                         [&gpu](Ort::SessionOptions& options) { AddCuda(options, gpu); }};
  return std::make_unique<CapturedBackend>("onnxruntime", std::move(device),
                                           MakeOnnxRuntimeGpuLibrary(opened, std::move(place)));
}

}  // namespace ptgc
