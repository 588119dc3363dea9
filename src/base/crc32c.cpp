#include "base/crc32c.h"

#include <array>
#include <cstring>

#include "base/crc32c_math.h"
#include "base/crc32c_x86.h"

namespace larder {
namespace {

using crc32c_math::polynomial;

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

// Copies of this size and more would only push other things out of the cache.
constexpr size_t bypass_bytes = size_t(1) << 20;

#if defined(__x86_64__)
bool has_instruction() noexcept {
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}
bool has_fold() noexcept {
    return __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && has_instruction();
}
#endif

}  // namespace

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
    return has_instruction();
#else
    return false;
#endif
}

uint32_t crc32c(uint32_t crc, const void* data, size_t n) noexcept {
#if defined(__x86_64__)
    auto* p = static_cast<const unsigned char*>(data);
    if (n >= 2 * crc32c_x86::fold_bytes && has_fold()) return ~crc32c_x86::update_fold(~crc, p, n);
    if (has_instruction()) return ~crc32c_x86::update_streams(~crc, p, n);
#endif
    return crc32c_portable(crc, data, n);
}

uint32_t crc32c_copy(uint32_t crc, void* dst, const void* src, size_t n) noexcept {
    auto* d = static_cast<unsigned char*>(dst);
    auto* s = static_cast<const unsigned char*>(src);
    const bool bypass = n >= bypass_bytes;
    if (bypass) {
        // Stores past the cache want whole lines.
        const size_t head = size_t(-reinterpret_cast<uintptr_t>(d)) & 63;
        crc = crc32c(crc, s, head);
        std::memcpy(d, s, head);
        s += head, d += head, n -= head;
    }
#if defined(__x86_64__)
    if (has_fold()) return ~crc32c_x86::copy_fold(~crc, d, s, n, bypass);
#endif
    // In pieces that stay in the first-level cache, so that memory is read once.
    while (n) {
        const size_t piece = n < 12288 ? n : 12288;
        crc = crc32c(crc, s, piece);
#if defined(__x86_64__)
        if (bypass)
            crc32c_x86::copy_bypass(d, s, piece);
        else
#endif
            std::memcpy(d, s, piece);
        s += piece, d += piece, n -= piece;
    }
    return crc;
}

uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t n_bytes_b) noexcept {
    uint32_t shift = crc32c_math::x_power(n_bytes_b);
    for (int i = 0; i < 3; ++i) shift = crc32c_math::multiply(shift, shift);  // (x^n)^8: bytes, not bits
    return crc32c_math::multiply(shift, crc_a) ^ crc_b;
}

}  // namespace larder
