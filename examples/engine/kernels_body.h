// The kernels' one source. Each kernels_*.cpp includes it, compiled for its instruction set, with
//   ENGINE_TILE     tokens that one pass over a panel of weights serves (as many as fit the registers)
// Everything here has internal linkage: code made for one instruction set must not be shared with another.
#include <cstring>
#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "half.h"
#include "kernels.h"

namespace engine {
namespace {

typedef float Vec __attribute__((vector_size(64)));
typedef int32_t IVec __attribute__((vector_size(64)));

inline Vec load(const float* p) {
    Vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

inline float fold_sum(Vec v) {
    float a[lanes];
    store(a, v);
    for (size_t half = lanes / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half; ++i) a[i] += a[i + half];
    return a[0];
}

inline Vec greater(Vec a, Vec b) { return a > b ? a : b; }

// exp for |x| up to 87, beyond which it saturates. Relative error below 2e-7.
inline Vec exponential(Vec x) {
    const Vec top = Vec{} + 87.0f;
    x = x > top ? top : x;
    x = x < -top ? -top : x;
    const float round = 12582912.0f; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
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
    Vec sum[T][P] = {};
    for (size_t i = 0; i < n_in; ++i)
        for (size_t p = 0; p < P; ++p) {
            const Vec weight = load(w + (p * n_in + i) * lanes);
            for (size_t t = 0; t < T; ++t) sum[t][p] += x[t * x_stride + i] * weight;
        }
    for (size_t t = 0; t < T; ++t)
        for (size_t p = 0; p < P; ++p) store(y + t * y_stride + p * lanes, sum[t][p]);
}

void product(const float* x, size_t x_stride, size_t n_tokens, const float* w, size_t n_in, size_t n_out, float* y,
             size_t y_stride) {
    const size_t n_panels = padded(n_out) / lanes;
    size_t t = 0;
    if (n_tokens >= ENGINE_TILE) {
        const size_t whole = n_tokens / ENGINE_TILE * ENGINE_TILE;
        for (size_t p = 0; p < n_panels; ++p) // the panel stays in the first cache for all tokens
            for (t = 0; t < whole; t += ENGINE_TILE)
                product_tile<ENGINE_TILE, 1>(x + t * x_stride, x_stride, w + p * n_in * lanes, n_in,
                                             y + t * y_stride + p * lanes, y_stride);
    }
    for (; t < n_tokens; ++t) {
        const float* row = x + t * x_stride;
        float* out = y + t * y_stride;
        size_t p = 0;
        for (; p + 4 <= n_panels; p += 4) product_tile<1, 4>(row, 0, w + p * n_in * lanes, n_in, out + p * lanes, 0);
        for (; p < n_panels; ++p) product_tile<1, 1>(row, 0, w + p * n_in * lanes, n_in, out + p * lanes, 0);
    }
}

void norm(const float* x, const float* w, size_t n, float* y) {
    Vec squares = {};
    size_t i = 0;
    for (; i + lanes <= n; i += lanes) squares += load(x + i) * load(x + i);
    float last[lanes] = {};
    for (size_t j = i; j < n; ++j) last[j - i] = x[j];
    squares += load(last) * load(last);
    const float scale = 1.0f / __builtin_sqrtf(fold_sum(squares) / float(n) + 1e-5f);
    for (size_t j = 0; j < n; ++j) y[j] = x[j] * scale * w[j];
}

void swiglu(float* gate, const float* up, size_t n) {
    size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        const Vec g = load(gate + i);
        store(gate + i, g / (exponential(-g) + 1.0f) * load(up + i));
    }
    if (i == n) return;
    float tail[lanes] = {};
    std::memcpy(tail, gate + i, (n - i) * sizeof(float));
    const Vec g = load(tail);
    store(tail, g / (exponential(-g) + 1.0f));
    for (size_t j = i; j < n; ++j) gate[j] = tail[j - i] * up[j];
}

// Scores of the row become probabilities times their sum; the sum is returned. Lanes past n_keys become 0.
inline float softmax_row(float* score, size_t n_keys) {
    const size_t whole = padded(n_keys);
    for (size_t j = n_keys; j < whole; ++j) score[j] = -__builtin_inff();
    Vec top = load(score);
    for (size_t j = lanes; j < whole; j += lanes) top = greater(load(score + j), top);
    float a[lanes];
    store(a, top);
    float greatest = a[0];
    for (size_t i = 1; i < lanes; ++i) greatest = a[i] > greatest ? a[i] : greatest;
    Vec sum = {};
    for (size_t j = 0; j < whole; j += lanes) {
        Vec e = exponential(load(score + j) - greatest);
        if (j + lanes > n_keys) { // the last group: what lies past the query's own position counts nothing
            store(a, e);
            for (size_t i = n_keys - j; i < lanes; ++i) a[i] = 0.0f;
            e = load(a);
        }
        store(score + j, e);
        sum += e;
    }
    return fold_sum(sum);
}

// R rows share each load of keys and values.
template <size_t R>
inline void attend_tile(const AttendRow* rows, const float* keys, const float* values, size_t head_dim, float scale,
                        float* scratch) {
    size_t most = 0, least = rows[0].n_keys;
    for (size_t r = 0; r < R; ++r) {
        most = rows[r].n_keys > most ? rows[r].n_keys : most;
        least = rows[r].n_keys < least ? rows[r].n_keys : least;
    }
    const size_t stride = padded(most);
    for (size_t j = 0; j < most; j += lanes) {
        Vec sum[R] = {};
        for (size_t d = 0; d < head_dim; ++d) {
            const Vec key = load(keys + (j * head_dim) + d * lanes);
            for (size_t r = 0; r < R; ++r) sum[r] += rows[r].query[d] * key;
        }
        for (size_t r = 0; r < R; ++r) store(scratch + r * stride + j, sum[r] * scale);
    }
    float total[R];
    for (size_t r = 0; r < R; ++r) total[r] = softmax_row(scratch + r * stride, rows[r].n_keys);
    const size_t width = padded(head_dim);
    for (size_t d = 0; d < width; d += lanes) {
        Vec sum[R] = {};
        for (size_t j = 0; j < least; ++j) {
            const Vec value = load(values + j * width + d);
            for (size_t r = 0; r < R; ++r) sum[r] += scratch[r * stride + j] * value;
        }
        for (size_t r = 0; r < R; ++r) {
            for (size_t j = least; j < rows[r].n_keys; ++j)
                sum[r] += scratch[r * stride + j] * load(values + j * width + d);
            float a[lanes];
            store(a, sum[r] / total[r]);
            const size_t n = head_dim - d < lanes ? head_dim - d : lanes;
            std::memcpy(rows[r].out + d, a, n * sizeof(float));
        }
    }
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

} // namespace
} // namespace engine
