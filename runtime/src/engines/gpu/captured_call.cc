#include "engines/gpu/captured_call.h"

#include <algorithm>

namespace ptgc {

void CapturedCall::Start() {
  GpuDevice& device = parts_.share->device();
  DeviceCounters& counters = *parts_.share->counters();
  parts_.share->set_busy();
  if (graph_ != nullptr) {
    if (!graph_->Launch()) ThrowGpuError("The GPU refused a round", device.error());
    ++counters.graph_launches;
  } else {
    if (!Queue()) {
      const std::string words = parts_.program->error();
      ThrowGpuError("The engine refused a round", words.empty() ? device.error() : words);
    }
    ++counters.uncaptured_runs;
  }
}

void CapturedCall::Wait() {
  parts_.share->Wait();
  if (!is_settled_) Capture();
}

bool CapturedCall::Queue() {
  GpuDevice& device = parts_.share->device();
  for (const CopiedPart& part : parts_.inputs) {
    if (!device.CopyIn(part.device(), part.host(), part.bytes())) return false;
  }
  for (const Move& piece : parts_.pieces) {
    if (!device.CopyWithin(piece)) return false;
  }
  if (!parts_.context->Enqueue()) return false;
  for (const Move& update : parts_.updates) {
    if (!device.CopyWithin(update)) return false;
  }
  for (const CopiedPart& part : parts_.outputs) {
    if (!device.CopyOut(part.host(), part.device(), part.bytes())) return false;
  }
  return true;
}

// A copy that needs the host's help would be captured with the buffer's content at that time.
void CapturedCall::Capture() {
  is_settled_ = true;
  const auto is_pinned = [](const CopiedPart& part) { return part.mirror->is_pinned(); };
  GpuDevice& device = parts_.share->device();
  if (std::all_of(parts_.inputs.begin(), parts_.inputs.end(), is_pinned) &&
      std::all_of(parts_.outputs.begin(), parts_.outputs.end(), is_pinned) &&
      device.BeginCapture()) {
    const bool queued = Queue();
    graph_ = device.EndCapture();
    if (!queued) graph_.reset();
  }
  DeviceCounters& counters = *parts_.share->counters();
  ++(graph_ != nullptr ? counters.captures : counters.fallbacks);
}

}  // namespace ptgc
