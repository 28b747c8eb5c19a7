#include "drafters/draft_model.h"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bundle/json_document.h"
#include "drafters/model_drafter.h"
#include "drafters/overlapped_drafter.h"
#include "drafters/reencoded_drafter.h"
#include "models/causal_model.h"

namespace ptgc {
namespace {

// Assumed cost of a drafter's round, in rounds of the target, until it is measured.
constexpr double kAssumedCost = 0.2;

}  // namespace

CostCurve DrafterCosts(const DrafterSeat& seat) {
  const std::vector<int>& widths = seat.bundle.shapes.roles.at("drafter").widths;
  const auto measured = seat.options.costs.find("drafter");
  if (measured != seat.options.costs.end()) return {widths, measured->second};
  Costs assumed;
  for (int width : widths) assumed[width] = seat.target_costs.AtLeast(width) * kAssumedCost;
  return {widths, assumed};
}

void ReadDraftModel(const Fields& data, DrafterPlan& plan) {
  auto parameters = std::make_shared<DraftModelParameters>();
  parameters->vocabulary = data.Choice<DrafterVocabulary>("vocabulary", DrafterVocabulary::kShared);
  parameters->overlap = data.Flag("overlap", false);
  if (parameters->overlap && parameters->vocabulary != DrafterVocabulary::kShared) {
    data.Add("overlap", " needs drafts of the target's vocabulary.");
  }
  plan.parameters = std::move(parameters);
}

std::string DraftModelParameters::Misfit(int /*num_draft_tokens*/, const TreeSpec& tree) const {
  return overlap && !tree.is_chain() ? ".overlap takes chains, and plan.tree is none." : "";
}

void ReadLayerSkip(const Fields& data, DrafterPlan& plan) {
  const std::vector<std::vector<std::int64_t>> subsets =
      data.IntegerLists("layers", {0, limits::kStates - 1}, limits::kAlternatives, limits::kStates);
  if (subsets.empty()) data.Add("layers", " must have an entry.");
  for (std::size_t i = 0; i < subsets.size(); ++i) {
    const std::vector<std::int64_t>& layers = subsets[i];
    const std::string name = "layers[" + std::to_string(i) + "]";
    if (layers.empty()) data.Add(name, " must have an entry.");
    if (std::ranges::adjacent_find(layers, std::greater_equal()) != layers.end()) {
      data.Add(name, " must ascend.");
    }
    const auto before = subsets.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(subsets.begin(), before, layers) != before) {
      data.Add(name, " are those of an earlier entry.");
    }
  }
  auto parameters = std::make_shared<DraftModelParameters>();
  parameters->num_alternatives = std::max(static_cast<int>(subsets.size()), 1);
  plan.parameters = std::move(parameters);
}

void ReadEagle(const Fields& /*data*/, DrafterPlan& plan) {
  plan.parameters = std::make_shared<DraftModelParameters>();
}

std::unique_ptr<Drafter> MakeDraftModel(DrafterSeat& seat) {
  const Bundle& bundle = seat.bundle;
  const Role& role = bundle.roles.at("drafter");
  const std::int64_t vocab_size = bundle.model.vocab_size;
  const bool shared =
      seat.plan.drafter.Own<DraftModelParameters>().vocabulary == DrafterVocabulary::kShared;
  TreeSpec tree = seat.plan.tree;
  tree.Truncate(seat.max_drafts + 1);
  if (seat.overlap) tree = TreeSpec::Chain(seat.max_drafts + 1);  // And a guess of the bonus.
  CausalNeighbours chain;
  chain.chain_length = std::max(tree.height(), 1);
  const bool shares_cache = std::any_of(role.states.begin(), role.states.end(),
                                        [](const LayerState& state) { return state.shared_with; });
  auto model =
      std::make_unique<CausalModel>(std::move(seat.engines.at("drafter")), bundle, "drafter",
                                    role.vocab_size, std::move(chain), seat.caches.at("drafter"));
  const std::int64_t context = role.context_length.value_or(bundle.model.context_length);
  auto drafter = std::make_unique<ModelDrafter>(
      std::move(model), shares_cache, context, shared ? vocab_size : role.vocab_size,
      std::move(tree), shared && seat.plan.has_dynamic_tree,
      shared ? seat.plan.acceptance : AcceptanceRule::kMatch, DrafterCosts(seat));
  if (seat.overlap) {
    return std::make_unique<OverlappedDrafter>(
        std::move(drafter), seat.max_drafts + 1, bundle.shapes.batch, bundle.shapes.max_length,
        seat.plan.acceptance, std::min(role.vocab_size, vocab_size));
  }
  if (shared) return drafter;
  const Reencoding& reencoding = seat.options.reencoding;
  if (reencoding.to_drafter == nullptr || reencoding.to_target == nullptr) {
    throw Error(ErrorCode::kUsage,
                "The drafter of this bundle has a tokenizer of its own; its drafts are encoded "
                "again, for which this caller has no tokenizers.",
                "Load the bundle from Python, or export again with a drafter of the same "
                "vocabulary.");
  }
  return std::make_unique<ReencodedDrafter>(std::move(drafter), bundle.shapes.batch,
                                            seat.max_drafts, vocab_size, reencoding);
}

}  // namespace ptgc
