#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/exponential.h"

namespace ptgc {
namespace {

TEST(Exponential, IsWithinItsError) {
  double worst = 0;
  for (float x = 0; x >= kLowestExponent; x -= 0x1.3p-14F) {
    const double exact = std::exp(static_cast<double>(x));
    worst = std::fmax(worst, std::fabs(static_cast<double>(Exp(x)) / exact - 1));
  }
  EXPECT_LT(worst, 1e-7);
}

TEST(Exponential, IsExactWhereItMustBe) {
  EXPECT_EQ(Exp(0.0F), 1.0F);
  EXPECT_EQ(Exp(-0.0F), 1.0F);
  EXPECT_GT(Exp(kLowestExponent), 0.0F);
  EXPECT_EQ(Exp(std::nextafter(kLowestExponent, -100.0F)), 0.0F);
  EXPECT_EQ(Exp(-3e38F), 0.0F);
  EXPECT_EQ(Exp(-std::numeric_limits<float>::infinity()), 0.0F);
  EXPECT_TRUE(std::isnan(Exp(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace ptgc
