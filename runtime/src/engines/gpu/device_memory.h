// DeviceMemory: a GPU's memory as states live in it.
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
// All that is taken is there from then on: caches of several capacities take memory for each.
class DeviceMemory : public Memory {
 public:
  explicit DeviceMemory(std::unique_ptr<GpuDevice> device) : device_(std::move(device)) {}
  ~DeviceMemory() override;

  void* Take(std::size_t bytes) override;
  void GiveBack(void* data, std::size_t bytes) noexcept override;
  void Discard(void* data, std::size_t bytes) override;
  void Copy(const Move& move) override;

  // Whether an address lies in what was taken.
  bool Holds(const void* data) const;
  GpuDevice& device() { return *device_; }

 private:
  void CopyOverlapping(const Move& move);

  std::unique_ptr<GpuDevice> device_;          // Whose memory it is.
  std::map<const char*, std::size_t> blocks_;  // What was taken: where it begins, and its bytes.
  std::size_t largest_ = 0;                    // Bytes of the largest block ever taken.
  void* detour_ = nullptr;                     // For pieces that overlap their new places.
  std::size_t detour_bytes_ = 0;               // Of that.
};

// A backend error with the device's own words: what was tried, and what to do.
[[noreturn]] void ThrowGpuError(const std::string& what, const std::string& words);

}  // namespace ptgc
