// The arithmetic of the decoder, once for each instruction set, with the same bits from all of
// them.
//
// Every sum has one order that depends on nothing but the shapes: an output of a product adds its
// terms from the first input to the last; a score adds over the dimensions of the head; attention
// adds over the keys from position 0 on; norms and softmax add in 16 lanes and fold them in a fixed
// tree. Vectors run across outputs, never across a sum, and there is no fused multiply-add. So a
// token's logits do not depend on how its prompt was cut into chunks, on what else is in the batch,
// or on whether earlier keys were computed now or read from a cache.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {

inline constexpr size_t lanes = 16;

constexpr size_t padded(size_t n) {
    return (n + lanes - 1) / lanes * lanes;
}

// One query of one head against the keys 0 .. n_keys-1 of its kv head.
struct AttendRow {
    const float* query;  // [head_dim]
    float* out;          // [head_dim]
    uint32_t n_keys;
};

struct Kernels {
    const char* name;

    // y[t][o] = sum over i of x[t][i] * w[o][i]. w is packed as [n_out / 16][n_in][16]; y has room
    // for padded(n_out).
    void (*product)(const float* x, size_t x_stride, size_t n_tokens, const float* w, size_t n_in, size_t n_out,
                    float* y, size_t y_stride);
    // y = x / sqrt(mean(x * x) + 1e-5) * w, for one token.
    void (*norm)(const float* x, const float* w, size_t n, float* y);
    // gate = gate / (1 + exp(-gate)) * up
    void (*swiglu)(float* gate, const float* up, size_t n);
    // Keys are packed as [n_keys / 16][head_dim][16], values as [n_keys][padded(head_dim)]; both
    // cover whole groups of 16 keys, finite everywhere. scratch: 8 * padded(greatest n_keys)
    // floats.
    void (*attend)(const AttendRow* rows, size_t n_rows, const float* keys, const float* values, size_t head_dim,
                   float scale, float* scratch);
    void (*to_half)(const float* in, uint16_t* out, size_t n);
    void (*to_float)(const uint16_t* in, float* out, size_t n);
};

enum class Isa { baseline, avx2, avx512 };

// The kernels of one instruction set; null where the processor or the build lacks it.
const Kernels* kernels_for(Isa isa) noexcept;
// The best that this processor has.
const Kernels& kernels() noexcept;

}  // namespace engine
