// OnnxRuntimeValues: buffers as ONNX Runtime's values.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <map>
#include <utility>

#include "engines/engine.h"
#include "engines/onnxruntime/onnxruntime_library.h"

namespace ptgc {

// One value per address, so that an output with an input's address is written in place. The values
// are views of memory that others own and that outlives them.
class OnnxRuntimeValues {
 public:
  // `memory`, which says where the addresses are, must outlive this.
  explicit OnnxRuntimeValues(const Ort::MemoryInfo& memory) : memory_(memory) {}

  const Ort::Value& Of(const Tensor& tensor) {
    const auto known = values_.find(tensor.data);
    if (known != values_.end()) return known->second;
    Ort::Value value =
        Ort::Value::CreateTensor(memory_, tensor.data, tensor.bytes(), tensor.shape.data(),
                                 tensor.shape.size(), ElementType(tensor.dtype));
    return values_.emplace(tensor.data, std::move(value)).first->second;
  }

 private:
  const Ort::MemoryInfo& memory_;             // The memory of the addresses.
  std::map<const void*, Ort::Value> values_;  // By address.
};

}  // namespace ptgc
