// Quantizers whose codes are bytes at once, without integers in between: block floating point and magnitude pruning.
// Sizes are fixed by the shape.
//
// Per token, for each group of channels (block) or each head (sparse), one record:
//   bfp    u8 exponent + 127 of the step; 4-bit two's complement mantissas
//   mxfp4  u8 exponent + 127 of the scale (E8M0); E2M1 codes            (OCP Microscaling Formats 1.0)
//   nvfp4  u8 E4M3 scale of max/6; E2M1 codes; scales are relative to one power of two per token, u8 exponent + 127,
//   first in its record fp8    u16 scale of max/448 in the data's 16-bit format; E4M3 codes sparse bitmap of the kept
//   dimensions, then their values in 16 bits, ascending (after arXiv 2505.22913)
//   lloyd, median  of codebook.h
// A lowrank record: the first components of each block of basis.h in 16 bits.
// With sorted channels (sort.h) a block's channels are those of s.order.
// Codes of 4 bits: two to a byte, the first in the low half.
#pragma once

#include "codec/extent.h"

namespace larder {

constexpr bool is_direct(const Chain& c) noexcept {
    return c.quant == Quant::block || c.quant == Quant::sparse || c.quant == Quant::lowrank;
}
size_t direct_token_bytes(const ExtentShape& e) noexcept;
// s.x (n tokens) to bytes.
void direct_encode(const ExtentShape& e, const ExtentScratch& s, uint32_t n, std::byte*& out) noexcept;
// Bytes to s.x. E_CORRUPT for a scale that is no number or a bitmap of another size.
larder_status direct_decode(const ExtentShape& e, const ExtentScratch& s, uint32_t n, const std::byte* in) noexcept;

// Dimensions of a head that sparse keeps.
constexpr uint32_t kept_dims(const Chain& c, uint32_t dim) noexcept {
    return (dim * c.keep_percent + 99) / 100;
}

constexpr uint32_t kept_components(const ExtentShape& e) noexcept {
    return kept_dims(*e.chain, e.chain->basis * e.dim);
}

}  // namespace larder
