// The library ONNX Runtime, opened once per process, and what its engines share.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <optional>
#include <string>

#include "base/error.h"
#include "base/names.h"
#include "engines/engine.h"
#include "engines/onnxruntime/onnxruntime_memory.h"

namespace ptgc {

// There is one per process, because its C++ header has one API table.
struct OnnxRuntimeLibrary {
  const OrtApiBase* base = nullptr;  // The same for everyone who opens the same file.
  std::string version;               // The library's version.
  // Never destroyed: engines may outlive static objects.
  Ort::Env* env = nullptr;              // The environment of all engines.
  OnnxRuntimeMemory* memory = nullptr;  // Their host memory.
};

// The library at `file`, at $PTGC_ONNXRUNTIME, or libonnxruntime.so.1, which is never closed; or
// the library that `api`, an OrtApiBase, belongs to. Throws a backend error, also if its version is
// older than `minimum`; an empty `minimum` accepts any.
const OnnxRuntimeLibrary& OpenOnnxRuntime(const std::string& file, const void* api,
                                          const std::string& minimum);

// Conversions between element types and the library's numbers for them.
ONNXTensorElementDataType ElementType(DType dtype);
std::optional<DType> DTypeOf(ONNXTensorElementDataType type);

// Sets the options of every session: the build's own, and that the source is an ONNX model with its
// weights beside it. The library's own format, which may name other files, is thereby excluded.
void Configure(Ort::SessionOptions& session_options, const EngineSource& source,
               const EngineOptions& options);

// Runs `body`; turns exceptions of the library into our errors.
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
