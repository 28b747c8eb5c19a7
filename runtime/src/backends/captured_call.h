// CapturedCall: one shape point of a GPU engine, run as one captured graph.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "backends/gpu.h"
#include "backends/gpu_share.h"
#include "engine.h"

namespace ptgc {

// What an engine's calls did so far.
struct GpuCounters {
  std::int64_t launches = 0;    // Rounds that were one captured graph.
  std::int64_t plain_runs = 0;  // Rounds queued piece by piece: the first of each shape point,
                                // and all where it cannot be captured.
  std::int64_t synchronisations = 0;  // Waits for the device.
  std::int64_t captures = 0;          // Graphs made.
  std::int64_t fallbacks = 0;         // Shape points that cannot be captured.
};

// A port that lies in host memory, at one shape.
struct CopiedPort {
  std::shared_ptr<HostMirror> mirror;  // Its buffer.
  std::size_t bytes = 0;               // Of the shape.
};

// What a call is made of.
struct CapturedParts {
  std::shared_ptr<GpuShare> share;             // Outlives everything below.
  std::vector<std::shared_ptr<Block>> blocks;  // Working memory, and outputs that nobody reads.
  std::vector<CopiedPort> inputs;              // Copied in before the engine runs.
  std::vector<Move> updates;            // What it wrote aside, copied to where it belongs ...
  std::vector<CopiedPort> outputs;      // ... and what the host reads, copied out.
  std::unique_ptr<GpuContext> context;  // The engine at this shape, with addresses.
  const GpuProgram* program = nullptr;  // For its words; outlives the call.
  GpuCounters* counters = nullptr;      // The engine's.
};

// The first run is queued as it is, which also lets the library finish what it puts off until then;
// recording the graph behind it runs nothing, so that every round runs once. From the second on, a
// run is one launch and one wait.
class CapturedCall : public Call {
 public:
  explicit CapturedCall(CapturedParts parts) : parts_(std::move(parts)) {}
  void Run() override;

 private:
  bool Queue();
  void Capture();

  CapturedParts parts_;              // What it is made of.
  std::unique_ptr<GpuGraph> graph_;  // The round; null before it is captured, or for good.
  bool is_settled_ = false;          // Whether capturing was tried.
};

}  // namespace ptgc
