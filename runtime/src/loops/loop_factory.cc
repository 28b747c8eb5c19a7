#include "loops/loop_factory.h"

#include <string>
#include <utility>

#include "base/error.h"
#include "base/processors.h"
#include "bundle/tree_part.h"
#include "drafters/cost_curve.h"
#include "drafters/drafter_seat.h"
#include "drafters/registry.h"
#include "loops/canvas_loop.h"
#include "loops/edit_loop.h"
#include "loops/one_shot_loop.h"
#include "loops/speculative_loop.h"
#include "models/causal_model.h"
#include "models/denoiser.h"
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

// The plan with the changes that the options make.
DecodePlan ChangedPlan(const DecodePlan& plan, const LoadOptions& options) {
  DecodePlan changed = plan;
  if (options.acceptance.has_value()) changed.SetAcceptance(*options.acceptance);
  if (changed.acceptance == AcceptanceRule::kBlock && !plan.tree.is_chain()) {
    throw Error(ErrorCode::kUsage,
                "The acceptance rule 'block' takes chains; this bundle drafts trees.",
                "Choose 'speculative', or leave the rule as it was exported.");
  }
  return changed;
}

// Drafter and target have so many threads each. As long as the target has all processors to itself,
// nothing is gained by drafting beside it.
bool PaysToOverlap(const LoadOptions& options) {
  const int left = AvailableProcessors() - options.num_threads;
  if (options.num_threads == 0 || left <= 0) return false;
  return options.tuned_overlap.value_or(left >= options.num_threads);
}

// Whether drafts are made while the target verifies. A device runs one engine after the other.
bool Overlaps(const Bundle& bundle, const DecodePlan& plan, const LoadOptions& options) {
  const bool planned = plan.drafter.Parts().back().parameters->overlap;
  const bool can = planned && bundle.device == "cpu";
  if (options.overlap == true && !can) {
    throw Error(ErrorCode::kUsage,
                planned ? "overlap is asked for; builds for '" + bundle.device +
                              "' run drafter and target one after the other."
                        : "overlap is asked for; this bundle was exported without it.",
                planned ? "Load a build for the cpu, or leave it out."
                        : "Export again with --overlap, or leave it out.");
  }
  return can && options.overlap.value_or(PaysToOverlap(options));
}

// The tree that drafts fill: that of the options, which must be a part of the plan's, or the
// plan's.
TreeSpec DraftedTree(const DecodePlan& plan, const LoadOptions& options) {
  if (!options.tree.has_value()) return plan.tree;
  if (const std::string problem = TreePartProblem(plan, *options.tree); !problem.empty()) {
    throw Error(ErrorCode::kUsage, "The tree that was given " + problem,
                "Give a part of the tree that the bundle was exported with, or export again.");
  }
  return TreeSpec(*options.tree);
}

// Throws a usage error if a datastore was given that nothing would read.
void CheckDatastore(const DecodePlan& plan, const LoadOptions& options) {
  if (options.datastore.empty()) return;
  for (const DrafterPlan& part : plan.drafter.Parts()) {
    if (part.kind == "datastore") return;
  }
  throw Error(ErrorCode::kUsage,
              "A datastore was given; the strategy '" + plan.strategy +
                  "' of this bundle does not read one.",
              "Leave it out, or export with --strategy datastore or --lookup datastore.");
}

AcceptanceRates MeasuredRates(const LoadOptions& options) {
  const int num_drafts = static_cast<int>(options.gains.size());
  return {options.tree ? TreeSpec(*options.tree) : TreeSpec::Chain(num_drafts), options.gains};
}

CostCurve TargetCosts(const ShapePlan& shapes, const LoadOptions& options) {
  const auto measured = options.costs.find("target");
  return CostCurve(shapes.roles.at("target").widths,
                   measured == options.costs.end() ? Costs() : measured->second);
}

std::unique_ptr<DecodeLoop> MakeSpeculativeLoop(const Bundle& bundle, Engines engines,
                                                const LoadOptions& options,
                                                std::span<Session* const> sessions) {
  const Role& target = bundle.roles.at("target");
  const DecodePlan plan = ChangedPlan(bundle.plan, options);
  DecodePlan drafted = plan;
  drafted.tree = DraftedTree(plan, options);
  const int num_draft_tokens = NumDraftTokens(plan, options.num_draft_tokens);
  const std::map<std::string, std::shared_ptr<KVCache>> caches = MakeCaches(bundle, engines);
  std::unique_ptr<Encoder> encoder;
  if (bundle.roles.contains("encoder")) {
    encoder =
        std::make_unique<Encoder>(std::move(engines.at("encoder")),
                                  CrossStates(target.cross_states, bundle.shapes), bundle.shapes);
  }
  DrafterSeat seat{bundle,
                   drafted,
                   options,
                   engines,
                   caches,
                   num_draft_tokens,
                   TargetCosts(bundle.shapes, options),
                   Overlaps(bundle, plan, options) && num_draft_tokens > 0};
  std::unique_ptr<Drafter> drafter = FindDrafterKind(plan.drafter.kind)->make(seat);
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
      std::move(drafted.tree),
      bundle.shapes.roles.at("target"),
      DraftLength(options.draft_length, std::move(seat.target_costs)),
      MeasuredRates(options),
      num_draft_tokens,
      bundle.shapes.max_length,
  };
  return std::make_unique<SpeculativeLoop>(std::move(parts), sessions);
}

std::unique_ptr<Denoiser> MakeDenoiser(const Bundle& bundle, Engines& engines) {
  std::shared_ptr<KVCache> cache;
  const auto role = bundle.roles.find("denoiser");
  if (role != bundle.roles.end() && !role->second.states.empty()) {
    cache = MakeCaches(bundle, engines).at("denoiser");
  }
  return std::make_unique<Denoiser>(std::move(engines.at("denoiser")), bundle, std::move(cache));
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
  CheckDatastore(bundle.plan, options);
  switch (bundle.plan.loop) {
    case LoopKind::kSpeculative:
      return MakeSpeculativeLoop(bundle, std::move(engines), options, sessions);
    case LoopKind::kCanvas:
      return std::make_unique<CanvasLoop>(MakeDenoiser(bundle, engines), bundle.plan.canvas,
                                          bundle.shapes.max_length, sessions);
    case LoopKind::kEdit: {
      std::unique_ptr<Encoder> encoder;
      if (bundle.roles.contains("encoder")) encoder = MakeReader(bundle, engines);
      return std::make_unique<EditLoop>(std::move(encoder), std::move(engines), bundle.plan.edit,
                                        bundle.shapes);
    }
    case LoopKind::kOneShot:
      return std::make_unique<OneShotLoop>(MakeReader(bundle, engines),
                                           std::move(engines.at("decoder")), bundle.plan.one_shot,
                                           bundle.shapes);
  }
  throw Error(ErrorCode::kInternal, "A loop is not made.");
}

}  // namespace ptgc
