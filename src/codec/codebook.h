// Non-uniform quantizers for values of about normal distribution: a table of 2^bits levels for deviation 1, and a scale
// (and a mean) for each group.
//
//   lloyd   levels of least mean square error (Lloyd-Max); the scale is the group's root mean square
//   median  the medians of 2^bits cells (the 1-bit adapters of arXiv 2307.16867); the group's mean and deviation
#pragma once

#include "codec/chain.h"

namespace larder {

constexpr bool is_codebook(BlockFormat f) noexcept {
    return f == BlockFormat::lloyd || f == BlockFormat::median;
}
// The 2^bits levels, ascending, bits 1 to 4.
const float* codebook_levels(BlockFormat f, uint32_t bits) noexcept;

size_t codebook_group_bytes(BlockFormat f, uint32_t bits, uint32_t group) noexcept;
void codebook_encode(BlockFormat f, uint32_t bits, const float* x, uint32_t group, larder_dtype t,
                     std::byte* out) noexcept;
// False when a scale is not finite.
bool codebook_decode(BlockFormat f, uint32_t bits, const std::byte* in, uint32_t group, larder_dtype t,
                     float* x) noexcept;

}  // namespace larder
