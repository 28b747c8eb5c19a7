// CausalModel: a causal language model's engine with all its buffers; targets and drafters are one.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/token.h"
#include "bundle/bundle.h"
#include "bundle/plan.h"
#include "engines/engine.h"
#include "models/causal_ports.h"
#include "models/kv_cache.h"
#include "sampling/logits.h"

namespace ptgc {

// What a round is to give, and where its ids come from.
struct Wanted {
  int num_logits = 1;   // Rows of logits: 1 or the plan's LogitsFor(width).
  bool logits = false;  // Whether the logits themselves are read, or only their argmax.
  // How many runs before this one nobody has waited for. A run behind others has the smallest
  // width, one row of logits, and for ids what the run before it chose.
  int link = 0;
  // Whether drafts are what a drafter's runs chose, for which nobody has waited; they stand behind
  // one token in each row.
  bool pending_drafts = false;

  friend auto operator<=>(const Wanted&, const Wanted&) = default;
};

// What a model has to do with others.
struct CausalNeighbours {
  std::vector<Tensor> fixed_inputs =
      {};                              // Ports that somebody else fills, the same at every point.
  std::vector<Tensor> draft_ids = {};  // Of a drafter's runs, [batch, 1] each.
  int chain_length = 1;                // Runs that may be started before anybody waits.
  std::vector<Port> taps = {};         // Outputs that other roles read, [batch, num_logits, size].
};

// Runs its engine at any shape point of the plan; binds each point once.
class CausalModel {
 public:
  // Runs the role `name` of a bundle; `cache` is that role's, or one of its own where it is null.
  CausalModel(std::unique_ptr<Engine> engine, const Bundle& bundle, const std::string& name,
              std::int64_t vocab_size, CausalNeighbours neighbours = {},
              std::shared_ptr<KVCache> cache = nullptr);

  // Starts one engine run; what it gives is there after Wait. `rows` has one entry per sequence of
  // the batch (an idle one has no tokens); `width` is one of the plan's. Grows the cache where the
  // round needs it.
  void Start(std::span<const RowInput> rows, int width, Wanted wanted);
  // For all runs since the last wait.
  void Wait();
  void Forward(std::span<const RowInput> rows, int width, Wanted wanted) {
    Start(rows, width, wanted);
    Wait();
  }

  // Argmax after the last of the row's `tokens` and after each draft: [num_logits]. With one
  // logits row it is the last token's alone. `link` is that of the run.
  std::span<const TokenId> NextIds(int row, int link = 0) const;
  // Logits of one of those rows, where the last Start wanted them: [vocab_size].
  LogitsRow Logits(int row, int index) const;
  // Copies what a tap has of one of those rows to a place in the memory of the engine.
  void CopyTap(std::string_view port, int row, int index, void* to) const;
  // What NextIds reads of each run of a chain, as ports: [batch, 1].
  std::vector<Tensor> ChainIds() const;

  KVCache& kv_cache() { return *kv_cache_; }
  const RoleShapes& shapes() const { return shapes_; }
  int batch() const { return batch_; }
  // Tokens of a text.
  int max_length() const { return max_length_; }
  std::int64_t vocab_size() const { return vocab_size_; }
  // Time inside the engine during the last Forward, or from the first Start to the end of Wait.
  double engine_seconds() const { return engine_seconds_; }
  // Seconds of each run with `num_tokens` in every row behind `past_length`, or what the longest
  // text leaves of that; none for a shape outside the plan.
  std::vector<double> Measure(const EngineRuns& runs);

 private:
  // Of what is bound.
  struct Point {
    std::size_t capacity;  // Which of the cache's.
    int width;             // Rows.
    Wanted wanted;         // What comes out, and where ids come from.
    friend auto operator<=>(const Point&, const Point&) = default;
  };
  // An output that other roles read.
  struct Tap {
    Port port;    // As the manifest has it.
    Block block;  // [batch, num_logits, size]
    std::size_t row_bytes() const {
      return static_cast<std::size_t>(port.last_size) * ItemSize(port.dtype);
    }
  };
  const CausalPorts& PortsOf(int link) const { return ports_[static_cast<std::size_t>(link)]; }
  Call& BoundCall(int width, Wanted wanted);
  std::vector<Tensor> Inputs(int width, Wanted wanted) const;

  std::unique_ptr<Engine> engine_;                // Runs the graph.
  std::string name_;                              // Of the role.
  int batch_;                                     // Sequences.
  int max_length_;                                // Tokens of a text.
  RoleShapes shapes_;                             // The shapes that may occur.
  std::int64_t vocab_size_;                       // Entries of the logits.
  DType logits_dtype_;                            // Their type; half engines give halves.
  std::shared_ptr<KVCache> kv_cache_;             // States of all sequences.
  CausalNeighbours neighbours_;                   // What comes from others.
  std::vector<CausalPorts> ports_;                // [link]
  std::vector<Tap> taps_;                         // What other roles read.
  Buffer logits_;                                 // [batch, num_logits, vocab_size]
  std::map<Point, std::unique_ptr<Call>> calls_;  // What was run so far.
  std::vector<Call*> started_;                    // Since the last wait.
  int num_logits_ = 1;                            // Logits rows of the last run of link 0.
  double engine_seconds_ = 0;                     // Time inside the engine since then.
};

}  // namespace ptgc
