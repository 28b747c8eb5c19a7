// Denoiser: an engine that fills masked positions of whole texts, or of blocks over a cache.
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

// One row's input to a run; an idle row has no ids.
struct CanvasRow {
  std::span<const TokenId> ids = {};  // Part of its text ...
  int first = 0;                      // ... from this position on; the cache holds the part before.
  int begin = 0;                      // Masked ids may be filled from this index ...
  int end = 0;                        // ... up to this one,
  int fills = 0;                      // and at least so many must be.
};

// Without a cache, a run reads texts from the first position on.
class Denoiser {
 public:
  // `cache` is null if the role keeps no states.
  Denoiser(std::unique_ptr<Engine> engine, const Bundle& bundle, std::shared_ptr<KVCache> cache);

  // Fills positions of `rows`, one for each of the batch.
  void Run(std::span<const CanvasRow> rows);
  // A row's ids after the last run.
  const TokenId* ids(int row) const { return out_.ids(row, size_); }
  // Positions of a row in the last run, padding included.
  int size() const { return size_; }
  // Most positions of a row that a run reads.
  int largest() const { return sizes_.back(); }
  KVCache* cache() const { return cache_.get(); }
  // Time inside the engine during the last run.
  double engine_seconds() const { return engine_seconds_; }
  // Seconds of each run; empty for a shape outside the plan.
  std::vector<double> Measure(const EngineRuns& runs);

 private:
  void Fill(int row, const CanvasRow& given);
  Call& Prepare(std::span<const CanvasRow> rows, int size);
  Call& BoundCall();

  std::unique_ptr<Engine> engine_;    // Runs the graph.
  CanvasPlan plan_;                   // Its policies.
  std::int64_t batch_;                // Sequences.
  int max_length_;                    // Positions of a text.
  std::shared_ptr<KVCache> cache_;    // Holds earlier blocks; null if nothing is kept.
  std::vector<int> sizes_;            // Canvas lengths, or widths over a cache; ascending.
  int size_;                          // The size of the last run.
  CanvasBuffers in_;                  // The canvases before a run ...
  CanvasBuffers out_;                 // ... and after it.
  std::optional<CausalPorts> ports_;  // Inputs of runs over a cache.
  Buffer step_;                       // [batch], fewest positions to fill.
  Buffer threshold_;                  // [batch], of the policy.
  double engine_seconds_ = 0;         // Engine time of the last run.
  // Bound calls, by index of the cache's capacity and by size.
  std::map<std::pair<std::size_t, int>, std::unique_ptr<Call>> calls_;
};

}  // namespace ptgc
