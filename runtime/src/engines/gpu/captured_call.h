// CapturedCall: one shape point of a GPU engine, run as one captured graph.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "engines/engine.h"
#include "engines/gpu/gpu.h"
#include "engines/gpu/gpu_share.h"

namespace ptgc {

// What a call needs of a buffer in host memory.
struct CopiedPart {
  std::shared_ptr<HostMirror> mirror;  // The buffer.
  std::size_t begin = 0;               // The first byte ...
  std::size_t end = 0;                 // ... and the one behind the last.

  void* host() const { return mirror->host(begin); }
  void* device() const { return mirror->device(begin); }
  std::size_t bytes() const { return end - begin; }
};

// What a call is made of.
struct CapturedParts {
  std::shared_ptr<GpuShare> share;             // Outlives everything below.
  std::vector<std::shared_ptr<Block>> blocks;  // Working memory, and outputs that nobody reads.
  std::vector<CopiedPart> inputs;              // Copied in before the engine runs ...
  std::vector<std::shared_ptr<HostMirror>> sources;  // ... then, out of these, ...
  std::vector<Move> pieces;                          // ... what earlier runs wrote.
  std::vector<Move> updates;            // What it wrote aside, copied to where it belongs ...
  std::vector<CopiedPart> outputs;      // ... and what the host reads, copied out.
  std::unique_ptr<GpuContext> context;  // The engine at this shape, with addresses.
  const GpuProgram* program = nullptr;  // For its words; outlives the call.
};

// The first run is queued as it is, which also lets the library finish what it puts off until then;
// recording the graph behind it runs nothing, so that every round runs once. From the second on, a
// run is one launch; the first wait behind several of them waits for all.
class CapturedCall : public Call {
 public:
  explicit CapturedCall(CapturedParts parts) : parts_(std::move(parts)) {}
  void Start() override;
  void Wait() override;

 private:
  bool Queue();
  void Capture();

  CapturedParts parts_;              // What it is made of.
  std::unique_ptr<GpuGraph> graph_;  // The round; null before it is captured, or for good.
  bool is_settled_ = false;          // Whether capturing was tried.
};

}  // namespace ptgc
