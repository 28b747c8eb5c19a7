#include <gtest/gtest.h>

#include "base/error.h"
#include "function_engine.h"
#include "loops/loop_factory.h"
#include "substitute_engine.h"

namespace ptgc {
namespace {

struct Fixture {
  std::unique_ptr<DecodeLoop> Make(const Bundle& bundle, Engines engines,
                                   const LoadOptions& options = {}) {
    const SessionLimits limits{128, 128, kVocabSize};
    session = std::make_unique<Session>(0, limits);
    Session* const sessions[] = {session.get()};
    return MakeLoop(bundle, std::move(engines), options, sessions);
  }
  ErrorCode Refusal(const Bundle& bundle, const LoadOptions& options) {
    try {
      Make(bundle, SubstituteEngines(seen, &drafter_seen), options);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  }
  Observations seen;
  Observations drafter_seen;
  std::unique_ptr<Session> session;
};

// It writes drafts where the target has text.
Bundle BundleFor(LoopKind loop) {
  Bundle bundle = SubstituteBundle(1, {});
  bundle.plan.loop = loop;
  bundle.plan.edit.operations = {"deleter", "inserter", "filler"};
  for (const char* role : {"encoder", "decoder", "denoiser", "deleter", "inserter", "filler"}) {
    bundle.shapes.roles[role].canvas_lengths = {8};
    bundle.shapes.roles[role].source_lengths = {8};
  }
  bundle.roles["encoder"].outputs = {{"encoder_hidden_states", DType::kFloat32, 1}};
  return bundle;
}

TEST(LoopFactory, MakesTheLoopOfThePlan) {
  Fixture fixture;
  const auto idle = [] { return MakeEngine([](const BoundPorts&) {}); };
  Engines canvas;
  canvas["denoiser"] = idle();
  EXPECT_FALSE(fixture.Make(BundleFor(LoopKind::kCanvas), std::move(canvas))->has_prefill());
  Engines one_shot;
  for (const char* role : {"encoder", "decoder"}) one_shot[role] = idle();
  EXPECT_FALSE(fixture.Make(BundleFor(LoopKind::kOneShot), std::move(one_shot))->has_prefill());
  Engines edit;
  for (const char* role : {"encoder", "deleter", "inserter", "filler"}) edit[role] = idle();
  EXPECT_FALSE(fixture.Make(BundleFor(LoopKind::kEdit), std::move(edit))->has_prefill());
  EXPECT_TRUE(fixture.Make(SubstituteBundle(1, NgramPlan()), SubstituteEngines(fixture.seen))
                  ->has_prefill());
}

TEST(LoopFactory, RefusesMoreDraftsThanThePlanHas) {
  Fixture fixture;
  LoadOptions options;
  options.num_draft_tokens = 6;
  EXPECT_EQ(fixture.Refusal(SubstituteBundle(1, ModelPlan(5)), options), ErrorCode::kUsage);
}

TEST(LoopFactory, RefusesBlockVerificationForTrees) {
  Fixture fixture;
  Bundle bundle = SubstituteBundle(1, NgramPlan());
  bundle.plan.tree = TreeSpec({-1, 0, 0});
  LoadOptions options;
  options.acceptance = AcceptanceRule::kBlock;
  EXPECT_EQ(fixture.Refusal(bundle, options), ErrorCode::kUsage);
  options.acceptance = AcceptanceRule::kSpeculative;
  EXPECT_NO_THROW(fixture.Make(bundle, SubstituteEngines(fixture.seen), options));
}

TEST(LoopFactory, DraftsFillAPartOfThePlansTree) {
  Fixture fixture;
  Bundle bundle = SubstituteBundle(1, ModelPlan(3));
  LoadOptions options;
  options.tree = {-1, 0, 1};
  EXPECT_EQ(fixture.Refusal(bundle, options), ErrorCode::kUsage);  // The plan has a chain.
  bundle.plan.tree = TreeSpec({-1, 0, 0, 1});
  EXPECT_NO_THROW(
      fixture.Make(bundle, SubstituteEngines(fixture.seen, &fixture.drafter_seen), options));
  for (const std::vector<int>& tree : {std::vector<int>{}, {0}, {-1, 2, 1}, {-1, 0, 1, 2}}) {
    options.tree = tree;
    EXPECT_EQ(fixture.Refusal(bundle, options), ErrorCode::kUsage);
  }
}

TEST(LoopFactory, RefusesReencodedDraftsWithoutTokenizers) {
  Fixture fixture;
  const Bundle bundle = SubstituteBundle(1, ModelPlan(5, DrafterVocabulary::kReencoded));
  EXPECT_EQ(fixture.Refusal(bundle, {}), ErrorCode::kUsage);
}

}  // namespace
}  // namespace ptgc
