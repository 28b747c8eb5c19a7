// LookupDrafter: the base of drafters that run no model.
#pragma once

#include <span>

#include "drafters/drafter.h"

namespace ptgc {

// Fills proposals in Propose, at a negligible cost. It keeps nothing of a text, unless a drafter
// says otherwise.
class LookupDrafter : public Drafter {
 public:
  void Begin(int /*row*/) override {}
  void Truncate(int /*row*/, int /*length*/) override {}
  void CopyRow(int /*from*/, int /*to*/) override {}
  // Fewer drafts may be taken than were proposed.
  void Draft(std::span<const DraftRow> rows) override {
    for (const DraftRow& row : rows) row.proposal->Truncate(row.limit);
  }
  double Cost(int /*count*/) const override { return 0; }
};

}  // namespace ptgc
