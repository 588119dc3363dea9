// rANS rows with the whole table in registers: slot -> symbol by two byte permutes, symbol -> frequency and start by
// one more. GCC 12 takes the undefined pass-through operands of its own intrinsics for uninitialised variables.
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <utility>

#include "codec/kernels.h"

namespace larder {
namespace {

// Byte i of `pack`: where the low byte of lane i of two registers lies. Word i of `word`: what goes to half a lane, so
// that a word comes to the upper half of its lane.
struct RowOrder {
    alignas(64) uint8_t pack[64];
    alignas(64) uint16_t word[2][32];
    constexpr RowOrder() : pack{}, word{} {
        for (int i = 0; i < 64; ++i) pack[i] = uint8_t(4 * (i % 32));
        for (int i = 0; i < 32; ++i) word[0][i] = uint16_t(i / 2), word[1][i] = uint16_t(16 + i / 2);
    }
};
constexpr RowOrder order;

// One job within a run: two registers of 16 lanes.
struct Way {
    __m512i a, b;
    const std::byte* p;
    const RansTable* tables;
    const uint8_t* ids;
    size_t step;  // between the ids of two rows
    uint8_t* out;
};

// Symbols stand in the low byte of each lane; what is in the other bytes makes no difference to a look-up.
[[gnu::always_inline]] inline __m512i look_up(const RansTable& t, __m512i x) noexcept {
    const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(t.lut), x, _mm512_load_si512(t.lut + 64));
    const __m512i high = _mm512_permutex2var_epi8(_mm512_load_si512(t.lut + 128), x, _mm512_load_si512(t.lut + 192));
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(x), high);
}

[[gnu::always_inline]] inline __m512i step_back(__m512i x, __m512i fc) noexcept {
    const __m512i bias = _mm512_and_si512(_mm512_sub_epi8(x, fc), _mm512_set1_epi32(255));
    return _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(fc, 16), _mm512_srli_epi32(x, 8)), bias);
}

// One row of 32 lanes. `lanes` masks those that exist.
template <bool Masked> [[gnu::always_inline]] inline void decode_row(Way& w, size_t r, __mmask32 lanes) noexcept {
    const RansTable& t = w.tables[w.ids[r * w.step]];
    const __m512i ya = look_up(t, w.a), yb = look_up(t, w.b), fc = _mm512_load_si512(t.fc);
    const __m256i y = _mm512_castsi512_si256(_mm512_permutex2var_epi8(ya, _mm512_load_si512(order.pack), yb));
    auto* out = reinterpret_cast<__m256i*>(w.out + r * rans_lanes);
    __m512i a = step_back(w.a, _mm512_permutexvar_epi32(ya, fc)), b = step_back(w.b, _mm512_permutexvar_epi32(yb, fc));
    const __m512i floor = _mm512_set1_epi32(int(rans_floor));
    __mmask16 want_a = _mm512_cmplt_epu32_mask(a, floor), want_b = _mm512_cmplt_epu32_mask(b, floor);
    if constexpr (Masked) {
        _mm256_mask_storeu_epi8(out, lanes, y);
        a = _mm512_mask_mov_epi32(w.a, __mmask16(lanes), a);
        b = _mm512_mask_mov_epi32(w.b, __mmask16(lanes >> 16), b);
        want_a &= __mmask16(lanes);
        want_b &= __mmask16(lanes >> 16);
    } else {
        _mm256_storeu_si256(out, y);
    }
    // The lanes in want of a word take them in order.
    const __mmask32 want = _mm512_kunpackw(want_b, want_a);
    const __m512i words = _mm512_maskz_expand_epi16(want, _mm512_loadu_si512(w.p));
    const __m512i for_a = _mm512_permutexvar_epi16(_mm512_load_si512(order.word[0]), words),
                  for_b = _mm512_permutexvar_epi16(_mm512_load_si512(order.word[1]), words);
    w.a = _mm512_mask_shldi_epi32(a, want_a, a, for_a, 16);
    w.b = _mm512_mask_shldi_epi32(b, want_b, b, for_b, 16);
    w.p += 2 * size_t(__builtin_popcount(want));
}

struct Cursor {
    RansJob* job;
    uint32_t row;
};

[[gnu::always_inline]] inline Way begin(const Cursor& c) noexcept {
    const RansJob& j = *c.job;
    return {_mm512_loadu_si512(j.state),
            _mm512_loadu_si512(j.state + 16),
            j.words + 2 * j.at,
            j.tables,
            j.ids + c.row % j.period,
            size_t(j.period > 1),
            j.symbols + size_t(c.row) * rans_lanes};
}

[[gnu::always_inline]] inline void end(Cursor& c, const Way& w, uint32_t n) noexcept {
    RansJob& j = *c.job;
    _mm512_storeu_si512(j.state, w.a);
    _mm512_storeu_si512(j.state + 16, w.b);
    j.at = size_t(w.p - j.words) / 2;
    c.row += n;
}

// n rows of each job; every one of them has words for the worst case, and none comes to the end of its ids. The jobs
// are told apart while compiling, so that their states stay in registers.
template <bool Masked, size_t... I>
void decode_rows(Cursor* c, uint32_t n, __mmask32 lanes, std::index_sequence<I...>) noexcept {
    Way w[] = {begin(c[I])...};
    for (size_t r = 0; r < n; ++r) (decode_row<Masked>(w[I], r, lanes), ...);
    (end(c[I], w[I], n), ...);
}

template <bool Masked> void decode_some(Cursor* c, uint32_t n_jobs, uint32_t n, __mmask32 lanes) noexcept {
    static_assert(rans_ways == 4);
    switch (n_jobs) {
    case 1:
        return decode_rows<Masked>(c, n, lanes, std::make_index_sequence<1>());
    case 2:
        return decode_rows<Masked>(c, n, lanes, std::make_index_sequence<2>());
    case 3:
        return decode_rows<Masked>(c, n, lanes, std::make_index_sequence<3>());
    default:
        return decode_rows<Masked>(c, n, lanes, std::make_index_sequence<4>());
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
            const uint32_t wrap = j.period > 1 ? j.period - live[i].row % j.period : UINT32_MAX;
            run = wrap < run ? wrap : run;
        }
        if (stalled != UINT32_MAX) {
            // Done, or near the end of its words: finish it carefully.
            rans_decode_scalar(*live[stalled].job, live[stalled].row);
            live[stalled] = live[--n_jobs];
            continue;
        }
        if (masked)
            decode_some<true>(live, same, run, (1u << first.tail_lanes) - 1);
        else
            decode_some<false>(live, same, run, UINT32_MAX);
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
            const __m512i f = _mm512_srli_epi32(e, 16), start = _mm512_and_si512(e, _mm512_set1_epi32(0xffff));
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
