#include "drafters/model_drafter.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "sampling/row_sampling.h"
#include "sampling/target_choice.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

}  // namespace

ModelDrafter::ModelDrafter(std::unique_ptr<CausalModel> model, std::int64_t context_length,
                           std::int64_t target_vocab_size, int max_drafts, AcceptanceRule rule,
                           CostCurve costs)
    : model_(std::move(model)),
      context_length_(context_length),
      target_vocab_size_(target_vocab_size),
      max_drafts_(max_drafts),
      rule_(rule),
      costs_(std::move(costs)),
      sampler_(model_->vocab_size()),
      held_(Size(model_->batch())),
      inputs_(Size(model_->batch())),
      probabilities_(Size(model_->batch()) * Size(max_drafts) *
                     static_cast<std::size_t>(model_->vocab_size()) * sizeof(float)) {}

void ModelDrafter::Begin(int row) {
  held_[Size(row)] = {};
  model_->kv_cache().Begin(row);
}

// The last token is read again always: the first draft needs the logits after it.
void ModelDrafter::Truncate(int row, int length) { HoldAtMost(row, std::max(length - 1, 0)); }

void ModelDrafter::HoldAtMost(int row, int length) {
  Held& held = held_[Size(row)];
  held = {model_->kv_cache().Held(row, std::min(held.length, length)), 0};
  if (held.length == 0) model_->kv_cache().Begin(row);
}

void ModelDrafter::CopyRow(int from, int to) {
  held_[Size(to)] = {held_[Size(from)].length, 0};
  model_->kv_cache().CopyRow(from, to, held_[Size(to)].length);
}

int ModelDrafter::Offer(const DraftRow& row) {
  const std::int64_t room = std::min<std::int64_t>(context_length_, model_->max_length()) -
                            static_cast<std::int64_t>(row.text.size());
  const std::span<const TokenId> unread = row.text.subspan(Size(held_[Size(row.row)].length));
  const bool knows = std::all_of(unread.begin(), unread.end(), [this](TokenId token) {
    return token >= 0 && token < model_->vocab_size();
  });
  if (!knows) return 0;
  // A cache that has slid on behind a draft would lack what the text sees if that is rejected.
  const int most = std::min(
      {row.limit, max_drafts_, model_->kv_cache().Room(static_cast<int>(row.text.size()))});
  return static_cast<int>(std::clamp<std::int64_t>(room, 0, most));
}

void ModelDrafter::Draft(std::span<const DraftRow> rows) {
  engine_seconds_ = 0;
  spent_ = 0;
  is_pending_ = false;
  bool any = false;
  for (const DraftRow& row : rows) {
    held_[Size(row.row)].drafted = 0;
    // Where the target failed after the last drafts, the text has not grown since.
    const int most = std::max(static_cast<int>(row.text.size()) - 1, 0);
    if (held_[Size(row.row)].length > most) HoldAtMost(row.row, most);
    held_[Size(row.row)].begins = held_[Size(row.row)].length == 0;
    any = any || row.limit > 0;
  }
  if (!any) return;
  ReadTexts(rows);
  const bool drawn =
      std::any_of(rows.begin(), rows.end(), [this](const DraftRow& row) { return Draws(row); });
  // Where the engines choose every draft, and none can be an id that the target lacks, nobody needs
  // to see one before the next is started.
  is_pending_ = !drawn && model_->vocab_size() <= target_vocab_size_;
  AddDrafts(rows, drawn);
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

// Reads what the texts gained since the last round, chunk by chunk, up to the last chunk: its
// logits give the first draft.
void ModelDrafter::ReadTexts(std::span<const DraftRow> rows) {
  const std::size_t largest = Size(model_->shapes().widths.back());
  while (true) {
    std::size_t longest = 0;
    bool begins = false;
    for (RowInput& input : inputs_) input.tokens = {};
    for (const DraftRow& row : rows) {
      if (row.limit == 0) continue;
      const std::size_t held = Size(held_[Size(row.row)].length);
      const std::size_t pending = row.text.size() - held;
      longest = std::max(longest, pending);
      if (pending <= largest) continue;
      inputs_[Size(row.row)].tokens = row.text.subspan(held, largest);
      begins = begins || held_[Size(row.row)].begins;
    }
    if (longest <= largest) return;
    Start(model_->shapes().widths.back(), {});
    if (!begins) spent_ += costs_.AtLeast(model_->shapes().widths.back());
    for (const DraftRow& row : rows) {
      held_[Size(row.row)].length += static_cast<int>(inputs_[Size(row.row)].tokens.size());
    }
  }
}

// Whether the row's drafts are drawn from the model's logits, and not just the likeliest.
bool ModelDrafter::Draws(const DraftRow& row) const {
  return has_same_size() && row.limit > 0 && !row.sampling->options().is_argmax();
}

// Whether the row gets its draft of this number: it wants as many, and has all before it.
bool ModelDrafter::Wants(const DraftRow& row, int draft) const {
  return draft < row.limit && row.proposal->size() == draft;
}

// Round i adds draft i + 1 to every row that wants as many.
void ModelDrafter::AddDrafts(std::span<const DraftRow> rows, bool drawn) {
  int most = 0;
  for (const DraftRow& row : rows) most = std::max(most, row.limit);
  for (int draft = 0; draft < most; ++draft) {
    std::size_t widest = 0;
    bool begins = false;
    for (RowInput& input : inputs_) input.tokens = {};
    for (const DraftRow& row : rows) {
      if (!Wants(row, draft)) continue;
      begins = begins || held_[Size(row.row)].begins;
      RowInput& input = inputs_[Size(row.row)];
      input.tokens = draft == 0 ? row.text.subspan(Size(held_[Size(row.row)].length))
                                : row.proposal->tokens().last(1);
      widest = std::max(widest, input.tokens.size());
    }
    if (widest == 0) return;  // The last drafts were ids that the target lacks.
    const int width = model_->shapes().WidthFor(static_cast<int>(widest));
    Start(width, {1, drawn, is_pending_ ? draft : 0});
    spent_ += begins ? costs_.At(0) : costs_.AtLeast(width);
    for (const DraftRow& row : rows) {
      if (!Wants(row, draft)) continue;
      Held& held = held_[Size(row.row)];
      if (draft == 0) {
        held.length = static_cast<int>(row.text.size());
      } else {
        ++held.drafted;
      }
      AddDraft(row, draft);
    }
  }
}

void ModelDrafter::AddDraft(const DraftRow& row, int draft) {
  if (is_pending_) return row.proposal->Append(0);
  RowSampling& sampling = *row.sampling;
  if (!Draws(row)) {
    const TokenId likeliest = model_->NextIds(row.row)[0];
    if (likeliest < target_vocab_size_) row.proposal->Append(likeliest);
    return;
  }
  TokenCounts* counts = sampling.counts();
  const std::span<const TokenId> drafted = row.proposal->tokens();
  if (counts != nullptr) {
    for (TokenId token : drafted) counts->Push(token);
  }
  const LogitsRow values = model_->Logits(row.row, 0);
  const std::int64_t position = static_cast<std::int64_t>(row.text.size()) + draft;
  const bool keeps = rule_ == AcceptanceRule::kSpeculative;
  const TokenId token = ChooseDraft(sampler_, values, sampling.options(), counts, position, rule_,
                                    keeps ? Storage(row.row, draft) : std::span<float>());
  if (counts != nullptr) {
    for (std::size_t i = drafted.size(); i-- > 0;) counts->Pop(drafted[i]);
  }
  if (token == kNoToken) {
    throw Error(ErrorCode::kBackend, "The drafter's logits are not numbers.",
                "Find out with `ptgc check` which stage is damaged.");
  }
  row.proposal->Append(token);
}

void ModelDrafter::Accept(int row, int accepted) {
  Held& held = held_[Size(row)];
  held.length += std::min(accepted, held.drafted);
  held.drafted = 0;
}

// The first draft reads what the last round added, the others one token each.
double ModelDrafter::Cost(int count) const {
  if (count == 0) return 0;
  const std::size_t second = std::min<std::size_t>(1, costs_.widths().size() - 1);
  return costs_.At(second) + costs_.At(0) * (count - 1);
}

double ModelDrafter::CatchUp(const DraftRow& row) const {
  const int held = held_[Size(row.row)].length;
  return held == 0 ? 0 : Reading(static_cast<int>(row.text.size()) - held);
}

double ModelDrafter::Reading(int tokens) const {
  const int largest = model_->shapes().widths.back();
  const int pending = std::max(tokens, 1);
  const int chunks = (pending - 1) / largest;
  const double reading =
      chunks * costs_.AtLeast(largest) + costs_.AtLeast(pending - chunks * largest);
  return std::max(reading - Cost(1), 0.0);
}

DraftProbabilities ModelDrafter::Probabilities(int row, int count) const {
  if (rule_ != AcceptanceRule::kSpeculative || !has_same_size()) return {};
  const std::size_t vocab = static_cast<std::size_t>(model_->vocab_size());
  return {{Storage(row, 0).data(), Size(count) * vocab}, model_->vocab_size()};
}

std::span<float> ModelDrafter::Storage(int row, int draft) const {
  const std::size_t vocab = static_cast<std::size_t>(model_->vocab_size());
  const std::size_t at = (Size(row) * Size(max_drafts_) + Size(draft)) * vocab;
  return {probabilities_.As<float>() + at, vocab};
}

// One run, and what it gives, unless that is pending.
void ModelDrafter::Start(int width, Wanted wanted) {
  for (std::size_t row = 0; row < inputs_.size(); ++row) {
    inputs_[row].write_index = held_[row].length + held_[row].drafted;
  }
  model_->Start(inputs_, width, wanted);
  if (is_pending_) return;
  model_->Wait();
  engine_seconds_ += model_->engine_seconds();
}

}  // namespace ptgc
