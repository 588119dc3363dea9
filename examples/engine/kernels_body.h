// The kernels' one source. Each kernels_*.cpp includes it, compiled for its instruction set, with
//   ENGINE_WIDTH  floats in a vector register: 4, 8 or 16
//   ENGINE_TILE   tokens that one pass over a panel of weights serves, as many as fit the registers
// Everything here has internal linkage: code made for one instruction set must not be shared with
// another.
#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "half.h"
#include "kernels.h"

namespace engine {
namespace {

// A group of 16 lanes is held as this many vectors of the processor's own width.
constexpr size_t parts = lanes / ENGINE_WIDTH;
typedef float Vec __attribute__((vector_size(ENGINE_WIDTH * 4)));
typedef int32_t IVec __attribute__((vector_size(ENGINE_WIDTH * 4)));

inline Vec load(const float* p) {
    Vec v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

inline void store(float* p, Vec v) {
    __builtin_memcpy(p, &v, sizeof v);
}

// The 16 lanes of a sum folded as a tree: lane i with lane i + 8, then i + 4, i + 2, i + 1.
inline float fold_sum(const Vec (&v)[parts]) {
    float a[lanes];
    for (size_t p = 0; p < parts; ++p) store(a + p * ENGINE_WIDTH, v[p]);
    for (size_t half = lanes / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half; ++i) a[i] += a[i + half];
    return a[0];
}

// exp for |x| up to 87, beyond which it saturates. Relative error below 2e-7.
inline Vec exponential(Vec x) {
    const Vec top = Vec{} + 87.0f;
    x = x > top ? top : x;
    x = x < -top ? -top : x;
    const float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    const Vec n = (x * 1.44269504f + round) - round;
    const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r) * r + r + 1.0f;
    const IVec power = (__builtin_convertvector(n, IVec) + 127) << 23;
    return p * (Vec)power;
}

// T tokens against P neighbouring panels of 16 outputs.
template <size_t T, size_t P>
inline void product_tile(const float* x, size_t x_stride, const float* w, size_t n_in, float* y, size_t y_stride) {
    Vec sum[T][P * parts] = {};
    for (size_t i = 0; i < n_in; ++i)
        for (size_t q = 0; q < P * parts; ++q) {
            const Vec weight = load(w + (q / parts * n_in + i) * lanes + q % parts * ENGINE_WIDTH);
            for (size_t t = 0; t < T; ++t) sum[t][q] += x[t * x_stride + i] * weight;
        }
    for (size_t t = 0; t < T; ++t)
        for (size_t q = 0; q < P * parts; ++q) store(y + t * y_stride + q * ENGINE_WIDTH, sum[t][q]);
}

// Tokens t .. n_tokens in steps of T as far as they go; returns where it stopped.
template <size_t T>
inline size_t product_rows(size_t t, const float* x, size_t x_stride, size_t n_tokens, const float* w, size_t n_in,
                           size_t n_panels, float* y, size_t y_stride) {
    const size_t end = t + (n_tokens - t) / T * T;
    if (end == t) return t;
    for (size_t p = 0; p < n_panels; ++p)  // the panel stays in the first cache for all tokens
        for (size_t u = t; u < end; u += T)
            product_tile<T, 1>(x + u * x_stride, x_stride, w + p * n_in * lanes, n_in, y + u * y_stride + p * lanes,
                               y_stride);
    return end;
}

void product(const float* x, size_t x_stride, size_t n_tokens, const float* w, size_t n_in, size_t n_out, float* y,
             size_t y_stride) {
    const size_t n_panels = padded(n_out) / lanes;
    size_t t = product_rows<ENGINE_TILE>(0, x, x_stride, n_tokens, w, n_in, n_panels, y, y_stride);
    t = product_rows<2>(t, x, x_stride, n_tokens, w, n_in, n_panels, y, y_stride);
    for (; t < n_tokens; ++t) {
        const float* row = x + t * x_stride;
        float* out = y + t * y_stride;
        size_t p = 0;
        for (; p + 4 <= n_panels; p += 4) product_tile<1, 4>(row, 0, w + p * n_in * lanes, n_in, out + p * lanes, 0);
        for (; p < n_panels; ++p) product_tile<1, 1>(row, 0, w + p * n_in * lanes, n_in, out + p * lanes, 0);
    }
}

void norm(const float* x, const float* w, size_t n, float* y) {
    Vec squares[parts] = {};
    size_t i = 0;
    for (; i + lanes <= n; i += lanes)
        for (size_t p = 0; p < parts; ++p) {
            const Vec v = load(x + i + p * ENGINE_WIDTH);
            squares[p] += v * v;
        }
    float last[lanes] = {};
    for (size_t j = i; j < n; ++j) last[j - i] = x[j];
    for (size_t p = 0; p < parts; ++p) {
        const Vec v = load(last + p * ENGINE_WIDTH);
        squares[p] += v * v;
    }
    const float scale = 1.0f / __builtin_sqrtf(fold_sum(squares) / float(n) + 1e-5f);
    for (size_t j = 0; j < n; ++j) y[j] = x[j] * scale * w[j];
}

void swiglu(float* gate, const float* up, size_t n) {
    size_t i = 0;
    for (; i + ENGINE_WIDTH <= n; i += ENGINE_WIDTH) {
        const Vec g = load(gate + i);
        store(gate + i, g / (exponential(-g) + 1.0f) * load(up + i));
    }
    if (i == n) return;
    float tail[ENGINE_WIDTH] = {};
    for (size_t j = i; j < n; ++j) tail[j - i] = gate[j];
    const Vec g = load(tail);
    store(tail, g / (exponential(-g) + 1.0f));
    for (size_t j = i; j < n; ++j) gate[j] = tail[j - i] * up[j];
}

inline float greatest_of(const float* score, size_t n) {
    Vec top = load(score);
    for (size_t j = ENGINE_WIDTH; j < n; j += ENGINE_WIDTH) {
        const Vec v = load(score + j);
        top = v > top ? v : top;
    }
    float a[ENGINE_WIDTH];
    store(a, top);
    float greatest = a[0];
    for (size_t i = 1; i < ENGINE_WIDTH; ++i) greatest = a[i] > greatest ? a[i] : greatest;
    return greatest;
}

// Scores of a row become probabilities times their sum, which is returned. score has room for
// padded(n_keys): what lies past the query's own position counts nothing.
inline float softmax_row(float* score, size_t n_keys) {
    const size_t whole = padded(n_keys);
    for (size_t j = n_keys; j < whole; ++j) score[j] = -__builtin_inff();
    const float greatest = greatest_of(score, whole);
    for (size_t j = 0; j < whole; j += ENGINE_WIDTH) store(score + j, exponential(load(score + j) - greatest));
    for (size_t j = n_keys; j < whole; ++j) score[j] = 0.0f;
    Vec sum[parts] = {};
    for (size_t j = 0; j < whole; j += lanes)
        for (size_t p = 0; p < parts; ++p) sum[p] += load(score + j + p * ENGINE_WIDTH);
    return fold_sum(sum);
}

// scores[r][key] for R rows that share each load of the keys
template <size_t R>
inline void score_tile(const AttendRow* rows, const float* keys, size_t n_keys, size_t head_dim, float scale,
                       float* scores, size_t stride) {
    for (size_t j = 0; j < n_keys; j += lanes) {
        Vec sum[R][parts] = {};
        for (size_t d = 0; d < head_dim; ++d)
            for (size_t p = 0; p < parts; ++p) {
                const Vec key = load(keys + j * head_dim + d * lanes + p * ENGINE_WIDTH);
                for (size_t r = 0; r < R; ++r) sum[r][p] += rows[r].query[d] * key;
            }
        for (size_t r = 0; r < R; ++r)
            for (size_t p = 0; p < parts; ++p) store(scores + r * stride + j + p * ENGINE_WIDTH, sum[r][p] * scale);
    }
}

// Dimensions d .. d + ENGINE_WIDTH - 1 of the weighted values, for R rows; `least` keys belong to
// all of them.
template <size_t R>
inline void value_tile(const AttendRow* rows, const float* values, size_t width, size_t d, size_t least,
                       const float* weights, size_t stride, const float* total, size_t head_dim) {
    Vec sum[R] = {};
    for (size_t j = 0; j < least; ++j) {
        const Vec value = load(values + j * width + d);
        for (size_t r = 0; r < R; ++r) sum[r] += weights[r * stride + j] * value;
    }
    for (size_t r = 0; r < R; ++r) {
        for (size_t j = least; j < rows[r].n_keys; ++j)
            sum[r] += weights[r * stride + j] * load(values + j * width + d);
        float a[ENGINE_WIDTH];
        store(a, sum[r] / total[r]);
        const size_t n = head_dim - d < ENGINE_WIDTH ? head_dim - d : ENGINE_WIDTH;
        for (size_t i = 0; i < n; ++i) rows[r].out[d + i] = a[i];
    }
}

template <size_t R>
inline void attend_tile(const AttendRow* rows, const float* keys, const float* values, size_t head_dim, float scale,
                        float* scratch) {
    size_t most = rows[0].n_keys, least = rows[0].n_keys;
    for (size_t r = 1; r < R; ++r) {
        most = rows[r].n_keys > most ? rows[r].n_keys : most;
        least = rows[r].n_keys < least ? rows[r].n_keys : least;
    }
    const size_t stride = padded(most), width = padded(head_dim);
    score_tile<R>(rows, keys, most, head_dim, scale, scratch, stride);
    float total[R];
    for (size_t r = 0; r < R; ++r) total[r] = softmax_row(scratch + r * stride, rows[r].n_keys);
    for (size_t d = 0; d < head_dim; d += ENGINE_WIDTH)
        value_tile<R>(rows, values, width, d, least, scratch, stride, total, head_dim);
}

void attend(const AttendRow* rows, size_t n_rows, const float* keys, const float* values, size_t head_dim, float scale,
            float* scratch) {
    size_t r = 0;
    for (; r + ENGINE_TILE <= n_rows; r += ENGINE_TILE)
        attend_tile<ENGINE_TILE>(rows + r, keys, values, head_dim, scale, scratch);
    for (; r + 2 <= n_rows; r += 2) attend_tile<2>(rows + r, keys, values, head_dim, scale, scratch);
    for (; r < n_rows; ++r) attend_tile<1>(rows + r, keys, values, head_dim, scale, scratch);
}

void to_half(const float* in, uint16_t* out, size_t n) {
    size_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm256_cvtps_ph(_mm256_loadu_ps(in + i), 0));
#endif
    for (; i < n; ++i) out[i] = float_to_half(in[i]);
}

void to_float(const uint16_t* in, float* out, size_t n) {
    size_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i))));
#endif
    for (; i < n; ++i) out[i] = half_to_float(in[i]);
}

}  // namespace
}  // namespace engine
