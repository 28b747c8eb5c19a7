// HostMirror: a pinned host buffer, and the device memory through which engines use it.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <utility>

#include "base/memory.h"
#include "engines/engine.h"
#include "engines/gpu/device_memory.h"

namespace ptgc {

// Lives as long as a call that is bound to the buffer; the buffer must outlive it.
class HostMirror {
 public:
  HostMirror(std::shared_ptr<DeviceMemory> memory, void* host, std::size_t bytes);
  ~HostMirror();
  HostMirror(const HostMirror&) = delete;
  HostMirror& operator=(const HostMirror&) = delete;

  char* host(std::size_t offset) const { return static_cast<char*>(host_) + offset; }
  char* device(std::size_t offset) const { return block_.At(offset); }
  std::size_t bytes() const { return block_.size(); }
  // Offset of an address in the host buffer.
  std::size_t OffsetOf(const void* host) const {
    return static_cast<std::size_t>(static_cast<const char*>(host) - this->host(0));
  }
  // Whether copies need no help from the host; only such copies can be captured.
  bool is_pinned() const { return is_pinned_; }

 private:
  std::shared_ptr<DeviceMemory> memory_;  // The device's memory.
  void* host_;                            // Not owned.
  Block block_;                           // The copy on the device.
  bool is_pinned_;                        // Whether the host buffer could be pinned.
};

// Keeps one mirror per buffer, however many engines and shape points are bound to it.
class HostMirrors {
 public:
  explicit HostMirrors(std::shared_ptr<DeviceMemory> memory) : memory_(std::move(memory)) {}
  std::shared_ptr<HostMirror> Of(const Tensor& tensor);
  std::shared_ptr<HostMirror> Of(void* buffer, std::size_t bytes);

 private:
  std::shared_ptr<DeviceMemory> memory_;                      // The device's memory.
  std::map<const void*, std::weak_ptr<HostMirror>> mirrors_;  // By host address.
};

}  // namespace ptgc
