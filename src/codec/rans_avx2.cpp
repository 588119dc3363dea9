// rANS rows with byte compares instead of table look-ups: the symbol of a slot is the number of bounds below it.
#include <immintrin.h>

#include "codec/kernels.h"

namespace larder {
namespace {

// For each mask of 8 lanes: which of the next words each lane takes (decode), and where each lane's word goes in a run
// that ends at lane 7 (encode).
struct Shuffles {
    alignas(32) uint32_t expand[256][8];
    alignas(32) uint32_t gather_high[256][8];
    constexpr Shuffles() : expand{}, gather_high{} {
        for (uint32_t m = 0; m < 256; ++m) {
            uint32_t n = 0;
            for (uint32_t i = 0; i < 8; ++i)
                if (m >> i & 1) expand[m][i] = n++;
            uint32_t to = 8;
            for (uint32_t i = 8; i-- > 0;)
                if (m >> i & 1) gather_high[m][--to] = i;
        }
    }
};
constexpr Shuffles shuffles;

[[gnu::always_inline]] inline __m256i load_i(const void* p) noexcept {
    return _mm256_load_si256(static_cast<const __m256i*>(p));
}
[[gnu::always_inline]] inline __m256i twice(const void* p) noexcept {
    return _mm256_broadcastsi128_si256(_mm_load_si128(static_cast<const __m128i*>(p)));
}

template <int Symbols> [[gnu::always_inline]] inline __m256i count_bounds(const RansTable& t, __m256i slots) noexcept {
    const __m256i s = _mm256_xor_si256(slots, _mm256_set1_epi8(char(0x80)));
    __m256i y = _mm256_setzero_si256();
#pragma GCC unroll 16
    for (int i = 1; i < Symbols; ++i) y = _mm256_sub_epi8(y, _mm256_cmpgt_epi8(s, _mm256_set1_epi8(char(t.bound8[i]))));
    return y;
}

// One row of 32 lanes.
[[gnu::always_inline]] inline void decode_row(const RansTable& t, __m256i* x, const std::byte*& p,
                                              uint8_t* out) noexcept {
    const __m256i byte = _mm256_set1_epi32(255);
    const __m256i packed =
        _mm256_packus_epi16(_mm256_packus_epi32(_mm256_and_si256(x[0], byte), _mm256_and_si256(x[1], byte)),
                            _mm256_packus_epi32(_mm256_and_si256(x[2], byte), _mm256_and_si256(x[3], byte)));
    const __m256i slots = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    const __m256i y = t.n < 8 ? count_bounds<8>(t, slots) : count_bounds<16>(t, slots);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), y);
    const __m256i f = _mm256_shuffle_epi8(twice(t.freq8), y),
                  bias = _mm256_sub_epi8(slots, _mm256_shuffle_epi8(twice(t.start8), y));
    const __m128i f_low = _mm256_castsi256_si128(f), f_high = _mm256_extracti128_si256(f, 1);
    const __m128i b_low = _mm256_castsi256_si128(bias), b_high = _mm256_extracti128_si256(bias, 1);
    const __m128i ff[4] = {f_low, _mm_srli_si128(f_low, 8), f_high, _mm_srli_si128(f_high, 8)};
    const __m128i bb[4] = {b_low, _mm_srli_si128(b_low, 8), b_high, _mm_srli_si128(b_high, 8)};
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        const __m256i v = _mm256_add_epi32(_mm256_mullo_epi32(_mm256_cvtepu8_epi32(ff[i]), _mm256_srli_epi32(x[i], 8)),
                                           _mm256_cvtepu8_epi32(bb[i]));
        const __m256i below = _mm256_cmpeq_epi32(_mm256_srli_epi32(v, 16), _mm256_setzero_si256());
        const uint32_t m = uint32_t(_mm256_movemask_ps(_mm256_castsi256_ps(below)));
        const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        const __m256i taken = _mm256_permutevar8x32_epi32(words, load_i(shuffles.expand[m]));
        x[i] = _mm256_blendv_epi8(v, _mm256_or_si256(_mm256_slli_epi32(v, 16), taken), below);
        p += 2 * size_t(__builtin_popcount(m));
    }
}

struct Cursor {
    RansJob* job;
    uint32_t row;
};

template <int N> void decode_rows(Cursor* c, uint32_t n) noexcept {
    __m256i x[N][4];
    const std::byte* p[N];
    uint8_t* out[N];
    uint32_t at[N];
    for (int i = 0; i < N; ++i) {
        const RansJob& j = *c[i].job;
        for (int k = 0; k < 4; ++k) x[i][k] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(j.state + 8 * k));
        p[i] = j.words + 2 * j.at;
        out[i] = j.symbols + size_t(c[i].row) * rans_lanes;
        at[i] = c[i].row % j.period;
    }
    for (uint32_t r = 0; r < n; ++r)
#pragma GCC unroll 4
        for (int i = 0; i < N; ++i) {
            const RansJob& j = *c[i].job;
            decode_row(j.tables[j.ids[at[i]]], x[i], p[i], out[i]);
            at[i] = at[i] + 1 == j.period ? 0 : at[i] + 1;
            out[i] += rans_lanes;
        }
    for (int i = 0; i < N; ++i) {
        RansJob& j = *c[i].job;
        for (int k = 0; k < 4; ++k) _mm256_storeu_si256(reinterpret_cast<__m256i*>(j.state + 8 * k), x[i][k]);
        j.at = size_t(p[i] - j.words) / 2;
        c[i].row += n;
    }
}

// floor(v / f) for 8 lanes, exactly: the quotient is far from the next integer compared with the error of a double.
[[gnu::always_inline]] inline __m256i divide(__m256i v, __m256i f) noexcept {
    const __m256i magic = _mm256_set1_epi64x(0x4330000000000000);
    const __m256d two52 = _mm256_castsi256_pd(magic);
    const auto to_double = [&](__m128i u) {
        return _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(_mm256_cvtepu32_epi64(u), magic)), two52);
    };
    const auto half = [&](__m128i a, __m128i b) {
        const __m256d q = _mm256_floor_pd(_mm256_div_pd(to_double(a), to_double(b)));
        return _mm256_castpd_si256(_mm256_add_pd(q, two52));
    };
    const __m256i low = half(_mm256_castsi256_si128(v), _mm256_castsi256_si128(f)),
                  high = half(_mm256_extracti128_si256(v, 1), _mm256_extracti128_si256(f, 1));
    const __m256 even = _mm256_shuffle_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), 0x88);
    return _mm256_permute4x64_epi64(_mm256_castps_si256(even), 0xd8);
}

}  // namespace

void rans_decode_avx2(RansJob* const* jobs, uint32_t n_jobs) noexcept {
    Cursor live[rans_ways];
    for (uint32_t i = 0; i < n_jobs; ++i) live[i] = {jobs[i], 0};
    while (n_jobs) {
        uint32_t run = UINT32_MAX, stalled = UINT32_MAX;
        for (uint32_t i = 0; i < n_jobs; ++i) {
            const RansJob& j = *live[i].job;
            const uint32_t left = j.n_full_rows - live[i].row;
            const size_t safe = (j.n_words - j.at) / rans_lanes;
            if (!left || !safe) stalled = i;
            run = left < run ? left : run;
            run = safe < run ? uint32_t(safe) : run;
        }
        if (stalled != UINT32_MAX) {
            // Short rows, or near the end of the words.
            rans_decode_scalar(*live[stalled].job, live[stalled].row);
            live[stalled] = live[--n_jobs];
        } else if (n_jobs == 4) {
            decode_rows<4>(live, run);
        } else if (n_jobs == 3) {
            decode_rows<3>(live, run);
        } else if (n_jobs == 2) {
            decode_rows<2>(live, run);
        } else {
            decode_rows<1>(live, run);
        }
    }
}

size_t rans_encode_avx2(RansJob& job, uint16_t* words_end) noexcept {
    uint16_t* p = words_end;
    if (job.tail_rows) {
        // Short rows come last, so they are encoded first.
        uint8_t ids[1];
        for (uint32_t r = job.tail_rows; r-- > 0;) {
            RansJob one = job;
            ids[0] = job.ids[(job.n_full_rows + r) % job.period];
            one.ids = ids;
            one.period = 1;
            one.n_full_rows = 0;
            one.tail_rows = 1;
            one.symbols = job.symbols + size_t(job.n_full_rows + r) * rans_lanes;
            p -= rans_encode_scalar(one, p);
            for (uint32_t l = 0; l < rans_lanes; ++l) job.state[l] = one.state[l];
        }
    }
    __m256i x[4];
    for (int k = 0; k < 4; ++k) x[k] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(job.state + 8 * k));
    uint32_t at = job.n_full_rows % job.period;
    for (uint32_t r = job.n_full_rows; r-- > 0;) {
        at = at == 0 ? job.period - 1 : at - 1;
        const RansTable& t = job.tables[job.ids[at]];
        const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(job.symbols + size_t(r) * rans_lanes));
        const __m256i f8 = _mm256_shuffle_epi8(twice(t.freq8), y), s8 = _mm256_shuffle_epi8(twice(t.start8), y);
        alignas(32) uint8_t freq[32], start[32];
        _mm256_store_si256(reinterpret_cast<__m256i*>(freq), f8);
        _mm256_store_si256(reinterpret_cast<__m256i*>(start), s8);
#pragma GCC unroll 4
        for (int i = 3; i >= 0; --i) {
            const __m256i f = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(freq + 8 * i)));
            const __m256i c = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(start + 8 * i)));
            const __m256i limit = _mm256_slli_epi32(f, 24);
            const __m256i over = _mm256_cmpeq_epi32(_mm256_max_epu32(x[i], limit), x[i]);
            const uint32_t m = uint32_t(_mm256_movemask_ps(_mm256_castsi256_ps(over)));
            const __m256i run = _mm256_permutevar8x32_epi32(x[i], load_i(shuffles.gather_high[m]));
            const __m256i words = _mm256_and_si256(run, _mm256_set1_epi32(0xffff));
            const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0xd8);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(p - 8), _mm256_castsi256_si128(packed));
            p -= __builtin_popcount(m);
            const __m256i v = _mm256_blendv_epi8(x[i], _mm256_srli_epi32(x[i], 16), over);
            const __m256i q = divide(v, f);
            x[i] = _mm256_add_epi32(_mm256_add_epi32(v, c),
                                    _mm256_mullo_epi32(q, _mm256_sub_epi32(_mm256_set1_epi32(256), f)));
        }
    }
    for (int k = 0; k < 4; ++k) _mm256_storeu_si256(reinterpret_cast<__m256i*>(job.state + 8 * k), x[k]);
    return size_t(words_end - p);
}

}  // namespace larder
