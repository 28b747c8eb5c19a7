#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sampling/logarithm.h"

namespace ptgc {
namespace {

TEST(Logarithm, IsWithinItsError) {
  for (double x = std::numeric_limits<double>::min(); x < 1e300; x *= 1.37) {
    EXPECT_NEAR(Log(x), std::log(x), 2e-15 * std::fabs(std::log(x)));
  }
  for (double x = 0.5; x < 2; x += 0x1.3p-14) EXPECT_NEAR(Log(x), std::log(x), 1e-15);
}

TEST(Logarithm, IsExactAtOne) { EXPECT_EQ(Log(1), 0); }

TEST(TwiceArtanh, IsWithinItsError) {
  for (double s = 1e-12; s < 0.172; s *= 1.01) {
    EXPECT_NEAR(TwiceArtanh(s), 2 * std::atanh(s), 1e-15 * 2 * std::atanh(s));
  }
}

}  // namespace
}  // namespace ptgc
