// Rotation of a head's channels by signs and a Walsh-Hadamard transform: an outlier channel is spread over all of them,
// so that they can share a scale (QuaRot, TurboQuant). Orthogonal, its own inverse but for the order of its two steps,
// and free of any side data.
//
// Channel d has sign - where bit 31 of (d + 1) * 0x9e3779b1 mod 2^32 is set. The butterflies run over strides 1, 2, 4,
// ... (a, b) -> (a + b, a - b), each sum rounded; then every value is multiplied by the float nearest to 1 / sqrt(dim).
#pragma once

#include <cstdint>

namespace larder {

// dim is a power of two. heads * dim values of one token.
void rotate_forward(float* x, uint32_t n_heads, uint32_t dim) noexcept;
void rotate_backward(float* x, uint32_t n_heads, uint32_t dim) noexcept;

}  // namespace larder
