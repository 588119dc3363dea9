#include "codec/rotation.h"

#include <cmath>

namespace larder {

namespace {

bool is_negative(uint32_t d) noexcept {
    return (d + 1) * 0x9e3779b1u >> 31;
}

void flip(float* x, uint32_t dim) noexcept {
    for (uint32_t d = 0; d < dim; ++d) x[d] = is_negative(d) ? -x[d] : x[d];
}

void transform(float* x, uint32_t dim) noexcept {
    for (uint32_t stride = 1; stride < dim; stride *= 2)
        for (uint32_t i = 0; i < dim; i += 2 * stride)
            for (uint32_t j = i; j < i + stride; ++j) {
                const float a = x[j], b = x[j + stride];
                x[j] = a + b;
                x[j + stride] = a - b;
            }
    const float norm = 1 / std::sqrt(float(dim));
    for (uint32_t d = 0; d < dim; ++d) x[d] *= norm;
}

}  // namespace

void rotate_forward(float* x, uint32_t n_heads, uint32_t dim) noexcept {
    for (uint32_t h = 0; h < n_heads; ++h, x += dim) flip(x, dim), transform(x, dim);
}
void rotate_backward(float* x, uint32_t n_heads, uint32_t dim) noexcept {
    for (uint32_t h = 0; h < n_heads; ++h, x += dim) transform(x, dim), flip(x, dim);
}

}  // namespace larder
