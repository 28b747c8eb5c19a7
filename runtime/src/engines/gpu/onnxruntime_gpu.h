// ONNX Runtime's sessions as programs of a GPU, so that its rounds are captured as others' are.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <functional>
#include <memory>

#include "engines/gpu/gpu.h"
#include "engines/onnxruntime/onnxruntime_library.h"

namespace ptgc {

// Where sessions run.
struct OnnxRuntimePlace {
  const char* memory = "Cpu";  // Where their ports lie, as the library names it: "Cuda".
  int device = 0;              // Which of those.
  // Lets a session run there, on the stream of the GPU that everything is queued on.
  std::function<void(Ort::SessionOptions&)> add_provider;
};

// Programs are ONNX files. Only outputs that have an address are given, and sizes that vary are
// known by their names.
std::unique_ptr<GpuLibrary> MakeOnnxRuntimeGpuLibrary(const OnnxRuntimeLibrary& library,
                                                      OnnxRuntimePlace place);

}  // namespace ptgc
