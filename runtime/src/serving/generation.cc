#include "serving/generation.h"

#include <algorithm>
#include <span>
#include <utility>

#include "engines/device.h"

namespace ptgc {
namespace {

constexpr const char* kDoesNotPay = "speculation does not pay here";

// The count of a place, added where it is missing; they are in the order of depth and rank.
DraftCount& CountOf(std::vector<DraftCount>& counts, int depth, int rank) {
  const auto before = [&](const DraftCount& one) {
    return one.depth < depth || (one.depth == depth && one.rank < rank);
  };
  const auto found = std::partition_point(counts.begin(), counts.end(), before);
  if (found != counts.end() && found->depth == depth && found->rank == rank) return *found;
  return *counts.insert(found, DraftCount{depth, rank, 0, 0});
}

// Drafts whose parent was accepted were tried, and those on the path accepted.
void CountDrafts(const Turn& turn, std::vector<DraftCount>& counts) {
  const auto end = turn.path.begin() + turn.accepted;
  const auto is_accepted = [&](int node) {
    return node == 0 || std::find(turn.path.begin(), end, node) != end;
  };
  const TreeSpec& tree = turn.proposal->tree();
  for (int node = 1; node <= turn.proposal->num_acceptable(); ++node) {
    if (!is_accepted(tree.parent(node))) continue;
    DraftCount& count = CountOf(counts, tree.depth(node), tree.rank(node));
    count.tried += 1;
    count.accepted += is_accepted(node) ? 1 : 0;
  }
}

}  // namespace

void Generation::Start(Session& session, DecodeLoop& loop) {
  if (!request_->prompt_ids.empty()) session.Append(request_->prompt_ids);
  session.CheckRequest({}, request_->max_new_tokens);
  session_ = &session;
  started_ = first_token_ = Clock::now();
  result_.statistics.prompt_tokens = session.prompt_length();
  has_prefill_ = loop.has_prefill();
  if (!request_->plain) idle_reason_ = loop.idle_reason();
  // A tree has at most so many places, and a lookup's chain beside it as many again.
  result_.statistics.draft_counts.reserve(2 * static_cast<std::size_t>(loop.max_drafts()));
  loop.Start(session, *request_);
}

void Generation::CheckTime() {
  const bool cancelled = cancelled_ != nullptr && cancelled_->load(std::memory_order_relaxed);
  if (cancelled || (session_ != nullptr && session_->cancelled())) {
    Finish(FinishReason::kCancelled);
  } else if (request_->deadline_seconds > 0 &&
             SecondsSince(called_) >= request_->deadline_seconds) {
    Finish(FinishReason::kDeadline);
  }
}

Turn Generation::NextTurn() const {
  Turn turn;
  turn.session = session_;
  turn.eos_token_ids = request_->eos_token_ids;
  turn.max_new_tokens = request_->max_new_tokens - static_cast<int>(result_.statistics.new_tokens);
  turn.may_draft = !request_->plain;
  return turn;
}

void Generation::Record(const Turn& turn, const RoundReport& report) {
  if (request_->trace) RecordTrace(turn, report);
  if (has_prefill_ && turn.emitted.empty() && !turn.ended) return;
  if (has_prefill_ && result_.statistics.new_tokens == 0) {
    RecordFirstTokens(turn);
  } else {
    RecordDecodeRound(turn, report);
  }
  result_.statistics.new_tokens += static_cast<std::int64_t>(turn.emitted.size());
  if (result_.statistics.time_to_first_token == 0 && !turn.emitted.empty()) {
    result_.statistics.time_to_first_token = SecondsSince(called_);
  }
  if (turn.ended) {
    Finish(FinishReason::kEos);
  } else if (!turn.emitted.empty() && result_.statistics.new_tokens >= request_->max_new_tokens) {
    Finish(FinishReason::kLength);
  }
}

// The round that reads the end of the prompt counts as prefill, even if it verified drafts.
void Generation::RecordFirstTokens(const Turn& turn) {
  first_token_ = Clock::now();
  first_tokens_ = static_cast<std::int64_t>(turn.emitted.size());
  Statistics& statistics = result_.statistics;
  RecordDrafts(turn);
  statistics.prefill_seconds = std::chrono::duration<double>(first_token_ - started_).count();
  statistics.time_to_first_token = std::chrono::duration<double>(first_token_ - called_).count();
}

void Generation::RecordDecodeRound(const Turn& turn, const RoundReport& report) {
  Statistics& statistics = result_.statistics;
  statistics.rounds += 1;
  statistics.plain_rounds += turn.drafted.empty() && turn.drafted_fills == 0 ? 1 : 0;
  RecordDrafts(turn);
  statistics.engine_seconds += report.engine_seconds;
  statistics.draft_seconds += report.draft_seconds;
  statistics.accept_seconds += report.accept_seconds;
  statistics.commit_seconds += report.commit_seconds;
  statistics.decode_seconds = SecondsSince(first_token_);
  statistics.graph_launches += report.device.graph_launches;
  statistics.uncaptured_runs += report.device.uncaptured_runs;
  statistics.synchronisations += report.device.synchronisations;
  declined_rounds_ += turn.offered > 0 && turn.drafted.empty() ? 1 : 0;
}

void Generation::RecordDrafts(const Turn& turn) {
  Statistics& statistics = result_.statistics;
  statistics.drafted_tokens += turn.drafted_fills;
  statistics.accepted_tokens += turn.accepted;
  if (turn.drafted.empty()) return;
  statistics.ahead_tokens += turn.ahead;
  if (turn.is_ahead) statistics.ahead_used_tokens += static_cast<std::int64_t>(turn.drafted.size());
  statistics.drafted_tokens += turn.proposal->num_acceptable();
  CountDrafts(turn, statistics.draft_counts);
}

void Generation::RecordTrace(const Turn& turn, const RoundReport& report) {
  TraceRound round;
  round.width = report.width;
  round.drafted_ids.assign(turn.drafted.begin(), turn.drafted.end());
  round.part = turn.part;
  round.is_ahead = turn.is_ahead;
  for (int node = 1; node <= static_cast<int>(turn.drafted.size()); ++node) {
    round.parents.push_back(turn.proposal->tree().parent(node));
  }
  round.path.assign(turn.path.begin(), turn.path.end());
  round.accepted = turn.accepted;
  round.filled_positions.assign(turn.filled_positions.begin(), turn.filled_positions.end());
  round.filled_ids.assign(turn.filled_ids.begin(), turn.filled_ids.end());
  round.confidences.assign(turn.confidences.begin(), turn.confidences.end());
  round.emitted_ids.assign(turn.emitted.begin(), turn.emitted.end());
  round.engine_seconds = report.engine_seconds;
  round.draft_seconds = report.draft_seconds;
  round.accept_seconds = report.accept_seconds;
  round.commit_seconds = report.commit_seconds;
  round.round_seconds = report.round_seconds;
  result_.trace.push_back(std::move(round));
}

void Generation::Finish(FinishReason reason) {
  reason_ = reason;
  if (session_ == nullptr) {
    result_.statistics.prompt_tokens = static_cast<std::int64_t>(request_->prompt_ids.size());
    return;
  }
  const std::span<const TokenId> written =
      session_->tokens().last(static_cast<std::size_t>(result_.statistics.new_tokens));
  result_.token_ids.assign(written.begin(), written.end());
}

Result Generation::TakeResult(double load_seconds) {
  Statistics& statistics = result_.statistics;
  const double decoded = static_cast<double>(statistics.new_tokens - first_tokens_);
  if (statistics.rounds > 0) {
    statistics.mean_accept_length = decoded / static_cast<double>(statistics.rounds);
    statistics.tokens_per_second = decoded / std::max(statistics.decode_seconds, 1e-9);
  }
  if (declined_rounds_ > statistics.rounds - statistics.plain_rounds) {
    statistics.fallback_reason = kDoesNotPay;
  }
  if (idle_reason_ != nullptr) statistics.fallback_reason = idle_reason_;
  statistics.load_seconds = load_seconds;
  statistics.peak_memory_bytes = PeakMemoryBytes();
  result_.finish_reason = reason_.value_or(FinishReason::kLength);
  return std::move(result_);
}

}  // namespace ptgc
