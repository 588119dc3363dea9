// Rotary position embedding undone and redone, with arithmetic that gives the same bits everywhere.
//
// Angles come from the frequencies that a profile stores; sines and cosines from our own series in double, because
// those of mathematics libraries differ in the last bit between versions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codec/kernels.h"

namespace larder {

struct Rope {
    bool interleaved = false;           // pairs (2i, 2i+1), or (i, i + dims/2)
    uint32_t dims = 0;                  // leading dimensions of a head that are rotated; 0: none
    const double* frequency = nullptr;  // [dims / 2], radians per token

    // Scratch of one tile: cosines and sines of all tokens.
    static constexpr size_t scratch_floats(uint32_t dims) noexcept { return size_t(tile_tokens) * dims; }
};

// Rotate the keys of n tokens (positions first, first + 1, ...), x is [n][heads][dim]; backwards with direction -1.
void rope_rotate(const Kernels& k, const Rope& r, uint64_t first, uint32_t n, uint32_t heads, uint32_t dim,
                 int direction, float* x, float* scratch) noexcept;

// sin and cos of x in double, for 0 <= x < 2^26; deterministic.
void sin_cos(double x, double& s, double& c) noexcept;

}  // namespace larder
