#include "generation.h"

#include <algorithm>
#include <utility>

#include "device.h"

namespace ptgc {
namespace {

constexpr const char* kDoesNotPay = "speculation does not pay here";

}  // namespace

void Generation::Start(Session& session) {
  if (!request_->prompt_ids.empty()) session.Append(request_->prompt_ids);
  session.CheckRoom(request_->max_new_tokens);
  session_ = &session;
  prompt_length_ = session.length();
  started_ = first_token_ = Clock::now();
  result_.statistics.prompt_tokens = prompt_length_;
}

void Generation::CheckTime() {
  if (session_->cancelled()) {
    Finish(FinishReason::kCancelled);
  } else if (request_->deadline_seconds > 0 &&
             SecondsSince(called_) >= request_->deadline_seconds) {
    Finish(FinishReason::kDeadline);
  }
}

Turn Generation::NextTurn() const {
  const int written = session_->length() - prompt_length_;
  Turn turn;
  turn.session = session_;
  turn.eos_token_ids = request_->eos_token_ids;
  turn.max_new_tokens = request_->max_new_tokens - written;
  // The first token ends the prefill, so that times and counts after it are all decoding.
  turn.may_draft = !request_->plain && written > 0;
  return turn;
}

void Generation::Record(const Turn& turn, const RoundReport& report) {
  if (request_->trace) RecordTrace(turn, report);
  if (turn.emitted.empty()) return;
  if (result_.statistics.new_tokens == 0) {
    RecordFirstToken();
  } else {
    RecordDecodeRound(turn, report);
  }
  result_.statistics.new_tokens += static_cast<std::int64_t>(turn.emitted.size());
  if (turn.ended) {
    Finish(FinishReason::kEos);
  } else if (session_->length() - prompt_length_ >= request_->max_new_tokens) {
    Finish(FinishReason::kLength);
  }
}

void Generation::RecordFirstToken() {
  first_token_ = Clock::now();
  Statistics& statistics = result_.statistics;
  statistics.prefill_seconds = std::chrono::duration<double>(first_token_ - started_).count();
  statistics.time_to_first_token = std::chrono::duration<double>(first_token_ - called_).count();
}

void Generation::RecordDecodeRound(const Turn& turn, const RoundReport& report) {
  Statistics& statistics = result_.statistics;
  statistics.rounds += 1;
  statistics.plain_rounds += turn.drafted.empty() ? 1 : 0;
  statistics.drafted_tokens += static_cast<std::int64_t>(turn.drafted.size());
  statistics.accepted_tokens += turn.accepted;
  statistics.engine_seconds += report.engine_seconds;
  statistics.decode_seconds = SecondsSince(first_token_);
  declined_rounds_ += turn.offered > 0 && turn.drafted.empty() ? 1 : 0;
}

void Generation::RecordTrace(const Turn& turn, const RoundReport& report) {
  TraceRound round;
  round.width = report.width;
  round.drafted_ids.assign(turn.drafted.begin(), turn.drafted.end());
  round.accepted = turn.accepted;
  round.emitted_ids.assign(turn.emitted.begin(), turn.emitted.end());
  round.engine_seconds = report.engine_seconds;
  round.round_seconds = report.round_seconds;
  result_.trace.push_back(std::move(round));
}

void Generation::Finish(FinishReason reason) {
  reason_ = reason;
  const auto written = session_->tokens().subspan(static_cast<std::size_t>(prompt_length_));
  result_.token_ids.assign(written.begin(), written.end());
}

Result Generation::TakeResult(double load_seconds) {
  Statistics& statistics = result_.statistics;
  const double decoded = static_cast<double>(std::max<std::int64_t>(statistics.new_tokens - 1, 0));
  if (statistics.rounds > 0) {
    statistics.mean_accept_length = decoded / static_cast<double>(statistics.rounds);
    statistics.tokens_per_second = decoded / std::max(statistics.decode_seconds, 1e-9);
  }
  if (declined_rounds_ > statistics.rounds - statistics.plain_rounds) {
    statistics.fallback_reason = kDoesNotPay;
  }
  statistics.load_seconds = load_seconds;
  statistics.peak_memory_bytes = PeakMemoryBytes();
  result_.finish_reason = reason_.value_or(FinishReason::kLength);
  return std::move(result_);
}

}  // namespace ptgc
