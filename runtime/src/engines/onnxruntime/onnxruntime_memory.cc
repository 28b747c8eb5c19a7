#define ORT_API_MANUAL_INIT
#include "engines/onnxruntime/onnxruntime_memory.h"

#include <sys/mman.h>

#include <cstdlib>

namespace ptgc {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kLargestKept = std::size_t{16} << 20;  // Larger blocks are weights.
constexpr std::size_t kMostKept = std::size_t{64} << 20;     // All kept blocks together.

std::size_t RoundUp(std::size_t size, std::size_t unit) { return (size + unit - 1) / unit * unit; }

}  // namespace

OnnxRuntimeMemory::OnnxRuntimeMemory()
    : OrtAllocator{}, info_(Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault)) {
  version = ORT_API_VERSION;
  Alloc = [](OrtAllocator* self, std::size_t size) {
    return static_cast<OnnxRuntimeMemory*>(self)->Take(size);
  };
  Reserve = Alloc;
  Free = [](OrtAllocator* self, void* block) {
    static_cast<OnnxRuntimeMemory*>(self)->GiveBack(block);
  };
  Info = [](const OrtAllocator* self) -> const OrtMemoryInfo* {
    return static_cast<const OnnxRuntimeMemory*>(self)->info_;
  };
}

void* OnnxRuntimeMemory::Take(std::size_t size) {
  if (size == 0) return nullptr;
  const std::size_t rounded = RoundUp(size, kAlignment);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = kept_.find(rounded);
    if (found != kept_.end() && !found->second.empty()) {
      Header* header = found->second.back();
      found->second.pop_back();
      kept_bytes_ -= rounded;
      return reinterpret_cast<char*>(header) + kAlignment;
    }
  }
  const std::size_t whole = rounded + kAlignment;
  const bool large = whole >= kHugePage;
  const std::size_t alignment = large ? kHugePage : kAlignment;
  auto* header = static_cast<Header*>(std::aligned_alloc(alignment, RoundUp(whole, alignment)));
  if (header == nullptr) return nullptr;  // ONNX Runtime reports it.
  // Only whole huge pages, because the end of the block would waste most of one.
  if (large) madvise(header, whole / kHugePage * kHugePage, MADV_HUGEPAGE);
  header->size = rounded;
  return reinterpret_cast<char*>(header) + kAlignment;
}

void OnnxRuntimeMemory::GiveBack(void* block) {
  if (block == nullptr) return;
  auto* header = reinterpret_cast<Header*>(static_cast<char*>(block) - kAlignment);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (header->size <= kLargestKept && kept_bytes_ + header->size <= kMostKept) {
      kept_[header->size].push_back(header);
      kept_bytes_ += header->size;
      return;
    }
  }
  std::free(header);
}

void OnnxRuntimeMemory::Trim() {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto& [size, headers] : kept_) {
    for (Header* header : headers) std::free(header);
  }
  kept_.clear();
  kept_bytes_ = 0;
}

}  // namespace ptgc
