#include <gtest/gtest.h>

#include <vector>

#include "drafters/text_states.h"

namespace ptgc {
namespace {

// States of two numbers, the first of which is the token's number in its run.
class CountingTaps : public Taps {
 public:
  void Copy(int first, int count, void* to) const override {
    for (int i = 0; i < count; ++i) static_cast<float*>(to)[2 * i] = static_cast<float>(first + i);
  }
};

std::vector<float> Kept(const TextStates& states, int row, int count) {
  std::vector<float> found;
  for (int i = 0; i < count; ++i) {
    found.push_back(static_cast<const float*>(states.At(row, static_cast<std::size_t>(i)))[0]);
  }
  return found;
}

TEST(TextStates, KeepsTheTextAndTheAcceptedDraftsOfEveryRun) {
  TextStates states(HostMemory(), Port{"hidden_states", DType::kFloat32, 2, {}}, 2, 8);
  const CountingTaps taps;
  const std::vector<TokenId> prompt = {7, 8, 9}, root = {5};
  const std::vector<int> path = {2, 3};
  Observation seen;
  seen.taps = &taps;
  seen.read = prompt;
  states.Keep(1, seen);
  seen.committed = 3;
  seen.read = root;
  seen.path = path;
  states.Keep(1, seen);
  EXPECT_EQ(Kept(states, 1, 6), (std::vector<float>{0, 1, 2, 0, 2, 3}));
  EXPECT_EQ(Kept(states, 0, 6), std::vector<float>(6));
  states.CopyRow(1, 0, 5);
  EXPECT_EQ(Kept(states, 0, 6), (std::vector<float>{0, 1, 2, 0, 2, 0}));
}

}  // namespace
}  // namespace ptgc
