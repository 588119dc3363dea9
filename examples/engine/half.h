// IEEE half precision, bit by bit: what the vector kernels fall back to, and what they are tested
// against. static, and without calls to std: each kernels_*.cpp needs a copy of its own, made for
// its own instruction set.
#pragma once

#include <cstdint>

namespace engine {

static inline float half_to_float(uint16_t h) noexcept {
    const uint32_t sign = uint32_t(h & 0x8000u) << 16;
    const uint32_t exponent = (h >> 10) & 31u;
    const uint32_t mantissa = h & 1023u;
    if (exponent == 0) {  // zero and subnormals: an exact product
        const float magnitude = float(mantissa) * 0x1p-24f;
        return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, magnitude) | sign);
    }
    if (exponent == 31) {
        const uint32_t quiet = mantissa ? 0x00400000u : 0u;
        return __builtin_bit_cast(float, sign | 0x7f800000u | quiet | (mantissa << 13));
    }
    return __builtin_bit_cast(float, sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// Round to nearest, ties to even, as the F16C instructions do.
static inline uint16_t float_to_half(float f) noexcept {
    const uint32_t bits = __builtin_bit_cast(uint32_t, f);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return uint16_t(sign | 0x7e00u | ((magnitude >> 13) & 1023u));
    if (magnitude >= 0x477ff000u) return uint16_t(sign | 0x7c00u);  // 65520 and more
    if (magnitude < 0x38800000u) {                                  // below the least normal half
        // Adding one half aligns the last bit kept with the last bit of a float, and rounds.
        const float shifted = __builtin_bit_cast(float, magnitude) + 0.5f;
        return uint16_t(sign | (__builtin_bit_cast(uint32_t, shifted) - 0x3f000000u));
    }
    const uint32_t odd = (magnitude >> 13) & 1u;
    return uint16_t(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

}  // namespace engine
