// The backend that runs ONNX graphs with ONNX Runtime.
#pragma once

#include <memory>
#include <string>

#include "engines/engine.h"

namespace ptgc {

// Uses `api`, an OrtApiBase that outlives the process's engines, or where that is null opens the
// shared library at `library`, or at $PTGC_ONNXRUNTIME, or libonnxruntime.so.1. A version older
// than `minimum` is refused.
std::unique_ptr<Backend> MakeOnnxRuntimeBackend(const std::string& library, const void* api,
                                                const std::string& minimum);
// The same on an NVIDIA GPU, through the library's CUDA provider. Experimental: no GPU has run it.
std::unique_ptr<Backend> MakeOnnxRuntimeCudaBackend(const std::string& library, const void* api,
                                                    const std::string& minimum);

}  // namespace ptgc
