// Drafter: proposes tokens for the target to verify.
#pragma once

#include <exception>
#include <span>
#include <vector>

#include "base/token.h"
#include "bundle/plan.h"
#include "engines/engine.h"
#include "sampling/draft_probabilities.h"
#include "sampling/proposal.h"

namespace ptgc {

class CausalModel;
class RowSampling;

// What one sequence wants drafted.
struct DraftRow {
  int row = 0;                          // Its place in the batch.
  std::span<const TokenId> text;        // Prompt and text, whose continuation is wanted.
  int limit = 0;                        // Draft tokens at most.
  Proposal* proposal = nullptr;         // Where they go.
  RowSampling* sampling = nullptr;      // How tokens are chosen.
  std::exception_ptr* error = nullptr;  // Where a failure that concerns this row alone goes.
};

// Drafts for all sequences of a batch. In steady state it must not allocate.
class Drafter {
 public:
  virtual ~Drafter() = default;
  // A new text starts in this row; what was kept of the last one is dropped.
  virtual void Begin(int row) = 0;
  // The row's text has only `length` tokens any more.
  virtual void Truncate(int row, int length) = 0;
  // One row's text becomes another's.
  virtual void CopyRow(int from, int to) = 0;
  // How many tokens there will be to verify for this row, at most `limit`. A drafter that costs
  // nothing fills the proposal here; one that runs a model waits for Draft.
  virtual int Offer(const DraftRow& row) = 0;
  // Fills the proposals of rows that were offered, up to their limits, which are smaller now.
  // Where is_pending says so afterwards, only their sizes are final, until Collect.
  virtual void Draft(std::span<const DraftRow> rows) = 0;
  // Whether the drafts are chosen, or will be, without anybody having seen them yet.
  virtual bool is_pending() const { return false; }
  // Waits for what is pending, if anything is, and writes it into the proposals of the last Draft.
  virtual void Collect(std::span<const DraftRow> /*rows*/) {}
  // Where an engine may take pending drafts from: a port of [batch, 1] for each.
  virtual std::vector<Tensor> PendingIds() const { return {}; }
  // Hears how many nodes of its proposal were kept.
  virtual void Accept(int row, int accepted) = 0;
  // Expected seconds of drafting `count` tokens; 0 where it costs nothing.
  virtual double Cost(int count) const = 0;
  // Expected seconds of reading what the row's text has gained while there were no drafts, beyond
  // what Cost includes; the first reading of a text is prefill and does not count.
  virtual double CatchUp(const DraftRow& /*row*/) const { return 0; }
  // What the last Draft should have taken by the same costs, catching up included.
  virtual double spent() const { return 0; }
  // What the last `count` drafts of a row were drawn from; empty where it is certain of them.
  virtual DraftProbabilities Probabilities(int /*row*/, int /*count*/) const { return {}; }
  // The model that it runs, where it runs one.
  virtual CausalModel* model() { return nullptr; }
  // Time inside engines during the last Draft and Collect.
  virtual double engine_seconds() const { return 0; }
};

}  // namespace ptgc
