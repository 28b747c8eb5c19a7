// Denoiser: an engine that fills masked positions of whole texts, or of blocks over a cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <tuple>
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
  int first = 0;                      // ... from this slot of the cache on.
  // Their positions, if these are not those of the slots.
  std::span<const int> positions = {};
  int begin = 0;            // Masked ids may be filled from this index ...
  int end = 0;              // ... up to this one,
  int fills = 0;            // and at least so many must be.
  double time = 1;          // Share of the text's positions to fill that is masked.
  double threshold = 0;     // Of the policy.
  double temperature = 0;   // 0 takes the likeliest tokens.
  std::uint64_t seed = 0;   // Of this text's random numbers.
  std::uint32_t round = 0;  // Rounds that filled positions of this text before.
  // Positions that all rows see; 0 if each sees its block and what lies before it.
  int seen = 0;

  int position(int index) const {
    return positions.empty() ? first + index : positions[static_cast<std::size_t>(index)];
  }
};

// A model that keeps states is a language model, which reads rows over a cache: a run chooses the
// tokens of some of its rows, the columns. Others read texts from the first position on.
class Denoiser {
 public:
  // `cache` is null if the role keeps no states.
  Denoiser(std::unique_ptr<Engine> engine, const Bundle& bundle, std::shared_ptr<KVCache> cache);

  // Fills positions of `rows`, one for each of the batch.
  void Run(std::span<const CanvasRow> rows);
  // The tokens from `given.begin` to `given.end` of a row that the last run was given.
  std::span<const TokenId> filled(int row, const CanvasRow& given) const;
  // The probabilities of the tokens that it chose for them, whether or not they were filled.
  std::span<const float> confidences(int row, const CanvasRow& given) const;
  // The tokens that it would have filled in there ...
  std::span<const TokenId> candidates(int row, const CanvasRow& given) const;
  // ... and their order among the positions that were masked, from 0; both in plans that draft.
  std::span<const std::int64_t> ranks(int row, const CanvasRow& given) const;
  // How many of them are still masked.
  int num_masked(int row) const { return static_cast<int>(num_masked_.As<std::int64_t>()[row]); }
  // Positions of a row in the last run, padding included.
  int size() const { return size_; }
  // Most positions of a row that a run reads.
  int largest() const { return sizes_.back(); }
  // Null if the model keeps no states.
  KVCache* cache() const { return cache_.get(); }
  // Time inside the engine during the last run.
  double engine_seconds() const { return engine_seconds_; }
  // Seconds of each run; empty for a shape outside the plan.
  std::vector<double> Measure(const EngineRuns& runs);

 private:
  std::size_t FirstColumn(int row, const CanvasRow& given) const;
  void Fill(int row, const CanvasRow& given);
  void FillUniforms(int row, const CanvasRow& given);
  Call& Prepare(std::span<const CanvasRow> rows, int size, bool fills);
  Call& BoundCall();

  std::unique_ptr<Engine> engine_;    // Runs the graph.
  CanvasPlan plan_;                   // Its policies.
  std::int64_t batch_;                // Sequences.
  int max_length_;                    // Positions of a text.
  RoleShapes shapes_;                 // Shapes of its runs.
  std::shared_ptr<KVCache> cache_;    // Null if the model keeps no states.
  std::vector<int> sizes_;            // Canvas lengths, or widths over a cache; ascending.
  int size_;                          // The size of the last run, ...
  int columns_;                       // ... and its columns.
  CanvasBuffers in_;                  // The columns before a run ...
  CanvasBuffers out_;                 // ... and after it.
  std::optional<CausalPorts> ports_;  // Inputs of runs over a cache.
  Buffer time_;                       // [batch], the noise level.
  Buffer step_;                       // [batch], fewest positions to fill.
  Buffer threshold_;                  // [batch], of the policy.
  Buffer temperature_;                // [batch], of sampling.
  Buffer uniforms_;                   // [batch, columns, 2], random numbers.
  Buffer num_masked_;                 // [batch], positions that a run leaves masked.
  Buffer confidence_;                 // [batch, columns], probabilities of the chosen tokens.
  Buffer candidates_;                 // [batch, columns], tokens; unused if nothing is drafted.
  Buffer ranks_;                      // [batch, columns], their order.
  double engine_seconds_ = 0;         // Engine time of the last run.
  // Bound calls, by index of the cache's capacity, by size and by columns.
  std::map<std::tuple<std::size_t, int, int>, std::unique_ptr<Call>> calls_;
};

}  // namespace ptgc
