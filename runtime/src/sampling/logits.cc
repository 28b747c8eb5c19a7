#include "sampling/logits.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/half.h"

namespace ptgc {

void LogitsRow::Copy(std::span<float> values) const {
  if (dtype == DType::kFloat32) {
    std::copy_n(static_cast<const float*>(data), size, values.begin());
    return;
  }
  const std::uint16_t* words = static_cast<const std::uint16_t*>(data);
  if (dtype == DType::kFloat16) {
    std::transform(words, words + size, values.begin(), Float32FromFloat16);
  } else {
    std::transform(words, words + size, values.begin(), Float32FromBFloat16);
  }
}

}  // namespace ptgc
