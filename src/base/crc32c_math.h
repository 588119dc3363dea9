// Arithmetic modulo the CRC's polynomial, bit-reflected: bit 31 is x^0.
#pragma once

#include <cstdint>

namespace larder::crc32c_math {

inline constexpr uint32_t polynomial = 0x82f63b78u;

constexpr uint32_t multiply(uint32_t a, uint32_t b) noexcept {
    uint32_t p = 0;
    for (uint32_t m = 1u << 31; m; m >>= 1) {
        if (a & m) p ^= b;
        b = b >> 1 ^ (b & 1 ? polynomial : 0);
    }
    return p;
}

// x to the n-th power.
constexpr uint32_t x_power(uint64_t n) noexcept {
    uint32_t result = 1u << 31, square = 1u << 30;
    for (; n; n >>= 1) {
        if (n & 1) result = multiply(result, square);
        square = multiply(square, square);
    }
    return result;
}

}  // namespace larder::crc32c_math
