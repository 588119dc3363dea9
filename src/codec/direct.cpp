#include "codec/direct.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/numeric.h"
#include "base/result.h"
#include "codec/codebook.h"

namespace larder {

namespace {

constexpr float e2m1_values[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};

// Nearest, ties to the even code; beyond 6 saturates.
uint8_t to_e2m1(float x) noexcept {
    const float a = std::fabs(x);
    const int code = (a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) + (a >= 3.5f) + (a > 5);
    return uint8_t(code | (std::signbit(x) ? 8 : 0));
}
float from_e2m1(uint8_t c) noexcept {
    return c & 8 ? -e2m1_values[c & 7] : e2m1_values[c & 7];
}

// E4M3 (the variant without infinities): nearest, ties to even, saturating at 448.
uint8_t to_e4m3(float x) noexcept {
    const uint8_t sign = std::signbit(x) ? 0x80 : 0;
    const float a = std::min(std::fabs(x), 448.0f);
    if (a < 0x1p-6f) return uint8_t(sign | uint8_t(round_even(a * 512)));
    const uint32_t u = float_to_bits(a);
    return uint8_t(sign | (((u + 0x7ffffu + (u >> 20 & 1)) >> 20) - (120u << 3)));
}
float from_e4m3(uint8_t c) noexcept {
    const uint32_t m = c & 0x7f;
    const float a = m < 8 ? float(m) * 0x1p-9f : bits_to_float((m << 20) + (120u << 23));
    return c & 0x80 ? -a : a;
}

float power_of_two(int e) noexcept {
    return std::ldexp(1.0f, e);
}
// floor(log2 x) of a positive float; 0 becomes the smallest exponent that is stored.
int exponent_of(float x) noexcept {
    return x > 0 ? std::max(std::ilogb(x), -126) : -126;
}
std::byte biased(int e) noexcept {
    return std::byte(uint8_t(std::clamp(e, -126, 127) + 127));
}
int unbiased(std::byte b) noexcept {
    return int(uint8_t(b)) - 127;
}

float largest(const float* x, uint32_t n) noexcept {
    float m = 0;
    for (uint32_t i = 0; i < n; ++i) m = std::max(m, std::fabs(x[i]));
    return m;
}

template <class F> void put_nibbles(uint32_t n, std::byte* out, F code) noexcept {
    for (uint32_t i = 0; i < n; i += 2) out[i / 2] = std::byte(uint8_t(code(i) | (i + 1 < n ? code(i + 1) << 4 : 0)));
}
uint8_t nibble(const std::byte* in, uint32_t i) noexcept {
    return uint8_t(in[i / 2]) >> (i % 2 * 4) & 15;
}

size_t group_bytes(const ExtentShape& e) noexcept {
    const BlockFormat f = e.chain->format;
    const uint32_t g = e.group();
    if (is_codebook(f)) return codebook_group_bytes(f, e.chain->bits[e.kv], g);
    return f == BlockFormat::fp8 ? 2 + size_t(g) : 1 + (size_t(g) + 1) / 2;
}

void encode_group(const ExtentShape& e, const float* x, float token_scale, std::byte* out) noexcept {
    const BlockFormat f = e.chain->format;
    const uint32_t g = e.group();
    const larder_dtype t = e.dtype;
    if (is_codebook(f)) return codebook_encode(f, e.chain->bits[e.kv], x, g, t, out);
    const float most = largest(x, g);
    if (f == BlockFormat::bfp) {
        const int exponent = std::max(exponent_of(most) - 2, -126);
        const float inverse = power_of_two(-exponent);
        out[0] = biased(exponent);
        put_nibbles(g, out + 1,
                    [&](uint32_t i) { return uint8_t(int(round_even(clamp(x[i] * inverse, -8, 7)))) & 15; });
    } else if (f == BlockFormat::mxfp4) {
        const int exponent = std::max(exponent_of(most) - 2, -126);
        const float inverse = power_of_two(-exponent);
        out[0] = biased(exponent);
        put_nibbles(g, out + 1, [&](uint32_t i) { return to_e2m1(x[i] * inverse); });
    } else if (f == BlockFormat::nvfp4) {
        const uint8_t scale = to_e4m3(most / 6 / token_scale);
        const float s = from_e4m3(scale) * token_scale, inverse = reciprocal(s);
        out[0] = std::byte(scale);
        put_nibbles(g, out + 1, [&](uint32_t i) { return to_e2m1(x[i] * inverse); });
    } else {
        const uint16_t scale = scale_bits(most / 448, t);
        const float s = scale_value(scale, t), inverse = reciprocal(s);
        store_le<uint16_t>(out, scale);
        for (uint32_t i = 0; i < g; ++i) out[2 + i] = std::byte(to_e4m3(x[i] * inverse));
    }
}

bool decode_group(const ExtentShape& e, const std::byte* in, float token_scale, float* x) noexcept {
    const BlockFormat f = e.chain->format;
    const uint32_t g = e.group();
    const larder_dtype t = e.dtype;
    if (is_codebook(f)) return codebook_decode(f, e.chain->bits[e.kv], in, g, t, x);
    if (f == BlockFormat::fp8) {
        const float s = scale_value(load_le<uint16_t>(in), t);
        for (uint32_t i = 0; i < g; ++i) x[i] = from_e4m3(uint8_t(in[2 + i])) * s;
        return std::isfinite(s);
    }
    if (f == BlockFormat::nvfp4) {
        const float s = from_e4m3(uint8_t(in[0])) * token_scale;
        for (uint32_t i = 0; i < g; ++i) x[i] = from_e2m1(nibble(in + 1, i)) * s;
        return (uint8_t(in[0]) & 0x7f) != 0x7f;
    }
    const float s = power_of_two(unbiased(in[0]));
    for (uint32_t i = 0; i < g; ++i) {
        const uint8_t c = nibble(in + 1, i);
        x[i] = f == BlockFormat::bfp ? float(int(c ^ 8) - 8) * s : from_e2m1(c) * s;
    }
    return true;
}

void encode_sparse(const float* x, uint32_t dim, uint32_t n_kept, larder_dtype t, std::byte* out) noexcept {
    // The threshold is the n_kept-th largest magnitude; among equals the first are kept. Magnitudes compare as
    // integers.
    uint32_t lo = 0, hi = 0x7f800000u;
    const auto count_at_least = [&](uint32_t m) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < dim; ++i) n += (float_to_bits(x[i]) & 0x7fffffffu) >= m;
        return n;
    };
    while (hi - lo > 1) {
        const uint32_t mid = lo + (hi - lo) / 2;
        (count_at_least(mid) >= n_kept ? lo : hi) = mid;
    }
    uint32_t equals = n_kept - count_at_least(lo + 1);
    const size_t map_bytes = (dim + 7) / 8;
    std::memset(out, 0, map_bytes);
    std::byte* values = out + map_bytes;
    for (uint32_t i = 0; i < dim; ++i) {
        const uint32_t m = float_to_bits(x[i]) & 0x7fffffffu;
        if (m < lo || (m == lo && !equals)) continue;
        equals -= m == lo;
        out[i / 8] |= std::byte(uint8_t(1u << i % 8));
        store_le<uint16_t>(values, scale_bits(x[i], t));
        values += 2;
    }
}

bool decode_sparse(const std::byte* in, uint32_t dim, uint32_t n_kept, larder_dtype t, float* x) noexcept {
    const size_t map_bytes = (dim + 7) / 8;
    uint32_t n = 0;
    for (uint32_t i = 0; i < dim; ++i) {
        const bool kept = uint8_t(in[i / 8]) >> i % 8 & 1;
        if (kept && n == n_kept) return false;
        x[i] = kept ? scale_value(load_le<uint16_t>(in + map_bytes + 2 * size_t(n++)), t) : 0.0f;
        if (!std::isfinite(x[i])) return false;
    }
    return n == n_kept;
}

void encode_components(const ExtentShape& e, const float* z, std::byte*& out) noexcept {
    const uint32_t block = e.chain->basis * e.dim;
    const float limit = e.dtype == LARDER_DTYPE_F16 ? 65504.0f : 0x1p126f;
    for (uint32_t first = 0; first < e.width; first += block)
        for (uint32_t j = 0; j < kept_components(e); ++j, out += 2)
            store_le<uint16_t>(out, scale_bits(clamp(z[first + j], -limit, limit), e.dtype));
}

bool decode_components(const ExtentShape& e, const std::byte*& in, float* z) noexcept {
    const uint32_t block = e.chain->basis * e.dim;
    bool good = true;
    for (uint32_t first = 0; first < e.width; first += block) {
        std::fill_n(z + first, block, 0.0f);
        for (uint32_t j = 0; j < kept_components(e); ++j, in += 2) {
            z[first + j] = scale_value(load_le<uint16_t>(in), e.dtype);
            good = good && std::isfinite(z[first + j]);
        }
    }
    return good;
}

size_t head_bytes_sparse(const ExtentShape& e) noexcept {
    return (e.dim + 7) / 8 + 2 * size_t(kept_dims(*e.chain, e.dim));
}

}  // namespace

size_t direct_token_bytes(const ExtentShape& e) noexcept {
    if (e.chain->quant == Quant::sparse) return e.n_heads * head_bytes_sparse(e);
    if (e.chain->quant == Quant::lowrank) return 2 * size_t(e.width / (e.chain->basis * e.dim)) * kept_components(e);
    return e.groups() * group_bytes(e) + (e.chain->format == BlockFormat::nvfp4 ? 1 : 0);
}

void direct_encode(const ExtentShape& e, const ExtentScratch& s, uint32_t n, std::byte*& out) noexcept {
    for (uint32_t t = 0; t < n; ++t) {
        const float* x = s.x + size_t(t) * e.width;
        if (e.chain->quant == Quant::sparse) {
            for (uint32_t h = 0; h < e.n_heads; ++h, out += head_bytes_sparse(e))
                encode_sparse(x + size_t(h) * e.dim, e.dim, kept_dims(*e.chain, e.dim), e.dtype, out);
            continue;
        }
        if (e.chain->quant == Quant::lowrank) {
            encode_components(e, x, out);
            continue;
        }
        float token_scale = 1;
        if (e.chain->format == BlockFormat::nvfp4) {
            // So that the largest group's scale uses E4M3 up to 448.
            const int exponent = std::max(exponent_of(largest(x, e.width)) - 10, -126);
            *out++ = biased(exponent);
            token_scale = power_of_two(exponent);
        }
        if (e.chain->sorted) {
            for (uint32_t c = 0; c < e.width; ++c) s.lo[c] = x[s.order[c]];
            x = s.lo;
        }
        for (uint32_t g = 0; g < e.groups(); ++g, out += group_bytes(e))
            encode_group(e, x + size_t(g) * e.group(), token_scale, out);
    }
}

larder_status direct_decode(const ExtentShape& e, const ExtentScratch& s, uint32_t n, const std::byte* in) noexcept {
    bool good = true;
    for (uint32_t t = 0; t < n; ++t) {
        float* const x = s.x + size_t(t) * e.width;
        if (e.chain->quant == Quant::sparse) {
            for (uint32_t h = 0; h < e.n_heads; ++h, in += head_bytes_sparse(e))
                good = decode_sparse(in, e.dim, kept_dims(*e.chain, e.dim), e.dtype, x + size_t(h) * e.dim) && good;
            continue;
        }
        if (e.chain->quant == Quant::lowrank) {
            good = decode_components(e, in, x) && good;
            continue;
        }
        const float token_scale = e.chain->format == BlockFormat::nvfp4 ? power_of_two(unbiased(*in++)) : 1.0f;
        float* const blocks = e.chain->sorted ? s.lo : x;
        for (uint32_t g = 0; g < e.groups(); ++g, in += group_bytes(e))
            good = decode_group(e, in, token_scale, blocks + size_t(g) * e.group()) && good;
        for (uint32_t c = 0; e.chain->sorted && c < e.width; ++c) x[s.order[c]] = blocks[c];
    }
    return good ? LARDER_OK
                : fail(LARDER_E_CORRUPT, "extent",
                       "an extent has a scale that is not a number, or a bitmap of the wrong size");
}

}  // namespace larder
