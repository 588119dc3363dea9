// Kernels that compilers do not find by themselves, with 128- and 256-bit registers; included by the AVX2 and AVX-512 files after kernels_body.h.

void transpose8_x86(const uint8_t* src, size_t src_stride, uint8_t* dst, size_t dst_stride, uint32_t rows, uint32_t columns) noexcept {
    const uint32_t full_rows = rows / 16 * 16, full_columns = columns / 16 * 16;
    for (uint32_t r0 = 0; r0 < full_rows; r0 += 16)
        for (uint32_t c0 = 0; c0 < full_columns; c0 += 16) {
            __m128i a[16], b[16];
            for (int i = 0; i < 16; ++i) a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + (r0 + i) * src_stride + c0));
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
            for (int i = 0; i < 16; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + (c0 + i) * dst_stride + r0), a[i]);
        }
    transpose8_body(src + full_rows * src_stride, src_stride, dst + full_rows, dst_stride, rows - full_rows, full_columns);
    transpose8_body(src + full_columns, src_stride, dst + full_columns * dst_stride, dst_stride, rows, columns - full_columns);
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
            _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + 2 * i), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
        }
    }
    from_f32_body(src + i, t, dst + (t == LARDER_DTYPE_F32 ? 4 : 2) * i, n - i);
}

// One bit of each of 32 halves as a mask: shift it to the top byte's sign, pack to bytes, take the signs.
[[gnu::always_inline]] inline uint32_t bit_mask(__m256i a, __m256i b, int bit) noexcept {
    const __m128i up = _mm_cvtsi32_si128(15 - bit);
    const __m256i x = _mm256_srai_epi16(_mm256_sll_epi16(a, up), 15), y = _mm256_srai_epi16(_mm256_sll_epi16(b, up), 15);
    return uint32_t(_mm256_movemask_epi8(_mm256_permute4x64_epi64(_mm256_packs_epi16(x, y), 0xd8)));
}

void split_x86(const std::byte* src, larder_dtype t, int16_t* q, std::byte* rest, size_t n) noexcept {
    if (t != LARDER_DTYPE_F16 || n % 32) return split_body(src, t, q, rest, n);
    const size_t words = n / 32;
    for (size_t w = 0; w < words; ++w) {
        const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + 64 * w)), b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + 64 * w + 32));
        const __m256i five = _mm256_set1_epi16(31), byte = _mm256_set1_epi16(255);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + 32 * w), _mm256_and_si256(_mm256_srli_epi16(a, 10), five));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + 32 * w + 16), _mm256_and_si256(_mm256_srli_epi16(b, 10), five));
        const __m256i low = _mm256_permute4x64_epi64(_mm256_packus_epi16(_mm256_and_si256(a, byte), _mm256_and_si256(b, byte)), 0xd8);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(rest + 32 * w), low);
        const uint32_t plane[3] = {bit_mask(a, b, 8), bit_mask(a, b, 9), bit_mask(a, b, 15)};
        for (size_t p = 0; p < 3; ++p) __builtin_memcpy(rest + n + 4 * (p * words + w), &plane[p], 4);
    }
}

// 16 bits of a mask to 16 halves that are `value` where the bit is set.
[[gnu::always_inline]] inline __m256i spread(uint32_t mask16, short value) noexcept {
    const __m256i bits = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, short(0x8000));
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
            const __m256i e = _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(q + i)), _mm256_set1_epi16(31));
            h = _mm256_or_si256(h, _mm256_slli_epi16(e, 10));
            h = _mm256_or_si256(h, spread(plane[0] >> s, 0x100));
            h = _mm256_or_si256(h, spread(plane[1] >> s, 0x200));
            h = _mm256_or_si256(h, spread(plane[2] >> s, short(0x8000)));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + 2 * i), h);
        }
    }
}
