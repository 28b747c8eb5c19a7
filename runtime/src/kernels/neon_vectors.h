// Vectors of 16 bytes for block_kernel.h, on processors with dot products.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace ptgc {
namespace {

struct NeonVectors {
  static constexpr int kParts = 4;
  static constexpr int kMostRows = 8;
  static constexpr int kOffset8 = 0;
  using Bytes = uint8x16_t;
  using Ints = int32x4_t;
  using Floats = float32x4_t;

  static Bytes Load(const std::uint8_t* from) { return vld1q_u8(from); }
  static Bytes Low(Bytes bytes) { return vandq_u8(bytes, vdupq_n_u8(15)); }
  static Bytes High(Bytes bytes) { return vshrq_n_u8(bytes, 4); }
  static int8x16_t Four(const std::int8_t* row) {
    std::int32_t four;
    std::memcpy(&four, row, sizeof(four));
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }
  static Ints Dot8(Ints sum, Bytes bytes, const std::int8_t* row) {
    return vdotq_s32(sum, vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(128))), Four(row));
  }
  static Ints Dot4(Ints sum, Bytes bytes, const std::int8_t* row) {
    return vdotq_s32(sum, vreinterpretq_s8_u8(bytes), Four(row));
  }
  static Ints Set(std::int32_t value) { return vdupq_n_s32(value); }
  static Ints AddInts(Ints a, Ints b) { return vaddq_s32(a, b); }
  static Floats LoadFloats(const float* from) { return vld1q_f32(from); }
  static Floats LoadHalves(const std::uint16_t* from) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)));
  }
  static Floats Zero() { return vdupq_n_f32(0); }
  static void Store(float* to, Floats values) { vst1q_f32(to, values); }
  static Floats AddScaled(Floats out, Ints sum, Floats scale, float row_scale) {
    return vfmaq_f32(out, vcvtq_f32_s32(sum), vmulq_n_f32(scale, row_scale));
  }
};

}  // namespace
}  // namespace ptgc
