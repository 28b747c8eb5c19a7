// CausalModel: the engine of a causal language model (a target or a drafter) with all its buffers.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/token.h"
#include "bundle/bundle.h"
#include "bundle/plan.h"
#include "engines/engine.h"
#include "models/causal_ports.h"
#include "models/kv_cache.h"
#include "sampling/logits.h"

namespace ptgc {

// What a run must output, and where its ids come from.
struct Wanted {
  int num_logits = 1;   // Rows of logits: 1 or the plan's LogitsFor(width).
  bool logits = false;  // Whether logits are read, or only their argmax.
  // Number of earlier runs that were started and not waited for. If not 0, the run has the smallest
  // width and one row of logits, and its ids are what the run before it chose.
  int link = 0;
  // Whether the drafts come directly from a drafter's runs that were not waited for; they follow
  // one token in each row.
  bool pending_drafts = false;

  friend auto operator<=>(const Wanted&, const Wanted&) = default;
};

// Connections of a model to other roles.
struct CausalNeighbours {
  std::vector<Tensor> fixed_inputs = {};  // Ports filled by others, the same at every point.
  std::vector<Tensor> draft_ids = {};     // From a drafter's runs, [batch, 1] each.
  int chain_length = 1;                   // Most runs that may be started before Wait.
};

// Runs its engine at any shape point of the plan, and binds each point once.
class CausalModel {
 public:
  // Runs the role `name` of a bundle. `cache` is the role's cache; if null, the model makes one.
  CausalModel(std::unique_ptr<Engine> engine, const Bundle& bundle, const std::string& name,
              std::int64_t vocab_size, CausalNeighbours neighbours = {},
              std::shared_ptr<KVCache> cache = nullptr);

  // Starts one engine run; its results are available after Wait. `rows` has one entry per sequence
  // of the batch (an idle one has no tokens); `width` is one of the plan's. Grows the cache if
  // necessary.
  void Start(std::span<const RowInput> rows, int width, Wanted wanted);
  // Waits for all runs since the last wait.
  void Wait();
  void Forward(std::span<const RowInput> rows, int width, Wanted wanted) {
    Start(rows, width, wanted);
    Wait();
  }

  // Argmax after the last of the row's `tokens` and after each draft: [num_logits]. With one row of
  // logits it is that of the last token only. `link` is the run's.
  std::span<const TokenId> NextIds(int row, int link = 0) const;
  // The likeliest tokens after every row of the last run, if the graph gives them: [width, count].
  std::span<const TokenId> TopIds(int row) const;
  // Logits of one of those rows, if the last Start asked for them: [vocab_size].
  LogitsRow Logits(int row, int index) const;
  // Copies `count` rows of hidden states, from `first` on, to an address in the engine's memory.
  // The rows are all those of the last run with link 0, or the rows that it chose if the states are
  // carried.
  void CopyStates(int row, int first, int count, void* to) const;
  // The input port of hidden states; null if the model reads tokens only.
  const Port* states_read() const { return states_read_.has_value() ? &*states_read_ : nullptr; }
  std::shared_ptr<Memory> memory() const { return engine_->memory(); }
  // The ids chosen by each run of a chain, as ports: [batch, 1].
  std::vector<Tensor> ChainIds() const;

  KVCache& kv_cache() { return *kv_cache_; }
  const RoleShapes& shapes() const { return shapes_; }
  int batch() const { return batch_; }
  // Most tokens of a text.
  int max_length() const { return max_length_; }
  std::int64_t vocab_size() const { return vocab_size_; }
  // Time inside the engine during the last Forward, or during the last Starts and their Wait.
  double engine_seconds() const { return engine_seconds_; }
  // Seconds of each run with `num_tokens` tokens in every row after `past_length` tokens, or fewer
  // if the longest text leaves no room; empty for a shape outside the plan.
  std::vector<double> Measure(const EngineRuns& runs);

 private:
  // The key of a bound call.
  struct Point {
    std::size_t capacity;  // Index of the cache's capacity.
    int width;             // Rows.
    Wanted wanted;         // Outputs, and the source of ids.
    friend auto operator<=>(const Point&, const Point&) = default;
  };
  // The output of hidden states.
  struct States {
    Port port;                  // The port in the manifest.
    bool of_all = false;        // Whether it covers all rows, instead of the chosen ones.
    std::vector<Block> blocks;  // [link], [batch, rows, size]
  };
  const CausalPorts& PortsOf(int link) const { return ports_[static_cast<std::size_t>(link)]; }
  Call& BoundCall(int width, Wanted wanted);
  std::vector<Tensor> Inputs(int width, Wanted wanted) const;
  // The ports of a run's states.
  Tensor StatesIn(int width, int link) const;
  Tensor StatesOut(int width, Wanted wanted) const;
  void FillStates(int row, const RowInput& input, int width);

  std::unique_ptr<Engine> engine_;                // Runs the graph.
  std::string name_;                              // Name of the role.
  int batch_;                                     // Sequences.
  int max_length_;                                // Most tokens of a text.
  RoleShapes shapes_;                             // The shapes that may occur.
  std::int64_t vocab_size_;                       // Entries of the logits.
  DType logits_dtype_;                            // Their type; half engines give half.
  std::shared_ptr<KVCache> kv_cache_;             // States of all sequences.
  CausalNeighbours neighbours_;                   // Connections to other roles.
  std::vector<CausalPorts> ports_;                // [link]
  std::optional<Port> states_read_;               // Hidden states that come in.
  Block states_in_;                               // [batch, width, size], of runs of link 0.
  std::optional<States> states_;                  // Hidden states that come out.
  Buffer logits_;                                 // [batch, num_logits, vocab_size]
  int num_top_ids_ = 0;                           // Likeliest tokens that come out for each row.
  Buffer top_ids_;                                // [batch, width, num_top_ids], of runs of link 0.
  std::map<Point, std::unique_ptr<Call>> calls_;  // Calls that were bound so far.
  std::vector<Call*> started_;                    // Calls started since the last Wait.
  int num_logits_ = 1;                            // Logits rows of the last run of link 0.
  int width_ = 1;                                 // Its width.
  double engine_seconds_ = 0;                     // Time inside the engine since then.
};

}  // namespace ptgc
