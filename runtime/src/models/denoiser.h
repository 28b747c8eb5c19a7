// Denoiser: an engine that fills masked positions, of whole texts or of blocks over a cache.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "base/token.h"
#include "bundle/bundle.h"
#include "engines/engine.h"
#include "models/canvas_buffers.h"
#include "models/causal_ports.h"
#include "models/kv_cache.h"

namespace ptgc {

// What one row brings to a run; an idle one brings no ids.
struct CanvasRow {
  std::span<const TokenId> ids = {};  // What is read of its text ...
  int first = 0;                      // ... from this position on; the cache holds what is before.
  int begin = 0;  // Those of the ids that are masked may be filled from here ...
  int end = 0;    // ... to here,
  int fills = 0;  // and so many of them must be.
};

// Without a cache a run reads texts from their first position on.
class Denoiser {
 public:
  // `cache` is null where the role keeps nothing.
  Denoiser(std::unique_ptr<Engine> engine, const Bundle& bundle, std::shared_ptr<KVCache> cache);

  // Fills positions of `rows`, one for each of the batch.
  void Run(std::span<const CanvasRow> rows);
  // What the last run made of a row's ids.
  const TokenId* ids(int row) const { return out_.ids(row, size_); }
  // Positions of a row in the last run, padding included.
  int size() const { return size_; }
  // Positions that a run reads of a row at most.
  int largest() const { return sizes_.back(); }
  KVCache* cache() const { return cache_.get(); }
  // Time inside the engine during the last run.
  double engine_seconds() const { return engine_seconds_; }
  // Seconds of each run; none for a shape outside the plan.
  std::vector<double> Measure(const EngineRuns& runs);

 private:
  void Fill(int row, const CanvasRow& given);
  Call& Prepare(std::span<const CanvasRow> rows, int size);
  Call& BoundCall();

  std::unique_ptr<Engine> engine_;    // Runs the graph.
  CanvasPlan plan_;                   // Its policies.
  std::int64_t batch_;                // Sequences.
  int max_length_;                    // Positions of a text.
  std::shared_ptr<KVCache> cache_;    // Of the blocks before; null where nothing is kept.
  std::vector<int> sizes_;            // Canvas lengths, or widths over a cache; ascending.
  int size_;                          // The one of the last run.
  CanvasBuffers in_;                  // What a run begins with ...
  CanvasBuffers out_;                 // ... and what it makes of it.
  std::optional<CausalPorts> ports_;  // Where rows stand over a cache.
  Buffer step_;                       // [batch], positions to fill at least.
  Buffer threshold_;                  // [batch], of the policy.
  double engine_seconds_ = 0;         // Of the last run.
  // By which of the cache's capacities, and size.
  std::map<std::pair<std::size_t, int>, std::unique_ptr<Call>> calls_;
};

}  // namespace ptgc
