// GpuShare: what the engines of one generator share on a device.
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

// Engines run one after another on one stream, so they can share one working block.
class GpuShare {
 public:
  GpuShare(std::unique_ptr<GpuDevice> device, std::unique_ptr<GpuLibrary> library)
      : memory_(std::make_shared<DeviceMemory>(std::move(device))),
        mirrors_(memory_),
        library_(std::move(library)) {}

  GpuDevice& device() { return memory_->device(); }
  GpuLibrary& library() { return *library_; }
  // The memory of states.
  const std::shared_ptr<DeviceMemory>& memory() const { return memory_; }
  // Counters of all calls; they may outlive this.
  const std::shared_ptr<DeviceCounters>& counters() const { return counters_; }
  // Mirrors of all other ports.
  HostMirrors& mirrors() { return mirrors_; }

  // Called when something is queued.
  void set_busy() { is_busy_ = true; }
  // Waits until everything that was queued is finished.
  void Wait() {
    if (!is_busy_) return;
    ++counters_->synchronisations;
    if (!device().Synchronise()) ThrowGpuError("The GPU failed in a round", device().error());
    is_busy_ = false;
  }

  // Announces the working memory that an engine needs. Engines are loaded before any is bound, so
  // that the block is taken once. A later engine that needs more gets a new block, and the others
  // keep theirs.
  void NeedWorkingBytes(std::size_t bytes) { working_bytes_ = std::max(working_bytes_, bytes); }
  std::shared_ptr<Block> WorkingBlock() {
    if (working_block_ == nullptr || working_block_->size() < working_bytes_) {
      working_block_ = std::make_shared<Block>(memory_, working_bytes_);
    }
    return working_block_;
  }

 private:
  std::shared_ptr<DeviceMemory> memory_;  // The device's memory.
  HostMirrors mirrors_;                   // By host buffer.
  std::unique_ptr<GpuLibrary> library_;   // Outlives its programs.
  std::shared_ptr<DeviceCounters> counters_ = std::make_shared<DeviceCounters>();  // Of all calls.
  bool is_busy_ = false;                  // Whether runs were queued since the last wait.
  std::size_t working_bytes_ = 1;         // The most that an engine needs.
  std::shared_ptr<Block> working_block_;  // The newest block.
};

}  // namespace ptgc
