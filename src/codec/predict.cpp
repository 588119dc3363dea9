#include "codec/predict.h"

#include <algorithm>

namespace larder {

namespace {

bool is_reference(const Chain& c, uint32_t t) noexcept {
    return t == 0 || (c.predict == Predict::anchor && t % anchor_run == 0);
}

}  // namespace

void predict_encode(const ExtentShape& e, const ExtentScratch& s, uint32_t t, uint32_t n) noexcept {
    for (uint32_t i = 0; i < n; ++i) {
        int16_t* q = s.q + size_t(i) * e.width;
        if (is_reference(*e.chain, t + i)) {
            std::copy_n(q, e.width, s.reference);
            continue;
        }
        for (uint32_t c = 0; c < e.width; ++c) {
            const int16_t code = q[c];
            q[c] = int16_t(code - s.reference[c]);
            if (e.chain->predict == Predict::previous) s.reference[c] = code;
        }
    }
}

// Codes of a damaged extent may be anything; sums wrap.
void predict_decode(const ExtentShape& e, const ExtentScratch& s, uint32_t t, uint32_t n) noexcept {
    for (uint32_t i = 0; i < n; ++i) {
        int16_t* q = s.q + size_t(i) * e.width;
        const bool reference = is_reference(*e.chain, t + i);
        if (!reference)
            for (uint32_t c = 0; c < e.width; ++c) q[c] = int16_t(uint16_t(q[c]) + uint16_t(s.reference[c]));
        if (reference || e.chain->predict == Predict::previous) std::copy_n(q, e.width, s.reference);
    }
}

}  // namespace larder
