// Eigenvectors of small symmetric matrices.
#pragma once

#include <cstdint>

namespace larder {

// a is [n][n], symmetric, and is destroyed. Row i of vectors, [n][n], becomes the unit eigenvector of the i-th largest
// eigenvalue. Cyclic Jacobi rotations.
void symmetric_eigen(double* a, uint32_t n, double* vectors) noexcept;

}  // namespace larder
