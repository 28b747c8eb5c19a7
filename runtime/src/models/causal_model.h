// CausalModel: the engine of a causal language model (a target or a drafter) with all its buffers.
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
  std::vector<Port> taps = {};  // Outputs that other roles read, [batch, num_logits, size].
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
  // Logits of one of those rows, if the last Start asked for them: [vocab_size].
  LogitsRow Logits(int row, int index) const;
  // Copies one of those rows of a tap to an address in the engine's memory.
  void CopyTap(std::string_view port, int row, int index, void* to) const;
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
  // An output that other roles read.
  struct Tap {
    Port port;    // The port in the manifest.
    Block block;  // [batch, num_logits, size]
    std::size_t row_bytes() const {
      return static_cast<std::size_t>(port.last_size) * ItemSize(port.dtype);
    }
  };
  const CausalPorts& PortsOf(int link) const { return ports_[static_cast<std::size_t>(link)]; }
  Call& BoundCall(int width, Wanted wanted);
  std::vector<Tensor> Inputs(int width, Wanted wanted) const;

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
  std::vector<Tap> taps_;                         // What other roles read.
  Buffer logits_;                                 // [batch, num_logits, vocab_size]
  std::map<Point, std::unique_ptr<Call>> calls_;  // Calls that were bound so far.
  std::vector<Call*> started_;                    // Calls started since the last Wait.
  int num_logits_ = 1;                            // Logits rows of the last run of link 0.
  double engine_seconds_ = 0;                     // Time inside the engine since that run.
};

}  // namespace ptgc
