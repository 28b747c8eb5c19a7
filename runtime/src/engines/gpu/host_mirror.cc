#include "engines/gpu/host_mirror.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

namespace ptgc {
namespace {

// Buffers consist of whole pages, whatever size was requested.
std::size_t WholePages(std::size_t bytes) {
  const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

}  // namespace

HostMirror::HostMirror(std::shared_ptr<DeviceMemory> memory, void* host, std::size_t bytes)
    : memory_(std::move(memory)),
      host_(host),
      block_(memory_, bytes),
      is_pinned_(memory_->device().Register(host, WholePages(bytes))) {}

HostMirror::~HostMirror() {
  if (is_pinned_) memory_->device().Unregister(host_);
}

std::shared_ptr<HostMirror> HostMirrors::Of(const Tensor& tensor) {
  return tensor.buffer != nullptr ? Of(tensor.buffer, tensor.room)
                                  : Of(tensor.data, tensor.bytes());
}

std::shared_ptr<HostMirror> HostMirrors::Of(void* buffer, std::size_t bytes) {
  std::weak_ptr<HostMirror>& known = mirrors_[buffer];
  std::shared_ptr<HostMirror> mirror = known.lock();
  if (mirror != nullptr && mirror->bytes() >= bytes) return mirror;
  mirror = std::make_shared<HostMirror>(memory_, buffer, bytes);
  known = mirror;
  return mirror;
}

}  // namespace ptgc
