// CachedAttention: an operator of the domain "ptgc".
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cached_attention.h"

namespace ptgc {

// The rows of a round attend to the caches of their texts, which receive the rows' keys and values
// first.
//
// Inputs (R rows, C slots; the ports of a round are described in docs/bundle.md):
//
//   0 query          [batch, R, num_heads * head_dim]
//   1 key, 2 value   [batch, R, kv_num_heads * head_dim], absent if they stand behind the query in
//                    each of its rows
//   3, 4             past_key, past_value [batch, kv_num_heads, C, head_dim], float or float16
//   5 position_ids [batch, R]   6 write_index [batch]   7 mask_start [batch]   8 row_count [batch]
//   9 tree_mask [batch, R, slots], absent if each row sees all before it
//  10 window_offset [batch], absent if the caches do not slide
//  11 cos, 12 sin    [positions, rotary_dim / 2], absent if query and key are rotated already
//
// Outputs: rows [batch, R, num_heads * head_dim], and the caches, written in place where they have
// the address of the inputs. Attributes: num_heads, kv_num_heads, scale, softcap (0: none), window
// (0: none), causal (1: whatever the mask shows, a row sees no later row).
class CachedAttentionKernel {
 public:
  explicit CachedAttentionKernel(const OrtKernelInfo* info);
  void Compute(OrtKernelContext* raw);

 private:
  int num_heads_;
  int kv_num_heads_;
  float scale_;
  float softcap_;
  int window_;
  bool is_causal_;
  const AttentionKernel& kernel_;  // Of this machine.
};

// With caches of one type; ONNX Runtime chooses between operators of one name by their types.
template <ONNXTensorElementDataType kCache>
struct CachedAttention : Ort::CustomOpBase<CachedAttention<kCache>, CachedAttentionKernel> {
  void* CreateKernel(const OrtApi& /*api*/, const OrtKernelInfo* info) const {
    return new CachedAttentionKernel(info);
  }
  const char* GetName() const { return "CachedAttention"; }
  std::size_t GetInputTypeCount() const { return 13; }
  ONNXTensorElementDataType GetInputType(std::size_t index) const {
    if (index == 3 || index == 4) return kCache;
    if (index == 9) return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
    const bool is_integer = (index >= 5 && index <= 8) || index == 10;
    return is_integer ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  }
  OrtCustomOpInputOutputCharacteristic GetInputCharacteristic(std::size_t index) const {
    const bool is_optional = index == 1 || index == 2 || index >= 9;
    return is_optional ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  }
  std::size_t GetOutputTypeCount() const { return 3; }
  ONNXTensorElementDataType GetOutputType(std::size_t index) const {
    return index == 0 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : kCache;
  }
};

}  // namespace ptgc
