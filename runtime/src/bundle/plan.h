// DecodePlan: the description of a loop; ShapePlan: the shapes that a build may run.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/names.h"
#include "base/token.h"
#include "bundle/policy_plan.h"
#include "sampling/acceptance_rule.h"
#include "sampling/tree.h"

namespace ptgc {

// Parameters of one kind of drafter; each kind derives its own.
struct DrafterParameters {
  virtual ~DrafterParameters() = default;
  // Lengths, in tokens, of the text that drafts may continue; longer matches are more reliable.
  int shortest_match = 0;
  int longest_match = 0;
  // How many of the likeliest tokens after each of the target's rows it reads: port top_ids.
  int num_top_ids = 0;
  // Whether it may draft the next block while the target verifies this one.
  bool overlap = false;
  // Whether drafts have the shape of the plan's tree, if that is no chain.
  bool fills_tree = true;
  // Roles that can draft, of which one is chosen on loading: drafter, drafter_2, ...
  int num_alternatives = 1;

  // What does not fit the plan's drafts and tree; empty if all does.
  virtual std::string Misfit(int /*num_draft_tokens*/, const TreeSpec& /*tree*/) const {
    return "";
  }
};

// Parameters of kinds that draft a whole proposal in one run.
struct BlockParameters : DrafterParameters {
  int block_size = 1;         // Rows of a run from the last token of the text on: it, and masks.
  TokenId mask_token_id = 0;  // Stands for a draft; kNoToken where there are no masks.
  int depth = 1;              // Most draft tokens in a row.
  int rows_read_again = 0;    // Last rows of the text in a run that the next run reads again.
  int first_logits = 0;       // Row of logits that drafts nodes of depth 1.
  bool reads_pairs = false;   // Whether a row is a token, and the state of the token before it.

  // Rows without which a model could not read on in a text, or could not draft behind one token.
  int LeastRows() const { return std::max(rows_read_again + 1, block_size); }
  std::string Misfit(int num_draft_tokens, const TreeSpec& tree) const override;
};

// Where draft tokens come from, and how many.
struct DrafterPlan {
  std::string kind = "none";  // A name from drafters/registry.h.
  int num_draft_tokens = 0;   // The most draft tokens in a round.
  // The kind's own parameters.
  std::shared_ptr<const DrafterParameters> parameters = std::make_shared<DrafterParameters>();
  std::vector<DrafterPlan> parts = {};  // Of kind "merged": the drafters, one with a model last.

  // The drafters that a row may ask: the parts, or only this.
  std::span<const DrafterPlan> Parts() const {
    return parts.empty() ? std::span(this, 1) : std::span<const DrafterPlan>(parts);
  }
  // The parameters, for a kind whose reader makes this type.
  template <typename Parameters>
  const Parameters& Own() const {
    return static_cast<const Parameters&>(*parameters);
  }
};

// canvas: how masked positions are filled.
struct CanvasPlan {
  TokenId mask_token_id = 0;               // Marks a position still to be filled.
  int num_steps = 1;                       // Most rounds for a canvas, or by schedule for a block.
  int block_length = 0;                    // Positions of a block, delivered together; 0: all.
  PolicyPlan policy = {};                  // How positions and tokens are chosen.
  CanvasCache cache = CanvasCache::kNone;  // What is kept between rounds.
  int cache_interval = 8;                  // delayed: rounds until all is read anew.
  bool shift = false;                      // Whether a position is predicted by the row before it.
  Schedule schedule = Schedule::kLinear;   // How many positions a round must fill.
  CanvasStop stop = CanvasStop::kBlock;    // What ends a text early.
  int num_draft_steps = 0;                 // Steps that are drafted and verified in one run.

  // Whether positions see only their own block and those before it, which are kept.
  bool keeps_blocks() const { return cache == CanvasCache::kBlock; }
  // Whether kept keys and values differ from those that the model would compute.
  bool approximates() const { return cache != CanvasCache::kNone && !keeps_blocks(); }
};

// one-shot: how the text is read from the single run.
struct OneShotPlan {
  OneShotPath path = OneShotPath::kCtc;  // How rows become a text.
  TokenId blank_token_id = 0;            // ctc: the token for nothing.
  int upsampling = 1;                    // Rows for each token of the source.
};

// edit: how a text is edited until nothing changes.
struct EditPlan {
  std::vector<std::string> operations;  // The roles of a round, in order.
  EditStart start = EditStart::kEmpty;  // What the first round edits.
  int max_rounds = 1;                   // Rounds after which a text ends.
  TokenId bos_token_id = 0;             // The first token of every canvas.
  TokenId eos_token_id = 0;             // The last token of every canvas.
  TokenId pad_token_id = 0;             // Fills a canvas behind its end.
};

// One strategy as a composition: a loop and the policies plugged into it.
struct DecodePlan {
  std::string strategy = "autoregressive";             // Name of the composition.
  Guarantee guarantee = Guarantee::kLossless;          // How texts relate to plain decoding.
  DrafterPlan drafter;                                 // Proposes tokens.
  AcceptanceRule acceptance = AcceptanceRule::kMatch;  // Decides which of them are accepted.
  TypicalAcceptance typical;                           // Parameters of rule `typical`.
  RelaxedAcceptance relaxed;                           // Parameters of rule `relaxed`.
  TreeSpec tree = TreeSpec::Chain(0);                  // Shape of a full proposal.
  bool has_dynamic_tree = false;                       // Whether drafts choose their own tree, as
                                                       // deep as this one and no larger.
  LoopKind loop = LoopKind::kSpeculative;              // Which of the loops runs it.
  CanvasPlan canvas;                                   // Policies of the canvas loop.
  OneShotPlan one_shot;                                // Policies of the one-shot loop.
  EditPlan edit;                                       // Policies of the edit loop.

  // Whether texts depend on a seed whatever the temperature.
  bool always_draws() const {
    return loop == LoopKind::kCanvas && canvas.policy.kind == PolicyKind::kRandom;
  }
  // Judges drafts by another rule, which may change the guarantee.
  void SetAcceptance(AcceptanceRule rule) {
    if (loop != LoopKind::kSpeculative) return;
    if (IsLossy(rule)) {
      guarantee = Guarantee::kLossy;
    } else if (IsLossy(acceptance)) {
      guarantee = Guarantee::kLossless;
    }
    acceptance = rule;
  }
};

// Every shape that one role may run; the runtime uses no others.
struct RoleShapes {
  std::vector<int> widths;               // Rows of a round, ascending.
  int verify_width = 0;                  // The widest round whose every row has logits.
  std::vector<int> kv_capacities;        // Cache sizes, ascending.
  std::map<int, int> window_capacities;  // Cache sizes of sliding layers, by window.
  std::vector<int> source_lengths;       // Sizes of an encoder's input, ascending; may be none.
  std::vector<int> canvas_lengths;       // Sizes of a canvas, ascending; may be none.

  // The smallest width that holds `rows` rows.
  int WidthFor(int rows) const { return *std::lower_bound(widths.begin(), widths.end(), rows); }
  // Rows of logits in a round of this width if some sequence needs more than one.
  int LogitsFor(int width) const { return std::min(width, verify_width); }
};

// Every shape that a build may run, role by role.
struct ShapePlan {
  int batch = 1;                            // Rows of a run; see Bundle::num_sequences.
  int max_length = 0;                       // Tokens of one sequence (prompt and text).
  std::map<std::string, RoleShapes> roles;  // By role name.
};

}  // namespace ptgc
