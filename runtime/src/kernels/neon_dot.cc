#include <arm_neon.h>
#include <sys/auxv.h>

#include "kernels/attention_loops.h"
#include "kernels/block_kernel.h"
#include "kernels/instruction_sets.h"
#include "kernels/neon_vectors.h"

namespace ptgc {
namespace {

struct Neon {
  struct Floats16 {
    float32x4_t at[4];
  };

  static Floats16 Load(const float* from) {
    return {{vld1q_f32(from), vld1q_f32(from + 4), vld1q_f32(from + 8), vld1q_f32(from + 12)}};
  }
  static Floats16 Load(const std::uint16_t* from) {
    return {{NeonVectors::LoadHalves(from), NeonVectors::LoadHalves(from + 4),
             NeonVectors::LoadHalves(from + 8), NeonVectors::LoadHalves(from + 12)}};
  }
  static void StoreHalves(std::uint16_t* to, const Floats16& values) {
    const float32x4_t limit = vdupq_n_f32(65504);
    for (int i = 0; i < 4; ++i) {
      const float32x4_t clamped = vmaxq_f32(vnegq_f32(limit), vminq_f32(limit, values.at[i]));
      vst1_u16(to + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(clamped)));
    }
  }
  static void Store(float* to, const Floats16& values) {
    for (int i = 0; i < 4; ++i) vst1q_f32(to + 4 * i, values.at[i]);
  }
  static Floats16 Zero() { return Set(0); }
  static Floats16 Set(float value) {
    const float32x4_t four = vdupq_n_f32(value);
    return {{four, four, four, four}};
  }
  static Floats16 Add(Floats16 a, const Floats16& b) {
    for (int i = 0; i < 4; ++i) a.at[i] = vaddq_f32(a.at[i], b.at[i]);
    return a;
  }
  static Floats16 MultiplyAdd(const Floats16& a, const Floats16& b, Floats16 c) {
    for (int i = 0; i < 4; ++i) c.at[i] = vfmaq_f32(c.at[i], a.at[i], b.at[i]);
    return c;
  }
  static Floats16 Multiply(Floats16 a, const Floats16& b) {
    for (int i = 0; i < 4; ++i) a.at[i] = vmulq_f32(a.at[i], b.at[i]);
    return a;
  }
  static Floats16 Sums(const Floats16* from) {
    Floats16 sums;
    for (int i = 0; i < 4; ++i) {
      const Floats16* four = from + 4 * i;
      sums.at[i] =
          vpaddq_f32(Halves(Four(four[0]), Four(four[1])), Halves(Four(four[2]), Four(four[3])));
    }
    return sums;
  }
  static float32x4_t Halves(float32x4_t a, float32x4_t b) {
    return vaddq_f32(vcombine_f32(vget_low_f32(a), vget_low_f32(b)),
                     vcombine_f32(vget_high_f32(a), vget_high_f32(b)));
  }
  static float32x4_t Four(const Floats16& values) {
    const float32x4_t low = vaddq_f32(values.at[0], values.at[2]);
    const float32x4_t high = vaddq_f32(values.at[1], values.at[3]);
    return vaddq_f32(low, high);
  }
  static float Sum(const Floats16& values) {
    const float32x4_t four = Four(values);
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }
};

bool IsSupported() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }

}  // namespace

const BlockKernels kNeonDotKernels = {
    "neon-dotprod",         &IsSupported,           &Normalize, &Largest,
    &Quantize<NeonVectors>, &Multiply<NeonVectors>, &Gate};
const AttentionKernel kNeonAttention = {"neon-dotprod", &IsSupported, &Attend<Neon>, &Narrow<Neon>};

}  // namespace ptgc
