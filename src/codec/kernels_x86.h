// Kernels that compilers do not find by themselves, with 128- and 256-bit registers; included by the AVX2 and AVX-512
// files after kernels_body.h.

void transpose8_x86(const uint8_t* src, size_t src_stride, uint8_t* dst, size_t dst_stride, uint32_t rows,
                    uint32_t columns) noexcept {
    const uint32_t full_rows = rows / 16 * 16, full_columns = columns / 16 * 16;
    for (uint32_t r0 = 0; r0 < full_rows; r0 += 16)
        for (uint32_t c0 = 0; c0 < full_columns; c0 += 16) {
            __m128i a[16], b[16];
            for (int i = 0; i < 16; ++i)
                a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + (r0 + i) * src_stride + c0));
                // Four rounds of interleaving rows i and i + 8.
#pragma GCC unroll 4
            for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
                for (int i = 0; i < 8; ++i) {
                    b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
                    b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
                }
                for (int i = 0; i < 16; ++i) a[i] = b[i];
            }
            for (int i = 0; i < 16; ++i)
                _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + (c0 + i) * dst_stride + r0), a[i]);
        }
    transpose8_body(src + full_rows * src_stride, src_stride, dst + full_rows, dst_stride, rows - full_rows,
                    full_columns);
    transpose8_body(src + full_columns, src_stride, dst + full_columns * dst_stride, dst_stride, rows,
                    columns - full_columns);
}

void to_f32_x86(const std::byte* src, larder_dtype t, float* dst, size_t n) noexcept {
    size_t i = 0;
    if (t == LARDER_DTYPE_F16) {
        const __m128i infinity = _mm_set1_epi16(0x7c00);
        for (; i + 8 <= n; i += 8) {
            __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + 2 * i));
            const __m128i a = _mm_and_si128(h, _mm_set1_epi16(0x7fff));
            h = _mm_andnot_si128(_mm_cmpgt_epi16(a, infinity), h);
            h = _mm_add_epi16(h, _mm_cmpeq_epi16(a, infinity));  // -1 where equal
            _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(h));
        }
    }
    to_f32_body(src + (t == LARDER_DTYPE_F32 ? 4 : 2) * i, t, dst + i, n - i);
}

void from_f32_x86(const float* src, larder_dtype t, std::byte* dst, size_t n) noexcept {
    size_t i = 0;
    if (t == LARDER_DTYPE_F16) {
        const __m256 limit = _mm256_set1_ps(65504.0f), low = _mm256_set1_ps(-65504.0f);
        for (; i + 8 <= n; i += 8) {
            const __m256 x = _mm256_min_ps(_mm256_max_ps(_mm256_loadu_ps(src + i), low), limit);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + 2 * i),
                             _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
        }
    }
    from_f32_body(src + i, t, dst + (t == LARDER_DTYPE_F32 ? 4 : 2) * i, n - i);
}

// One bit of each of 32 halves as a mask: shift it to the top byte's sign, pack to bytes, take the signs.
[[gnu::always_inline]] inline uint32_t bit_mask(__m256i a, __m256i b, int bit) noexcept {
    const __m128i up = _mm_cvtsi32_si128(15 - bit);
    const __m256i x = _mm256_srai_epi16(_mm256_sll_epi16(a, up), 15),
                  y = _mm256_srai_epi16(_mm256_sll_epi16(b, up), 15);
    return uint32_t(_mm256_movemask_epi8(_mm256_permute4x64_epi64(_mm256_packs_epi16(x, y), 0xd8)));
}

void split_x86(const std::byte* src, larder_dtype t, int16_t* q, std::byte* rest, size_t n) noexcept {
    if (t != LARDER_DTYPE_F16 || n % 32) return split_body(src, t, q, rest, n);
    const size_t words = n / 32;
    for (size_t w = 0; w < words; ++w) {
        const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + 64 * w)),
                      b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + 64 * w + 32));
        const __m256i five = _mm256_set1_epi16(31), byte = _mm256_set1_epi16(255);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + 32 * w), _mm256_and_si256(_mm256_srli_epi16(a, 10), five));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + 32 * w + 16),
                            _mm256_and_si256(_mm256_srli_epi16(b, 10), five));
        const __m256i low =
            _mm256_permute4x64_epi64(_mm256_packus_epi16(_mm256_and_si256(a, byte), _mm256_and_si256(b, byte)), 0xd8);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(rest + 32 * w), low);
        const uint32_t plane[3] = {bit_mask(a, b, 8), bit_mask(a, b, 9), bit_mask(a, b, 15)};
        for (size_t p = 0; p < 3; ++p) __builtin_memcpy(rest + n + 4 * (p * words + w), &plane[p], 4);
    }
}

// 16 bits of a mask to 16 halves that are `value` where the bit is set.
[[gnu::always_inline]] inline __m256i spread(uint32_t mask16, short value) noexcept {
    const __m256i bits =
        _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, short(0x8000));
    const __m256i set = _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16(short(mask16)), bits), bits);
    return _mm256_and_si256(set, _mm256_set1_epi16(value));
}

void join_x86(const int16_t* q, const std::byte* rest, larder_dtype t, std::byte* dst, size_t n) noexcept {
    if (t != LARDER_DTYPE_F16 || n % 32) return join_body(q, rest, t, dst, n);
    const size_t words = n / 32;
    for (size_t w = 0; w < words; ++w) {
        uint32_t plane[3];
        for (size_t p = 0; p < 3; ++p) __builtin_memcpy(&plane[p], rest + n + 4 * (p * words + w), 4);
        for (size_t half = 0; half < 2; ++half) {
            const size_t i = 32 * w + 16 * half;
            const uint32_t s = 16 * uint32_t(half);
            __m256i h = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rest + i)));
            const __m256i e =
                _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(q + i)), _mm256_set1_epi16(31));
            h = _mm256_or_si256(h, _mm256_slli_epi16(e, 10));
            h = _mm256_or_si256(h, spread(plane[0] >> s, 0x100));
            h = _mm256_or_si256(h, spread(plane[1] >> s, 0x200));
            h = _mm256_or_si256(h, spread(plane[2] >> s, short(0x8000)));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + 2 * i), h);
        }
    }
}

[[gnu::always_inline]] inline __m256i load16(const void* p) noexcept {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

bool classify_x86(const int16_t* q, const ChannelCodes& codes, uint8_t* symbols, uint8_t* low, uint32_t n) noexcept {
    if (low || n % 16) return classify_body(q, codes, symbols, low, n);
    __m256i escaped = _mm256_setzero_si256();
    for (uint32_t i = 0; i < n; i += 16) {
        const __m256i limit = load16(codes.n + i);
        const __m256i s = _mm256_min_epu16(_mm256_sub_epi16(load16(q + i), load16(codes.base + i)), limit);
        escaped = _mm256_or_si256(escaped, _mm256_cmpeq_epi16(s, limit));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols + i),
                         _mm_packus_epi16(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1)));
    }
    return !_mm256_testz_si256(escaped, escaped);
}

bool declassify_x86(const uint8_t* symbols, const uint8_t* low, const ChannelCodes& codes, int16_t* q,
                    uint32_t n) noexcept {
    if (low || n % 16) return declassify_body(symbols, low, codes, q, n);
    __m256i escaped = _mm256_setzero_si256();
    for (uint32_t i = 0; i < n; i += 16) {
        const __m256i s = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols + i)));
        escaped = _mm256_or_si256(escaped, _mm256_cmpeq_epi16(s, load16(codes.n + i)));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + i), _mm256_add_epi16(s, load16(codes.base + i)));
    }
    return !_mm256_testz_si256(escaped, escaped);
}

// Positions among n channels whose class is the escape.
uint32_t find_escapes_x86(const uint8_t* symbols, const uint16_t* limits, uint32_t n, uint32_t* at) noexcept {
    uint32_t found = 0, i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256i s = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols + i)));
        uint32_t m = uint32_t(_mm256_movemask_epi8(_mm256_cmpeq_epi16(s, load16(limits + i)))) & 0x55555555u;
        for (; m; m &= m - 1) at[found++] = i + uint32_t(__builtin_ctz(m)) / 2;
    }
    for (; i < n; ++i)
        if (symbols[i] == limits[i]) at[found++] = i;
    return found;
}

void group_range_x86(const float* x, uint32_t n, uint32_t g, float* lo, float* hi) noexcept {
    if (g % 8) return group_range_body(x, n, g, lo, hi);
    const auto keys = [](const float* p) {
        const __m256i v = load16(p);
        return _mm256_xor_si256(v, _mm256_and_si256(_mm256_srai_epi32(v, 31), _mm256_set1_epi32(0x7fffffff)));
    };
    for (uint32_t i = 0, j = 0; i < n; i += g, ++j) {
        __m256i a = keys(x + i), b = a;
        for (uint32_t k = 8; k < g; k += 8) {
            const __m256i v = keys(x + i + k);
            a = _mm256_min_epi32(a, v);
            b = _mm256_max_epi32(b, v);
        }
        // Smallest and largest side by side: minimum of keys and of complemented keys.
        __m128i m = _mm_min_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
        __m128i w = _mm_max_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
        const __m128i ones = _mm_set1_epi32(-1);
        w = _mm_xor_si128(w, ones);
        __m128i both = _mm_min_epi32(_mm_unpacklo_epi64(m, w), _mm_unpackhi_epi64(m, w));
        both = _mm_min_epi32(both, _mm_shuffle_epi32(both, 0xb1));
        lo[j] = from_order_key(_mm_cvtsi128_si32(both));
        hi[j] = from_order_key(~_mm_extract_epi32(both, 2));
    }
}

void quantize_x86(const float* x, const float* mid, const float* inverse, uint32_t g, float lo, float hi, int16_t* q,
                  uint32_t n) noexcept {
    if (n % 16 || (g != 1 && g % 16)) return quantize_body(x, mid, inverse, g, lo, hi, q, n);
    const __m256 low = _mm256_set1_ps(lo), high = _mm256_set1_ps(hi);
    for (uint32_t i = 0, j = 0; i < n; ++j) {
        const uint32_t end = g == 1 ? n : i + g;
        const __m256 m1 = _mm256_set1_ps(mid[j]), v1 = _mm256_set1_ps(inverse[j]);
        for (; i < end; i += 16) {
            __m256i r[2];
            for (uint32_t h = 0; h < 2; ++h) {
                const uint32_t k = i + 8 * h;
                const __m256 m = g == 1 ? _mm256_loadu_ps(mid + k) : m1, v = g == 1 ? _mm256_loadu_ps(inverse + k) : v1;
                const __m256 y = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(x + k), m), v);
                r[h] = _mm256_cvtps_epi32(_mm256_round_ps(_mm256_min_ps(_mm256_max_ps(y, low), high),
                                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
            }
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + i),
                                _mm256_permute4x64_epi64(_mm256_packs_epi32(r[0], r[1]), 0xd8));
        }
    }
}

void dequantize_x86(const int16_t* q, const float* mid, const float* step, uint32_t g, float* y, uint32_t n) noexcept {
    if (n % 8 || (g != 1 && g % 8)) return dequantize_body(q, mid, step, g, y, n);
    for (uint32_t i = 0, j = 0; i < n; ++j) {
        const uint32_t end = g == 1 ? n : i + g;
        const __m256 m1 = _mm256_set1_ps(mid[j]), s1 = _mm256_set1_ps(step[j]);
        for (; i < end; i += 8) {
            const __m256 v =
                _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q + i))));
            const __m256 m = g == 1 ? _mm256_loadu_ps(mid + i) : m1, s = g == 1 ? _mm256_loadu_ps(step + i) : s1;
            _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_mul_ps(v, s), m));
        }
    }
}

void rotate_x86(float* x, const float* cosines, const float* sines, uint32_t n_pairs, bool interleaved) noexcept {
    if (!interleaved || n_pairs % 4) return rotate_body(x, cosines, sines, n_pairs, interleaved);
    const __m256i twice_each = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    const __m256 minus = _mm256_castsi256_ps(_mm256_set1_epi64x(int64_t(0x80000000)));
    for (uint32_t i = 0; i < n_pairs; i += 4) {
        const __m256 c = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(cosines + i)), twice_each);
        const __m256 s = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(sines + i)), twice_each);
        const __m256 v = _mm256_loadu_ps(x + 2 * i);
        const __m256 swapped = _mm256_permute_ps(v, 0xb1);
        // a c - b s and b c + a s: the sign goes into the product, which changes no rounding.
        _mm256_storeu_ps(x + 2 * i,
                         _mm256_add_ps(_mm256_mul_ps(v, c), _mm256_xor_ps(_mm256_mul_ps(swapped, s), minus)));
    }
}
