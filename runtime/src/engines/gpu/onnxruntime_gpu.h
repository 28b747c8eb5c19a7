// ONNX Runtime's sessions as programs of a GPU, so that their rounds can be captured like others.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <functional>
#include <memory>

#include "engines/gpu/gpu.h"
#include "engines/onnxruntime/onnxruntime_library.h"

namespace ptgc {

// Where sessions run.
struct OnnxRuntimePlace {
  const char* memory = "Cpu";  // The library's name of their memory, such as "Cuda".
  int device = 0;              // Number of the device.
  // Makes a session run there, on the GPU stream that everything is queued on.
  std::function<void(Ort::SessionOptions&)> add_provider;
};

// Programs are ONNX files. Only outputs with an address are computed, and varying sizes are
// identified by their names.
std::unique_ptr<GpuLibrary> MakeOnnxRuntimeGpuLibrary(const OnnxRuntimeLibrary& library,
                                                      OnnxRuntimePlace place);

}  // namespace ptgc
