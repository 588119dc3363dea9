// Refinement: quality levels after the base, one bit per value each.
//
// The base of a refined extent is the extent that the chain makes without refinement, byte for byte. Its quantizer put
// a value into a cell of width `step` around the value that the base decodes to. Each level halves the cell: its bit
// says in which half the value lies, and the value moves to that half's middle. So a level is a prefix of the next
// finer one, and a stream cut down to a level is the stream that would have been encoded with that many levels.
//
// With the first i bits, read as the number u, a value moves by (2 u + 1 - 2^i) * (step / 2^(i + 1)).
#pragma once

#include "codec/chain.h"

namespace larder {

// Bits of one extent, [token][channel], first bit lowest. All values of a tile are a whole number of bytes.
struct RefineBits {
    uint32_t n_levels = 0;
    std::byte* plane[max_refine] = {};
    uint64_t at = 0;  // values so far
};
struct RefineView {
    uint32_t n_levels = 0;
    const std::byte* plane[max_refine] = {};
    uint64_t at = 0;
};

constexpr uint64_t refine_plane_bytes(uint64_t n_values) noexcept {
    return (n_values + 7) / 8;
}

// n values of one token, their codes, and the scales that groups of them share; offset[i / group] + q * scale[i /
// group] is what the base decodes to.
void refine_put(RefineBits& bits, const float* x, const int16_t* q, const float* offset, const float* scale,
                uint32_t group, uint32_t n) noexcept;
// Moves n decoded values by what the levels say.
void refine_get(RefineView& bits, const float* scale, uint32_t group, float* x, uint32_t n) noexcept;

}  // namespace larder
