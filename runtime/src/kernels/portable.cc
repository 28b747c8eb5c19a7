#include <cmath>

#include "kernels/attention_loops.h"
#include "kernels/block_kernel.h"
#include "kernels/instruction_sets.h"

namespace ptgc {
namespace {

struct PortableFloats {
  struct Floats16 {
    float at[kLanes];
  };

  static Floats16 Load(const float* from) {
    Floats16 values;
    std::memcpy(values.at, from, sizeof(values.at));
    return values;
  }
  static Floats16 Load(const std::uint16_t* from) {
    Floats16 values;
    std::transform(from, from + kLanes, values.at, Float32FromFloat16);
    return values;
  }
  static void StoreHalves(std::uint16_t* to, const Floats16& values) {
    std::transform(values.at, values.at + kLanes, to, Float16FromFloat32);
  }
  static void Store(float* to, const Floats16& values) {
    std::memcpy(to, values.at, sizeof(values.at));
  }
  static Floats16 Zero() { return {}; }
  static Floats16 Set(float value) {
    Floats16 values;
    std::fill_n(values.at, kLanes, value);
    return values;
  }
  static Floats16 Add(Floats16 a, const Floats16& b) {
    for (int i = 0; i < kLanes; ++i) a.at[i] += b.at[i];
    return a;
  }
  static Floats16 MultiplyAdd(const Floats16& a, const Floats16& b, Floats16 c) {
    for (int i = 0; i < kLanes; ++i) c.at[i] = std::fma(a.at[i], b.at[i], c.at[i]);
    return c;
  }
  static Floats16 Multiply(Floats16 a, const Floats16& b) {
    for (int i = 0; i < kLanes; ++i) a.at[i] *= b.at[i];
    return a;
  }
  static Floats16 Sums(const Floats16* from) {
    Floats16 sums;
    for (int i = 0; i < kLanes; ++i) sums.at[i] = Sum(from[i]);
    return sums;
  }
  static float Sum(Floats16 values) {
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) values.at[i] += values.at[i + half];
    }
    return values.at[0];
  }
};

struct Portable {
  static constexpr int kParts = 1;
  static constexpr int kMostRows = 2;
  static constexpr int kOffset8 = 128;
  static constexpr int kOutputs = BlockWeights::kTile;
  struct Bytes {
    std::uint8_t at[BlockWeights::kLine];
  };
  struct Ints {
    std::int32_t at[kOutputs];
  };
  using Floats = PortableFloats::Floats16;

  static Bytes Load(const std::uint8_t* from) {
    Bytes bytes;
    std::memcpy(bytes.at, from, sizeof(bytes.at));
    return bytes;
  }
  static Bytes Low(Bytes bytes) {
    for (std::uint8_t& byte : bytes.at) byte &= 15;
    return bytes;
  }
  static Bytes High(Bytes bytes) {
    for (std::uint8_t& byte : bytes.at) byte >>= 4;
    return bytes;
  }
  static Ints Dot8(Ints sum, const Bytes& bytes, const std::int8_t* row) {
    for (int o = 0; o < kOutputs; ++o) {
      for (int i = 0; i < 4; ++i) sum.at[o] += bytes.at[4 * o + i] * row[i];
    }
    return sum;
  }
  static Ints Dot4(Ints sum, const Bytes& bytes, const std::int8_t* row) {
    return Dot8(sum, bytes, row);
  }
  static Ints Set(std::int32_t value) {
    Ints ints;
    std::fill_n(ints.at, kOutputs, value);
    return ints;
  }
  static Ints AddInts(Ints a, const Ints& b) {
    for (int o = 0; o < kOutputs; ++o) a.at[o] += b.at[o];
    return a;
  }
  static Floats LoadFloats(const float* from) { return PortableFloats::Load(from); }
  static Floats LoadHalves(const std::uint16_t* from) { return PortableFloats::Load(from); }
  static Floats Zero() { return PortableFloats::Zero(); }
  static void Store(float* to, const Floats& values) { PortableFloats::Store(to, values); }
  static Floats AddScaled(Floats out, const Ints& sum, const Floats& scale, float row_scale) {
    for (int o = 0; o < kOutputs; ++o) {
      out.at[o] = std::fma(static_cast<float>(sum.at[o]), scale.at[o] * row_scale, out.at[o]);
    }
    return out;
  }
};

bool IsSupported() { return true; }

}  // namespace

const BlockKernels kPortableKernels = {"portable", &IsSupported,        &Normalize,
                                       &Largest,   &Quantize<Portable>, &Multiply<Portable>,
                                       &Gate};
const AttentionKernel kPortableAttention = {"portable", &IsSupported, &Attend<PortableFloats>,
                                            &Narrow<PortableFloats>};

}  // namespace ptgc
