// Drafter: proposes tokens for the target to verify.
#pragma once

#include <exception>
#include <limits>
#include <span>
#include <vector>

#include "base/token.h"
#include "bundle/plan.h"
#include "engines/engine.h"
#include "sampling/draft_probabilities.h"
#include "sampling/proposal.h"

namespace ptgc {

class RowSampling;

// The request for drafts for one sequence.
struct DraftRow {
  int row = 0;                          // Index in the batch.
  std::span<const TokenId> text;        // Prompt and text to continue.
  int committed = 0;                    // Leading tokens in the target's cache.
  int limit = 0;                        // Most draft tokens.
  Proposal* proposal = nullptr;         // Receives the drafts.
  RowSampling* sampling = nullptr;      // How tokens are chosen.
  std::exception_ptr* error = nullptr;  // Receives failures of this row alone.
  int part = 0;                         // Of merged drafters: the one that is asked.
  int guesses = 0;  // How many of the first drafts are guesses of what the target chooses itself.
};

// What was drafted for a row beside a run of the target.
struct AheadDrafts {
  int made = 0;          // Drafts of the next round that were made during this one.
  bool is_used = false;  // Whether this round's drafts were made during the one before.
};

// Hidden states of the target's last run for one sequence: of the text tokens that it read,
// followed by those of the drafts.
class Taps {
 public:
  virtual ~Taps() = default;
  // Copies the states of `count` of these tokens to an address in the memory of the target's
  // engine.
  virtual void Copy(int first, int count, void* to) const = 0;
};

// The outcome of a run of the target for one row.
struct Observation {
  const Taps* taps = nullptr;          // Hidden states of all tokens of the run.
  std::size_t committed = 0;           // Text tokens in the target's cache before the run.
  std::span<const TokenId> read = {};  // Text tokens of the run; drafts follow the last one.
  const Proposal* proposal = nullptr;  // The drafts, if there were any.
  // The target's likeliest token after the root and after each draft: [1 + drafts] or more. Empty
  // while a prompt is being read.
  std::span<const TokenId> answers = {};
  // The target's likeliest tokens after each token of the run, likeliest first: [tokens, the plan's
  // num_top_ids]. Empty if the plan asks for none.
  std::span<const TokenId> top_ids = {};
  std::span<const int> path = {};  // Accepted nodes, from the root's child down.
  TokenId bonus = kNoToken;  // The target's token after them; kNoToken while a prompt is read.

  // The index of a node among the tokens of the run; the root is the last text token.
  int Place(int node) const { return static_cast<int>(read.size()) - 1 + node; }
};

// Makes drafts for all sequences of a batch. In steady state it must not allocate. A round calls
// Propose, Draft and Observe.
class Drafter {
 public:
  virtual ~Drafter() = default;
  // A new text starts in this row; state of the previous one is dropped.
  virtual void Begin(int row) = 0;
  // The row's text was cut to its first `length` tokens.
  virtual void Truncate(int row, int length) = 0;
  // Copies one row's text to another row.
  virtual void CopyRow(int from, int to) = 0;
  // No row has any text: memory that grew may shrink.
  virtual void Clear() {}

  // How many drafts this row will get, at most `limit`: the first nodes of the plan's tree. A
  // drafter that costs nothing fills the proposal here, optionally with its own tree; one that runs
  // a model waits for Draft.
  virtual int Propose(const DraftRow& row) = 0;
  // Fills the proposals of these rows up to their limits, which may be lower than what Propose
  // offered. If is_pending is true afterwards, only their sizes are final until Collect.
  virtual void Draft(std::span<const DraftRow> rows) = 0;
  // Whether the last drafts are still being computed, so that the host does not have them yet.
  virtual bool is_pending() const { return false; }
  // Waits for pending drafts, if there are any, and writes them into the proposals of the last
  // Draft.
  virtual void Collect(std::span<const DraftRow> /*rows*/) {}
  // Pending drafts for an engine to read: a port of [batch, 1] for each.
  virtual std::vector<Tensor> PendingIds() const { return {}; }

  // Whether it may draft while the target runs; the next four are called only then.
  virtual bool drafts_ahead() const { return false; }
  // The target is about to verify the proposals of these rows, those of the last Draft. Starts to
  // draft up to `limit` tokens behind each, as if all of it were accepted, and returns; the first
  // of them stands for the token that the target adds. Until FinishAhead or DropAhead, what the
  // rows refer to must not change.
  virtual void DraftAhead(std::span<const DraftRow> /*rows*/) {}
  // Waits for these drafts; throws what making them threw.
  virtual void FinishAhead() {}
  // Waits for them where the round has failed.
  virtual void DropAhead() noexcept {}
  // What this round's DraftAhead and Draft did for a row.
  virtual AheadDrafts ahead(int /*row*/) const { return {}; }
  // How many tokens after a text of this length it can read without dropping what the text sees.
  virtual int Room(int /*length*/) const { return std::numeric_limits<int>::max(); }

  // Called with the outcome of every run of the target for a row, also while prompts are read.
  virtual void Observe(int /*row*/, const Observation& /*seen*/) {}

  // Why it drafts nothing, whatever the text; null if it does.
  virtual const char* idle_reason() const { return nullptr; }

  // Expected seconds of drafting `count` tokens that Propose did not fill in; 0 if it costs
  // nothing.
  virtual double Cost(int count) const = 0;
  // Expected seconds of reading tokens that the row's text gained without drafts, beyond what Cost
  // includes. The first reading of a text is prefill and does not count.
  virtual double CatchUp(const DraftRow& /*row*/) const { return 0; }
  // Expected seconds of the last Draft by the same costs, including catching up.
  virtual double spent() const { return 0; }
  // Time inside engines during the last Draft and Collect.
  virtual double engine_seconds() const { return 0; }
  // Seconds of bare runs of one of its own roles; empty if it has no such role or shape.
  virtual std::vector<double> Measure(const EngineRuns& /*runs*/) { return {}; }

  // The probability that each of a row's last drafts is accepted with all before it on its path, if
  // the drafter knows better than what earlier rounds have shown; empty if not.
  virtual std::span<const double> Gains(int /*row*/) const { return {}; }
  // The distributions that the last `count` drafts of a row were drawn from; empty if they are all
  // certain.
  virtual DraftProbabilities Probabilities(int /*row*/, int /*count*/) const { return {}; }
};

}  // namespace ptgc
