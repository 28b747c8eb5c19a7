#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "counted_new.h"
#include "drafters/datastore_drafter.h"
#include "drafters/datastore_writer.h"
#include "temporary_folder.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

struct Fixture {
  explicit Fixture(const std::vector<Tokens>& documents, bool chains = false, int shortest = 1) {
    DatastoreWriter writer(100, std::string(64, 'a'));
    for (const Tokens& document : documents) {
      writer.Append(document);
      writer.EndDocument();
    }
    writer.Write(folder.path() / "store");
    drafter = std::make_unique<DatastoreDrafter>(
        std::make_unique<Datastore>(folder.path() / "store"), Parameters(shortest), chains);
  }
  static DrafterParameters Parameters(int shortest = 1) {
    DrafterParameters parameters;
    parameters.shortest_match = shortest;
    parameters.longest_match = 16;
    return parameters;
  }
  // The drafts after a text.
  Tokens DraftOf(const Tokens& text, int limit) {
    proposal.Clear();
    const DraftRow row = {0, text, 0, limit, &proposal};
    const int offered = drafter->Propose(row);
    EXPECT_EQ(offered, proposal.size());
    drafter->Draft({&row, 1});
    return {proposal.tokens().begin(), proposal.tokens().end()};
  }
  std::vector<int> Parents() const {
    std::vector<int> parents;
    for (int node = 1; node <= proposal.size(); ++node) {
      parents.push_back(proposal.tree().parent(node));
    }
    return parents;
  }

  TemporaryFolder folder;
  std::unique_ptr<DatastoreDrafter> drafter;
  Proposal proposal = Proposal(15);
};

// After (1, 2): 5 6 7 twice, 5 6 8 once, 5 9 once, and 3 4 once.
const std::vector<Tokens> kTexts = {
    {1, 2, 5, 6, 7}, {9, 1, 2, 5, 6, 7}, {1, 2, 5, 6, 8}, {9, 1, 2, 5, 9, 9}, {1, 2, 3, 4}};

TEST(DatastoreDrafter, NodesThatMostContinuationsPassAreDrafted) {
  Fixture fixture(kTexts);
  EXPECT_EQ(fixture.DraftOf({40, 1, 2}, 3), (Tokens{5, 6, 7}));
  EXPECT_EQ(fixture.proposal.match_length(), 2);
  EXPECT_EQ(fixture.DraftOf({40, 1, 2}, 15), (Tokens{5, 6, 7, 3, 4, 9, 8, 9}));
  EXPECT_EQ(fixture.Parents(), (std::vector<int>{0, 1, 2, 0, 4, 1, 2, 6}));
}

TEST(DatastoreDrafter, PlanForChainsGetsTheMostFrequentContinuation) {
  Fixture fixture(kTexts, /*chains=*/true);
  EXPECT_EQ(fixture.DraftOf({1, 2}, 15), (Tokens{5, 6, 7}));
  EXPECT_TRUE(fixture.proposal.tree().is_chain());
  EXPECT_EQ(fixture.DraftOf({1, 2}, 2), (Tokens{5, 6}));
}

TEST(DatastoreDrafter, NothingIsDraftedWhereNothingIsFound) {
  Fixture fixture(kTexts);
  EXPECT_EQ(fixture.DraftOf({}, 15), Tokens{});
  EXPECT_EQ(fixture.DraftOf({1, 2, 40}, 15), Tokens{});
  EXPECT_EQ(fixture.DraftOf({6, 7}, 15), Tokens{});
  EXPECT_EQ(fixture.DraftOf({1, 2}, 0), Tokens{});
  EXPECT_EQ(Fixture(kTexts, false, 3).DraftOf({1, 2}, 15), Tokens{});
  EXPECT_EQ(fixture.drafter->idle_reason(), nullptr);
}

TEST(DatastoreDrafter, WithoutADatastoreItSaysWhyItIsIdle) {
  DatastoreDrafter drafter(nullptr, Fixture::Parameters(), false);
  const Tokens text = {1, 2};
  Proposal proposal(15);
  EXPECT_EQ(drafter.Propose({0, text, 0, 15, &proposal}), 0);
  EXPECT_STREQ(drafter.idle_reason(), "no datastore was given");
}

TEST(DatastoreDrafter, AllocatesNothing) {
  std::vector<Tokens> texts;
  for (TokenId token = 0; token < 300; ++token) {
    texts.push_back({1, 2, token % 90, 3, token / 4, token % 7, 8});
  }
  Fixture fixture(texts);
  const long before = NumAllocations();
  for (const int limit : {1, 7, 15}) {
    fixture.proposal.Clear();
    const Tokens::value_type text[] = {1, 2};
    const DraftRow row = {0, text, 0, limit, &fixture.proposal};
    fixture.drafter->Propose(row);
    EXPECT_EQ(fixture.proposal.size(), limit);
  }
  EXPECT_EQ(NumAllocations(), before);
}

}  // namespace
}  // namespace ptgc
