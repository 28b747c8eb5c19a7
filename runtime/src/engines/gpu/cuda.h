// The GPU through NVIDIA's CUDA runtime. Experimental: it has run on no GPU yet.
#pragma once

#include <memory>
#include <string>

#include "engines/gpu/gpu.h"

namespace ptgc {

// The calling thread's device, with a stream of its own. Opens $PTGC_CUDA_RUNTIME, or libcudart of
// CUDA 13 or 12. Throws a backend error where library, driver or device are absent.
std::unique_ptr<GpuDevice> OpenCuda();

// "NVIDIA H200", of the first GPU; empty where there is none, or no driver.
std::string CudaDeviceName();

}  // namespace ptgc
