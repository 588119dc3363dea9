// Codes to elements in the pages of an arena, in one pass: value = code * scale + offset, rounded once to binary32 and
// once to a half, and stored where the block table says. Nothing is staged.
//
// A thread block takes one token; each thread takes pairs of neighbouring channels, so that stores are of 4 bytes side
// by side. Scales and offsets of the token's groups are brought to shared memory first.
#pragma once

#include "../tile/tile.h"

namespace larder::tile {

inline constexpr int dequantize_threads = 128;
inline constexpr int dequantize_groups = 1024;  // of one token, at most

struct DequantizeArgs {
    const unsigned char* codes;  // [token][width / 2]: 4 bits a channel, the first in the low half
    const uint16_t* scales;      // [token][2][groups] halves: scales, then offsets
    unsigned char* pool;
    const int32_t* table;  // page number of tokens 0 .. page_tokens - 1, and so on; negative: skipped
    uint64_t page_bytes, page_offset, token_stride;
    uint32_t n_tokens, width, group, page_tokens;  // width and group even
};

// The value of a half; infinities and NaN do not occur in checked scales.
LARDER_TILE float half_value(uint16_t h) {
    const uint32_t sign = uint32_t(h & 0x8000u) << 16, m = h & 0x3ffu, e = h >> 10 & 31;
    union {
        uint32_t u;
        float f;
    } v;
    if (e == 0) return (sign ? -1.0f : 1.0f) * (float(m) * 0x1p-24f);
    v.u = sign | (e + 112) << 23 | m << 13;
    return v.f;
}

// Rounded to nearest even, saturating at the largest finite half.
LARDER_TILE uint32_t half_bits(float x) {
    union {
        float f;
        uint32_t u;
    } v;
    v.f = x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x;
    const uint32_t sign = v.u >> 16 & 0x8000u, a = v.u & 0x7fffffffu;
    if (a >= 0x38800000u) return sign | (a - (112u << 23) + 0xfffu + (a >> 13 & 1)) >> 13;
    v.u = a;
    v.f += 0.5f;  // rounds at 2^-24, the last bit of a subnormal half
    return sign | (v.u - 0x3f000000u);
}

// Called by the threads of a block of dequantize_threads; `scales` is Block::Shared<float, 2 * dequantize_groups>.
template <class Block, class Scales>
LARDER_TILE void dequantize_pages(Block& block, Scales& scales, const DequantizeArgs& a) {
    const uint64_t t = uint64_t(block.index());
    const int groups = int(a.width / a.group);
    const int32_t page = a.table[t / a.page_tokens];
    block.phase([&](int thread) {
        for (int i = thread; i < 2 * groups; i += dequantize_threads)
            scales.store(thread, i, half_value(a.scales[t * 2 * uint64_t(groups) + uint64_t(i)]));
    });
    block.phase([&](int thread) {
        if (page < 0) return;
        unsigned char* const to =
            a.pool + uint64_t(page) * a.page_bytes + a.page_offset + t % a.page_tokens * a.token_stride;
        for (uint32_t i = uint32_t(thread); i < a.width / 2; i += dequantize_threads) {
            const uint32_t both = a.codes[t * (a.width / 2) + i];
            const int g = int(2 * i / a.group);
            const float s = scales.load(thread, g), m = scales.load(thread, groups + g);
            // Two roundings: the compiler must not contract them into one (-fmad=false).
            const float low = float(both & 15) * s, high = float(both >> 4) * s;
            *reinterpret_cast<uint32_t*>(to + 4 * uint64_t(i)) = half_bits(low + m) | half_bits(high + m) << 16;
        }
    });
}

}  // namespace larder::tile
