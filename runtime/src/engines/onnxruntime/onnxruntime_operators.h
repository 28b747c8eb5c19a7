// ptgc's own operators for ONNX Runtime on the CPU, in the domain "ptgc".
#pragma once

#include <onnxruntime_cxx_api.h>

namespace ptgc {

// BlockProduct: rows times weights.
//
//   0 rows [..., inputs] float   1 values uint8   2 scales float or float16
//   3 bias [outputs], 4 added [..., inputs] (only with norm), 5 norm [inputs]: float, each optional
//   -> products [..., outputs] float, and rows + added if there is `added`
//
// With `norm`, rows are normalised by their root mean square (attribute `epsilon`) and scaled by it
// first. With the attribute `gated`, gates and what they gate are tiles by turns, and the result is
// silu(gate) * gated, [..., outputs / 2].
//
// BlockGather: rows of weights by `ids`, int64.
//
//   0 ids   1 values   2 scales   -> ids' shape + [inputs] float
//
// RowArgMax: where the largest value of each row is, of equal ones the first.
//
//   0 rows [..., size] float   -> [...] int64
//
// BlockProduct and BlockGather read weights as BlockWeights has them, with the attributes `K`
// (inputs), `N` (outputs), `bits` and `block_size`; values and scales are constants of the graph,
// and are used where they lie in its file.

// Adds the operators to a session's options; the library must be open.
void AddOperators(Ort::SessionOptions& options);
// The same for a process that only calls the operators: `api` is that of the session's ONNX
// Runtime. Throws if another copy of it is in use.
void AddOperators(OrtSessionOptions* options, const OrtApi& api);

}  // namespace ptgc
