#include "drafters/model_drafter.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "sampling/row_sampling.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

// The first node of each depth of a tree, followed by the number of nodes.
std::vector<int> DepthsOf(const TreeSpec& tree) {
  std::vector<int> first;
  for (int node = 0; node < tree.num_nodes(); ++node) {
    if (tree.depth(node) == static_cast<int>(first.size())) first.push_back(node);
  }
  first.push_back(tree.num_nodes());
  return first;
}

// What making the first drafts of a tree costs, by their number. The first run reads what the last
// round added; each further run reads the nodes of one depth.
std::vector<double> DraftingCosts(const TreeSpec& tree, const CostCurve& costs) {
  const std::size_t second = std::min<std::size_t>(1, costs.widths().size() - 1);
  std::vector<int> nodes(Size(tree.height()) + 1);  // Of each depth.
  std::vector<double> found = {0};
  for (int count = 1; count < tree.num_nodes(); ++count) {
    ++nodes[Size(tree.depth(count))];
    double cost = costs.At(second);
    for (int depth = 1; depth < tree.height(count); ++depth)
      cost += costs.AtLeast(nodes[Size(depth)]);
    found.push_back(cost);
  }
  return found;
}

}  // namespace

ModelDrafter::ModelDrafter(std::unique_ptr<CausalModel> model, bool shares_cache,
                           std::int64_t context_length, std::int64_t target_vocab_size,
                           TreeSpec tree, bool is_dynamic, AcceptanceRule rule, CostCurve costs)
    : model_(std::move(model)),
      shares_cache_(shares_cache),
      context_length_(context_length),
      target_vocab_size_(target_vocab_size),
      tree_(std::move(tree)),
      depths_(DepthsOf(tree_)),
      costs_(std::move(costs)),
      drafting_(DraftingCosts(tree_, costs_)),
      // Drafts of a dynamic tree are certain: nothing is kept of what they were drawn from.
      drawn_(tree_, is_dynamic ? AcceptanceRule::kMatch : rule, model_->batch(),
             std::min(model_->vocab_size(), target_vocab_size)),
      rows_(Size(model_->batch())),
      inputs_(Size(model_->batch())) {
  if (const Port* port = model_->states_read(); port != nullptr) {
    states_ = std::make_unique<TextStates>(model_->memory(), *port, model_->batch(),
                                           model_->max_length());
  }
  for (Row& row : rows_) row.above.reserve(Size(tree_.num_nodes()));
  kept_.reserve(Size(tree_.num_nodes()));
  if (!is_dynamic) return;
  parents_.resize(Size(tree_.height()) + 1);
  for (int node = 0; node < tree_.num_nodes(); ++node) {
    if (tree_.num_children(node) > 0) ++parents_[Size(tree_.depth(node))];
  }
  const int num_children = WidestDepth(tree_);
  likely_ = std::make_unique<LikelyTokens>(rule, num_children,
                                           std::min(model_->vocab_size(), target_vocab_size));
  for (Row& row : rows_) {
    row.growth = {
        DynamicTree(max_drafts(), num_children, max_drafts()), Proposal(max_drafts()), {}};
    row.growth->candidates.reserve(Size(tree_.num_nodes()));
  }
}

void ModelDrafter::Begin(int row) { HoldAtMost(row, 0); }

// The last token is always read again, because the first draft needs the logits after it.
void ModelDrafter::Truncate(int row, int length) {
  HoldAtMost(row, std::max(length - (states_ == nullptr ? 1 : 2), 0));
}

void ModelDrafter::HoldAtMost(int row, int length) {
  Row& held = RowAt(row);
  held.length = std::min(held.length, length);
  held.drafted = 0;
  if (shares_cache_) return;
  held.length = model_->kv_cache().Held(row, held.length);
  if (held.length == 0) model_->kv_cache().Begin(row);
}

void ModelDrafter::CopyRow(int from, int to) {
  RowAt(to).length = RowAt(from).length;
  RowAt(to).drafted = 0;
  if (!shares_cache_) model_->kv_cache().CopyRow(from, to, RowAt(to).length);
  if (states_ != nullptr) states_->CopyRow(from, to, model_->max_length());
}

int ModelDrafter::Propose(const DraftRow& row) {
  if (shares_cache_) {
    // The target reads a prompt first, so that no row is run twice and drafts see what it keeps.
    if (Size(row.committed) + 1 < row.text.size()) return 0;
    RowAt(row.row).length = row.committed;
  }
  const std::span<const TokenId> text = TextOf(row);
  const std::int64_t room = std::min<std::int64_t>(context_length_, model_->max_length()) -
                            static_cast<std::int64_t>(text.size());
  if (!CanDraftBehind(*model_, row, text.subspan(Size(RowAt(row.row).length)))) return 0;
  // If a cache slid while drafts were made, it would lack tokens that the text still sees if they
  // are rejected. A shared cache stays at the offset of the target's committed text.
  const int length = static_cast<int>(text.size());
  const KVCache& cache = model_->kv_cache();
  const int slots =
      shares_cache_ ? cache.Room(row.committed) - (length - row.committed) : cache.Room(length);
  const int most = std::max(std::min({row.limit, max_drafts(), slots}), 0);
  return static_cast<int>(std::clamp<std::int64_t>(room, 0, most));
}

void ModelDrafter::Draft(std::span<const DraftRow> rows) {
  engine_seconds_ = 0;
  spent_ = 0;
  is_pending_ = false;
  bool any = false;
  for (Row& row : rows_) row.drafted = 0;  // Also of rows that another drafter serves.
  for (const DraftRow& row : rows) {
    drawn_.Clear(row.row);
    // If the target failed after the last drafts, the text has not grown since.
    const int most = std::max(static_cast<int>(TextOf(row).size()) - 1, 0);
    if (RowAt(row.row).length > most) HoldAtMost(row.row, most);
    RowAt(row.row).begins = !shares_cache_ && RowAt(row.row).length == 0;
    any = any || row.limit > 0;
    if (!is_dynamic()) continue;
    Growth& growth = *RowAt(row.row).growth;
    growth.tree.Clear();
    growth.read.Clear();
    growth.candidates.assign(1, DynamicTree::kRoot);
  }
  if (!any) return;
  ReadTexts(rows);
  const bool drawn =
      std::any_of(rows.begin(), rows.end(), [this](const DraftRow& row) { return Draws(row); });
  // If the engine chooses every draft, and no draft can be an id that the target lacks, the next
  // run can start before the host has the draft.
  is_pending_ = !drawn && tree_.is_chain() && model_->vocab_size() <= target_vocab_size_;
  AddDrafts(rows, drawn);
  if (!is_dynamic()) return;
  for (const DraftRow& row : rows) RowAt(row.row).growth->tree.Write(row.limit, *row.proposal);
}

void ModelDrafter::Collect(std::span<const DraftRow> rows) {
  if (!std::exchange(is_pending_, false)) return;
  model_->Wait();
  engine_seconds_ += model_->engine_seconds();
  for (const DraftRow& row : rows) {
    for (int node = 1; node <= row.proposal->size(); ++node) {
      row.proposal->Set(node, model_->NextIds(row.row, node - 1)[0]);
    }
  }
}

// Reads the tokens that the texts gained since the last round, chunk by chunk, except the last
// chunk, whose logits give the first draft.
void ModelDrafter::ReadTexts(std::span<const DraftRow> rows) {
  const std::size_t largest = Size(model_->shapes().widths.back());
  while (true) {
    std::size_t longest = 0;
    bool begins = false;
    for (RowInput& input : inputs_) input = {};
    for (const DraftRow& row : rows) {
      if (row.limit == 0) continue;
      const std::size_t held = Size(RowAt(row.row).length);
      const std::size_t pending = TextOf(row).size() - held;
      longest = std::max(longest, pending);
      if (pending <= largest) continue;
      SetText(row, largest);
      begins = begins || RowAt(row.row).begins;
    }
    if (longest <= largest) return;
    Start(model_->shapes().widths.back(), {});
    if (!begins) spent_ += costs_.AtLeast(model_->shapes().widths.back());
    for (const DraftRow& row : rows) {
      RowAt(row.row).length += static_cast<int>(inputs_[Size(row.row)].tokens.size());
    }
  }
}

// Whether the row's drafts are sampled from the model's logits instead of being the likeliest.
bool ModelDrafter::Draws(const DraftRow& row) const {
  return has_same_size() && row.limit > 0 && !row.sampling->options().is_argmax();
}

// Whether nodes below this depth are wanted, and there are nodes to attach them to.
bool ModelDrafter::Wants(const DraftRow& row, int depth) const {
  if (depths_[Size(depth) + 1] > row.limit) return false;
  return depth == 0 || RowAt(row.row).first < RowAt(row.row).end;
}

// Each run adds the drafts below one depth to every row that wants any.
void ModelDrafter::AddDrafts(std::span<const DraftRow> rows, bool drawn) {
  const bool ranks = !tree_.is_chain();
  for (int depth = 0; depth < tree_.height(); ++depth) {
    int widest = 0, most_nodes = 1;
    bool begins = false;
    for (RowInput& input : inputs_) input = {};
    for (const DraftRow& row : rows) {
      if (!Wants(row, depth)) continue;
      SetInput(row, depth);
      begins = begins || RowAt(row.row).begins;
      widest = std::max(widest, inputs_[Size(row.row)].count());
      if (depth > 0) most_nodes = std::max(most_nodes, RowAt(row.row).end - RowAt(row.row).first);
    }
    if (widest == 0) return;  // No row wants more, or the drafter lacks the last drafts' ids.
    const int width = model_->shapes().WidthFor(widest);
    Wanted wanted{most_nodes == 1 ? 1 : model_->shapes().LogitsFor(width), drawn || ranks};
    if (is_pending_) wanted.link = depth;
    Start(width, wanted);
    spent_ += begins ? costs_.At(0) : costs_.AtLeast(width);
    for (const DraftRow& row : rows) {
      if (Wants(row, depth)) AddDepth(row, depth);
    }
  }
}

// The next tokens of the text.
void ModelDrafter::SetText(const DraftRow& row, std::size_t count) {
  const std::size_t held = Size(RowAt(row.row).length);
  RowInput& input = inputs_[Size(row.row)];
  input.tokens = TextOf(row).subspan(held, count);
  if (states_ != nullptr) input.states = states_->At(row.row, held);
}

// First the rest of the text, whose last token is the root; then the nodes of each depth.
void ModelDrafter::SetInput(const DraftRow& row, int depth) {
  Row& held = RowAt(row.row);
  const Proposal& proposal = ReadOf(row);
  RowInput& input = inputs_[Size(row.row)];
  if (depth == 0) {
    SetText(row, TextOf(row).size() - Size(held.length));
    return;
  }
  if (states_ != nullptr) {
    held.above.clear();
    for (int node = held.first; node < held.end; ++node) {
      held.above.push_back(proposal.tree().parent(node) - held.first_above);
    }
    input.carried = held.above;
  }
  if (tree_.is_chain()) {
    input.tokens = proposal.tokens().last(1);
  } else {
    input.drafts = proposal.tokens().subspan(Size(held.first) - 1, Size(held.end - held.first));
    input.tree = &proposal.tree();
    input.first_node = held.first;
  }
}

void ModelDrafter::AddDepth(const DraftRow& row, int depth) {
  Row& held = RowAt(row.row);
  if (depth == 0) {
    held.length = static_cast<int>(TextOf(row).size());
    held.first = 0;
    held.end = 1;
  } else {
    held.drafted += held.end - held.first;
  }
  const int first = ReadOf(row).size() + 1;
  if (is_dynamic()) {
    AddCandidates(row, depth);
  } else if (tree_.is_chain()) {
    AddDraft(row, depth);
  } else {
    for (int node = held.first; node < held.end; ++node) AddChildren(row, node);
  }
  held.first_above = held.first;
  held.first = first;
  held.end = ReadOf(row).size() + 1;
}

// The next draft of a chain.
void ModelDrafter::AddDraft(const DraftRow& row, int depth) {
  if (is_pending_) return row.proposal->Append(0);
  if (Draws(row)) return AddChildren(row, depth);
  const TokenId likeliest = model_->NextIds(row.row)[0];
  if (likeliest < target_vocab_size_) row.proposal->Append(likeliest);
}

void ModelDrafter::AddChildren(const DraftRow& row, int node) {
  drawn_.AddChildren(row, node, model_->Logits(row.row, node - RowAt(row.row).first));
}

// The candidates below the nodes that were read; the likeliest are read next, as many as the plan's
// tree has nodes of that depth with children.
void ModelDrafter::AddCandidates(const DraftRow& row, int depth) {
  Row& held = RowAt(row.row);
  Growth& growth = *held.growth;
  for (int node = held.first; node < held.end; ++node) {
    growth.tree.Add(
        growth.candidates[Size(node)],
        likely_->Read(row, growth.read, node, depth, model_->Logits(row.row, node - held.first)));
  }
  for (const int candidate : growth.tree.Newest(parents_[Size(depth) + 1])) {
    growth.tree.set_node(
        candidate, growth.read.Add(growth.tree.NodeAbove(candidate), growth.tree.token(candidate)));
    growth.candidates.push_back(candidate);
  }
}

std::span<const double> ModelDrafter::Gains(int row) const {
  const Row& held = RowAt(row);
  return is_dynamic() ? held.growth->tree.gains() : std::span<const double>();
}

// Keeps those of the read drafts that were accepted. A cache shared with the target holds what the
// target has read.
void ModelDrafter::Observe(int row, const Observation& seen) {
  Row& held = RowAt(row);
  if (shares_cache_) {
    held.length = static_cast<int>(seen.committed + seen.read.size() + seen.path.size());
    held.drafted = 0;
    return;
  }
  if (states_ != nullptr) {
    states_->Keep(row, seen);
    held.drafted = 0;
    return;
  }
  kept_.clear();
  for (const int node : seen.path) {
    if (held.drafted == 0) break;  // Another drafter made these.
    const int read = is_dynamic() ? held.growth->tree.NodeOf(node) : node;
    if (read == 0 || read > held.drafted) break;
    kept_.push_back(read);
  }
  model_->kv_cache().Keep(row, held.length - 1, kept_);
  held.length += static_cast<int>(kept_.size());
  held.drafted = 0;
}

std::vector<double> ModelDrafter::Measure(const EngineRuns& runs) {
  return runs.role == "drafter" ? model_->Measure(runs) : std::vector<double>();
}

double ModelDrafter::CatchUp(const DraftRow& row) const {
  const int held = RowAt(row.row).length;
  return held == 0 ? 0 : Reading(static_cast<int>(TextOf(row).size()) - held);
}

double ModelDrafter::Reading(int tokens) const {
  const int largest = model_->shapes().widths.back();
  const int pending = std::max(tokens, 1);
  const int chunks = (pending - 1) / largest;
  const double reading =
      chunks * costs_.AtLeast(largest) + costs_.AtLeast(pending - chunks * largest);
  return std::max(reading - Cost(1), 0.0);
}

// Starts a run, and waits for its result unless the drafts are pending.
void ModelDrafter::Start(int width, Wanted wanted) {
  for (std::size_t row = 0; row < inputs_.size(); ++row) {
    // Nodes of a tree are written after those of earlier depths; anything else after all that the
    // row holds.
    const bool has_nodes = inputs_[row].first_node > 1;
    inputs_[row].write_index = rows_[row].length + (has_nodes ? 0 : rows_[row].drafted);
  }
  model_->Start(inputs_, width, wanted);
  if (is_pending_) return;
  model_->Wait();
  engine_seconds_ += model_->engine_seconds();
}

}  // namespace ptgc
