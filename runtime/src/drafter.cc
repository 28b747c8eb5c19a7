#include "drafter.h"

#include "ngram_drafter.h"

namespace ptgc {

std::unique_ptr<Drafter> MakeDrafter(const DrafterPlan& plan) {
  if (plan.kind == DrafterKind::kNone) return nullptr;
  return std::make_unique<NgramDrafter>(plan.min_ngram_size, plan.max_ngram_size);
}

}  // namespace ptgc
