// Engines of TensorRT and TensorRT-RTX on a GPU. Experimental: none has run on a GPU yet.
#pragma once

#include <memory>
#include <string>

#include "engines/engine.h"

namespace ptgc {

// `name` is tensorrt or tensorrt-rtx. Opens the shared library at `library`, or at $PTGC_TENSORRT,
// or the usual name of the version that this was compiled for. Throws backend errors.
std::unique_ptr<Backend> MakeTensorRtBackend(const std::string& name, const std::string& library);

}  // namespace ptgc
