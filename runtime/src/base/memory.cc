#include "base/memory.h"

#include <sys/mman.h>

#include <cstring>
#include <string>

#include "base/error.h"

namespace ptgc {
namespace {

class Host : public Memory {
 public:
  void* Take(std::size_t bytes) override {
    if (bytes == 0) return nullptr;
    void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped != MAP_FAILED) return mapped;
    throw Error(ErrorCode::kCapacity,
                "Cannot take " + std::to_string(bytes) + " bytes of memory for a buffer.",
                "Use a build with a smaller --max-length or --batch-size.");
  }
  void GiveBack(void* data, std::size_t bytes) noexcept override { munmap(data, bytes); }
  void Discard(void* data, std::size_t bytes) override {
    if (data != nullptr) madvise(data, bytes, MADV_DONTNEED);
  }
  void Copy(const Move& move) override {
    char* to = static_cast<char*>(move.to);
    const char* from = static_cast<const char*>(move.from);
    for (std::size_t i = 0; i < move.count; ++i) {
      std::memmove(to + i * move.to_stride, from + i * move.from_stride, move.bytes);
    }
  }
};

}  // namespace

std::shared_ptr<Memory> HostMemory() {
  static const std::shared_ptr<Memory> memory = std::make_shared<Host>();
  return memory;
}

}  // namespace ptgc
