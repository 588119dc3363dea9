#include "codec/eigen.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace larder {

namespace {

constexpr int max_sweeps = 30;
constexpr double tolerance = 1e-12;  // of the diagonal, squared sums

// A rotation of rows and columns p and q that makes a[p][q] zero.
void rotate_out(double* a, double* vectors, uint32_t n, uint32_t p, uint32_t q) noexcept {
    const double apq = a[size_t(p) * n + q];
    if (apq == 0) return;
    const double theta = (a[size_t(q) * n + q] - a[size_t(p) * n + p]) / (2 * apq);
    const double t = (theta < 0 ? -1 : 1) / (std::fabs(theta) + std::sqrt(theta * theta + 1));
    const double c = 1 / std::sqrt(t * t + 1), s = t * c;
    const auto turn = [&](double& x, double& y) {
        const double old = x;
        x = c * old - s * y;
        y = s * old + c * y;
    };
    for (uint32_t k = 0; k < n; ++k) turn(a[size_t(k) * n + p], a[size_t(k) * n + q]);
    for (uint32_t k = 0; k < n; ++k) turn(a[size_t(p) * n + k], a[size_t(q) * n + k]);
    for (uint32_t k = 0; k < n; ++k) turn(vectors[size_t(p) * n + k], vectors[size_t(q) * n + k]);
}

}  // namespace

void symmetric_eigen(double* a, uint32_t n, double* vectors) noexcept {
    std::fill_n(vectors, size_t(n) * n, 0.0);
    for (uint32_t i = 0; i < n; ++i) vectors[size_t(i) * n + i] = 1;
    for (int sweep = 0; sweep < max_sweeps; ++sweep) {
        double diagonal = 0, rest = 0;
        for (uint32_t i = 0; i < n; ++i)
            for (uint32_t j = 0; j < n; ++j) (i == j ? diagonal : rest) += a[size_t(i) * n + j] * a[size_t(i) * n + j];
        if (!(rest > tolerance * diagonal)) break;
        for (uint32_t p = 0; p + 1 < n; ++p)
            for (uint32_t q = p + 1; q < n; ++q) rotate_out(a, vectors, n, p, q);
    }
    for (uint32_t i = 0; i < n; ++i) {  // largest first
        uint32_t top = i;
        for (uint32_t j = i + 1; j < n; ++j)
            if (a[size_t(j) * n + j] > a[size_t(top) * n + top]) top = j;
        if (top == i) continue;
        std::swap(a[size_t(i) * n + i], a[size_t(top) * n + top]);
        std::swap_ranges(vectors + size_t(i) * n, vectors + size_t(i + 1) * n, vectors + size_t(top) * n);
    }
}

}  // namespace larder
