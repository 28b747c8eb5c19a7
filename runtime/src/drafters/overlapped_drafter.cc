#include "drafters/overlapped_drafter.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "sampling/row_sampling.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

}  // namespace

OverlappedDrafter::OverlappedDrafter(std::unique_ptr<Drafter> drafter, int max_ahead, int batch,
                                     int max_length, AcceptanceRule rule, std::int64_t num_ids)
    : drafter_(std::move(drafter)),
      max_ahead_(max_ahead),
      rule_(rule),
      num_ids_(static_cast<std::size_t>(num_ids)),
      chain_(Size(max_ahead)),
      rows_(Size(batch)) {
  std::iota(chain_.begin(), chain_.end(), 1);
  for (Row& row : rows_) {
    row.ahead = Proposal(max_ahead);
    row.text.reserve(Size(max_length + max_ahead));
    row.indices.reserve(Size(max_ahead));
  }
  asked_.reserve(rows_.size());
  ahead_.reserve(rows_.size());
  if (!NeedsProbabilities(rule_)) return;
  probabilities_ = Buffer(Size(batch) * Size(max_ahead) * num_ids_ * sizeof(float));
}

void OverlappedDrafter::Begin(int row) {
  RowAt(row).goes_beyond = RowAt(row).is_next = false;
  drafter_->Begin(row);
}

void OverlappedDrafter::Truncate(int row, int length) {
  Cut(row);
  drafter_->Truncate(row, length);
}

// The copy drafts anew: the distributions of drafts stay with the row that has them.
void OverlappedDrafter::CopyRow(int from, int to) {
  drafter_->CopyRow(from, to);
  RowAt(to).goes_beyond = RowAt(from).goes_beyond;
  RowAt(to).agreed = RowAt(from).agreed;
  Cut(to);
}

// Drops what the drafter has read beyond the text.
void OverlappedDrafter::Cut(int row) {
  Row& own = RowAt(row);
  own.is_next = false;
  if (std::exchange(own.goes_beyond, false)) drafter_->Truncate(row, own.agreed);
}

// For the drafter, its last `count` drafts are text.
void OverlappedDrafter::Assume(int row, int count) {
  Observation seen;
  seen.path = std::span(chain_).first(Size(count));
  drafter_->Observe(row, seen);
}

int OverlappedDrafter::Propose(const DraftRow& row) {
  const Row& own = RowAt(row.row);
  if (own.is_next && row.text.size() == Size(own.agreed)) {
    const int count = std::min(row.limit, own.ahead.size() - 1);
    for (int node = 1; node <= count; ++node) row.proposal->Append(own.ahead.token(node + 1));
    return count;
  }
  Cut(row.row);
  return drafter_->Propose(row);
}

void OverlappedDrafter::Draft(std::span<const DraftRow> rows) {
  asked_.clear();
  for (Row& row : rows_) row.is_used = row.is_running = false;  // Also where others draft.
  for (const DraftRow& row : rows) {
    if (row.proposal->size() == 0) {
      asked_.push_back(row);
    } else {
      row.proposal->Truncate(row.limit);
      RowAt(row.row).is_used = row.limit > 0;
    }
  }
  drafter_->Draft(asked_);
  drafter_->Collect(asked_);
  engine_seconds_ = drafter_->engine_seconds();
  spent_ = drafter_->spent();
  if (!NeedsProbabilities(rule_)) return;
  for (const DraftRow& row : rows) KeepProbabilities(row);
}

// The drafter's own are overwritten before the target judges the drafts.
void OverlappedDrafter::KeepProbabilities(const DraftRow& row) {
  Row& own = RowAt(row.row);
  const int guesses = own.is_used ? 1 : 0, count = row.proposal->size();
  const DraftProbabilities drawn = drafter_->Probabilities(row.row, count + guesses);
  own.indices.assign(Size(count) + 1, DraftProbabilities::kCertain);
  for (int node = 1; node <= count; ++node) {
    const std::span<const float> q = drawn.Of(node + guesses);
    if (q.empty()) continue;
    own.indices[Size(node)] = node - 1;
    std::copy(
        q.begin(), q.end(),
        Distributions(row.row).begin() + static_cast<std::ptrdiff_t>(Size(node - 1) * num_ids_));
  }
}

DraftProbabilities OverlappedDrafter::Probabilities(int row, int /*count*/) const {
  if (!NeedsProbabilities(rule_)) return {};
  return {Distributions(row), RowAt(row).indices, static_cast<std::int64_t>(num_ids_)};
}

std::span<float> OverlappedDrafter::Distributions(int row) const {
  const std::size_t size = Size(max_ahead_) * num_ids_;
  return {probabilities_.As<float>() + Size(row) * size, size};
}

void OverlappedDrafter::DraftAhead(std::span<const DraftRow> rows) {
  ahead_.clear();
  for (Row& row : rows_) row.made = 0;
  for (const DraftRow& row : rows) {
    if (row.limit > 1 && row.proposal->size() > 0) Prepare(row);
  }
  if (!ahead_.empty()) worker_.Start([this] { RunAhead(); });
}

// Takes a row's drafts for text, and asks for others behind them.
void OverlappedDrafter::Prepare(const DraftRow& row) {
  Row& own = RowAt(row.row);
  const std::span<const TokenId> drafts = row.proposal->tokens();
  const int length = static_cast<int>(row.text.size());
  const int room = drafter_->Room(length) - row.proposal->size();
  if (!own.is_used) Assume(row.row, row.proposal->size());
  own.goes_beyond = own.is_running = true;
  own.agreed = length;
  own.is_next = false;
  own.verified = row.proposal;
  own.text.assign(row.text.begin(), row.text.end());
  own.text.insert(own.text.end(), drafts.begin(), drafts.end());
  drafter_->Truncate(row.row, static_cast<int>(own.text.size()));  // Of more drafts than are used.
  own.ahead.Clear();
  DraftRow next = row;
  next.text = own.text;
  next.proposal = &own.ahead;
  next.guesses = 1;
  next.limit = std::min({row.limit, max_ahead_, room});
  if (next.limit > 1) next.limit = drafter_->Propose(next);
  if (next.limit > 1) ahead_.push_back(next);
}

// On the worker's thread, while the owner's runs the target and touches nothing of this.
void OverlappedDrafter::RunAhead() {
  for (const DraftRow& row : ahead_) {
    Row& own = RowAt(row.row);
    own.path.emplace(row.sampling->counts(), *own.verified, own.verified->size());
  }
  const auto uncount = [this] {
    for (const DraftRow& row : ahead_) RowAt(row.row).path.reset();
  };
  try {
    drafter_->Draft(ahead_);
    drafter_->Collect(ahead_);
  } catch (...) {
    uncount();
    throw;
  }
  uncount();
}

void OverlappedDrafter::FinishAhead() {
  worker_.Wait();
  for (const DraftRow& row : ahead_) RowAt(row.row).made = row.proposal->size();
}

AheadDrafts OverlappedDrafter::ahead(int row) const {
  return {RowAt(row).made, RowAt(row).is_used};
}

void OverlappedDrafter::Observe(int row, const Observation& seen) {
  Row& own = RowAt(row);
  if (!own.goes_beyond) return drafter_->Observe(row, seen);
  const bool has_drafts = seen.proposal != nullptr && seen.proposal->size() > 0;
  if (!has_drafts || !(own.is_used || own.is_running)) return Cut(row);
  const std::size_t kept = seen.committed + seen.read.size() + seen.path.size();
  own.agreed = static_cast<int>(kept) + 1;
  if (own.is_running && own.made > 1 && kept == own.text.size() &&
      seen.bonus == own.ahead.token(1)) {
    Assume(row, own.made);
    own.is_next = true;
  } else {
    Cut(row);
  }
}

}  // namespace ptgc
