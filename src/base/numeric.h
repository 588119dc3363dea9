// Conversions between 16-bit floats and float, exact or rounded once to nearest even: the same bits on every processor.
// Everything here is always inlined, because it is compiled into files of different instruction sets.
#pragma once

#include <cstdint>
#include <cstring>

#include "larder/layout.h"

namespace larder {

#define LARDER_INLINE [[gnu::always_inline]] inline

LARDER_INLINE float bits_to_float(uint32_t u) noexcept {
    return __builtin_bit_cast(float, u);
}
LARDER_INLINE uint32_t float_to_bits(float f) noexcept {
    return __builtin_bit_cast(uint32_t, f);
}

LARDER_INLINE float f16_to_f32(uint16_t h) noexcept {
    const uint32_t sign = uint32_t(h & 0x8000u) << 16, em = h & 0x7fffu;
    // Subnormals: let a float subtraction do the normalising. It is exact, and its operands are normal floats.
    const float small = bits_to_float((113u << 23) | em << 13) - bits_to_float(113u << 23);
    uint32_t u = (em << 13) + (112u << 23);
    u = em >= 0x7c00u ? u + (112u << 23) : u;
    u = em < 0x400u ? float_to_bits(small) : u;
    return bits_to_float(u | sign);
}

// Finite values; those beyond the largest half round to infinity as the rule of the format says.
LARDER_INLINE uint16_t f32_to_f16(float f) noexcept {
    const uint32_t u = float_to_bits(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    const float shifted =
        bits_to_float(a < 0x38800000u ? a : 0) + 0.5f;  // rounds at 2^-24, the half's last subnormal bit
    const uint32_t small = float_to_bits(shifted) - 0x3f000000u;
    uint32_t normal = (a - (112u << 23) + 0xfffu + (a >> 13 & 1)) >> 13;
    normal = a >= 0x477ff000u ? 0x7c00u : normal;
    return uint16_t(sign | (a < 0x38800000u ? small : normal));
}

LARDER_INLINE float bf16_to_f32(uint16_t h) noexcept {
    return bits_to_float(uint32_t(h) << 16);
}
LARDER_INLINE uint16_t f32_to_bf16(float f) noexcept {
    const uint32_t u = float_to_bits(f);
    return uint16_t((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

// Round to the nearest integer, ties to even, for |x| < 2^22: no call, no dependence on a library.
LARDER_INLINE float round_even(float x) noexcept {
    return (x + 12582912.0f) - 12582912.0f;
}

// 1 / s, or 0 for a step so small that its reciprocal would not be finite: then everything becomes code 0.
LARDER_INLINE float reciprocal(float s) noexcept {
    return s >= 0x1p-126f ? 1.0f / s : 0.0f;
}

LARDER_INLINE float clamp(float x, float lo, float hi) noexcept {
    x = x < lo ? lo : x;
    return x > hi ? hi : x;
}

constexpr bool is_float_dtype(larder_dtype t) noexcept {
    return t == LARDER_DTYPE_F16 || t == LARDER_DTYPE_BF16 || t == LARDER_DTYPE_F32;
}

// The scales of lossy stages are stored in 16 bits of the data's own range: half for F16, bfloat16 otherwise. Their
// products with codes of up to 13 bits are exact in a float, so reconstruction rounds once in the addition and once in
// the conversion to the element type.
LARDER_INLINE uint16_t scale_bits(float f, larder_dtype t) noexcept {
    return t == LARDER_DTYPE_F16 ? f32_to_f16(f) : f32_to_bf16(f);
}
LARDER_INLINE float scale_value(uint16_t u, larder_dtype t) noexcept {
    return t == LARDER_DTYPE_F16 ? f16_to_f32(u) : bf16_to_f32(u);
}

}  // namespace larder
