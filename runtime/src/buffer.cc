#include "buffer.h"

#include <sys/mman.h>

#include <string>
#include <utility>

#include "error.h"

namespace ptgc {

Buffer::Buffer(std::size_t size) : size_(size) {
  if (size == 0) return;
  void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Error(ErrorCode::kCapacity,
                "Cannot take " + std::to_string(size) + " bytes of memory for a buffer.",
                "Use a build with a smaller --max-length or --batch-size.");
  }
  data_ = mapped;
}

Buffer::~Buffer() {
  if (data_ != nullptr) munmap(data_, size_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void Buffer::Discard() {
  if (data_ != nullptr) madvise(data_, size_, MADV_DONTNEED);
}

}  // namespace ptgc
