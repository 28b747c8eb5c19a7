#include "drafters/registry.h"

#include <algorithm>
#include <array>

#include "bundle/json_document.h"
#include "drafters/block_drafter.h"
#include "drafters/datastore_drafter.h"
#include "drafters/draft_model.h"
#include "drafters/drafter.h"
#include "drafters/heads_drafter.h"
#include "drafters/jacobi_drafter.h"
#include "drafters/lookahead_drafter.h"
#include "drafters/merged_drafter.h"
#include "drafters/ngram_drafter.h"
#include "drafters/recycling_drafter.h"
#include "drafters/suffix_drafter.h"

namespace ptgc {
namespace {

constexpr auto kKinds = std::to_array<DrafterKind>({
    {"none", [](const Fields&, DrafterPlan&) {},
     [](DrafterSeat&) -> std::unique_ptr<Drafter> { return nullptr; }},
    {"ngram", &ReadNgram, &MakeNgram},
    {"suffix", &ReadSuffix, &MakeSuffix},
    {"datastore", &ReadDatastore, &MakeDatastore},
    {"recycling", &ReadRecycling, &MakeRecycling},
    {"jacobi", &ReadJacobi, &MakeJacobi},
    {"lookahead", &ReadLookahead, &MakeLookahead},
    {"model", &ReadDraftModel, &MakeDraftModel, kDraftModelRoles, false, false, true},
    {"layer-skip", &ReadLayerSkip, &MakeDraftModel, kDraftModelRoles},
    {"pard", &ReadBlock, &MakeBlock, kDraftModelRoles, false, true, true},
    {"heads", [](const Fields&, DrafterPlan&) {}, &MakeHeads, kHeadsRoles, true},
    {"eagle", &ReadEagle, &MakeDraftModel, kDraftModelRoles, true, false, true},
    {"block", &ReadBlock, &MakeBlock, kDraftModelRoles, true, true, true},
    {"layers", &ReadLayers, &MakeBlock, kDraftModelRoles, true, true, true},
    {"merged", &ReadMerged, &MakeMerged},
});

}  // namespace

std::span<const DrafterKind> DrafterKinds() { return kKinds; }

const DrafterKind* FindDrafterKind(std::string_view name) {
  const auto found = std::find_if(kKinds.begin(), kKinds.end(),
                                  [&](const DrafterKind& kind) { return kind.name == name; });
  return found == kKinds.end() ? nullptr : &*found;
}

const DrafterKind& LearnedKind(const DrafterPlan& plan) {
  return *FindDrafterKind(plan.Parts().back().kind);
}

std::vector<std::string> RolesOf(const DrafterPlan& plan) {
  const std::span<const std::string_view> own = LearnedKind(plan).roles;
  std::vector<std::string> roles(own.begin(), own.end());
  for (int number = 2; number <= plan.Parts().back().parameters->num_alternatives; ++number) {
    roles.push_back(roles.front() + "_" + std::to_string(number));
  }
  return roles;
}

}  // namespace ptgc
