// The library ONNX Runtime, opened once a process, and what its engines share.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <optional>
#include <string>

#include "base/error.h"
#include "base/names.h"
#include "engines/engine.h"
#include "engines/onnxruntime/onnxruntime_memory.h"

namespace ptgc {

// There is one per process, because its C++ header keeps one API table.
struct OnnxRuntimeLibrary {
  const OrtApiBase* base = nullptr;  // The same for all who open the same file.
  std::string version;               // As the library names it.
  // Never destroyed: engines may outlive static objects.
  Ort::Env* env = nullptr;              // What engines share.
  OnnxRuntimeMemory* memory = nullptr;  // What they live in on the host.
};

// The library at `file`, or at $PTGC_ONNXRUNTIME, or libonnxruntime.so.1, which is never closed; or
// the one that `api`, an OrtApiBase, belongs to. Throws a backend error, also where its version is
// older than `minimum`; empty takes any.
const OnnxRuntimeLibrary& OpenOnnxRuntime(const std::string& file, const void* api,
                                          const std::string& minimum);

// Element types as the library numbers them.
ONNXTensorElementDataType ElementType(DType dtype);
std::optional<DType> DTypeOf(ONNXTensorElementDataType type);

// Sets what every session has: the build's own options, and that the source is an ONNX model whose
// weights lie beside it. The library has a format of its own, which may name other files.
void Configure(Ort::SessionOptions& session_options, const EngineSource& source,
               const EngineOptions& options);

// Runs `body`; what the library throws becomes an error of ours.
template <typename Body>
auto Translated(const std::string& what, Body body) {
  try {
    return body();
  } catch (const Ort::Exception& error) {
    throw Error(ErrorCode::kBackend, what + ": " + error.what(),
                "Check the build with `ptgc check`, or build again.");
  }
}

}  // namespace ptgc
