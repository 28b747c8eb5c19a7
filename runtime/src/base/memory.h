// Memory: where the states of engines live, and how they are moved there.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

namespace ptgc {

// Equal pieces at equal distances, from one place to another.
struct Move {
  void* to = nullptr;           // The first piece's new place.
  std::size_t to_stride = 0;    // From one piece to the next.
  const void* from = nullptr;   // Where the first piece is.
  std::size_t from_stride = 0;  // From one piece to the next.
  std::size_t bytes = 0;        // Of one piece; it may overlap its own new place, no other's.
  std::size_t count = 1;        // Pieces.
};

// What is asked of it happens before whatever an engine that lives there runs next.
class Memory {
 public:
  virtual ~Memory() = default;
  // Zero, and aligned for any engine. Throws a capacity error where there is no more.
  virtual void* Take(std::size_t bytes) = 0;
  virtual void GiveBack(void* data, std::size_t bytes) noexcept = 0;
  // The contents are zero again; where memory can be lent, it is given back until it is written.
  virtual void Discard(void* data, std::size_t bytes) = 0;
  virtual void Copy(const Move& move) = 0;
};

// The process's own memory, in whole pages; what was never written takes none.
std::shared_ptr<Memory> HostMemory();

// Owns a part of a memory, at a fixed address.
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
  // An address of its memory: the host reads and writes it in host memory only.
  void* data() const { return data_; }
  char* At(std::size_t offset) const { return static_cast<char*>(data_) + offset; }
  void Discard() { memory_->Discard(data_, size_); }

 private:
  std::shared_ptr<Memory> memory_;  // What it is a part of.
  void* data_ = nullptr;            // Where it begins.
  std::size_t size_ = 0;            // Bytes.
};

}  // namespace ptgc
