// The drafter kind "model": a smaller causal language model with the target's vocabulary or its
// own.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "base/names.h"
#include "bundle/plan.h"
#include "drafters/drafter.h"
#include "drafters/drafter_seat.h"

namespace ptgc {

class Fields;

inline constexpr std::array<std::string_view, 1> kDraftModelRoles = {"drafter"};

// The plan's parameters of it.
struct DraftModelParameters : DrafterParameters {
  DrafterVocabulary vocabulary = DrafterVocabulary::kShared;  // Shared or its own.

  std::string Misfit(int num_draft_tokens, const TreeSpec& tree) const override;
};

void ReadDraftModel(const Fields& data, DrafterPlan& plan);
// Reads the kind "layer-skip": some of the target's own layers.
void ReadLayerSkip(const Fields& data, DrafterPlan& plan);
// A drafter that reads hidden states of the target has no fields of its own.
void ReadEagle(const Fields& data, DrafterPlan& plan);
// Costs of the rounds of the role "drafter", as measured or as a share of the target's.
CostCurve DrafterCosts(const DrafterSeat& seat);
// Throws a usage error if drafts must be encoded again and the caller has no tokenizers.
std::unique_ptr<Drafter> MakeDraftModel(DrafterSeat& seat);

}  // namespace ptgc
