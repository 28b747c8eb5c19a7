// Memory: where the states of engines live, and how they are moved within it.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

namespace ptgc {

// A copy of equal pieces at equal distances from one place to another.
struct Move {
  void* to = nullptr;           // Destination of the first piece.
  std::size_t to_stride = 0;    // Distance from one destination to the next.
  const void* from = nullptr;   // Source of the first piece.
  std::size_t from_stride = 0;  // Distance from one source to the next.
  std::size_t bytes = 0;        // Bytes of a piece; may overlap its own destination only.
  std::size_t count = 1;        // Number of pieces.
};

// Its operations take effect before the next run of an engine whose states are in it.
class Memory {
 public:
  virtual ~Memory() = default;
  // Returns zeroed memory, aligned for any engine. Throws a capacity error if there is none left.
  virtual void* Take(std::size_t bytes) = 0;
  virtual void GiveBack(void* data, std::size_t bytes) noexcept = 0;
  // Zeroes the contents; where possible, the memory is returned to the system until it is written.
  virtual void Discard(void* data, std::size_t bytes) = 0;
  virtual void Copy(const Move& move) = 0;
};

// The process's own memory, in whole pages; pages that were never written take no memory.
std::shared_ptr<Memory> HostMemory();

// Owns a part of a memory at a fixed address.
class Block {
 public:
  Block() = default;
  Block(std::shared_ptr<Memory> memory, std::size_t bytes)
      : memory_(std::move(memory)), data_(memory_->Take(bytes)), size_(bytes) {}
  ~Block() {
    if (data_ != nullptr) memory_->GiveBack(data_, size_);
  }
  Block(Block&& other) noexcept
      : memory_(std::move(other.memory_)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Block& operator=(Block&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  std::size_t size() const { return size_; }
  // An address in its memory; the host may only access it if that is host memory.
  void* data() const { return data_; }
  char* At(std::size_t offset) const { return static_cast<char*>(data_) + offset; }
  void Discard() { memory_->Discard(data_, size_); }

 private:
  std::shared_ptr<Memory> memory_;  // The memory that it is part of.
  void* data_ = nullptr;            // Its address.
  std::size_t size_ = 0;            // Bytes.
};

}  // namespace ptgc
