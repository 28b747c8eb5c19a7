// DecodePlan: the description of a loop; ShapePlan: the shapes that a build may run.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "names.h"
#include "tree.h"

namespace ptgc {

// Where draft tokens come from, and how many.
struct DrafterPlan {
  DrafterKind kind = DrafterKind::kNone;  // Which drafter.
  int num_draft_tokens = 0;               // The most draft tokens in a round.
  int max_ngram_size = 0;                 // ngram: the longest suffix that is looked up.
  int min_ngram_size = 0;                 // ngram: the shortest suffix that counts as a match.
};

// One strategy as a composition: a loop and the policies plugged into it.
struct DecodePlan {
  Strategy strategy = Strategy::kAutoregressive;        // Name of the composition.
  DrafterPlan drafter;                                  // Proposes tokens.
  AcceptanceRule acceptance = AcceptanceRule::kMatch;  // Decides which of them are kept.
  TreeSpec tree = TreeSpec::Chain(0);                   // Shape of a full proposal.
};

// One tuple of sizes at which the target's graph may run.
struct ShapePoint {
  int num_tokens = 1;   // Rows of a round.
  int num_logits = 1;   // Rows for which logits are computed.
  int kv_capacity = 0;  // Slots of the cache.
};

// Every shape that a build may run; the runtime never leaves it.
struct ShapePlan {
  int batch = 1;                   // Sequences that step together.
  int max_length = 0;              // Tokens of one sequence, prompt and text.
  std::vector<int> widths;         // Rows of a round, ascending; the first is 1.
  int verify_width = 1;            // The widest round whose every row has logits.
  std::vector<int> kv_capacities;  // Cache sizes, ascending.

  // The smallest width that holds `rows` rows.
  int WidthFor(int rows) const { return *std::lower_bound(widths.begin(), widths.end(), rows); }
  // Logits rows of a round of this width when some sequence needs more than one.
  int LogitsFor(int width) const { return std::min(width, verify_width); }
};

}  // namespace ptgc
