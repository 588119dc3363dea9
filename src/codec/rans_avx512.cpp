// rANS rows with the whole table in registers: slot -> symbol by two byte permutes, symbol -> frequency and start by
// one more. GCC 12 takes the undefined pass-through operands of its own intrinsics for uninitialised variables.
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "codec/kernels.h"

namespace larder {
namespace {

// One half-row of 16 lanes. `lanes` masks those that exist.
template <bool Masked>
[[gnu::always_inline]] inline void decode_half(const RansTable& t, __m512i& x, const std::byte*& p, uint8_t* out,
                                               __mmask16 lanes) noexcept {
    const __m512i slot = _mm512_and_si512(x, _mm512_set1_epi32(255));
    const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(t.lut), slot, _mm512_load_si512(t.lut + 64));
    const __m512i high = _mm512_permutex2var_epi8(_mm512_load_si512(t.lut + 128), slot, _mm512_load_si512(t.lut + 192));
    __m512i y = _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(slot), high);
    y = _mm512_and_si512(y, _mm512_set1_epi32(255));
    if constexpr (Masked)
        _mm_mask_storeu_epi8(out, lanes, _mm512_cvtepi32_epi8(y));
    else
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(y));
    const __m512i fc = _mm512_permutexvar_epi32(y, _mm512_load_si512(t.fc));
    const __m512i f = _mm512_and_si512(fc, _mm512_set1_epi32(0xffff)), start = _mm512_srli_epi32(fc, 16);
    const __m512i next =
        _mm512_add_epi32(_mm512_mullo_epi32(f, _mm512_srli_epi32(x, 8)), _mm512_sub_epi32(slot, start));
    x = Masked ? _mm512_mask_mov_epi32(x, lanes, next) : next;
    __mmask16 m = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(int(rans_floor)));
    if constexpr (Masked) m &= lanes;
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    x = _mm512_mask_or_epi32(x, m, _mm512_slli_epi32(x, 16), _mm512_maskz_expand_epi32(m, words));
    p += 2 * size_t(__builtin_popcount(m));
}

struct Cursor {
    RansJob* job;
    uint32_t row;
};

// n rows of each job; every one of them has words for the worst case.
template <int N, bool Masked> void decode_rows(Cursor* c, uint32_t n, __mmask32 lanes) noexcept {
    __m512i x[N][2];
    const std::byte* p[N];
    uint8_t* out[N];
    uint32_t at[N];
    for (int i = 0; i < N; ++i) {
        const RansJob& j = *c[i].job;
        x[i][0] = _mm512_loadu_si512(j.state);
        x[i][1] = _mm512_loadu_si512(j.state + 16);
        p[i] = j.words + 2 * j.at;
        out[i] = j.symbols + size_t(c[i].row) * rans_lanes;
        at[i] = c[i].row % j.period;
    }
    for (uint32_t r = 0; r < n; ++r) {
#pragma GCC unroll 4
        for (int i = 0; i < N; ++i) {
            const RansJob& j = *c[i].job;
            const RansTable& t = j.tables[j.ids[at[i]]];
            at[i] = at[i] + 1 == j.period ? 0 : at[i] + 1;
            decode_half<Masked>(t, x[i][0], p[i], out[i], __mmask16(lanes));
            decode_half<Masked>(t, x[i][1], p[i], out[i] + 16, __mmask16(lanes >> 16));
            out[i] += rans_lanes;
        }
    }
    for (int i = 0; i < N; ++i) {
        RansJob& j = *c[i].job;
        _mm512_storeu_si512(j.state, x[i][0]);
        _mm512_storeu_si512(j.state + 16, x[i][1]);
        j.at = size_t(p[i] - j.words) / 2;
        c[i].row += n;
    }
}

void decode_some(Cursor* c, uint32_t n_jobs, uint32_t n, bool masked, __mmask32 lanes) noexcept {
    switch (n_jobs * 2 + masked) {
    case 2:
        return decode_rows<1, false>(c, n, lanes);
    case 3:
        return decode_rows<1, true>(c, n, lanes);
    case 4:
        return decode_rows<2, false>(c, n, lanes);
    case 5:
        return decode_rows<2, true>(c, n, lanes);
    case 6:
        return decode_rows<3, false>(c, n, lanes);
    case 7:
        return decode_rows<3, true>(c, n, lanes);
    case 8:
        return decode_rows<4, false>(c, n, lanes);
    default:
        return decode_rows<4, true>(c, n, lanes);
    }
}

}  // namespace

void rans_decode_avx512(RansJob* const* jobs, uint32_t n_jobs) noexcept {
    Cursor live[rans_ways];
    for (uint32_t i = 0; i < n_jobs; ++i) live[i] = {jobs[i], 0};
    while (n_jobs) {
        // The longest run in which all jobs have rows of the same kind and words for the worst case.
        uint32_t run = UINT32_MAX, stalled = UINT32_MAX;
        const RansJob& first = *live[0].job;
        const bool masked = live[0].row >= first.n_full_rows;
        uint32_t same = n_jobs;
        for (uint32_t i = 0; i < n_jobs; ++i) {
            const RansJob& j = *live[i].job;
            const bool tail = live[i].row >= j.n_full_rows;
            const uint32_t left = (tail ? j.n_rows() : j.n_full_rows) - live[i].row;
            const size_t safe = (j.n_words - j.at) / rans_lanes;
            if (!left || !safe) {
                stalled = i;
                break;
            }
            if (tail != masked || (tail && j.tail_lanes != first.tail_lanes)) {
                same = i;
                break;
            }
            run = left < run ? left : run;
            run = safe < run ? uint32_t(safe) : run;
        }
        if (stalled != UINT32_MAX) {
            // Done, or near the end of its words: finish it carefully.
            rans_decode_scalar(*live[stalled].job, live[stalled].row);
            live[stalled] = live[--n_jobs];
            continue;
        }
        const uint32_t lanes = masked ? (1u << first.tail_lanes) - 1 : UINT32_MAX;
        decode_some(live, same, run, masked, lanes);
    }
}

size_t rans_encode_avx512(RansJob& job, uint16_t* words_end) noexcept {
    __m512i x[2] = {_mm512_loadu_si512(job.state), _mm512_loadu_si512(job.state + 16)};
    uint16_t* p = words_end;
    uint32_t at = job.n_rows() % job.period;
    for (uint32_t r = job.n_rows(); r-- > 0;) {
        at = at == 0 ? job.period - 1 : at - 1;
        const RansTable& t = job.tables[job.ids[at]];
        const uint32_t lanes = r < job.n_full_rows ? UINT32_MAX : (1u << job.tail_lanes) - 1;
        const __m512d inverse_low = _mm512_load_pd(t.inverse), inverse_high = _mm512_load_pd(t.inverse + 8);
        const __m512i fc = _mm512_load_si512(t.fc);
#pragma GCC unroll 2
        for (int h = 1; h >= 0; --h) {
            const __mmask16 live = __mmask16(lanes >> (16 * h));
            const __m512i y =
                _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(live, job.symbols + size_t(r) * rans_lanes + 16 * size_t(h)));
            const __m512i e = _mm512_permutexvar_epi32(y, fc);
            const __m512i f = _mm512_and_si512(e, _mm512_set1_epi32(0xffff)), start = _mm512_srli_epi32(e, 16);
            const __mmask16 m = _mm512_mask_cmpge_epu32_mask(live, x[h], _mm512_slli_epi32(f, 24));
            const int n = __builtin_popcount(m);
            p -= n;
            _mm256_mask_storeu_epi16(p, __mmask16((1u << n) - 1),
                                     _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(m, x[h])));
            const __m512i v = _mm512_mask_srli_epi32(x[h], m, x[h], 16);
            // floor(v / f): the product is off by far less than 1/f, and errs upwards.
            const __m512i y_low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(y)),
                          y_high = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(y, 1));
            const __m256i q_low =
                _mm512_cvttpd_epu32(_mm512_mul_pd(_mm512_cvtepu32_pd(_mm512_castsi512_si256(v)),
                                                  _mm512_permutex2var_pd(inverse_low, y_low, inverse_high)));
            const __m256i q_high =
                _mm512_cvttpd_epu32(_mm512_mul_pd(_mm512_cvtepu32_pd(_mm512_extracti64x4_epi64(v, 1)),
                                                  _mm512_permutex2var_pd(inverse_low, y_high, inverse_high)));
            const __m512i q = _mm512_inserti64x4(_mm512_castsi256_si512(q_low), q_high, 1);
            // 256 q + (v - q f) + start
            const __m512i next = _mm512_add_epi32(_mm512_add_epi32(v, start),
                                                  _mm512_mullo_epi32(q, _mm512_sub_epi32(_mm512_set1_epi32(256), f)));
            x[h] = _mm512_mask_mov_epi32(x[h], live, next);
        }
    }
    _mm512_storeu_si512(job.state, x[0]);
    _mm512_storeu_si512(job.state + 16, x[1]);
    return size_t(words_end - p);
}

}  // namespace larder
