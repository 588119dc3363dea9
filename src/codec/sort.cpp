#include "codec/sort.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/result.h"

namespace larder {

namespace {

uint32_t number_bits(const ExtentShape& e) noexcept {
    return uint32_t(std::bit_width(e.groups() - 1));
}

// Sums of squares: in doubles and in the order of the tokens, so that they are the same everywhere.
void measure_power(const Kernels& k, const ExtentShape& e, const ExtentScratch& s) noexcept {
    std::fill_n(s.power, e.width, 0.0);
    for (uint32_t t = 0; t < e.n_tokens; ++t) {
        k.to_f32(s.elems + size_t(t) * e.width * e.elem_bytes, e.dtype, s.x, e.width);
        for (uint32_t c = 0; c < e.width; ++c) s.power[c] += double(s.x[c]) * double(s.x[c]);
    }
}

void write_numbers(const uint32_t* numbers, uint32_t n, uint32_t bits, std::byte* out) noexcept {
    uint64_t held = 0;
    uint32_t n_held = 0;
    for (uint32_t c = 0; c < n; ++c) {
        held |= uint64_t(numbers[c]) << n_held;
        for (n_held += bits; n_held >= 8; n_held -= 8, held >>= 8) *out++ = std::byte(uint8_t(held));
    }
    if (n_held) *out = std::byte(uint8_t(held));
}

}  // namespace

size_t sort_side_bytes(const ExtentShape& e) noexcept {
    return (size_t(e.width) * number_bits(e) + 7) / 8;
}

void sort_channels(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, std::byte*& side) noexcept {
    measure_power(k, e, s);
    std::iota(s.order, s.order + e.width, 0u);
    std::sort(s.order, s.order + e.width,
              [&](uint32_t a, uint32_t b) { return s.power[a] != s.power[b] ? s.power[a] > s.power[b] : a < b; });
    for (uint32_t g = 0; g < e.groups(); ++g) {
        uint32_t* member = s.order + size_t(g) * e.group();
        std::sort(member, member + e.group());
        for (uint32_t i = 0; i < e.group(); ++i) s.block[member[i]] = g;
    }
    write_numbers(s.block, e.width, number_bits(e), side);
    side += sort_side_bytes(e);
}

larder_status read_order(const ExtentShape& e, const ExtentScratch& s, ByteSpan side) noexcept {
    const uint32_t bits = number_bits(e);
    const uint64_t mask = (uint64_t(1) << bits) - 1;
    uint32_t* filled = s.block;
    std::fill_n(filled, e.groups(), 0u);
    uint64_t held = 0;
    uint32_t n_held = 0;
    size_t at = 0;
    for (uint32_t c = 0; c < e.width; ++c) {
        for (; n_held < bits; n_held += 8) held |= uint64_t(uint8_t(side[at++])) << n_held;
        const uint64_t g = held & mask;
        held >>= bits;
        n_held -= bits;
        if (g >= e.groups() || filled[g] == e.group())
            return fail(LARDER_E_CORRUPT, "extent", "the channels of an extent are not divided into its blocks");
        s.order[g * e.group() + filled[g]++] = c;
    }
    return LARDER_OK;
}

}  // namespace larder
