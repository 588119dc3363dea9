#include "base/crc32c_x86.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

#include "base/crc32c_math.h"

#define LARDER_STREAMS [[gnu::target("sse4.2,pclmul")]]
#define LARDER_FOLD [[gnu::target("avx512f,avx512vl,avx512bw,avx512dq,vpclmulqdq,pclmul,sse4.2")]]

namespace larder::crc32c_x86 {
namespace {

using crc32c_math::x_power;

LARDER_STREAMS inline uint64_t load8(const unsigned char* p) noexcept {
    uint64_t v;
    std::memcpy(&v, p, 8);
    return v;
}

LARDER_STREAMS uint32_t update_simple(uint32_t state, const unsigned char* p, size_t n) noexcept {
    uint64_t c = state;
    for (; n >= 8; n -= 8, p += 8) c = _mm_crc32_u64(c, load8(p));
    uint32_t s = uint32_t(c);
    if (n & 4) {
        uint32_t v;
        std::memcpy(&v, p, 4);
        s = _mm_crc32_u32(s, v), p += 4;
    }
    for (n &= 3; n; --n) s = _mm_crc32_u8(s, *p++);
    return s;
}

// The register after n more zero bytes: times x^(8n). The carry-less product of two reflected numbers and the reduction
// by the instruction together multiply by x^33, which the constant takes back.
template <size_t n> LARDER_STREAMS inline uint32_t skip(uint32_t state) noexcept {
    constexpr uint32_t k = x_power(8 * n - 33);
    const __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128(int(state)), _mm_cvtsi32_si128(int(k)), 0);
    return uint32_t(_mm_crc32_u64(0, uint64_t(_mm_cvtsi128_si64(product))));
}

template <size_t block> LARDER_STREAMS inline uint32_t three_blocks(uint32_t state, const unsigned char* p) noexcept {
    uint64_t a = state, b = 0, c = 0;
    for (size_t i = 0; i < block; i += 8) {
        a = _mm_crc32_u64(a, load8(p + i));
        b = _mm_crc32_u64(b, load8(p + block + i));
        c = _mm_crc32_u64(c, load8(p + 2 * block + i));
    }
    return skip<2 * block>(uint32_t(a)) ^ skip<block>(uint32_t(b)) ^ uint32_t(c);
}

}  // namespace

LARDER_STREAMS uint32_t update_streams(uint32_t state, const unsigned char* p, size_t n) noexcept {
    for (; n >= 3 * 1024; n -= 3 * 1024, p += 3 * 1024) state = three_blocks<1024>(state, p);
    for (; n >= 3 * 128; n -= 3 * 128, p += 3 * 128) state = three_blocks<128>(state, p);
    return update_simple(state, p, n);
}

namespace {

// Multipliers that move a 128-bit piece of the message `bits` further to the front: one for each half. The shift by one
// makes up for the reflected product.
template <uint64_t bits> LARDER_FOLD inline __m128i distance() noexcept {
    constexpr uint64_t low = uint64_t(x_power(bits + 32)) << 1, high = uint64_t(x_power(bits - 32)) << 1;
    return _mm_set_epi64x(int64_t(high), int64_t(low));
}

LARDER_FOLD inline __m512i fold4(__m512i x, __m512i k, __m512i next) noexcept {
    return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(x, k, 0x00), _mm512_clmulepi64_epi128(x, k, 0x11), next,
                                     0x96);
}

LARDER_FOLD inline __m128i fold1(__m128i x, __m128i k, __m128i next) noexcept {
    return _mm_ternarylogic_epi64(_mm_clmulepi64_si128(x, k, 0x00), _mm_clmulepi64_si128(x, k, 0x11), next, 0x96);
}

// Four registers of 64 bytes to the CRC of what they stand for.
LARDER_FOLD inline uint32_t reduce(__m512i x0, __m512i x1, __m512i x2, __m512i x3) noexcept {
    const __m512i k512 = _mm512_maskz_broadcast_i64x2(0xff, distance<512>());
    const __m512i x = fold4(fold4(fold4(x0, k512, x1), k512, x2), k512, x3);
    const __m128i k128 = distance<128>();
    alignas(64) __m128i lanes[4];
    _mm512_store_si512(lanes, x);
    const __m128i y = fold1(fold1(fold1(lanes[0], k128, lanes[1]), k128, lanes[2]), k128, lanes[3]);
    const uint64_t c = _mm_crc32_u64(0, uint64_t(_mm_cvtsi128_si64(y)));
    return uint32_t(_mm_crc32_u64(c, uint64_t(_mm_extract_epi64(y, 1))));
}

enum class Out { none, cached, bypass };

template <Out out> LARDER_FOLD inline __m512i take(unsigned char* dst, const unsigned char* src) noexcept {
    const __m512i v = _mm512_loadu_si512(src);
    if constexpr (out == Out::cached) _mm512_storeu_si512(dst, v);
    if constexpr (out == Out::bypass) _mm512_stream_si512(reinterpret_cast<__m512i*>(dst), v);
    return v;
}

template <Out out>
LARDER_FOLD uint32_t fold_all(uint32_t state, unsigned char* dst, const unsigned char* src, size_t n) noexcept {
    if (n >= fold_bytes) {
        __m512i x0 = _mm512_xor_si512(take<out>(dst, src), _mm512_maskz_set1_epi32(1, int(state)));
        __m512i x1 = take<out>(dst + 64, src + 64), x2 = take<out>(dst + 128, src + 128),
                x3 = take<out>(dst + 192, src + 192);
        const __m512i k = _mm512_maskz_broadcast_i64x2(0xff, distance<8 * fold_bytes>());
        size_t at = fold_bytes;
        for (; n - at >= fold_bytes; at += fold_bytes) {
            unsigned char* d = dst + (out == Out::none ? 0 : at);
            const unsigned char* s = src + at;
            x0 = fold4(x0, k, take<out>(d, s));
            x1 = fold4(x1, k, take<out>(d + 64, s + 64));
            x2 = fold4(x2, k, take<out>(d + 128, s + 128));
            x3 = fold4(x3, k, take<out>(d + 192, s + 192));
        }
        state = reduce(x0, x1, x2, x3);
        src += at, n -= at;
        if constexpr (out != Out::none) dst += at;
        if constexpr (out == Out::bypass) _mm_sfence();
    }
    if constexpr (out != Out::none) std::memcpy(dst, src, n);
    return update_streams(state, src, n);
}

}  // namespace

uint32_t update_fold(uint32_t state, const unsigned char* p, size_t n) noexcept {
    alignas(64) static unsigned char unused[fold_bytes];  // never written: `none` has no stores
    return fold_all<Out::none>(state, unused, p, n);
}

uint32_t copy_fold(uint32_t state, unsigned char* dst, const unsigned char* src, size_t n, bool bypass) noexcept {
    return bypass ? fold_all<Out::bypass>(state, dst, src, n) : fold_all<Out::cached>(state, dst, src, n);
}

void copy_bypass(unsigned char* dst, const unsigned char* src, size_t n) noexcept {
    for (; n >= 64; n -= 64, dst += 64, src += 64)
        for (int i = 0; i < 64; i += 16)
            _mm_stream_si128(reinterpret_cast<__m128i*>(dst + i),
                             _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i)));
    _mm_sfence();
    std::memcpy(dst, src, n);
}

}  // namespace larder::crc32c_x86

#endif
