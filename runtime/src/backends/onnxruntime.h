// The backend that runs ONNX graphs with ONNX Runtime.
#pragma once

#include <memory>
#include <string>

#include "engine.h"

namespace ptgc {

// Opens the shared library at `library`, or at $PTGC_ONNXRUNTIME, or libonnxruntime.so.1.
std::unique_ptr<Backend> MakeOnnxRuntimeBackend(const std::string& library);

}  // namespace ptgc
