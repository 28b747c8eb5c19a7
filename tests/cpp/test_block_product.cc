#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "float_bits.h"
#include "kernels/block_product.h"

namespace ptgc {
namespace {

// Weights with random values and scales.
struct Matrix {
  // The scales of an odd seed are float16.
  Matrix(int outputs, int inputs, int block_size, int bits, std::uint32_t seed) : chance(seed) {
    weights.outputs = outputs;
    weights.inputs = inputs;
    weights.block_size = block_size;
    weights.bits = bits;
    const auto tiles = static_cast<std::size_t>(weights.tiles());
    std::uniform_int_distribution<int> byte(0, 255);
    std::uniform_real_distribution<float> scale(0.001F, 0.01F);
    for (std::size_t i = 0; i < tiles * weights.tile_bytes(); ++i) {
      values.push_back(static_cast<std::uint8_t>(byte(chance)));
    }
    const std::size_t num_scales =
        tiles * static_cast<std::size_t>(weights.blocks()) * BlockWeights::kTile;
    std::uniform_int_distribution<std::uint16_t> half(0x1400, 0x2100);  // 0.001 to 0.01
    for (std::size_t i = 0; i < num_scales; ++i) {
      scales.push_back(scale(chance));
      halves.push_back(half(chance));
    }
    weights.values = values.data();
    weights.has_half_scales = seed % 2 == 1;
    weights.scales =
        weights.has_half_scales ? static_cast<const void*>(halves.data()) : scales.data();
  }
  std::vector<float> Rows(int count) {
    std::normal_distribution<float> value;
    std::vector<float> rows(static_cast<std::size_t>(count) *
                            static_cast<std::size_t>(weights.inputs));
    for (float& one : rows) one = value(chance);
    return rows;
  }

  std::mt19937 chance;
  std::vector<std::uint8_t> values;
  std::vector<float> scales;
  std::vector<std::uint16_t> halves;
  BlockWeights weights;
};

std::vector<float> Multiply(const BlockKernels& kernels, const BlockWeights& weights,
                            const std::vector<float>& rows) {
  const int count = static_cast<int>(rows.size()) / weights.inputs;
  std::vector<float> memory(QuantizedBytes(weights, count) / sizeof(float) + 1);
  const QuantizedRows quantized = QuantizedAt(memory.data(), weights, count);
  kernels.quantize(rows.data(), weights, quantized);
  std::vector<float> out(static_cast<std::size_t>(count * weights.outputs), -1);
  const int half = weights.tiles() / 2;  // As two threads do.
  kernels.multiply(weights, quantized, half, weights.tiles(), out.data());
  kernels.multiply(weights, quantized, 0, half, out.data());
  return out;
}

// The sum in float64 of what one rounded row and one output are.
double Exact(const BlockWeights& weights, const QuantizedRows& rows, int row, int output) {
  std::vector<float> weight(static_cast<std::size_t>(weights.inputs));
  ReadOutput(weights, output, weight.data());
  double sum = weights.bias == nullptr ? 0 : static_cast<double>(weights.bias[output]);
  for (int i = 0; i < weights.inputs; ++i) {
    const auto at = static_cast<std::size_t>(row * weights.inputs + i);
    const int block = row * weights.blocks() + i / weights.block_size;
    sum += static_cast<double>(weight[static_cast<std::size_t>(i)]) * rows.values[at] *
           static_cast<double>(rows.scales[block]);
  }
  return sum;
}

struct Shape {
  int outputs, inputs, block_size, bits;
};

class BlockProduct : public testing::TestWithParam<Shape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, BlockProduct,
                         testing::Values(Shape{1, 16, 16, 8}, Shape{16, 32, 32, 4},
                                         Shape{37, 96, 32, 4}, Shape{50, 192, 64, 8},
                                         Shape{19, 384, 128, 4}, Shape{80, 240, 16, 8},
                                         Shape{33, 1024, 32, 4}, Shape{95, 576, 64, 8}));

TEST_P(BlockProduct, IsExactUpToRounding) {
  const auto [outputs, inputs, block_size, bits] = GetParam();
  Matrix matrix(outputs, inputs, block_size, bits, 1);
  std::vector<float> bias(static_cast<std::size_t>(outputs), 0.25F);
  matrix.weights.bias = bias.data();
  const std::vector<float> rows = matrix.Rows(9);
  std::vector<float> memory(QuantizedBytes(matrix.weights, 9) / sizeof(float) + 1);
  const QuantizedRows quantized = QuantizedAt(memory.data(), matrix.weights, 9);
  const std::vector<float> out = Multiply(ChosenBlockKernels(), matrix.weights, rows);
  ChosenBlockKernels().quantize(rows.data(), matrix.weights, quantized);
  for (int row = 0; row < 9; ++row) {
    for (int output = 0; output < outputs; ++output) {
      const double exact = Exact(matrix.weights, quantized, row, output);
      EXPECT_NEAR(out[static_cast<std::size_t>(row * outputs + output)], exact, 1e-4);
    }
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const float scale = quantized.scales[i / static_cast<std::size_t>(block_size)];
    EXPECT_LE(std::abs(rows[i] - static_cast<float>(quantized.values[i]) * scale), scale * 0.501F);
  }
}

TEST_P(BlockProduct, HasTheSameBitsOnEveryInstructionSetAndAmongAnyRows) {
  const auto [outputs, inputs, block_size, bits] = GetParam();
  const auto width = static_cast<std::size_t>(outputs);
  int tried = 0;
  for (const int count : {0, 1, 2, 3, 5, 8, 9, 16, 31, 64, 65}) {
    Matrix matrix(outputs, inputs, block_size, bits, static_cast<std::uint32_t>(count));
    const std::vector<float> rows = matrix.Rows(count);
    const std::vector<float> out = Multiply(*AllBlockKernels().back(), matrix.weights, rows);
    for (const BlockKernels* kernels : AllBlockKernels()) {
      if (!kernels->is_supported()) continue;
      ++tried;
      EXPECT_TRUE(SameBits(Multiply(*kernels, matrix.weights, rows), out))
          << kernels->name << count;
      for (int row = 0; row < count; row += 7) {
        const auto from = rows.begin() + static_cast<std::ptrdiff_t>(row) * inputs;
        const std::vector<float> alone = Multiply(*kernels, matrix.weights, {from, from + inputs});
        EXPECT_TRUE(
            SameBits(alone, std::span(out).subspan(static_cast<std::size_t>(row) * width, width)));
      }
    }
  }
  EXPECT_GE(tried, 11);
}

// The largest sums that there are: all bytes of rows and weights at an end of their range.
TEST_P(BlockProduct, DoesNotOverflow) {
  const auto [outputs, inputs, block_size, bits] = GetParam();
  for (const std::uint8_t byte : {0, 255}) {
    Matrix matrix(outputs, inputs, block_size, bits, 3);
    std::fill(matrix.values.begin(), matrix.values.end(), byte);
    std::vector<float> rows(static_cast<std::size_t>(2 * inputs), 1);
    std::fill(rows.begin() + inputs, rows.end(), -1.0F);
    const std::vector<float> out = Multiply(*AllBlockKernels().back(), matrix.weights, rows);
    for (const BlockKernels* kernels : AllBlockKernels()) {
      if (!kernels->is_supported()) continue;
      EXPECT_TRUE(SameBits(Multiply(*kernels, matrix.weights, rows), out)) << kernels->name;
    }
    std::vector<float> weight(static_cast<std::size_t>(inputs));
    ReadOutput(matrix.weights, 0, weight.data());
    double sum = 0;
    for (const float one : weight) sum += static_cast<double>(one);
    EXPECT_NEAR(out[0], sum, std::abs(sum) * 1e-5);
    EXPECT_NEAR(out[static_cast<std::size_t>(outputs)], -sum, std::abs(sum) * 1e-5);
  }
}

TEST_P(BlockProduct, StrangeRowsStayByThemselves) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kLargest = std::numeric_limits<float>::max();
  const auto [outputs, inputs, block_size, bits] = GetParam();
  Matrix matrix(outputs, inputs, block_size, bits, 4);
  const std::vector<float> plain = matrix.Rows(1);
  const float strange[] = {std::nanf(""), kInfinity, -kInfinity, 0, 1e-40F, 1e-36F, kLargest};
  for (const BlockKernels* kernels : AllBlockKernels()) {
    if (!kernels->is_supported()) continue;
    const std::vector<float> alone = Multiply(*kernels, matrix.weights, plain);
    for (const float value : strange) {
      std::vector<float> rows(plain);
      rows.insert(rows.end(), static_cast<std::size_t>(inputs), value == kLargest ? 0 : value);
      rows.back() = value;
      const std::vector<float> out = Multiply(*kernels, matrix.weights, rows);
      const std::span<const float> both(out);
      EXPECT_TRUE(SameBits(both.first(alone.size()), alone));
      for (const float one : both.subspan(alone.size())) {
        if (!std::isfinite(value)) {
          EXPECT_TRUE(std::isnan(one)) << kernels->name << value;
        } else if (value < 1) {
          EXPECT_NEAR(one, 0, 1e-30F) << kernels->name << value;
        }
      }
    }
  }
}

// The numbers were written down on x86-64; any other machine must give the same.
TEST(BlockKernels, BitsAreTheSameOnEveryMachine) {
  for (const auto& [bits, expected] :
       {std::pair{4, 4442207405851916538ULL}, {8, 497534825565414280ULL}}) {
    Matrix matrix(40, 192, 64, bits, 1);
    std::mt19937 chance(5);
    for (std::uint8_t& one : matrix.values) one = static_cast<std::uint8_t>(chance());
    for (std::uint16_t& one : matrix.halves)
      one = static_cast<std::uint16_t>(0x1400 + chance() % 4096);
    const std::vector<float> rows = FixedNumbers(5 * 192, 6);
    for (const BlockKernels* kernels : AllBlockKernels()) {
      if (!kernels->is_supported()) continue;
      EXPECT_EQ(Fingerprint(Multiply(*kernels, matrix.weights, rows)), expected)
          << kernels->name << bits;
    }
  }
}

TEST(BlockKernels, NormsAreThoseOfFloat64AndTheSameOnEveryInstructionSet) {
  constexpr int kRows = 3, kSize = 80;
  const std::vector<float> rows = FixedNumbers(kRows * kSize, 1),
                           added = FixedNumbers(kRows * kSize, 2), weights = FixedNumbers(kSize, 3);
  for (const BlockKernels* kernels : AllBlockKernels()) {
    if (!kernels->is_supported()) continue;
    std::vector<float> sums(rows.size()), out(rows.size());
    kernels->normalize(
        {kRows, kSize, rows.data(), added.data(), weights.data(), 0.01F, sums.data(), out.data()});
    EXPECT_EQ(Fingerprint(out), 8829997023775209572ULL) << kernels->name;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      double squares = 0;
      for (std::size_t k = i / kSize * kSize; k < (i / kSize + 1) * kSize; ++k) {
        squares += static_cast<double>(sums[k]) * static_cast<double>(sums[k]);
      }
      const double norm = std::sqrt(squares / kSize + 0.01);
      EXPECT_EQ(sums[i], rows[i] + added[i]);
      EXPECT_NEAR(out[i],
                  static_cast<double>(sums[i]) / norm * static_cast<double>(weights[i % kSize]),
                  1e-6);
    }
  }
}

TEST(BlockKernels, TheLargestIsTheFirstOfEqualOnes) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float nan = std::nanf("");
  for (const BlockKernels* kernels : AllBlockKernels()) {
    if (!kernels->is_supported()) continue;
    for (const int size : {1, 2, 15, 63, 64, 65, 200, 1000}) {
      std::vector<float> values =
          FixedNumbers(static_cast<std::size_t>(size), static_cast<std::uint32_t>(size));
      const auto largest = std::max_element(values.begin(), values.end()) - values.begin();
      EXPECT_EQ(kernels->largest(values.data(), size), largest) << kernels->name;
      values[static_cast<std::size_t>(size / 2)] = values[static_cast<std::size_t>(size - 1)] = 7;
      EXPECT_EQ(kernels->largest(values.data(), size), size / 2) << kernels->name;
      values[0] = nan;
      EXPECT_EQ(kernels->largest(values.data(), size), size == 1 ? 0 : std::max(size / 2, 1))
          << kernels->name;
      std::fill(values.begin(), values.end(), -kInfinity);
      EXPECT_EQ(kernels->largest(values.data(), size), 0) << kernels->name;
      std::fill(values.begin(), values.end(), nan);
      EXPECT_EQ(kernels->largest(values.data(), size), 0) << kernels->name;
    }
  }
}

TEST(BlockKernels, GatesAreThoseOfFloat64AndTheSameOnEveryInstructionSet) {
  constexpr int kRows = 2, kOutputs = 96;
  std::vector<float> products = FixedNumbers(kRows * kOutputs, 4);
  for (float& one : products) one *= 20;
  products[3] = 200;
  products[4] = -200;
  for (const BlockKernels* kernels : AllBlockKernels()) {
    if (!kernels->is_supported()) continue;
    std::vector<float> out(products.size() / 2, -1);
    kernels->gate(products.data(), kRows, kOutputs, 2, 6, out.data());
    EXPECT_EQ(out[0], -1);
    kernels->gate(products.data(), kRows, kOutputs, 0, 2, out.data());
    EXPECT_EQ(Fingerprint(out), 11859543044825075572ULL) << kernels->name;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::size_t row = i / (kOutputs / 2), at = i % (kOutputs / 2);
      const std::size_t from = row * kOutputs + at / 16 * 32 + at % 16;
      const double gate = static_cast<double>(products[from]);
      const double exact = gate / (1 + std::exp(-gate)) * static_cast<double>(products[from + 16]);
      EXPECT_NEAR(out[i], exact, std::abs(exact) * 1e-6 + 1e-12);
    }
  }
}

TEST(BlockKernels, AreNamedAndChosenByTheMachine) {
  EXPECT_EQ(AllBlockKernels().back()->name, "portable");
  EXPECT_TRUE(ChosenBlockKernels().is_supported());
}

}  // namespace
}  // namespace ptgc
