#include <algorithm>
#include <cmath>

#include "codec/adapter.h"

namespace larder {

namespace {

double normal_below(double x) noexcept {
    return 0.5 * std::erfc(-x * 0.70710678118654752440);
}

// The x below which a share p of the normal distribution lies.
double normal_quantile(double p) noexcept {
    double low = -40, high = 40;
    for (int i = 0; i < 80; ++i) {
        const double middle = (low + high) / 2;
        (normal_below(middle) < p ? low : high) = middle;
    }
    return (low + high) / 2;
}

uint32_t nearest(float x, const float* levels, uint32_t n) noexcept {
    uint32_t code = 0;
    while (code + 1 < n && x > (levels[code] + levels[code + 1]) / 2) ++code;
    return code;
}

}  // namespace

void median_levels(uint32_t bits, float* out) noexcept {
    const uint32_t n = 1u << bits;
    double level[16];
    for (uint32_t i = 0; i < n; ++i) level[i] = normal_quantile((i + 0.5) / n);
    for (int round = 0; round < 500; ++round) {
        double below = 0, change = 0;  // share of the distribution below the cell's lower edge
        for (uint32_t i = 0; i < n; ++i) {
            const double edge = i + 1 < n ? normal_below((level[i] + level[i + 1]) / 2) : 1;
            const double median = normal_quantile((below + edge) / 2);
            change = std::max(change, std::fabs(median - level[i]));
            level[i] = median;
            below = edge;
        }
        if (change < 1e-12) break;
    }
    for (uint32_t i = 0; i < n; ++i) out[i] = float(level[i]);
}

void code_matrix(const float* values, uint64_t n, uint32_t bits, const float* levels, std::byte* out) noexcept {
    double sum = 0, squares = 0;
    for (uint64_t i = 0; i < n; ++i) sum += values[i];
    const double mean = sum / double(n);
    for (uint64_t i = 0; i < n; ++i) squares += (values[i] - mean) * (values[i] - mean);
    const double deviation = n > 1 ? std::sqrt(squares / double(n - 1)) : 0;
    const uint32_t per_byte = 8 / bits;
    const uint64_t n_code_bytes = (n * bits + 7) / 8;
    for (uint64_t b = 0; b < n_code_bytes; ++b) {
        uint32_t byte = 0;
        for (uint32_t k = 0; k < per_byte && b * per_byte + k < n; ++k) {
            const float x = float((values[b * per_byte + k] - mean) / (deviation + 1e-5));
            byte |= nearest(x, levels, 1u << bits) << k * bits;
        }
        out[b] = std::byte(byte);
    }
    store_le<float>(out + n_code_bytes, float(mean));
    store_le<float>(out + n_code_bytes + 4, float(deviation));
}

larder_status decode_matrix(ByteSpan in, uint64_t n, uint32_t bits, const float* levels, float* out) noexcept {
    const uint64_t n_code_bytes = (n * bits + 7) / 8;
    const float mean = load_le<float>(in.data() + n_code_bytes),
                deviation = load_le<float>(in.data() + n_code_bytes + 4);
    const uint32_t used = uint32_t(n * bits % 8);
    if (!std::isfinite(mean) || !std::isfinite(deviation) || (used && uint32_t(in[n_code_bytes - 1]) >> used))
        return fail(LARDER_E_CORRUPT, "matrix", "a coded matrix has a scale that is no number, or bits past its end");
    const uint32_t per_byte = 8 / bits, mask = (1u << bits) - 1;
    for (uint64_t i = 0; i < n; ++i)
        out[i] = levels[uint32_t(in[i / per_byte]) >> i % per_byte * bits & mask] * deviation + mean;
    return LARDER_OK;
}

}  // namespace larder
