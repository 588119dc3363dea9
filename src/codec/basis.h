// Decorrelation: the channels of neighbouring heads are turned by an orthogonal matrix of the profile, so that most of
// what they share lies in a few components (the Karhunen-Loeve transform). The matrix belongs to channels from which
// their mean was subtracted and which were multiplied by how strongly they are read; a uniform step for all components
// then spends bits where they count (reverse water-filling).
//
// Sums go from the first term to the last, each product and sum rounded, so the bits are the same everywhere.
#pragma once

#include "codec/extent.h"

namespace larder {

inline constexpr uint32_t max_basis_channels = 1024;  // of one block

constexpr uint32_t basis_channels(const ExtentShape& e) noexcept {
    return e.chain->basis * e.dim;
}
// Bytes of one plane's matrices in a profile.
constexpr size_t basis_bytes(uint32_t width, uint32_t block) noexcept {
    return 2 * size_t(width) * block;
}

// Stored halves, [component][channel] of each block, to the floats that forward (encode) or backward use, in s.matrix.
void basis_expand(const ExtentShape& e, const ExtentScratch& s, const PlaneModel& m, bool encode) noexcept;
// s.x of n tokens: channels to components, and back.
void basis_forward(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, const PlaneModel& m,
                   uint32_t n) noexcept;
void basis_backward(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, const PlaneModel& m,
                    uint32_t n) noexcept;

}  // namespace larder
