// The backend that runs ONNX graphs with ONNX Runtime.
#pragma once

#include <memory>
#include <string>

#include "engines/engine.h"

namespace ptgc {

// Uses `api`, an OrtApiBase that outlives the process's engines. If that is null, opens the shared
// library at `library`, at $PTGC_ONNXRUNTIME, or libonnxruntime.so.1. Versions older than `minimum`
// are refused.
std::unique_ptr<Backend> MakeOnnxRuntimeBackend(const std::string& library, const void* api,
                                                const std::string& minimum);
// The same on an NVIDIA GPU, through the library's CUDA provider. Experimental: not run on a GPU
// yet.
std::unique_ptr<Backend> MakeOnnxRuntimeCudaBackend(const std::string& library, const void* api,
                                                    const std::string& minimum);

}  // namespace ptgc
