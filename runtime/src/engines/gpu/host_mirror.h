// HostMirror: a host buffer, pinned, and the device memory through which engines see it.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <utility>

#include "base/memory.h"
#include "engines/engine.h"
#include "engines/gpu/device_memory.h"

namespace ptgc {

// Lives as long as a call that is bound to the buffer; the buffer lives longer.
class HostMirror {
 public:
  HostMirror(std::shared_ptr<DeviceMemory> memory, void* host, std::size_t bytes);
  ~HostMirror();
  HostMirror(const HostMirror&) = delete;
  HostMirror& operator=(const HostMirror&) = delete;

  char* host(std::size_t offset) const { return static_cast<char*>(host_) + offset; }
  char* device(std::size_t offset) const { return block_.At(offset); }
  std::size_t bytes() const { return block_.size(); }
  // From the beginning to an address in the host's part.
  std::size_t OffsetOf(const void* host) const {
    return static_cast<std::size_t>(static_cast<const char*>(host) - this->host(0));
  }
  // Whether copies need no help of the host; others are not recorded.
  bool is_pinned() const { return is_pinned_; }

 private:
  std::shared_ptr<DeviceMemory> memory_;  // Of the device.
  void* host_;                            // Not owned.
  Block block_;                           // The same on the device.
  bool is_pinned_;                        // Whether the device registered the host's part.
};

// One mirror for each buffer, however many engines and shape points are bound to it.
class HostMirrors {
 public:
  explicit HostMirrors(std::shared_ptr<DeviceMemory> memory) : memory_(std::move(memory)) {}
  std::shared_ptr<HostMirror> Of(const Tensor& tensor);
  std::shared_ptr<HostMirror> Of(void* buffer, std::size_t bytes);

 private:
  std::shared_ptr<DeviceMemory> memory_;                      // Of the device.
  std::map<const void*, std::weak_ptr<HostMirror>> mirrors_;  // By the host's address.
};

}  // namespace ptgc
