#include "drafters/block_drafter.h"

#include <algorithm>
#include <utility>

#include "bundle/json_document.h"
#include "drafters/draft_model.h"
#include "drafters/registry.h"
#include "sampling/row_sampling.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

}  // namespace

void ReadBlock(const Fields& data, DrafterPlan& plan) {
  auto parameters = std::make_shared<BlockParameters>();
  parameters->block_size = static_cast<int>(data.Integer("block_size", {1, limits::kTreeNodes}));
  parameters->mask_token_id = data.Integer("mask_token_id", {0, limits::kVocabSize.most - 1});
  const bool reads_states = FindDrafterKind(plan.kind)->reads_states;
  parameters->depth = parameters->block_size - (reads_states ? 1 : 0);
  // With states, the row of the last token belongs to the block, and drafts nothing.
  parameters->rows_read_again = parameters->first_logits = reads_states ? 1 : 0;
  plan.parameters = std::move(parameters);
}

void ReadLayers(const Fields& data, DrafterPlan& plan) {
  auto parameters = std::make_shared<BlockParameters>();
  parameters->depth = static_cast<int>(data.Integer("num_layers", {2, limits::kTreeNodes}));
  parameters->mask_token_id = kNoToken;
  parameters->rows_read_again = parameters->depth - 1;
  parameters->reads_pairs = true;
  plan.parameters = std::move(parameters);
}

std::string BlockParameters::Misfit(int /*num_draft_tokens*/, const TreeSpec& tree) const {
  if (tree.height() <= depth) return "";
  return " drafts " + std::to_string(depth) + " tokens in a run; plan.tree is " +
         std::to_string(tree.height()) + " tokens deep.";
}

std::unique_ptr<Drafter> MakeBlock(DrafterSeat& seat) {
  const Bundle& bundle = seat.bundle;
  const Role& role = bundle.roles.at("drafter");
  TreeSpec tree = seat.plan.tree;
  tree.Truncate(seat.max_drafts + 1);
  auto model =
      std::make_unique<CausalModel>(std::move(seat.engines.at("drafter")), bundle, "drafter",
                                    role.vocab_size, CausalNeighbours(), seat.caches.at("drafter"));
  return std::make_unique<BlockDrafter>(
      std::move(model), seat.plan.drafter.Own<BlockParameters>(),
      role.context_length.value_or(bundle.model.context_length), bundle.model.vocab_size,
      std::move(tree), seat.plan.has_dynamic_tree, seat.plan.acceptance, DrafterCosts(seat));
}

BlockDrafter::BlockDrafter(std::unique_ptr<CausalModel> model, const BlockParameters& parameters,
                           std::int64_t context_length, std::int64_t target_vocab_size,
                           TreeSpec tree, bool is_dynamic, AcceptanceRule rule, CostCurve costs)
    : model_(std::move(model)),
      parameters_(parameters),
      context_length_(context_length),
      target_vocab_size_(target_vocab_size),
      tree_(std::move(tree)),
      chain_(TreeSpec::Chain(parameters.block_size - 1)),
      masks_(Size(parameters.block_size - 1), parameters.mask_token_id),
      costs_(std::move(costs)),
      // Drafts of a dynamic tree are certain: nothing is kept of what they were drawn from.
      drawn_(tree_, is_dynamic ? AcceptanceRule::kMatch : rule, model_->batch(),
             std::min(model_->vocab_size(), target_vocab_size)),
      rows_(Size(model_->batch())),
      inputs_(Size(model_->batch())) {
  if (const Port* port = model_->states_read(); port != nullptr) {
    states_ = std::make_unique<TextStates>(model_->memory(), *port, model_->batch(),
                                           model_->max_length());
  }
  if (!is_dynamic) return;
  const int num_children = max_drafts();
  likely_ = std::make_unique<LikelyTokens>(rule, num_children,
                                           std::min(model_->vocab_size(), target_vocab_size));
  grown_.assign(rows_.size(),
                DynamicTree(max_drafts(), num_children, max_drafts() * tree_.height()));
}

void BlockDrafter::HoldAtMost(int row, int length) {
  Row& held = RowAt(row);
  held.length = model_->kv_cache().Held(row, std::max(std::min(held.length, length), 0));
  if (held.length == 0) model_->kv_cache().Begin(row);
}

void BlockDrafter::CopyRow(int from, int to) {
  RowAt(to).length = RowAt(from).length;
  model_->kv_cache().CopyRow(from, to, RowAt(to).length);
  if (states_ != nullptr) states_->CopyRow(from, to, model_->max_length());
}

int BlockDrafter::Propose(const DraftRow& row) {
  const std::int64_t room = std::min<std::int64_t>(context_length_, model_->max_length()) -
                            static_cast<std::int64_t>(row.text.size());
  const std::span<const TokenId> text = TextOf(row);
  const std::size_t held = std::min(Size(RowAt(row.row).length), text.size());
  if (!CanDraftBehind(*model_, row, text.subspan(held))) return 0;
  return static_cast<int>(std::clamp<std::int64_t>(room, 0, std::min(row.limit, max_drafts())));
}

void BlockDrafter::Draft(std::span<const DraftRow> rows) {
  engine_seconds_ = spent_ = 0;
  bool any = false;
  for (const DraftRow& row : rows) {
    drawn_.Clear(row.row);
    if (!grown_.empty()) grown_[Size(row.row)].Clear();
    // If the target failed after the last drafts, the text has not grown since.
    const int most = std::max(Settled(static_cast<int>(row.text.size())), 0);
    if (RowAt(row.row).length > most) HoldAtMost(row.row, most);
    RowAt(row.row).begins = RowAt(row.row).length == 0;
    any = any || row.limit > 0;
  }
  if (!any) return;
  while (ReadsChunk(rows)) {
  }
  RunBlocks(rows);
  for (const DraftRow& row : rows) {
    if (row.limit == 0) continue;
    if (!grown_.empty()) {
      Grow(row);
    } else if (tree_.is_chain() && !Draws(row)) {
      AddLikeliest(row);
    } else {
      AddChildren(row);
    }
  }
}

// The children that the plan's tree has, node by node.
void BlockDrafter::AddChildren(const DraftRow& row) {
  for (int node = 0; node <= row.proposal->size(); ++node) {
    const int depth = row.proposal->tree().depth(node);
    drawn_.AddChildren(row, node, model_->Logits(row.row, LogitsOf(depth)));
  }
}

// At most `limit` candidates of a depth can be among the likeliest of all, so no others get
// children.
void BlockDrafter::Grow(const DraftRow& row) {
  constexpr int kRoot[] = {DynamicTree::kRoot};
  DynamicTree& tree = grown_[Size(row.row)];
  std::span<const int> parents = kRoot;
  for (int depth = 0; depth < tree_.depth(row.limit); ++depth) {
    const std::span<const LikelyToken> likely =
        likely_->Read(row, *row.proposal, 0, depth, model_->Logits(row.row, LogitsOf(depth)));
    for (const int parent : parents) tree.Add(parent, likely);
    parents = tree.Newest(row.limit);
  }
  tree.Write(row.limit, *row.proposal);
}

// The mask tokens of a run that drafts so many tokens. Rows that see the whole block need all.
int BlockDrafter::Masks(int count) const {
  return states_ != nullptr ? parameters_.block_size - 1 : tree_.height(count) - 1;
}

// Reads text of rows whose text and block do not fit into one run; whether there were any. The
// next run reads the last rows again.
bool BlockDrafter::ReadsChunk(std::span<const DraftRow> rows) {
  const int largest = model_->shapes().widths.back();
  bool reads = false, begins = false;
  for (RowInput& input : inputs_) input = {};
  for (const DraftRow& row : rows) {
    if (row.limit == 0) continue;
    const int pending = static_cast<int>(TextOf(row).size()) - RowAt(row.row).length;
    if (pending + Masks(row.limit) <= largest) continue;
    SetText(row, std::min(pending - (states_ == nullptr ? 1 : 0), largest));
    reads = true;
    begins = begins || RowAt(row.row).begins;
  }
  if (!reads) return false;
  Run(largest, {});
  if (!begins) spent_ += costs_.AtLeast(largest);
  for (const DraftRow& row : rows) {
    const int read = inputs_[Size(row.row)].count();
    if (read > 0) RowAt(row.row).length += read - parameters_.rows_read_again;
  }
  return true;
}

// Reads the rest of the texts, with a block after each.
void BlockDrafter::RunBlocks(std::span<const DraftRow> rows) {
  int widest = parameters_.rows_read_again + 1, most = 0;
  bool begins = false, has_logits = !tree_.is_chain();
  for (RowInput& input : inputs_) input = {};
  for (const DraftRow& row : rows) {
    if (row.limit == 0) continue;
    SetText(row, static_cast<int>(TextOf(row).size()) - RowAt(row.row).length);
    RowInput& input = inputs_[Size(row.row)];
    input.drafts = std::span(masks_).first(Size(Masks(row.limit)));
    input.tree = &chain_;
    if (states_ != nullptr && !parameters_.reads_pairs) input.block_length = input.count();
    widest = std::max(widest, input.count());
    most = std::max(most, row.limit);
    begins = begins || RowAt(row.row).begins;
    has_logits = has_logits || Draws(row);
  }
  const int width = model_->shapes().WidthFor(widest);
  Run(width, {model_->shapes().LogitsFor(width), has_logits});
  spent_ += begins ? Cost(most) : costs_.AtLeast(width);
  for (const DraftRow& row : rows) {
    if (row.limit == 0) continue;
    const int read = static_cast<int>(TextOf(row).size());
    RowAt(row.row).length = std::max(read - parameters_.rows_read_again, 0);
  }
}

// The next tokens of the text.
void BlockDrafter::SetText(const DraftRow& row, int count) {
  const std::size_t held = Size(RowAt(row.row).length);
  RowInput& input = inputs_[Size(row.row)];
  input.tokens = TextOf(row).subspan(held, Size(count));
  if (states_ != nullptr) input.states = states_->At(row.row, held);
}

void BlockDrafter::Run(int width, Wanted wanted) {
  for (std::size_t row = 0; row < inputs_.size(); ++row) {
    inputs_[row].write_index = rows_[row].length;
  }
  model_->Forward(inputs_, width, wanted);
  engine_seconds_ += model_->engine_seconds();
}

// Whether the row's drafts are chosen from the model's logits instead of being the likeliest.
bool BlockDrafter::Draws(const DraftRow& row) const { return !row.sampling->options().is_argmax(); }

// A chain of the tokens that the engine chose.
void BlockDrafter::AddLikeliest(const DraftRow& row) {
  for (int draft = 0; draft < row.limit; ++draft) {
    const TokenId token = model_->NextIds(row.row)[Size(LogitsOf(draft))];
    if (token < 0 || token >= target_vocab_size_) return;
    row.proposal->Append(token);
  }
}

void BlockDrafter::Observe(int row, const Observation& seen) {
  if (states_ != nullptr) states_->Keep(row, seen);
}

// A run reads what the last round added, one token at least, and a block.
double BlockDrafter::Cost(int count) const {
  return count == 0 ? 0 : costs_.AtLeast(Masks(count) + parameters_.rows_read_again + 1);
}

double BlockDrafter::CatchUp(const DraftRow& row) const {
  const int held = RowAt(row.row).length;
  if (held == 0) return 0;
  const int largest = model_->shapes().widths.back();
  const int rows = static_cast<int>(TextOf(row).size()) - held + Masks(1);
  const int chunks = std::max(rows - 1, 0) / largest;
  const double reading = chunks * costs_.AtLeast(largest) + costs_.AtLeast(rows - chunks * largest);
  return std::max(reading - Cost(1), 0.0);
}

std::vector<double> BlockDrafter::Measure(const EngineRuns& runs) {
  return runs.role == "drafter" ? model_->Measure(runs) : std::vector<double>();
}

}  // namespace ptgc
