// What ptgc's operators read of a call.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstddef>

namespace ptgc {

// An input that may be absent.
inline Ort::ConstValue OptionalInput(const Ort::KernelContext& context, std::size_t index) {
  return index < context.GetInputCount() ? context.GetInput(index) : Ort::ConstValue{nullptr};
}

// Its values; null if it is absent.
template <typename T>
const T* OptionalValues(const Ort::KernelContext& context, std::size_t index) {
  const Ort::ConstValue value = OptionalInput(context, index);
  return value ? value.GetTensorData<T>() : nullptr;
}

}  // namespace ptgc
