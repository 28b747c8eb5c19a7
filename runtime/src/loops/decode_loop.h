// DecodeLoop: advances the rows of a batch; the base of the four loops.
#pragma once

#include <exception>
#include <span>
#include <string>
#include <vector>

#include "base/token.h"
#include "engines/engine.h"
#include "loops/request.h"
#include "loops/session.h"
#include "sampling/proposal.h"

namespace ptgc {

// One session's part in a round: what it may do, and the outcome.
struct Turn {
  Session* session = nullptr;              // The session.
  std::span<const TokenId> eos_token_ids;  // Any of them ends the text.
  int max_new_tokens = 0;                  // Tokens that it may still add; at least 1.
  bool may_draft = false;                  // Whether drafts may be verified.
  bool beside_text = false;                // Whether another call's text waits for the round.

  int chunk = 0;                          // Text tokens fed this round.
  int offered = 0;                        // Draft tokens that the drafter offered.
  int part = 0;                           // Which of merged drafters offered them.
  std::span<const TokenId> drafted;       // Draft tokens verified; valid until the next round.
  const Proposal* proposal = nullptr;     // The same with their tree, if there are any.
  std::span<const int> path;              // The nodes of the tree that were accepted.
  int accepted = 0;                       // How many of them became text.
  bool is_ahead = false;                  // Whether they were made during the round before.
  int ahead = 0;                          // Draft tokens made during this round for the next.
  std::span<const TokenId> emitted;       // New tokens; none while a prompt is being read.
  std::span<const int> filled_positions;  // Of a canvas; valid until the next round.
  std::span<const TokenId> filled_ids;    // Their tokens ...
  std::span<const float> confidences;     // ... and the probabilities of these.
  int drafted_fills = 0;                  // Of a canvas: draft tokens verified.
  bool ended = false;                     // Whether the last new token ends the text.
  std::exception_ptr error;               // Thrown by a caller's function for this text only.
};

// What a round did as a whole.
struct RoundReport {
  int width = 0;              // Rows that the engine ran.
  double engine_seconds = 0;  // Time inside engines.
  double draft_seconds = 0;   // Time of drafting, partly inside engines.
  double accept_seconds = 0;  // Time of choosing tokens and accepting drafts.
  double commit_seconds = 0;  // Time of moving what was accepted.
  double round_seconds = 0;   // Time of the whole round.
  DeviceCounters device;      // Work on a device; set by the scheduler.

  // A round without drafts.
  static RoundReport Of(int width, double engine_seconds, double round_seconds) {
    RoundReport report;
    report.width = width;
    report.engine_seconds = engine_seconds;
    report.round_seconds = round_seconds;
    return report;
  }
};

// Used by one thread at a time. In steady state a round allocates nothing.
class DecodeLoop {
 public:
  virtual ~DecodeLoop() = default;

  // Whether prompts are read before any text is written; otherwise every round is a decode round.
  virtual bool has_prefill() const = 0;
  // Most draft tokens of a row in a round.
  virtual int max_drafts() const { return 0; }
  // Why no round has drafts, whatever the text; null if rounds may have some, or never do.
  virtual const char* idle_reason() const { return nullptr; }
  // Starts a request in a session that holds its prompt.
  virtual void Start(const Session& session, const Request& request) = 0;
  // Runs one round for the sessions of `turns`; other sessions are unchanged.
  virtual RoundReport Round(std::span<Turn> turns) = 0;

  // Called when the session was emptied.
  virtual void Begin(const Session& session) = 0;
  // Called when the session's text was shortened. May uncommit tokens that are no longer held.
  virtual void Rewind(Session& session) = 0;
  // Called when `to`, which was empty, became a copy of `from`.
  virtual void Fork(const Session& from, Session& to) = 0;
  // Called when no session holds any text: memory that grew may shrink.
  virtual void Clear() = 0;

  // Seconds of each run; all rows are empty. Throws a usage error for a shape outside the plan.
  virtual std::vector<double> Measure(const EngineRuns& runs) = 0;
};

// A loop that keeps nothing between requests.
class WholeTextLoop : public DecodeLoop {
 public:
  bool has_prefill() const override { return false; }
  void Start(const Session&, const Request&) override {}
  void Begin(const Session&) override {}
  void Rewind(Session&) override {}
  void Fork(const Session&, Session&) override {}
  void Clear() override {}
};

}  // namespace ptgc
