#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "loops/canvas_slots.h"

namespace ptgc {
namespace {

using Positions = std::vector<int>;

class CanvasSlotsOfNine : public testing::Test {
 protected:
  CanvasSlotsOfNine() {
    slots_.Reserve(9);
    slots_.Begin(9);
  }
  // What a round reads that keeps these positions.
  Positions Read(const std::set<int>& kept) {
    slots_.Order([&](int position) { return kept.contains(position); });
    return {slots_.rows().begin(), slots_.rows().end()};
  }

  CanvasSlots slots_;
};

TEST_F(CanvasSlotsOfNine, LaterRoundsReadWhatIsNotKept) {
  const std::set<int> outside = {0, 1, 2, 6, 7, 8};
  EXPECT_EQ(Read(outside), Positions({0, 1, 2, 6, 7, 8, 3, 4, 5}));
  EXPECT_EQ(slots_.kept(), 0);
  EXPECT_EQ(slots_.first_changing(), 6);
  slots_.Keep();
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(Read(outside), Positions({3, 4, 5}));
    EXPECT_EQ(slots_.kept(), 6);
    EXPECT_EQ(slots_.first_changing(), 0);
    slots_.Keep();
  }
}

TEST_F(CanvasSlotsOfNine, WhatARoundFilledIsReadOnceMoreBeforeTheRest) {
  Read({0, 1});
  slots_.Keep();
  EXPECT_EQ(Read({0, 1, 4, 7}), Positions({4, 7, 2, 3, 5, 6, 8}));
  EXPECT_EQ(slots_.first_changing(), 2);
  slots_.Keep();
  EXPECT_EQ(slots_.kept(), 4);
  EXPECT_EQ(Read({0, 1, 4, 7}), Positions({2, 3, 5, 6, 8}));
}

TEST_F(CanvasSlotsOfNine, ARoundThatWasNotRunKeepsNothing) {
  Read({0, 1, 2});
  EXPECT_EQ(Read({0}), Positions({0, 1, 2, 3, 4, 5, 6, 7, 8}));
  slots_.Keep();
  EXPECT_EQ(slots_.kept(), 1);
  slots_.Begin(4);
  EXPECT_EQ(Read({}), Positions({0, 1, 2, 3}));
}

}  // namespace
}  // namespace ptgc
