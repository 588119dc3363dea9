#include "codec/basis.h"

#include <algorithm>

#include "base/numeric.h"

namespace larder {

void basis_expand(const ExtentShape& e, const ExtentScratch& s, const PlaneModel& m, bool encode) noexcept {
    const uint32_t block = basis_channels(e);
    for (uint32_t first = 0; first < e.width; first += block) {
        const std::byte* stored = m.basis + basis_bytes(first, block);
        float* matrix = s.matrix + size_t(first) * block;
        for (uint32_t j = 0; j < block; ++j)
            for (uint32_t c = 0; c < block; ++c) {
                const float u = f16_to_f32(load_le<uint16_t>(stored + 2 * (size_t(j) * block + c)));
                const float weight = m.weight[first + c];
                if (encode)
                    matrix[size_t(c) * block + j] = u * weight;
                else
                    matrix[size_t(j) * block + c] = u / weight;
            }
    }
}

namespace {

void turn(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, uint32_t n) noexcept {
    const uint32_t block = basis_channels(e);
    for (uint32_t first = 0; first < e.width; first += block)
        k.mix(s.x + first, e.width, n, s.matrix + size_t(first) * block, block, s.mixed + first);
}

}  // namespace

void basis_forward(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, const PlaneModel& m,
                   uint32_t n) noexcept {
    for (uint32_t t = 0; t < n; ++t)
        for (uint32_t c = 0; c < e.width; ++c) s.x[size_t(t) * e.width + c] -= m.mean[c];
    turn(k, e, s, n);
    std::copy_n(s.mixed, size_t(n) * e.width, s.x);
}

void basis_backward(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, const PlaneModel& m,
                    uint32_t n) noexcept {
    turn(k, e, s, n);
    for (uint32_t t = 0; t < n; ++t)
        for (uint32_t c = 0; c < e.width; ++c)
            s.x[size_t(t) * e.width + c] = s.mixed[size_t(t) * e.width + c] + m.mean[c];
}

}  // namespace larder
