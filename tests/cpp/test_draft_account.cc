#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <random>
#include <span>
#include <vector>

#include "drafters/acceptance_estimate.h"
#include "drafters/draft_account.h"
#include "drafters/draft_length.h"

namespace ptgc {
namespace {

const std::vector<int> kWidths = {1, 2, 4, 8, 16, 64};
constexpr std::array kNodes = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};  // Of a chain.

// What a drafter and a device are like.
struct Setting {
  const char* name;
  std::map<int, double> costs;  // Seconds of rounds by width.
  double draft;                 // Seconds of a draft token ...
  double read;                  // ... and of reading one that was written without drafts.
};

// Drafts are offered always, as many as fit; each is accepted with the probability that `rate`
// gives for the text so far. Checks the summed cost against plain decoding from 256 tokens on.
struct Text {
  double cost = 0;   // Seconds.
  int tokens = 0;    // Written.
  double worst = 0;  // Cost over plain decoding of as many tokens, the worst from 256 on.
};

Text Write(const Setting& setting, int count, const std::function<double(int)>& rate,
           bool guarded) {
  const DraftLength length(DraftLengthMode::kMeasured, CostCurve(kWidths, setting.costs));
  const auto drafting = [&](int drafts) { return drafts * setting.draft; };
  AcceptanceEstimate estimate(2, 8);
  DraftAccount account;
  std::mt19937 random(7);
  std::uniform_real_distribution<double> uniform(0, 1);
  Text run;
  int unread = 0;
  while (run.tokens < count) {
    const int match = 2 + static_cast<int>(random() % 7);
    std::array<double, 15> gains{};
    estimate.WriteGains(TreeSpec::Chain(15), match, gains);
    std::vector<DraftOffer> offers = {{gains}};
    const double catching_up = unread * setting.read;
    if (guarded) offers[0].budget = account.Budget(length.plain_cost()) - catching_up;
    const int drafts = std::min(length.Choose(offers, drafting), offers[0].tokens());
    int accepted = 0;
    while (accepted < drafts && uniform(random) < rate(run.tokens)) ++accepted;
    if (drafts > 0) {
      const auto path = std::span(kNodes).first(static_cast<std::size_t>(accepted));
      estimate.Observe(TreeSpec::Chain(15), match, std::min(accepted + 1, drafts), path);
    } else {
      estimate.Skip(match);
    }
    const double spent = drafts > 0 ? drafting(drafts) + catching_up : 0;
    const double extra = length.Extra(offers, 1 + drafts) + spent;
    unread = drafts > 0 ? 0 : unread + 1;
    account.Add(extra, accepted * length.plain_cost(), accepted + 1);
    run.cost += length.plain_cost() + extra;
    run.tokens += accepted + 1;
    if (run.tokens >= 256) {
      run.worst = std::max(run.worst, run.cost / (run.tokens * length.plain_cost()));
    }
  }
  return run;
}

class DoNoHarm : public testing::TestWithParam<Setting> {};

TEST_P(DoNoHarm, DraftsThatAreNeverAcceptedCostThreePercentAtMost) {
  const Text run = Write(GetParam(), 1024, [](int) { return 0.0; }, true);
  EXPECT_LE(run.worst, 1.03);
}

TEST_P(DoNoHarm, DraftsThatTurnBadCostThreePercentAtMost) {
  for (int turn : {8, 64, 300}) {
    const auto rate = [&](int tokens) { return tokens < turn ? 0.95 : 0.0; };
    EXPECT_LE(Write(GetParam(), 1024, rate, true).worst, 1.03) << turn;
  }
}

TEST_P(DoNoHarm, WhatTurnsBadLateIsNoticedThereAndThen) {
  const auto rate = [](int tokens) { return tokens < 4096 ? 0.95 : 0.0; };
  const Setting& setting = GetParam();
  const double before = Write(setting, 4096, rate, true).cost;
  const Text whole = Write(setting, 8192, rate, true);
  const double plain = setting.costs.at(1);
  // Behind the turn: what was kept for later, the share of its own tokens, and the round that
  // reaches over it.
  EXPECT_LE(whole.cost - before, plain * (1.015 * 4096 + 4 + 3 + 16));
}

TEST_P(DoNoHarm, DraftsThatBecomeGoodAreTriedAgain) {
  const auto rate = [](int tokens) { return tokens < 512 ? 0.0 : 0.95; };
  const Text run = Write(GetParam(), 4096, rate, true);
  const Text good = Write(GetParam(), 3584, [](int) { return 0.95; }, false);
  EXPECT_LE(run.cost, 512 * 1.03 * GetParam().costs.at(1) + good.cost * 1.1);
}

TEST_P(DoNoHarm, GoodDraftsLoseNothing) {
  for (double rate : {0.6, 0.8, 0.95}) {
    const auto same = [&](int) { return rate; };
    const Text guarded = Write(GetParam(), 2048, same, true);
    const Text unguarded = Write(GetParam(), 2048, same, false);
    EXPECT_LE(guarded.cost, unguarded.cost * 1.03) << rate;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Settings, DoNoHarm,
    testing::Values(
        Setting{"Int4Ngram", {{1, 4.56}, {2, 5.2}, {4, 7.4}, {8, 11.4}, {16, 18.7}}, 0, 0},
        Setting{"Int8Ngram", {{1, 6.0}, {2, 6.7}, {4, 7.4}, {8, 9.8}, {16, 14.5}}, 0, 0},
        Setting{"CheapRows", {{1, 1.0}, {16, 1.05}}, 0, 0},
        Setting{"SmallDrafter", {{1, 30}, {2, 33}, {4, 37}, {8, 48}, {16, 70}}, 1.5, 0.12},
        Setting{"LargeDrafter", {{1, 30}, {2, 33}, {4, 37}, {8, 48}, {16, 70}}, 5, 0.31}),
    [](const auto& info) { return info.param.name; });

TEST(DraftAccount, SessionThatIsBehindWaitsForItsTextToGrow) {
  DraftAccount account;
  EXPECT_GT(account.Budget(1), 2);
  account.Add(3, 0, 1);
  EXPECT_LT(account.Budget(1), 0.1);
  account.Add(0, 0, 100);
  EXPECT_GT(account.Budget(1), 1);
}

TEST(DraftAccount, OldGainsAreForgotten) {
  DraftAccount account;
  account.Add(0, 1000, 1001);
  const double budget = account.Budget(1);
  EXPECT_LT(budget, 25);
  account.Add(budget, 0, 0);
  EXPECT_LE(account.Budget(1), 0);
}

}  // namespace
}  // namespace ptgc
