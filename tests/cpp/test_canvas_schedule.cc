#include <gtest/gtest.h>

#include <vector>

#include "loops/canvas_schedule.h"

namespace ptgc {
namespace {

// What the rounds of a block fill if each fills just what it must.
std::vector<int> Rounds(Schedule schedule, int length, int masked, int rounds) {
  std::vector<int> filled;
  BlockRounds block{length, masked, rounds};
  for (int left = masked; left > 0 && block.done < rounds; ++block.done) {
    filled.push_back(FillsOf(schedule, block, left));
    left -= filled.back();
  }
  return filled;
}

TEST(CanvasSchedule, FillsWhatItsSourcesSay) {
  // LLaDA: masks / rounds, and one more in the first masks % rounds rounds.
  EXPECT_EQ(Rounds(Schedule::kLinear, 8, 8, 3), (std::vector<int>{3, 3, 2}));
  EXPECT_EQ(Rounds(Schedule::kLinear, 8, 2, 4), (std::vector<int>{1, 1}));
  // MaskGIT: floor(16 cos(pi i / 8)) stay masked: 14, 11, 6, 0.
  EXPECT_EQ(Rounds(Schedule::kCosine, 16, 16, 4), (std::vector<int>{2, 3, 5, 6}));
  EXPECT_EQ(Rounds(Schedule::kCosine, 4, 3, 9), (std::vector<int>{1, 1, 1}));
  // SDAR: the share of a whole block, whatever is masked.
  EXPECT_EQ(Rounds(Schedule::kPerBlock, 8, 8, 3), (std::vector<int>{3, 3, 2}));
  EXPECT_EQ(Rounds(Schedule::kPerBlock, 8, 4, 3), (std::vector<int>{3, 1}));
}

TEST(CanvasSchedule, EveryRoundFillsSomethingAndTheLastOneTheRest) {
  for (const Schedule schedule : {Schedule::kLinear, Schedule::kCosine, Schedule::kPerBlock}) {
    for (int masked = 1; masked <= 20; ++masked) {
      for (int rounds = 1; rounds <= 25; ++rounds) {
        int sum = 0;
        for (const int filled : Rounds(schedule, 20, masked, rounds)) {
          EXPECT_GT(filled, 0);
          sum += filled;
        }
        EXPECT_EQ(sum, masked);
      }
    }
  }
}

// A threshold may have filled more than planned.
TEST(CanvasSchedule, NeverFillsMoreThanIsMasked) {
  EXPECT_EQ(FillsOf(Schedule::kLinear, {16, 16, 4, 1}, 2), 1);
  EXPECT_EQ(FillsOf(Schedule::kCosine, {16, 16, 4, 1}, 5), 1);
  EXPECT_EQ(FillsOf(Schedule::kPerBlock, {16, 16, 4, 1}, 2), 2);
  EXPECT_EQ(FillsOf(Schedule::kCosine, {16, 16, 4, 3}, 0), 0);
}

TEST(CanvasSchedule, StepsAreSharedByBlocksOrCountedForEach) {
  EXPECT_EQ(RoundsOfBlock(Schedule::kLinear, 10, 3), 3);
  EXPECT_EQ(RoundsOfBlock(Schedule::kCosine, 2, 3), 1);
  EXPECT_EQ(RoundsOfBlock(Schedule::kPerBlock, 10, 3), 10);
}

}  // namespace
}  // namespace ptgc
