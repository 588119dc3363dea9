// The inner loops of the codecs, compiled once per instruction set from one source (kernels_body.h), all giving the
// same bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"
#include "codec/rans.h"
#include "larder/layout.h"

namespace larder {

inline constexpr uint32_t tile_tokens = 32;  // one row of lanes
inline constexpr uint32_t rans_ways = 4;  // jobs decoded in turn, so that one's latency hides behind the others' work

// What a channel's table does to a quantized value: class = (q >> k) - base, or the escape n when that is not in 0 ..
// n-1.
struct ChannelCodes {
    const int16_t* base;
    const uint16_t* k;
    const uint16_t* n;
};

struct Kernels {
    // Up to rans_ways jobs.
    void (*rans_decode)(RansJob* const* jobs, uint32_t n_jobs) noexcept;
    size_t (*rans_encode)(RansJob& job, uint16_t* words_end) noexcept;

    // Elements to floats; NaN becomes 0, magnitudes are clamped to what the lossy stages can carry.
    void (*to_f32)(const std::byte* src, larder_dtype t, float* dst, size_t n) noexcept;
    void (*from_f32)(const float* src, larder_dtype t, std::byte* dst, size_t n) noexcept;
    // dst[c][t] = src[t][c], strides in bytes.
    void (*transpose8)(const uint8_t* src, size_t src_stride, uint8_t* dst, size_t dst_stride, uint32_t rows,
                       uint32_t columns) noexcept;

    // Floats: exponent field to q, sign and mantissa packed into bit and byte planes of the same n values; and back.
    void (*split)(const std::byte* src, larder_dtype t, int16_t* q, std::byte* rest, size_t n) noexcept;
    void (*join)(const int16_t* q, const std::byte* rest, larder_dtype t, std::byte* dst, size_t n) noexcept;

    // The exponents of a tile of 32 tokens, as classes [channel][32], and its planes to 16-bit floats, a token at each
    // of to[]. The bits of escapes[token][channel / 64] say which classes are their channel's limit; returns whether
    // any is. next[] are places that will be written to soon: they are brought near. width is a multiple of 64. NULL:
    // transpose8, declassify and join are no slower.
    bool (*restore)(const uint8_t* classes, const uint8_t* base, const uint8_t* limit, const std::byte* rest,
                    larder_dtype t, std::byte* const* to, std::byte* const* next, uint64_t* escapes,
                    uint32_t width) noexcept;

    // One token's channels: classes and low bits (low NULL: no channel has any); returns whether there is an escape.
    // And back (escapes come out as garbage to be patched).
    bool (*classify)(const int16_t* q, const ChannelCodes& codes, uint8_t* symbols, uint8_t* low, uint32_t n) noexcept;
    bool (*declassify)(const uint8_t* symbols, const uint8_t* low, const ChannelCodes& codes, int16_t* q,
                       uint32_t n) noexcept;

    // Channels of one token whose class is the escape (n of the channel), ascending.
    uint32_t (*find_escapes)(const uint8_t* symbols, const uint16_t* limits, uint32_t n, uint32_t* at) noexcept;

    // Stored 16-bit scales to floats; false when one is not finite.
    bool (*scales_to_f32)(const std::byte* src, larder_dtype t, float* dst, uint32_t n) noexcept;
    // Groups of g consecutive values: smallest and largest.
    void (*group_range)(const float* x, uint32_t n, uint32_t g, float* lo, float* hi) noexcept;
    // The same for one row at a time over many rows: lo and hi are running.
    void (*column_range)(const float* x, uint32_t n, float* lo, float* hi) noexcept;
    // q = clamp(round((x - mid) * inverse), lo, hi); mid and inverse apply to g consecutive values.
    void (*quantize)(const float* x, const float* mid, const float* inverse, uint32_t g, float lo, float hi, int16_t* q,
                     uint32_t n) noexcept;
    // y = q * step + mid.
    void (*dequantize)(const int16_t* q, const float* mid, const float* step, uint32_t g, float* y,
                       uint32_t n) noexcept;
    // Rows of `size` values, `stride` apart: y[o] = sum over i, ascending, of x[i] * matrix[i][o].
    void (*mix)(const float* x, size_t stride, uint32_t n_rows, const float* matrix, uint32_t size, float* y) noexcept;
    // Rotate pairs of one head by their angles.
    void (*rotate)(float* x, const float* cosines, const float* sines, uint32_t n_pairs, bool interleaved) noexcept;
    // Codes 0 .. 2^bits - 1 to a little-endian bit string and back; n * bits is a multiple of 8, or the last byte is
    // padded with zeros.
    void (*pack)(const int16_t* q, uint32_t bits, std::byte* dst, uint32_t n) noexcept;
    void (*unpack)(const std::byte* src, uint32_t bits, int16_t* q, uint32_t n) noexcept;
};

const Kernels& kernels(IsaLevel level) noexcept;
extern const Kernels kernels_scalar;
#if defined(__x86_64__)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif

// Bytes of the sign and mantissa planes of n values.
constexpr size_t rest_bytes(larder_dtype t, size_t n) noexcept {
    return t == LARDER_DTYPE_F16 ? n + 3 * ((n + 31) / 32 * 4) : t == LARDER_DTYPE_BF16 ? n : 3 * n;
}

}  // namespace larder
