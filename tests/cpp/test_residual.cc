#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "sampling/residual.h"

namespace ptgc {
namespace {

using Probabilities = std::vector<float>;

void Write(const Probabilities& p, Residual& residual) {
  std::copy(p.begin(), p.end(), residual.probabilities().begin());
}

TEST(Residual, IsWhatPHasMoreThanQ) {
  Residual residual(4);
  Write({0.5F, 0.25F, 0.25F, 0}, residual);
  residual.Subtract(Probabilities{0.25F, 0.5F, 0.125F, 0.125F});
  EXPECT_EQ(residual.Sum(), 0.375);
  EXPECT_EQ(residual.Choose(0), 0);
  EXPECT_EQ(residual.Choose(0.66), 0);
  EXPECT_EQ(residual.Choose(0.67), 2);
  EXPECT_EQ(residual.Choose(1 - 0x1p-53), 2);
}

TEST(Residual, CertainDraftIsExcluded) {
  Residual residual(3);
  Write({0.5F, 0.25F, 0.25F}, residual);
  residual.Exclude(0);
  EXPECT_EQ(residual.Sum(), 0.5);
  EXPECT_EQ(residual.Choose(0.49), 1);
  EXPECT_EQ(residual.Choose(0.5), 2);
}

TEST(Residual, VocabulariesMayDifferByUnusedEntries) {
  Residual residual(3);
  Write({0.5F, 0.25F, 0.25F}, residual);
  residual.Subtract(Probabilities{0.5F, 0.25F});
  EXPECT_EQ(residual.Sum(), 0.25);
  residual.Subtract(Probabilities{0.5F, 0.25F, 0.25F, 0.5F});
  residual.Exclude(7);
  EXPECT_EQ(residual.Sum(), 0);
}

TEST(Residual, EveryTokenOfALongRowHasItsStretch) {
  constexpr std::size_t kSize = 1000;
  Residual residual(kSize);
  Probabilities p(kSize);
  for (std::size_t i = 0; i < kSize; ++i) p[i] = i % 7 == 0 ? 0 : static_cast<float>(i % 5);
  Write(p, residual);
  const double sum = residual.Sum();
  double before = 0;
  for (std::size_t i = 0; i < kSize; ++i) {
    if (p[i] > 0) {
      EXPECT_EQ(residual.Choose((before + p[i] / 2) / sum), static_cast<TokenId>(i));
    }
    before += p[i];
  }
}

}  // namespace
}  // namespace ptgc
