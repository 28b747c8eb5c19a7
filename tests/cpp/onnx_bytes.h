// Messages of onnx.proto, written by hand.
#pragma once

#include <string>

namespace ptgc {

// A field that holds bytes: a text, or another message.
inline std::string OnnxField(int number, const std::string& content) {
  const auto varint = [](std::size_t value) {
    std::string bytes;
    for (; value >= 0x80U; value >>= 7U) bytes += static_cast<char>((value & 0x7FU) | 0x80U);
    return bytes + static_cast<char>(value);
  };
  return varint(static_cast<std::size_t>(number) << 3U | 2U) + varint(content.size()) + content;
}

// A tensor whose data are in a file.
inline std::string ExternalTensor(const std::string& file) {
  return OnnxField(13, OnnxField(1, "location") + OnnxField(2, file)) +
         OnnxField(13, OnnxField(1, "offset") + OnnxField(2, "0"));
}

// A model with one initializer whose data are in a file.
inline std::string ModelWithWeights(const std::string& file) {
  return OnnxField(7, OnnxField(2, "graph") + OnnxField(5, ExternalTensor(file)));
}

}  // namespace ptgc
