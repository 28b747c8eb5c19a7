#include "loops/loop_factory.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "drafters/cost_curve.h"
#include "drafters/model_drafter.h"
#include "drafters/ngram_drafter.h"
#include "drafters/reencoded_drafter.h"
#include "loops/canvas_loop.h"
#include "loops/edit_loop.h"
#include "loops/one_shot_loop.h"
#include "loops/speculative_loop.h"
#include "models/causal_model.h"
#include "models/encoder.h"
#include "models/role_caches.h"

namespace ptgc {
namespace {

int NumDraftTokens(const DecodePlan& plan, int wanted) {
  const int most = plan.drafter.num_draft_tokens;
  if (wanted <= most) return wanted < 0 ? most : wanted;
  throw Error(ErrorCode::kUsage,
              "num_draft_tokens is " + std::to_string(wanted) + "; this bundle was exported for " +
                  std::to_string(most) + ".",
              "Choose at most that, or export again with more.");
}

// The plan as the options change it.
DecodePlan ChangedPlan(const DecodePlan& plan, const LoadOptions& options) {
  DecodePlan changed = plan;
  if (options.acceptance.has_value()) changed.acceptance = *options.acceptance;
  if (options.ngram_match.has_value()) changed.drafter.ngram_match = *options.ngram_match;
  if (changed.acceptance == AcceptanceRule::kSpeculative && !plan.tree.is_chain()) {
    throw Error(ErrorCode::kUsage,
                "The acceptance rule 'speculative' takes chains; this bundle drafts trees.",
                "Leave the rule as it was exported.");
  }
  return changed;
}

// What a drafter is taken to cost, in rounds of the target, until it is measured.
constexpr double kAssumedDrafterCost = 0.2;

CostCurve TargetCosts(const ShapePlan& shapes, const LoadOptions& options) {
  const auto measured = options.costs.find("target");
  return CostCurve(shapes.roles.at("target").widths,
                   measured == options.costs.end() ? Costs() : measured->second);
}

CostCurve DrafterCosts(const ShapePlan& shapes, const LoadOptions& options) {
  const std::vector<int>& widths = shapes.roles.at("drafter").widths;
  const auto measured = options.costs.find("drafter");
  if (measured != options.costs.end()) return CostCurve(widths, measured->second);
  const CostCurve target = TargetCosts(shapes, options);
  Costs assumed;
  for (int width : widths) assumed[width] = target.AtLeast(width) * kAssumedDrafterCost;
  return CostCurve(widths, assumed);
}

std::unique_ptr<Drafter> MakeModelDrafter(const Bundle& bundle, Engines& engines,
                                          std::shared_ptr<KVCache> cache, const DecodePlan& plan,
                                          int max_drafts, const LoadOptions& options) {
  const Role& role = bundle.roles.at("drafter");
  for (const LayerState& state : role.states) {
    if (!state.shared_with.has_value()) continue;
    // It reads texts by itself, later than the target, and would write over what that holds.
    throw Error(ErrorCode::kBundle,
                "The draft model of this bundle shares the cache of '" + state.shared_with->role +
                    "'; this drafter has a cache of its own.",
                "Export the bundle again.");
  }
  const std::int64_t vocab_size = bundle.model.vocab_size;
  const bool shared = plan.drafter.vocabulary == DrafterVocabulary::kShared;
  CausalNeighbours chain;
  TreeSpec tree = plan.tree;
  tree.Truncate(max_drafts + 1);
  chain.chain_length = std::max(tree.height(), 1);
  auto model = std::make_unique<CausalModel>(std::move(engines.at("drafter")), bundle, "drafter",
                                             role.vocab_size, std::move(chain), std::move(cache));
  const std::int64_t context = role.context_length.value_or(bundle.model.context_length);
  auto drafter = std::make_unique<ModelDrafter>(
      std::move(model), context, shared ? vocab_size : role.vocab_size, tree,
      shared ? plan.acceptance : AcceptanceRule::kMatch, DrafterCosts(bundle.shapes, options));
  if (shared) return drafter;
  if (options.reencoding.to_drafter == nullptr || options.reencoding.to_target == nullptr) {
    throw Error(ErrorCode::kUsage,
                "The drafter of this bundle has a tokenizer of its own; its drafts are encoded "
                "again, for which this caller has no tokenizers.",
                "Load the bundle from Python, or export again with a drafter of the same "
                "vocabulary.");
  }
  return std::make_unique<ReencodedDrafter>(std::move(drafter), bundle.shapes.batch, max_drafts,
                                            vocab_size, options.reencoding);
}

std::unique_ptr<DecodeLoop> MakeSpeculativeLoop(const Bundle& bundle, Engines engines,
                                                const LoadOptions& options,
                                                std::span<Session* const> sessions) {
  const Role& target = bundle.roles.at("target");
  const DecodePlan plan = ChangedPlan(bundle.plan, options);
  const int num_draft_tokens = NumDraftTokens(plan, options.num_draft_tokens);
  const std::map<std::string, std::shared_ptr<KVCache>> caches = MakeCaches(bundle, engines);
  std::unique_ptr<Encoder> encoder;
  if (bundle.roles.contains("encoder")) {
    encoder =
        std::make_unique<Encoder>(std::move(engines.at("encoder")),
                                  CrossStates(target.cross_states, bundle.shapes), bundle.shapes);
  }
  std::unique_ptr<Drafter> drafter;
  if (plan.drafter.kind == DrafterKind::kNgram) {
    drafter = std::make_unique<NgramDrafter>(plan.drafter);
  } else if (plan.drafter.kind == DrafterKind::kModel) {
    drafter =
        MakeModelDrafter(bundle, engines, caches.at("drafter"), plan, num_draft_tokens, options);
  }
  CausalNeighbours neighbours;
  if (encoder != nullptr) neighbours.fixed_inputs = encoder->Ports();
  if (drafter != nullptr) neighbours.draft_ids = drafter->PendingIds();
  auto model = std::make_unique<CausalModel>(std::move(engines.at("target")), bundle, "target",
                                             bundle.model.vocab_size, std::move(neighbours),
                                             caches.at("target"));
  SpeculativeParts parts{
      std::move(encoder),
      std::move(drafter),
      std::move(model),
      plan,
      bundle.shapes.roles.at("target"),
      DraftLength(options.draft_length, TargetCosts(bundle.shapes, options)),
      num_draft_tokens,
      bundle.shapes.max_length,
  };
  return std::make_unique<SpeculativeLoop>(std::move(parts), sessions);
}

std::unique_ptr<Encoder> MakeReader(const Bundle& bundle, Engines& engines) {
  return std::make_unique<Encoder>(std::move(engines.at("encoder")),
                                   HiddenStates(bundle.roles.at("encoder"), bundle.shapes),
                                   bundle.shapes);
}

}  // namespace

std::unique_ptr<DecodeLoop> MakeLoop(const Bundle& bundle, Engines engines,
                                     const LoadOptions& options,
                                     std::span<Session* const> sessions) {
  switch (bundle.plan.loop) {
    case LoopKind::kSpeculative:
      return MakeSpeculativeLoop(bundle, std::move(engines), options, sessions);
    case LoopKind::kCanvas:
      return std::make_unique<CanvasLoop>(std::move(engines.at("denoiser")), bundle.plan.canvas,
                                          bundle.shapes, sessions);
    case LoopKind::kEdit: {
      EditEngines operations{std::move(engines.at("deleter")), std::move(engines.at("inserter")),
                             std::move(engines.at("filler"))};
      return std::make_unique<EditLoop>(MakeReader(bundle, engines), std::move(operations),
                                        bundle.plan.edit, bundle.shapes);
    }
    case LoopKind::kOneShot:
      return std::make_unique<OneShotLoop>(MakeReader(bundle, engines),
                                           std::move(engines.at("decoder")), bundle.plan.one_shot,
                                           bundle.shapes);
  }
  throw Error(ErrorCode::kInternal, "A loop is not made.");
}

}  // namespace ptgc
