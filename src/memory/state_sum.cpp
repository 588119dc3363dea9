#include "memory/state_sum.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "base/numeric.h"

namespace larder {
namespace {

struct F32 {
    using Bits = uint32_t;
    static float load(Bits b) noexcept { return bits_to_float(b); }
    static Bits store(float f) noexcept { return float_to_bits(f); }
};

struct F16 {
    using Bits = uint16_t;
    static float load(Bits b) noexcept { return f16_to_f32(b); }
    static Bits store(float f) noexcept { return f != f ? Bits(0x7e00) : f32_to_f16(f); }
};

struct BF16 {
    using Bits = uint16_t;
    static float load(Bits b) noexcept { return bf16_to_f32(b); }
    static Bits store(float f) noexcept { return f != f ? Bits(0x7fc0) : f32_to_bf16(f); }
};

template <class T> void add(std::byte* dst, std::span<const void* const> srcs, size_t n_bytes) noexcept {
    using Bits = typename T::Bits;
    constexpr size_t n_block = 1024;
    float sum[n_block];
    for (size_t at = 0; at < n_bytes; at += n_block * sizeof(Bits)) {
        const size_t n = std::min(n_block, (n_bytes - at) / sizeof(Bits));
        Bits bits[n_block];
        std::memcpy(bits, dst + at, n * sizeof(Bits));
        for (size_t i = 0; i < n; ++i) sum[i] = T::load(bits[i]);
        for (const void* src : srcs) {
            std::memcpy(bits, static_cast<const std::byte*>(src) + at, n * sizeof(Bits));
            for (size_t i = 0; i < n; ++i) sum[i] += T::load(bits[i]);
        }
        for (size_t i = 0; i < n; ++i) bits[i] = T::store(sum[i]);
        std::memcpy(dst + at, bits, n * sizeof(Bits));
    }
}

}  // namespace

size_t state_element_bytes(larder_dtype t) noexcept {
    return t == LARDER_DTYPE_F32 ? 4 : t == LARDER_DTYPE_F16 || t == LARDER_DTYPE_BF16 ? 2 : 0;
}

void add_states(larder_dtype t, void* dst, std::span<const void* const> srcs, size_t n_bytes) noexcept {
    auto* out = static_cast<std::byte*>(dst);
    if (t == LARDER_DTYPE_F32) add<F32>(out, srcs, n_bytes);
    if (t == LARDER_DTYPE_F16) add<F16>(out, srcs, n_bytes);
    if (t == LARDER_DTYPE_BF16) add<BF16>(out, srcs, n_bytes);
}

}  // namespace larder
