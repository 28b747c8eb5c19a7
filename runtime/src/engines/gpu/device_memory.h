// DeviceMemory: a GPU's memory for states.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/memory.h"
#include "engines/gpu/gpu.h"

namespace ptgc {

// Everything is queued on the device's stream, in order with the engines' runs; nothing waits.
// Memory is allocated as soon as it is taken, so caches take memory for each of their capacities.
class DeviceMemory : public Memory {
 public:
  explicit DeviceMemory(std::unique_ptr<GpuDevice> device) : device_(std::move(device)) {}
  ~DeviceMemory() override;

  void* Take(std::size_t bytes) override;
  void GiveBack(void* data, std::size_t bytes) noexcept override;
  void Discard(void* data, std::size_t bytes) override;
  void Copy(const Move& move) override;

  // Whether an address is in memory that was taken.
  bool Holds(const void* data) const;
  GpuDevice& device() { return *device_; }

 private:
  void CopyOverlapping(const Move& move);

  std::unique_ptr<GpuDevice> device_;          // The device.
  std::map<const char*, std::size_t> blocks_;  // Taken blocks: address and bytes.
  std::size_t largest_ = 0;                    // Bytes of the largest block ever taken.
  void* detour_ = nullptr;                     // For pieces that overlap their new places.
  std::size_t detour_bytes_ = 0;               // Bytes of the detour.
};

// Throws a backend error with what was tried and the device's own message.
[[noreturn]] void ThrowGpuError(const std::string& what, const std::string& words);

}  // namespace ptgc
