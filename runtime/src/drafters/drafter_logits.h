// Reading the logits that a drafter's model gives after a draft.
#pragma once

#include "base/error.h"
#include "drafters/drafter.h"
#include "sampling/counted_path.h"
#include "sampling/row_sampling.h"
#include "sampling/sampler.h"

namespace ptgc {

// Lets `read`, Sampler::Read or Sampler::ReadDistribution, take the logits after a node of `path`,
// whose drafts count as text. Throws if they are not numbers.
inline void ReadDrafterLogits(Sampler& sampler, decltype(&Sampler::Read) read, const DraftRow& row,
                              const Proposal& path, int node, const LogitsRow& logits) {
  const CountedPath counted(row.sampling->counts(), path, node);
  if ((sampler.*read)(logits, row.sampling->options(), row.sampling->counts())) return;
  throw Error(ErrorCode::kBackend, "The drafter's logits are not numbers.",
              "Find out with `ptgc check` which stage is damaged.");
}

}  // namespace ptgc
