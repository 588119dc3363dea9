#include "codec/affine.h"

#include <algorithm>

#include "base/numeric.h"
#include "base/result.h"

namespace larder {

namespace {

struct Scales {
    uint32_t n;  // scales of one record
    size_t bytes;
};

Scales record(const ExtentShape& e) noexcept {
    const uint32_t n = e.chain->axis[e.kv] == Axis::token ? e.groups() : e.width;
    return {n, size_t(n) * (e.chain->symmetric ? 2 : 4)};
}

// From ranges (s.lo, s.hi) to what is stored, and to the values that the decoder will see (s.lo: offset, s.scale,
// s.inverse).
void make_scales(const ExtentShape& e, const ExtentScratch& s, uint32_t n, std::byte*& side) noexcept {
    const float limit = float(code_limit(*e.chain, e.kv, e.layer, e.n_layers));
    std::byte* offsets = side + 2 * size_t(n);
    for (uint32_t i = 0; i < n; ++i) {
        float span;
        if (e.chain->symmetric) {
            span = std::max(-s.lo[i], s.hi[i]);
            s.lo[i] = 0;
        } else {
            const uint16_t offset = scale_bits(s.lo[i], e.dtype);
            store_le<uint16_t>(offsets + 2 * size_t(i), offset);
            s.lo[i] = scale_value(offset, e.dtype);
            span = s.hi[i] - s.lo[i];
        }
        const uint16_t scale = scale_bits(std::max(span, 0.0f) / limit, e.dtype);
        store_le<uint16_t>(side + 2 * size_t(i), scale);
        s.scale[i] = scale_value(scale, e.dtype);
        s.inverse[i] = reciprocal(s.scale[i]);
    }
    side += record(e).bytes;
}

larder_status read_scales(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, ByteSpan side,
                          size_t& at) noexcept {
    const Scales r = record(e);
    if (side.size() - at < r.bytes) return fail(LARDER_E_CORRUPT, "extent", "the scales of an extent end early");
    const std::byte* p = side.data() + at;
    at += r.bytes;
    bool finite = k.scales_to_f32(p, e.dtype, s.scale, r.n);
    if (e.chain->symmetric)
        std::fill_n(s.lo, r.n, 0.0f);
    else
        finite = k.scales_to_f32(p + 2 * size_t(r.n), e.dtype, s.lo, r.n) && finite;
    return finite ? LARDER_OK : fail(LARDER_E_CORRUPT, "extent", "an extent has a scale that is not a finite number");
}

float low_code(const ExtentShape& e) noexcept {
    return e.chain->symmetric ? -float(code_limit(*e.chain, e.kv, e.layer, e.n_layers)) : 0.0f;
}

// Packed codes are not negative.
int16_t bias(const ExtentShape& e) noexcept {
    return e.chain->symmetric ? int16_t((1u << (e.chain->bits[e.kv] - 1)) - 1) : int16_t(0);
}

}  // namespace

size_t affine_side_bytes(const ExtentShape& e, uint32_t n_tokens) noexcept {
    const size_t records =
        e.chain->axis[e.kv] == Axis::token ? n_tokens : (size_t(n_tokens) + e.chain->group - 1) / e.chain->group;
    return records * record(e).bytes;
}

void affine_quantize(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, uint32_t n,
                     std::byte*& side) noexcept {
    const float low = low_code(e), high = float(code_limit(*e.chain, e.kv, e.layer, e.n_layers));
    const size_t w = e.width;
    if (e.chain->axis[e.kv] == Axis::token) {
        for (uint32_t t = 0; t < n; ++t) {
            k.group_range(s.x + t * w, e.width, e.group(), s.lo, s.hi);
            make_scales(e, s, e.groups(), side);
            k.quantize(s.x + t * w, s.lo, s.inverse, e.group(), low, high, s.q + t * w, e.width);
            if (e.refine) refine_put(*e.refine, s.x + t * w, s.q + t * w, s.lo, s.scale, e.group(), e.width);
        }
        return;
    }
    for (uint32_t t = 0; t < n; t += e.chain->group) {
        const uint32_t end = std::min(n, t + e.chain->group);
        std::copy_n(s.x + t * w, w, s.lo);
        std::copy_n(s.x + t * w, w, s.hi);
        for (uint32_t i = t + 1; i < end; ++i) k.column_range(s.x + i * w, e.width, s.lo, s.hi);
        make_scales(e, s, e.width, side);
        for (uint32_t i = t; i < end; ++i) {
            k.quantize(s.x + i * w, s.lo, s.inverse, 1, low, high, s.q + i * w, e.width);
            if (e.refine) refine_put(*e.refine, s.x + i * w, s.q + i * w, s.lo, s.scale, 1, e.width);
        }
    }
}

larder_status affine_dequantize(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, uint32_t n,
                                ByteSpan side, size_t& side_at, RefineView& refine) noexcept {
    const size_t w = e.width;
    const bool by_token = e.chain->axis[e.kv] == Axis::token;
    const uint32_t run = by_token ? 1 : e.chain->group, g = by_token ? e.group() : 1;
    for (uint32_t t = 0; t < n; t += run) {
        LARDER_TRY(read_scales(k, e, s, side, side_at));
        for (uint32_t i = t; i < std::min(n, t + run); ++i) {
            k.dequantize(s.q + i * w, s.lo, s.scale, g, s.x + i * w, e.width);
            if (refine.n_levels) refine_get(refine, s.scale, g, s.x + i * w, e.width);
        }
    }
    return LARDER_OK;
}

void affine_pack(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, uint32_t n, std::byte*& out) noexcept {
    const uint32_t bits = e.chain->bits[e.kv];
    const size_t w = e.width, row = (w * bits + 7) / 8;
    if (const int16_t b = bias(e))
        for (size_t i = 0; i < n * w; ++i) s.q[i] = int16_t(s.q[i] + b);
    for (uint32_t t = 0; t < n; ++t, out += row) k.pack(s.q + t * w, bits, out, e.width);
}

void affine_unpack(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, uint32_t n,
                   const std::byte* in) noexcept {
    const uint32_t bits = e.chain->bits[e.kv];
    const size_t w = e.width, row = (w * bits + 7) / 8;
    for (uint32_t t = 0; t < n; ++t) k.unpack(in + t * row, bits, s.q + t * w, e.width);
    if (const int16_t b = bias(e))
        for (size_t i = 0; i < n * w; ++i) s.q[i] = int16_t(s.q[i] - b);
}

}  // namespace larder
