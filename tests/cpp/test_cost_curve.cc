#include <gtest/gtest.h>

#include "drafters/cost_curve.h"

namespace ptgc {
namespace {

TEST(CostCurve, AssumesAGentleSlopeWithoutMeasurements) {
  const CostCurve curve({1, 2, 11}, {});
  EXPECT_DOUBLE_EQ(curve.At(0), 1);
  EXPECT_DOUBLE_EQ(curve.At(1), 1.06);
  EXPECT_DOUBLE_EQ(curve.At(2), 1.6);
}

TEST(CostCurve, InterpolatesAbsentWidths) {
  const CostCurve curve({1, 2, 4, 8}, {{1, 1.0}, {4, 4.0}});
  EXPECT_DOUBLE_EQ(curve.At(1), 2);
  EXPECT_DOUBLE_EQ(curve.At(2), 4);
  EXPECT_DOUBLE_EQ(curve.At(3), 8);
}

TEST(CostCurve, TakesTheLargestWidthForMoreRows) {
  EXPECT_DOUBLE_EQ(CostCurve({1, 4}, {{1, 1.0}, {4, 2.0}}).AtLeast(9), 2);
}

TEST(CostCurve, ScalesTheAssumptionByOneMeasurement) {
  const CostCurve curve({1, 11}, {{1, 0.5}});
  EXPECT_DOUBLE_EQ(curve.At(0), 0.5);
  EXPECT_DOUBLE_EQ(curve.At(1), 0.8);
}

}  // namespace
}  // namespace ptgc
