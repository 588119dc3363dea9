#include "base/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace larder {
namespace {

constexpr uint32_t polynomial = 0x82f63b78u;

constexpr auto make_tables() {
    std::array<std::array<uint32_t, 256>, 8> t{};
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t c = i;
        for (int k = 0; k < 8; ++k) c = c >> 1 ^ (c & 1 ? polynomial : 0);
        t[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; ++i)
        for (size_t k = 1; k < 8; ++k) t[k][i] = t[k - 1][i] >> 8 ^ t[0][t[k - 1][i] & 255];
    return t;
}
constexpr auto tables = make_tables();

// Product of two polynomials modulo the CRC's, both bit-reflected.
uint32_t multiply(uint32_t a, uint32_t b) noexcept {
    uint32_t p = 0;
    for (uint32_t m = 1u << 31; m; m >>= 1) {
        if (a & m) p ^= b;
        b = b >> 1 ^ (b & 1 ? polynomial : 0);
    }
    return p;
}

#if defined(__x86_64__)
[[gnu::target("sse4.2")]] uint32_t crc32c_sse42(uint32_t crc, const void* data, size_t n) noexcept {
    auto* p = static_cast<const unsigned char*>(data);
    uint64_t c = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t v;
        std::memcpy(&v, p, 8);
        c = _mm_crc32_u64(c, v);
    }
    for (; n; --n) c = _mm_crc32_u8(uint32_t(c), *p++);
    return ~uint32_t(c);
}
#endif

} // namespace

uint32_t crc32c_portable(uint32_t crc, const void* data, size_t n) noexcept {
    auto* p = static_cast<const unsigned char*>(data);
    uint32_t c = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t lo, hi;
        std::memcpy(&lo, p, 4);
        std::memcpy(&hi, p + 4, 4);
        lo ^= c;
        c = tables[7][lo & 255] ^ tables[6][lo >> 8 & 255] ^ tables[5][lo >> 16 & 255] ^ tables[4][lo >> 24] ^
            tables[3][hi & 255] ^ tables[2][hi >> 8 & 255] ^ tables[1][hi >> 16 & 255] ^ tables[0][hi >> 24];
    }
    for (; n; --n) c = c >> 8 ^ tables[0][(c ^ *p++) & 255];
    return ~c;
}

bool crc32c_is_hardware() noexcept {
#if defined(__x86_64__)
    return __builtin_cpu_supports("sse4.2");
#else
    return false;
#endif
}

uint32_t crc32c(uint32_t crc, const void* data, size_t n) noexcept {
#if defined(__x86_64__)
    if (crc32c_is_hardware()) return crc32c_sse42(crc, data, n);
#endif
    return crc32c_portable(crc, data, n);
}

uint32_t crc32c_copy(uint32_t crc, void* dst, const void* src, size_t n) noexcept {
    // In pieces that stay in the first-level cache, so that memory is read once.
    auto* d = static_cast<unsigned char*>(dst);
    auto* s = static_cast<const unsigned char*>(src);
    while (n) {
        const size_t piece = n < 16384 ? n : 16384;
        crc = crc32c(crc, s, piece);
        std::memcpy(d, s, piece);
        s += piece, d += piece, n -= piece;
    }
    return crc;
}

uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t n_bytes_b) noexcept {
    uint32_t power = 1u << 30;  // x^1
    for (int i = 0; i < 3; ++i) power = multiply(power, power);  // x^8: one byte
    uint32_t shift = 1u << 31;  // x^0
    for (uint64_t n = n_bytes_b; n; n >>= 1) {
        if (n & 1) shift = multiply(shift, power);
        power = multiply(power, power);
    }
    return multiply(shift, crc_a) ^ crc_b;
}

} // namespace larder
