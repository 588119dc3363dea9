// Uniform quantization with shared scales: groups along channels (a token's row) or along tokens (a channel's column).
//
// Side data, tile by tile. Along channels: for each token, the scales of its groups, then (asymmetric) their offsets.
// Along tokens: for each run of `group` tokens, the scales of all channels, then their offsets. All 16 bits.
#pragma once

#include "codec/extent.h"

namespace larder {

size_t affine_side_bytes(const ExtentShape& e, uint32_t n_tokens) noexcept;
// s.x to s.q; appends to side.
void affine_quantize(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, uint32_t n,
                     std::byte*& side) noexcept;
// s.q to s.x; reads at side_at. E_CORRUPT for a scale that is not finite.
larder_status affine_dequantize(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, uint32_t n,
                                ByteSpan side, size_t& side_at, RefineView& refine) noexcept;
// s.q to packed codes, token by token, and back.
void affine_pack(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, uint32_t n, std::byte*& out) noexcept;
void affine_unpack(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, uint32_t n,
                   const std::byte* in) noexcept;

}  // namespace larder
