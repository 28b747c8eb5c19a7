// CapturedCall: one shape point of a GPU engine, run as one captured graph.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "backends/gpu.h"
#include "backends/gpu_share.h"
#include "engine.h"

namespace ptgc {

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
