// OnnxRuntimeValues: buffers as ONNX Runtime sees them.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <map>
#include <utility>

#include "engines/engine.h"
#include "engines/onnxruntime/onnxruntime_library.h"

namespace ptgc {

// One value for each address, so that an output that shares an input's is written in place. Views:
// the memory is somebody else's, and outlives them.
class OnnxRuntimeValues {
 public:
  // Outlived by `memory`, which says where the addresses are.
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
  const Ort::MemoryInfo& memory_;             // Where they lie.
  std::map<const void*, Ort::Value> values_;  // By address.
};

}  // namespace ptgc
