// Generation: the progress of one request through the rounds.
#pragma once

#include <atomic>
#include <optional>

#include "base/clock.h"
#include "loops/decode_loop.h"
#include "loops/request.h"
#include "loops/session.h"

namespace ptgc {

// Keeps track of one request: what it may still do, what it did, and when it ends.
class Generation {
 public:
  // `request` must outlive this; `called` is the time of the call. `cancelled`, which may be null,
  // ends it whether or not it has a row.
  Generation(const Request& request, Clock::time_point called,
             const std::atomic<bool>* cancelled = nullptr)
      : request_(&request), called_(called), cancelled_(cancelled) {}

  // Takes a row: adds the prompt to its session. Throws what Session::Append throws.
  void Start(Session& session, DecodeLoop& loop);

  // Ends it if its deadline has passed or it was cancelled, even if it still waits for a row.
  void CheckTime();
  // What it may do in the next round.
  Turn NextTurn() const;
  // Records a round that it took part in; ends it at an end token or at its length limit.
  void Record(const Turn& turn, const RoundReport& report);

  // Ends it with the tokens that it has; the row may then be reused.
  void Finish(FinishReason reason);
  bool finished() const { return reason_.has_value(); }
  // Whether its prompt has been read, and its text is being written round by round.
  bool is_writing() const {
    return has_prefill_ && result_.statistics.new_tokens > 0 && !finished();
  }
  // Whether CheckTime may end it while it waits for a row.
  bool may_end_waiting() const { return request_->deadline_seconds > 0 || cancelled_ != nullptr; }
  const Request& request() const { return *request_; }
  Result TakeResult(double load_seconds);

 private:
  void RecordFirstTokens(const Turn& turn);
  void RecordDecodeRound(const Turn& turn, const RoundReport& report);
  void RecordDrafts(const Turn& turn);
  void RecordTrace(const Turn& turn, const RoundReport& report);

  const Request* request_;              // The request.
  Clock::time_point called_;            // Time of the call.
  const std::atomic<bool>* cancelled_;  // Set from any thread; may be null.
  Clock::time_point started_;           // Time when it got a row.
  Clock::time_point first_token_;       // Time of its first new token.
  Session* session_ = nullptr;          // Its row, once it has one.
  bool has_prefill_ = true;             // Whether prompts are read before text is written.
  const char* idle_reason_ = nullptr;   // Why none of its rounds may have drafts.
  std::int64_t first_tokens_ = 0;       // New tokens of the round that ended the prefill.
  std::int64_t declined_rounds_ = 0;    // Rounds whose offered drafts did not pay.
  Result result_;                       // Grows round by round.
  std::optional<FinishReason> reason_;  // Set once it is over.
};

}  // namespace ptgc
