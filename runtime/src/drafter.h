// Drafter: proposes tokens for the target to verify.
#pragma once

#include <memory>
#include <span>

#include "plan.h"
#include "proposal.h"
#include "token.h"

namespace ptgc {

// One per sequence. Drafting must be deterministic and must not allocate.
class Drafter {
 public:
  virtual ~Drafter() = default;
  // A new text starts; what was kept of the last one is dropped.
  virtual void Begin() = 0;
  // Appends up to `limit` draft tokens that may follow `text` to an empty proposal.
  virtual void Draft(std::span<const TokenId> text, int limit, Proposal& proposal) = 0;
  // Hears which nodes of its proposal were kept.
  virtual void Accept(std::span<const int> path) = 0;
};

// The drafter of a plan; null where the plan has none.
std::unique_ptr<Drafter> MakeDrafter(const DrafterPlan& plan);

}  // namespace ptgc
