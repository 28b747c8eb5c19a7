// ptgc's own operators for ONNX Runtime on the CPU, in the domain "ptgc".
#pragma once

#include <onnxruntime_cxx_api.h>

namespace ptgc {

// BlockProduct  rows [..., inputs] float, values uint8, scales float or float16, bias float
// (optional)
//               -> [..., outputs] float
// BlockGather   ids int64, values, scales -> ids' shape + [inputs] float
//
// Both read weights as BlockWeights has them, with the attributes `K` (inputs), `N` (outputs),
// `bits` and `block_size`; values and scales are constants of the graph, and are used where they
// lie in its file. Adds them to a session's options; the library must be open.
void AddOperators(Ort::SessionOptions& options);
// The same for a process that only calls the operators: `api` is that of the session's ONNX
// Runtime. Throws if another copy of it is in use.
void AddOperators(OrtSessionOptions* options, const OrtApi& api);

}  // namespace ptgc
