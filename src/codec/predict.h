// Prediction of codes from earlier tokens of the same extent, before they are entropy-coded. It acts on integers, so it
// adds no error and drifts nowhere.
//
//   previous  each token's codes minus the last token's
//   anchor    tokens in runs of ten: the first as it is, the others minus the first (CacheGen, arXiv 2310.07240)
#pragma once

#include "codec/extent.h"

namespace larder {

inline constexpr uint32_t anchor_run = 10;

// n tokens of codes from the extent's token t on, in s.q; s.reference, [width], holds what the next tile needs.
void predict_encode(const ExtentShape& e, const ExtentScratch& s, uint32_t t, uint32_t n) noexcept;
void predict_decode(const ExtentShape& e, const ExtentScratch& s, uint32_t t, uint32_t n) noexcept;

}  // namespace larder
