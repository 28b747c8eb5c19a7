#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "sampling/logits.h"

namespace ptgc {
namespace {

// The value of a number of `exponent_bits` and `fraction_bits` by definition.
double Decode(std::uint16_t bits, int exponent_bits, int fraction_bits) {
  const int largest = (1 << exponent_bits) - 1;
  const int bias = largest / 2;
  const int exponent = (bits >> fraction_bits) & largest;
  const double fraction = std::ldexp(bits & ((1 << fraction_bits) - 1), -fraction_bits);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == largest) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
  return sign * std::ldexp(1 + fraction, exponent - bias);
}

struct Half {
  DType dtype;        // The type.
  int exponent_bits;  // Of its layout ...
  int fraction_bits;  // ... as well.
};

class HalfLogits : public testing::TestWithParam<Half> {};

TEST_P(HalfLogits, EveryBitPatternIsReadExactly) {
  std::vector<std::uint16_t> words(65536);
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<std::uint16_t>(i);
  std::vector<float> values(words.size());
  LogitsRow{words.data(), GetParam().dtype, 65536}.Copy(values);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const double exact = Decode(words[i], GetParam().exponent_bits, GetParam().fraction_bits);
    if (std::isnan(exact)) {
      ASSERT_TRUE(std::isnan(values[i])) << i;
    } else {
      ASSERT_EQ(values[i], exact) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, HalfLogits,
                         testing::Values(Half{DType::kFloat16, 5, 10},
                                         Half{DType::kBFloat16, 8, 7}),
                         [](const auto& info) { return std::string(Name(info.param.dtype)); });

TEST(Logits, Float32IsCopied) {
  const std::vector<float> row = {1, -2, 3.5F};
  std::vector<float> values(3);
  LogitsRow{row.data(), DType::kFloat32, 3}.Copy(values);
  EXPECT_EQ(values, row);
}

}  // namespace
}  // namespace ptgc
