#include "drafters/heads_drafter.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/clock.h"
#include "bundle/port_names.h"

namespace ptgc {
namespace {

// Assumed cost of a run, in rounds of the target, until it is measured.
constexpr double kAssumedCost = 0.05;

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

}  // namespace

HeadsDrafter::HeadsDrafter(std::unique_ptr<Engine> engine, const Port& hidden_states, int batch,
                           const TreeSpec& whole, TreeSpec tree, std::int64_t vocab_size,
                           double cost)
    : engine_(std::move(engine)),
      memory_(engine_->memory()),
      num_drafts_(whole.num_nodes() - 1),
      tree_(std::move(tree)),
      drafted_(tree_.NodesIn(whole)),
      places_(Size(tree_.num_nodes())),
      vocab_size_(vocab_size),
      cost_(cost),
      row_bytes_(static_cast<std::size_t>(hidden_states.last_size) * ItemSize(hidden_states.dtype)),
      hidden_states_(memory_, Size(batch) * row_bytes_),
      last_ids_(Size(batch) * sizeof(TokenId)),
      drafts_(Size(batch) * Size(num_drafts_) * sizeof(TokenId)),
      knows_(Size(batch)) {
  const std::array<Tensor, 2> read = {Tensor{ports::kHiddenStates,
                                             hidden_states.dtype,
                                             hidden_states_.data(),
                                             {batch, 1, hidden_states.last_size}},
                                      PortOf(last_ids_, "input_ids", DType::kInt64, {batch, 1})};
  const Tensor written = PortOf(drafts_, ports::kDraftIds, DType::kInt64, {batch, num_drafts_});
  call_ = engine_->Bind(read, {&written, 1});
}

void HeadsDrafter::CopyRow(int from, int to) {
  knows_[Size(to)] = knows_[Size(from)];
  memory_->Copy({StateOf(to), 0, StateOf(from), 0, row_bytes_, 1});
}

// The state is that of the token before the last one, as long as the text has not been extended.
int HeadsDrafter::Propose(const DraftRow& row) {
  const bool follows = knows_[Size(row.row)] && Size(row.committed) + 1 == row.text.size();
  return follows ? std::min(row.limit, tree_.num_nodes() - 1) : 0;
}

void HeadsDrafter::Draft(std::span<const DraftRow> rows) {
  engine_seconds_ = spent_ = 0;
  if (std::none_of(rows.begin(), rows.end(), [](const DraftRow& row) { return row.limit > 0; })) {
    return;
  }
  const Clock::time_point start = Clock::now();
  for (const DraftRow& row : rows) {
    if (row.limit > 0) last_ids_.As<TokenId>()[row.row] = row.text.back();
  }
  call_->Run();
  engine_seconds_ = SecondsSince(start);
  spent_ = cost_;
  for (const DraftRow& row : rows) {
    const std::span<const TokenId> drafts = DraftsOf(row.row);
    places_[0] = 0;
    for (int node = 1; node <= row.limit; ++node) {
      const TokenId draft = drafts[Size(drafted_[Size(node)]) - 1];
      const int parent = places_[Size(tree_.parent(node))];
      const bool is_known = draft >= 0 && draft < vocab_size_;
      places_[Size(node)] = parent < 0 || !is_known ? -1 : row.proposal->Add(parent, draft);
    }
  }
}

void HeadsDrafter::Observe(int row, const Observation& seen) {
  knows_[Size(row)] = seen.bonus != kNoToken;
  const int node = seen.path.empty() ? 0 : seen.path.back();
  if (knows_[Size(row)]) seen.taps->Copy(seen.Place(node), 1, StateOf(row));
}

std::vector<double> HeadsDrafter::Measure(const EngineRuns& runs) {
  const bool is_own = runs.role == "heads" && runs.num_tokens == 1 && runs.num_logits == 1;
  return is_own ? TimeRuns(*call_, runs.repeats) : std::vector<double>();
}

std::unique_ptr<Drafter> MakeHeads(DrafterSeat& seat) {
  const Role& role = seat.bundle.roles.at("heads");
  TreeSpec whole = seat.bundle.plan.tree;
  whole.Truncate(static_cast<int>(FindPort(role.outputs, ports::kDraftIds)->last_size) + 1);
  const auto measured = seat.options.costs.find("drafter");
  const bool is_measured = measured != seat.options.costs.end() && !measured->second.empty();
  return std::make_unique<HeadsDrafter>(
      std::move(seat.engines.at("heads")), *FindPort(role.inputs, ports::kHiddenStates),
      seat.bundle.shapes.batch, whole, seat.plan.tree, seat.bundle.model.vocab_size,
      is_measured ? measured->second.begin()->second : seat.target_costs.At(0) * kAssumedCost);
}

}  // namespace ptgc
