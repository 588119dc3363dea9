#include "codec/separable.h"

#include <algorithm>
#include <cmath>

#include "base/numeric.h"
#include "base/result.h"

namespace larder {

namespace {

bool by_channel(const ExtentShape& e) noexcept {
    return e.chain->axis[e.kv] == Axis::channel;
}
size_t bitmap_bytes(const ExtentShape& e) noexcept {
    return e.chain->salient_percent ? (size_t(e.n_tokens) + 7) / 8 : 0;
}
bool is_salient(const ExtentShape& e, const std::byte* side, uint32_t t) noexcept {
    return e.chain->salient_percent && (uint8_t(side[t / 8]) >> t % 8 & 1);
}
uint32_t token_bits(const ExtentShape& e, bool salient) noexcept {
    return salient ? e.chain->salient_bits : e.chain->bits[e.kv];
}
float largest_code(uint32_t bits) noexcept {
    return float((1u << bits) - 1);
}
size_t row_bytes(const ExtentShape& e, bool salient) noexcept {
    return (size_t(e.width) * token_bits(e, salient) + 7) / 8;
}

// Axis channel: steps that one code stands for. A whole number, because the smaller width divides the larger.
uint32_t finest_bits(const ExtentShape& e) noexcept {
    return token_bits(e, e.chain->salient_percent != 0);
}
float steps_per_code(const ExtentShape& e, bool salient) noexcept {
    return largest_code(finest_bits(e)) / largest_code(token_bits(e, salient));
}

size_t token_record(const ExtentShape& e, uint32_t t) noexcept {
    return bitmap_bytes(e) + 2 * size_t(e.width) + 4 * size_t(t);
}

// Axis token: s.scale factors, s.inverse their reciprocals, from ranges in s.lo, s.hi.
void make_factors(const ExtentShape& e, const ExtentScratch& s, std::byte* out) noexcept {
    for (uint32_t c = 0; c < e.width; ++c) {
        const float most = std::max(-s.lo[c], s.hi[c]);
        const uint16_t factor = scale_bits(most > 0 ? std::sqrt(most) : 1.0f, e.dtype);
        store_le<uint16_t>(out + 2 * size_t(c), factor);
        s.scale[c] = scale_value(factor, e.dtype);
        s.inverse[c] = reciprocal(s.scale[c]);
    }
}

// Axis channel: s.lo offsets; reciprocals of the steps of salient tokens in s.inverse, of the others in s.hi.
void make_channels(const ExtentShape& e, const ExtentScratch& s, std::byte* out) noexcept {
    const float finest = largest_code(finest_bits(e)), coarse = steps_per_code(e, false);
    for (uint32_t c = 0; c < e.width; ++c) {
        const uint16_t offset = scale_bits(s.lo[c], e.dtype);
        const float low = scale_value(offset, e.dtype);
        const uint16_t scale = scale_bits(std::max(s.hi[c] - low, 0.0f) / finest, e.dtype);
        store_le<uint16_t>(out + 2 * size_t(c), scale);
        store_le<uint16_t>(out + 2 * (size_t(e.width) + c), offset);
        s.lo[c] = low;
        s.inverse[c] = reciprocal(scale_value(scale, e.dtype));
        s.hi[c] = reciprocal(scale_value(scale, e.dtype) * coarse);
    }
}

// One token's scale and offset, from its values divided by their factors. The codes to q.
void quantize_token(const Kernels& k, const ExtentShape& e, float* x, uint32_t bits, std::byte* side,
                    int16_t* q) noexcept {
    const float high = largest_code(bits);
    float range[2];
    k.group_range(x, e.width, e.width, &range[0], &range[1]);
    const uint16_t offset = scale_bits(range[0], e.dtype);
    const float low = scale_value(offset, e.dtype);
    const uint16_t scale = scale_bits(std::max(range[1] - low, 0.0f) / high, e.dtype);
    const float inverse = reciprocal(scale_value(scale, e.dtype));
    store_le<uint16_t>(side, scale);
    store_le<uint16_t>(side + 2, offset);
    k.quantize(x, &low, &inverse, e.width, 0, high, q, e.width);
}

}  // namespace

SalientTokens::SalientTokens(const float* saliency, uint32_t n_tokens, uint32_t percent) noexcept
    : saliency_(saliency), n_(n_tokens) {
    const uint32_t wanted = uint32_t((uint64_t(n_tokens) * percent + 99) / 100);
    int64_t low = INT32_MIN, high = int64_t(INT32_MAX) + 1;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        (count_at_least(middle) >= wanted ? low : high) = middle;
    }
    threshold_ = int32_t(low);
    for (uint32_t left = wanted - count_at_least(low + 1); left && end_of_equals_ < n_; ++end_of_equals_)
        left -= key(end_of_equals_) == threshold_;
}

// Floats as integers of the same order; both zeros are one.
int32_t SalientTokens::key(uint32_t token) const noexcept {
    const int32_t i = int32_t(float_to_bits(saliency_[token] + 0.0f));
    return i ^ (i >> 31 & 0x7fffffff);
}

uint32_t SalientTokens::count_at_least(int64_t least) const noexcept {
    uint32_t n = 0;
    for (uint32_t t = 0; t < n_; ++t) n += key(t) >= least;
    return n;
}

bool SalientTokens::operator[](uint32_t token) const noexcept {
    const int32_t mine = key(token);
    return mine > threshold_ || (mine == threshold_ && token < end_of_equals_);
}

size_t separable_side_bytes(const ExtentShape& e) noexcept {
    return bitmap_bytes(e) + (by_channel(e) ? 4 * size_t(e.width) : 2 * size_t(e.width) + 4 * size_t(e.n_tokens));
}

size_t separable_code_bytes(const ExtentShape& e) noexcept {
    return e.n_tokens * std::max(row_bytes(e, false), row_bytes(e, e.chain->salient_percent != 0));
}

size_t separable_code_bytes(const ExtentShape& e, const std::byte* side) noexcept {
    size_t n_salient = 0;
    for (uint32_t t = 0; t < e.n_tokens; ++t) n_salient += is_salient(e, side, t);
    return n_salient * row_bytes(e, true) + (e.n_tokens - n_salient) * row_bytes(e, false);
}

void separable_begin(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, std::byte*& side) noexcept {
    std::memset(side, 0, bitmap_bytes(e));
    for (uint32_t t = 0; e.chain->salient_percent && t < e.n_tokens; ++t)
        if ((*e.salient)[e.first_token + t]) side[t / 8] |= std::byte(uint8_t(1u << t % 8));
    side += bitmap_bytes(e);
    for (uint32_t t = 0; t < e.n_tokens; ++t) {
        k.to_f32(s.elems + size_t(t) * e.width * e.elem_bytes, e.dtype, s.x, e.width);
        if (t == 0) {
            std::copy_n(s.x, e.width, s.lo);
            std::copy_n(s.x, e.width, s.hi);
        }
        k.column_range(s.x, e.width, s.lo, s.hi);
    }
    if (by_channel(e))
        make_channels(e, s, side);
    else
        make_factors(e, s, side);
    side += (by_channel(e) ? 4 : 2) * size_t(e.width);
}

void separable_encode(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, uint32_t t, uint32_t n,
                      std::byte*& side, std::byte*& codes) noexcept {
    for (uint32_t i = 0; i < n; ++i) {
        float* x = s.x + size_t(i) * e.width;
        const bool salient = e.chain->salient_percent && (*e.salient)[e.first_token + t + i];
        const uint32_t bits = token_bits(e, salient);
        if (by_channel(e)) {
            k.quantize(x, s.lo, salient || !e.chain->salient_percent ? s.inverse : s.hi, 1, 0, largest_code(bits), s.q,
                       e.width);
        } else {
            for (uint32_t c = 0; c < e.width; ++c) x[c] *= s.inverse[c];
            quantize_token(k, e, x, bits, side, s.q);
            side += 4;
        }
        k.pack(s.q, bits, codes, e.width);
        codes += row_bytes(e, salient);
    }
}

larder_status separable_open(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, ByteSpan side) noexcept {
    const std::byte* channels = side.data() + bitmap_bytes(e);
    bool finite = k.scales_to_f32(channels, e.dtype, s.scale, e.width);
    if (by_channel(e)) finite = k.scales_to_f32(channels + 2 * size_t(e.width), e.dtype, s.lo, e.width) && finite;
    return finite ? LARDER_OK : fail(LARDER_E_CORRUPT, "extent", "an extent has a scale that is not a finite number");
}

larder_status separable_decode(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, uint32_t t, uint32_t n,
                               ByteSpan side, const std::byte* codes, size_t& codes_at) noexcept {
    for (uint32_t i = 0; i < n; ++i) {
        float* x = s.x + size_t(i) * e.width;
        const bool salient = is_salient(e, side.data(), t + i);
        k.unpack(codes + codes_at, token_bits(e, salient), s.q, e.width);
        codes_at += row_bytes(e, salient);
        if (by_channel(e)) {
            const int16_t steps = int16_t(steps_per_code(e, salient));
            for (uint32_t c = 0; c < e.width; ++c) s.q[c] = int16_t(s.q[c] * steps);
            k.dequantize(s.q, s.lo, s.scale, 1, x, e.width);
            continue;
        }
        float token[2];
        if (!k.scales_to_f32(side.data() + token_record(e, t + i), e.dtype, token, 2))
            return fail(LARDER_E_CORRUPT, "extent", "an extent has a scale that is not a finite number");
        k.dequantize(s.q, &token[1], &token[0], e.width, x, e.width);
        for (uint32_t c = 0; c < e.width; ++c) x[c] *= s.scale[c];
    }
    return LARDER_OK;
}

}  // namespace larder
