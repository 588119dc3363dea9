// Mixed precision after ZipCache (arXiv 2405.14256): salient tokens have more bits, and scales are separable into
// channels and tokens.
//
// Axis token: values are divided by a factor of their channel, the square root of its largest magnitude in the extent;
// then each token has one scale and one offset. Axis channel: each channel has one scale and one offset for the whole
// extent, and a code of an ordinary token counts for as many steps as makes both kinds span the same range. Codes are
// packed token by token.
//
// Side data: when some tokens are salient, a bitmap of the extent's tokens. Axis token: factors of the channels, then
// scale and offset of each token. Axis channel: scales of the channels, then their offsets. All 16 bits.
#pragma once

#include "codec/extent.h"

namespace larder {

// The share of a stream's tokens that were attended to most; among equals the first.
class SalientTokens {
  public:
    // saliency is finite.
    SalientTokens(const float* saliency, uint32_t n_tokens, uint32_t percent) noexcept;
    bool operator[](uint32_t token) const noexcept;

  private:
    int32_t key(uint32_t token) const noexcept;
    uint32_t count_at_least(int64_t key) const noexcept;
    const float* saliency_;
    uint32_t n_;
    int32_t threshold_ = 0;
    uint32_t end_of_equals_ = 0;  // tokens at the threshold are salient before this one
};

constexpr bool is_separable(const Chain& c) noexcept {
    return c.quant == Quant::separable;
}
size_t separable_side_bytes(const ExtentShape& e) noexcept;
// The most that codes can take.
size_t separable_code_bytes(const ExtentShape& e) noexcept;
// What the side data's bitmap says they take.
size_t separable_code_bytes(const ExtentShape& e, const std::byte* side) noexcept;

// Encoding: bitmap and channels from the whole extent, then its tiles from s.x, from token t on.
void separable_begin(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, std::byte*& side) noexcept;
void separable_encode(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, uint32_t t, uint32_t n,
                      std::byte*& side, std::byte*& codes) noexcept;

// Decoding: channels to s, then tiles to s.x; codes_at moves on. E_CORRUPT for a scale that is not finite.
larder_status separable_open(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, ByteSpan side) noexcept;
larder_status separable_decode(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, uint32_t t, uint32_t n,
                               ByteSpan side, const std::byte* codes, size_t& codes_at) noexcept;

}  // namespace larder
