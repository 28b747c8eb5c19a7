// A GPU through NVIDIA's CUDA runtime. Experimental: it has not run on a GPU yet.
#pragma once

#include <memory>
#include <string>

#include "engines/gpu/gpu.h"

namespace ptgc {

// The calling thread's device, with its own stream. Opens $PTGC_CUDA_RUNTIME, or libcudart of CUDA
// 13 or 12. Throws a backend error if the library, the driver or the device is absent.
std::unique_ptr<GpuDevice> OpenCuda();

// Name of the first GPU, such as "NVIDIA H200"; empty if there is no GPU or no driver.
std::string CudaDeviceName();

}  // namespace ptgc
