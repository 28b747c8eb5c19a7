// Buffer: zeroed host memory that costs nothing until it is touched.
#pragma once

#include <cstddef>

#include "base/memory.h"

namespace ptgc {

// A page-aligned part of host memory, for what the host itself reads and writes.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) : block_(HostMemory(), size) {}

  std::size_t size() const { return block_.size(); }
  void* data() const { return block_.data(); }
  template <typename T>
  T* As() const {
    return static_cast<T*>(block_.data());
  }

 private:
  Block block_;  // The memory.
};

}  // namespace ptgc
