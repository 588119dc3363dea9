#include "codec/refine.h"

#include <algorithm>

namespace larder {

namespace {

// Where x lies within the cell around the base's value: 0 to 2^levels - 1. What lies outside belongs to the nearest
// end, and no number to the lower one.
uint32_t place(float x, float base, float scale, uint32_t n_levels) noexcept {
    const float cells = float(1u << n_levels);
    const float at = scale > 0 ? ((x - base) / scale + 0.5f) * cells : 0.5f * cells;
    return at >= cells ? (1u << n_levels) - 1 : at > 0 ? uint32_t(at) : 0;
}

}  // namespace

void refine_put(RefineBits& b, const float* x, const int16_t* q, const float* offset, const float* scale,
                uint32_t group, uint32_t n) noexcept {
    uint8_t pending[max_refine] = {};
    uint64_t at = b.at;
    // A token may begin within a byte: the bits of the token before are there already.
    for (uint32_t l = 0; l < b.n_levels; ++l)
        if (at % 8) pending[l] = uint8_t(b.plane[l][at / 8]);
    for (uint32_t i = 0; i < n; ++i, ++at) {
        const uint32_t g = group == 1 ? i : i / group;
        const uint32_t u = place(x[i], float(q[i]) * scale[g] + offset[g], scale[g], b.n_levels);
        for (uint32_t l = 0; l < b.n_levels; ++l) {
            if (at % 8 == 0) pending[l] = 0;
            pending[l] = uint8_t(pending[l] | (u >> (b.n_levels - 1 - l) & 1) << at % 8);
            b.plane[l][at / 8] = std::byte(pending[l]);
        }
    }
    b.at = at;
}

void refine_get(RefineView& b, const float* scale, uint32_t group, float* x, uint32_t n) noexcept {
    const float part = 1.0f / float(2u << b.n_levels);
    const int32_t middle = 1 - int32_t(1u << b.n_levels);
    uint64_t at = b.at;
    for (uint32_t i = 0; i < n; ++i, ++at) {
        uint32_t u = 0;
        for (uint32_t l = 0; l < b.n_levels; ++l) u = u << 1 | (uint32_t(b.plane[l][at / 8]) >> at % 8 & 1);
        x[i] += float(2 * int32_t(u) + middle) * (scale[group == 1 ? i : i / group] * part);
    }
    b.at = at;
}

}  // namespace larder
