#include "engines/gpu/device_memory.h"

#include <algorithm>
#include <iterator>
#include <string>

#include "base/error.h"

namespace ptgc {
namespace {

std::size_t Distance(const void* one, const void* other) {
  const std::ptrdiff_t distance = static_cast<const char*>(one) - static_cast<const char*>(other);
  return static_cast<std::size_t>(distance < 0 ? -distance : distance);
}

}  // namespace

void ThrowGpuError(const std::string& what, const std::string& words) {
  throw Error(ErrorCode::kBackend,
              what + ": " + (words.empty() ? "no reason is given" : words) + ".",
              "Check the driver and the free memory with nvidia-smi, then load the build again; "
              "where it fails again, `ptgc check` the build.");
}

DeviceMemory::~DeviceMemory() {
  if (detour_ != nullptr) device_->Free(detour_);
}

void* DeviceMemory::Take(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* data = device_->Allocate(bytes);
  if (data == nullptr) {
    throw Error(ErrorCode::kCapacity,
                "Cannot take " + std::to_string(bytes) + " bytes of the memory of " +
                    device_->name() + ", which has " + std::to_string(device_->free_memory()) +
                    " free.",
                "Use a build with a smaller --max-length or --batch-size, or free memory there.");
  }
  blocks_[static_cast<const char*>(data)] = bytes;
  largest_ = std::max(largest_, bytes);
  // Old contents may be NaN, which no mask removes from a product.
  Discard(data, bytes);
  return data;
}

void DeviceMemory::GiveBack(void* data, std::size_t) noexcept {
  blocks_.erase(static_cast<const char*>(data));
  device_->Free(data);
}

void DeviceMemory::Discard(void* data, std::size_t bytes) {
  if (data == nullptr || device_->Zero(data, bytes)) return;
  ThrowGpuError("Cannot clear memory of the GPU", device_->error());
}

void DeviceMemory::Copy(const Move& move) {
  if (move.bytes == 0 || move.count == 0 || move.to == move.from) return;
  if (Distance(move.to, move.from) < move.bytes) return CopyOverlapping(move);
  if (!device_->CopyWithin(move)) {
    ThrowGpuError("Cannot copy states within the GPU", device_->error());
  }
}

// The detour is as large as the largest block, so that it is taken once and never moves.
void DeviceMemory::CopyOverlapping(const Move& move) {
  if (detour_bytes_ < move.bytes * move.count) {
    if (detour_ != nullptr) device_->Free(detour_);
    detour_bytes_ = largest_;
    detour_ = device_->Allocate(detour_bytes_);
  }
  const bool copied =
      detour_ != nullptr &&
      device_->CopyWithin(
          {detour_, move.bytes, move.from, move.from_stride, move.bytes, move.count}) &&
      device_->CopyWithin({move.to, move.to_stride, detour_, move.bytes, move.bytes, move.count});
  if (!copied) ThrowGpuError("Cannot move states within the GPU", device_->error());
}

bool DeviceMemory::Holds(const void* data) const {
  const auto after = blocks_.upper_bound(static_cast<const char*>(data));
  if (after == blocks_.begin()) return false;
  const auto& [begin, bytes] = *std::prev(after);
  return Distance(begin, data) < bytes;
}

}  // namespace ptgc
