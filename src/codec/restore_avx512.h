// Exponent classes of one tile back to 16-bit floats in one pass: transposed, looked up and merged with the sign and
// mantissa planes in registers. Included by kernels_avx512.cpp.

// 16 x 16 bytes in each 128-bit part of 16 registers.
[[gnu::always_inline]] inline void transpose16(__m512i* a) noexcept {
#pragma GCC unroll 4
    for (int round = 0; round < 4; ++round) {
        __m512i b[16];
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
            b[2 * i] = _mm512_unpacklo_epi8(a[i], a[i + 8]);
            b[2 * i + 1] = _mm512_unpackhi_epi8(a[i], a[i + 8]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) a[i] = b[i];
    }
}

// Bytes of two registers in turn: the first 32 of each, or the last.
struct Interleave {
    alignas(64) uint8_t at[2][64];
    constexpr Interleave() : at{} {
        for (int i = 0; i < 64; ++i)
            at[0][i] = uint8_t(i / 2 + i % 2 * 64), at[1][i] = uint8_t(32 + i / 2 + i % 2 * 64);
    }
};
constexpr Interleave interleave;

// Low and high bytes of 64 values: their exponents, and the planes' bits of value i and on.
template <bool Half>
[[gnu::always_inline]] inline void merge(__m512i e, const std::byte* rest, size_t i, size_t n, __m512i& low,
                                         __m512i& high) noexcept {
    low = _mm512_loadu_si512(rest + i);
    if constexpr (Half) {
        const std::byte* planes = rest + n + i / 8;
        uint64_t plane[3];
#pragma GCC unroll 3
        for (size_t p = 0; p < 3; ++p) __builtin_memcpy(&plane[p], planes + p * (n / 8), 8);
        high = _mm512_and_si512(_mm512_slli_epi16(e, 2), _mm512_set1_epi8(0x7c));
        high = _mm512_mask_add_epi8(high, plane[0], high, _mm512_set1_epi8(1));
        high = _mm512_mask_add_epi8(high, plane[1], high, _mm512_set1_epi8(2));
        high = _mm512_mask_add_epi8(high, plane[2], high, _mm512_set1_epi8(char(0x80)));
    } else {
        constexpr int choose = 0xca;  // a ? b : c
        const __m512i top = _mm512_set1_epi8(char(0x80));
        high = _mm512_ternarylogic_epi32(top, low, _mm512_srli_epi16(e, 1), choose);
        low = _mm512_ternarylogic_epi32(top, _mm512_slli_epi16(e, 7), low, choose);
    }
}

template <bool Half>
bool restore_as(const uint8_t* classes, const uint8_t* base, const uint8_t* limit, const std::byte* rest,
                std::byte* const* to, std::byte* const* next, uint64_t* escapes, uint32_t width) noexcept {
    const auto load = [](const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); };
    // Parts of a register: 16 channels of tokens 0 to 15, of tokens 16 to 31; the next 16 channels likewise.
    const auto load32 = [&](const uint8_t* rows, __m512i* a) {
#pragma GCC unroll 16
        for (uint32_t i = 0; i < 16; ++i)
            a[i] = _mm512_inserti64x4(_mm512_castsi256_si512(load(rows + i * tile_tokens)),
                                      load(rows + (16 + i) * tile_tokens), 1);
        transpose16(a);
    };
    const size_t n = size_t(tile_tokens) * width;
    const uint32_t words = width / 64;
    uint64_t any = 0;
    for (uint32_t c = 0; c < width; c += 64) {
        __m512i a[16], b[16];
        load32(classes + c * tile_tokens, a);
        load32(classes + (c + 32) * tile_tokens, b);
        const __m512i first = _mm512_loadu_si512(base + c), end = _mm512_loadu_si512(limit + c);
        const auto put = [&](uint32_t token, __m512i y) {
            const uint64_t escaped = _mm512_cmpeq_epi8_mask(y, end);
            escapes[token * words + c / 64] = escaped;
            any |= escaped;
            __m512i low, high;
            merge<Half>(_mm512_add_epi8(y, first), rest, size_t(token) * width + c, n, low, high);
            std::byte* out = to[token] + 2 * size_t(c);
            _mm_prefetch(next[token] + 2 * size_t(c), _MM_HINT_ET0);
            _mm_prefetch(next[token] + 2 * size_t(c) + 64, _MM_HINT_ET0);
            _mm512_storeu_si512(out, _mm512_permutex2var_epi8(low, _mm512_load_si512(interleave.at[0]), high));
            _mm512_storeu_si512(out + 64, _mm512_permutex2var_epi8(low, _mm512_load_si512(interleave.at[1]), high));
        };
        for (uint32_t t = 0; t < 16; ++t) {
            put(t, _mm512_shuffle_i64x2(a[t], b[t], 0x88));
            put(t + 16, _mm512_shuffle_i64x2(a[t], b[t], 0xdd));
        }
    }
    return any != 0;
}

bool restore_avx512(const uint8_t* classes, const uint8_t* base, const uint8_t* limit, const std::byte* rest,
                    larder_dtype t, std::byte* const* to, std::byte* const* next, uint64_t* escapes,
                    uint32_t width) noexcept {
    return t == LARDER_DTYPE_F16 ? restore_as<true>(classes, base, limit, rest, to, next, escapes, width)
                                 : restore_as<false>(classes, base, limit, rest, to, next, escapes, width);
}
