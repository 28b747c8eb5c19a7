// Buffer: zeroed host memory that costs nothing until it is touched.
#pragma once

#include <cstddef>

namespace ptgc {

// Owns page-aligned memory. Pages that were never written take no physical memory.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::size_t size() const { return size_; }
  void* data() const { return data_; }
  template <typename T>
  T* As() const {
    return static_cast<T*>(data_);
  }
  // Gives the pages back; the contents are zero again.
  void Discard();

 private:
  void* data_ = nullptr;  // Start of the mapping.
  std::size_t size_ = 0;  // Bytes.
};

}  // namespace ptgc
