#include <gtest/gtest.h>

#include "models/causal_model.h"
#include "models/role_caches.h"
#include "substitute_engine.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

// A target and a drafter of two rows in one cache: each says the right token only where it sees
// what the other wrote.
struct Fixture {
  Fixture() {
    bundle.roles.at("drafter").states.front().shared_with = SharedLayer{"target", 0};
    bundle.shapes.roles.at("drafter").kv_capacities = {48, 144};
    Engines engines;
    for (const char* role : {"target", "drafter"}) {
      engines[role] = std::make_unique<SubstituteEngine>(seen);
    }
    const auto caches = MakeCaches(bundle, engines);
    for (auto* model : {&target, &drafter}) {
      const std::string role = model == &target ? "target" : "drafter";
      *model = std::make_unique<CausalModel>(std::move(engines.at(role)), bundle, role, kVocabSize,
                                             CausalNeighbours(), caches.at(role));
    }
  }

  // One model reads the next `count` tokens of a text into a row; the token that it says.
  TokenId Read(CausalModel& model, int row, const Tokens& text, int from, int count) {
    std::vector<RowInput> rows(2);
    for (int other = 0; other < 2; ++other) rows[other].write_index = lengths[other];
    rows[row].tokens = std::span(text).subspan(from, count);
    rows[row].write_index = from;
    model.Forward(rows, model.shapes().WidthFor(count), {1});
    lengths[row] = from + count;
    return model.NextIds(row)[0];
  }

  Bundle bundle = SubstituteBundle(2, ModelPlan(4));
  Observations seen;
  std::unique_ptr<CausalModel> target, drafter;
  int lengths[2] = {0, 0};
};

Tokens TextOf(int count) {
  Tokens text = {5, 9};
  const Tokens more = Continuation(text, count - 2);
  text.insert(text.end(), more.begin(), more.end());
  return text;
}

TEST(RoleCaches, RolesThatShareSeeWhatEachOtherWrote) {
  Fixture fixture;
  const Tokens text = TextOf(100);
  EXPECT_EQ(&fixture.target->kv_cache(), &fixture.drafter->kv_cache());
  EXPECT_EQ(fixture.Read(*fixture.target, 0, text, 0, 16), text[16]);
  EXPECT_EQ(fixture.Read(*fixture.drafter, 0, text, 16, 1), text[17]);
  EXPECT_EQ(fixture.Read(*fixture.drafter, 0, text, 17, 2), text[19]);
  EXPECT_EQ(fixture.Read(*fixture.target, 0, text, 19, 4), text[23]);
  EXPECT_EQ(fixture.seen.broken_texts, 0);
}

TEST(RoleCaches, EitherRoleGrowsTheCacheOnceForBoth) {
  Fixture fixture;
  const Tokens text = TextOf(100);
  int length = 0;
  for (; length < 32; length += 16) fixture.Read(*fixture.target, 0, text, length, 16);
  EXPECT_EQ(fixture.target->kv_cache().capacity(), 48);
  for (; length < 44; length += 12) fixture.Read(*fixture.drafter, 0, text, length, 12);
  EXPECT_EQ(fixture.Read(*fixture.drafter, 0, text, length, 8), text[length + 8]);
  length += 8;
  EXPECT_EQ(fixture.target->kv_cache().capacity(), 144);
  EXPECT_EQ(fixture.Read(*fixture.target, 0, text, length, 1), text[length + 1]);
  EXPECT_EQ(fixture.seen.broken_texts + fixture.seen.out_of_bounds, 0);
}

TEST(RoleCaches, ForkedAndRewoundRowsAreBothRoles) {
  Fixture fixture;
  const Tokens text = TextOf(40);
  fixture.Read(*fixture.target, 0, text, 0, 16);
  fixture.Read(*fixture.drafter, 0, text, 16, 2);
  fixture.target->kv_cache().CopyRow(0, 1, 18);
  fixture.lengths[1] = 18;
  EXPECT_EQ(fixture.Read(*fixture.drafter, 1, text, 18, 1), text[19]);
  EXPECT_EQ(fixture.Read(*fixture.target, 1, text, 19, 1), text[20]);
  // Row 0 loses its end and goes on with another.
  Tokens other(text.begin(), text.begin() + 10);
  other.push_back((text[10] + 1) % kVocabSize);
  const Tokens more = Continuation(other, 4);
  other.insert(other.end(), more.begin(), more.end());
  EXPECT_EQ(fixture.Read(*fixture.drafter, 0, other, 10, 1), other[11]);
  EXPECT_EQ(fixture.Read(*fixture.target, 0, other, 11, 1), other[12]);
  EXPECT_EQ(fixture.Read(*fixture.target, 1, text, 20, 1), text[21]);
  EXPECT_EQ(fixture.seen.broken_texts, 0);
}

TEST(RoleCaches, RolesThatShareNothingHaveCachesOfTheirOwn) {
  const Bundle bundle = SubstituteBundle(2, ModelPlan(4));
  Observations seen;
  const auto caches = MakeCaches(bundle, SubstituteEngines(seen, &seen));
  EXPECT_NE(caches.at("target"), caches.at("drafter"));
  EXPECT_EQ(caches.at("target")->capacity(), 48);
  EXPECT_EQ(caches.at("drafter")->capacity(), 40);
}

}  // namespace
}  // namespace ptgc
