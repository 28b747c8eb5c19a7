// GpuShare: what the engines of one generator have in common on a device.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

#include "base/memory.h"
#include "engines/engine.h"
#include "engines/gpu/device_memory.h"
#include "engines/gpu/gpu.h"
#include "engines/gpu/host_mirror.h"

namespace ptgc {

// Engines run one after another on one stream, so that one working block serves them all.
class GpuShare {
 public:
  GpuShare(std::unique_ptr<GpuDevice> device, std::unique_ptr<GpuLibrary> library)
      : memory_(std::make_shared<DeviceMemory>(std::move(device))),
        mirrors_(memory_),
        library_(std::move(library)) {}

  GpuDevice& device() { return memory_->device(); }
  GpuLibrary& library() { return *library_; }
  // Where states live.
  const std::shared_ptr<DeviceMemory>& memory() const { return memory_; }
  // Of all calls; they outlive it.
  const std::shared_ptr<DeviceCounters>& counters() const { return counters_; }
  // Of all other ports.
  HostMirrors& mirrors() { return mirrors_; }

  // Something is being queued.
  void set_busy() { is_busy_ = true; }
  // Until everything that was queued is done.
  void Wait() {
    if (!is_busy_) return;
    ++counters_->synchronisations;
    if (!device().Synchronise()) ThrowGpuError("The GPU failed in a round", device().error());
    is_busy_ = false;
  }

  // An engine will need so many bytes to work in. Engines are loaded before any is bound, so that
  // the block is taken once; a later one that needs more has a new block, and the others keep
  // theirs.
  void NeedWorkingBytes(std::size_t bytes) { working_bytes_ = std::max(working_bytes_, bytes); }
  std::shared_ptr<Block> WorkingBlock() {
    if (working_block_ == nullptr || working_block_->size() < working_bytes_) {
      working_block_ = std::make_shared<Block>(memory_, working_bytes_);
    }
    return working_block_;
  }

 private:
  std::shared_ptr<DeviceMemory> memory_;  // The device's.
  HostMirrors mirrors_;                   // By host buffer.
  std::unique_ptr<GpuLibrary> library_;   // Outlives its programs.
  std::shared_ptr<DeviceCounters> counters_ = std::make_shared<DeviceCounters>();  // Calls count.
  bool is_busy_ = false;                  // Whether runs were queued since the last wait.
  std::size_t working_bytes_ = 1;         // Of the engine that needs most.
  std::shared_ptr<Block> working_block_;  // The newest.
};

}  // namespace ptgc
