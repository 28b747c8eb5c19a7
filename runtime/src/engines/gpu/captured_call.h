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

// The part of a host buffer that a call uses.
struct CopiedPart {
  std::shared_ptr<HostMirror> mirror;  // The buffer.
  std::size_t begin = 0;               // The first byte ...
  std::size_t end = 0;                 // ... and the one after the last.

  void* host() const { return mirror->host(begin); }
  void* device() const { return mirror->device(begin); }
  std::size_t bytes() const { return end - begin; }
};

// The parts of a call.
struct CapturedParts {
  std::shared_ptr<GpuShare> share;                   // Outlives everything below.
  std::vector<std::shared_ptr<Block>> blocks;        // Working memory, and unused outputs.
  std::vector<CopiedPart> inputs;                    // Copied in before the engine runs.
  std::vector<std::shared_ptr<HostMirror>> sources;  // Then, from these buffers, ...
  std::vector<Move> pieces;                          // ... copies of what earlier runs wrote.
  std::vector<Move> updates;            // Copies of outputs from temporary to final places.
  std::vector<CopiedPart> outputs;      // Copied out for the host.
  std::unique_ptr<GpuContext> context;  // The engine at this shape, with its addresses.
  const GpuProgram* program = nullptr;  // For its error messages; outlives the call.
};

// The first run is queued directly, which also lets the library finish its lazy initialisation.
// Capturing the graph afterwards runs nothing, so every round runs once. From the second run on, a
// run is one graph launch. The first Wait after several runs waits for all of them.
class CapturedCall : public Call {
 public:
  explicit CapturedCall(CapturedParts parts) : parts_(std::move(parts)) {}
  void Start() override;
  void Wait() override;

 private:
  bool Queue();
  void Capture();

  CapturedParts parts_;              // Its parts.
  std::unique_ptr<GpuGraph> graph_;  // The captured run; null if not captured (yet).
  bool is_settled_ = false;          // Whether capturing was tried.
};

}  // namespace ptgc
