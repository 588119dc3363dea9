#include "codec/codebook.h"

#include <algorithm>
#include <cmath>

#include "base/numeric.h"

namespace larder {

namespace {

constexpr uint32_t most_levels = 16;

constexpr float lloyd_levels[4][most_levels] = {
    {-0.7978846f, 0.7978846f},
    {-1.510418f, -0.45278f, 0.45278f, 1.510418f},
    {-2.151946f, -1.343909f, -0.7560053f, -0.2450942f, 0.2450942f, 0.7560053f, 1.343909f, 2.151946f},
    {-2.73259f, -2.069017f, -1.618046f, -1.256231f, -0.9423405f, -0.6567591f, -0.3880483f, -0.128395f, 0.128395f,
     0.3880483f, 0.6567591f, 0.9423405f, 1.256231f, 1.618046f, 2.069017f, 2.73259f},
};
constexpr float median_levels[4][most_levels] = {
    {-0.6744898f, 0.6744898f},
    {-1.26572f, -0.3777542f, 0.3777542f, 1.26572f},
    {-1.792025f, -1.113729f, -0.6254197f, -0.2026238f, 0.2026238f, 0.6254197f, 1.113729f, 1.792025f},
    {-2.265491f, -1.707738f, -1.333107f, -1.034006f, -0.7751921f, -0.5400721f, -0.319036f, -0.1055503f, 0.1055503f,
     0.319036f, 0.5400721f, 0.7751921f, 1.034006f, 1.333107f, 1.707738f, 2.265491f},
};

size_t head_bytes(BlockFormat f) noexcept {
    return f == BlockFormat::median ? 4 : 2;
}

}  // namespace

const float* codebook_levels(BlockFormat f, uint32_t bits) noexcept {
    return f == BlockFormat::lloyd ? lloyd_levels[bits - 1] : median_levels[bits - 1];
}

size_t codebook_group_bytes(BlockFormat f, uint32_t bits, uint32_t group) noexcept {
    return head_bytes(f) + (size_t(group) * bits + 7) / 8;
}

void codebook_encode(BlockFormat f, uint32_t bits, const float* x, uint32_t group, larder_dtype t,
                     std::byte* out) noexcept {
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < group; ++i) sum += double(x[i]);
    const double centre = f == BlockFormat::median ? sum / group : 0;
    for (uint32_t i = 0; i < group; ++i) squares += (double(x[i]) - centre) * (double(x[i]) - centre);
    const float limit = t == LARDER_DTYPE_F16 ? 65504.0f : 0x1p126f;
    const uint16_t scale = scale_bits(std::min(float(std::sqrt(squares / group)), limit), t),
                   middle = scale_bits(float(centre), t);
    store_le<uint16_t>(out, scale);
    if (f == BlockFormat::median) store_le<uint16_t>(out + 2, middle);
    const float inverse = reciprocal(scale_value(scale, t)), offset = scale_value(middle, t);
    const float* levels = codebook_levels(f, bits);
    std::byte* codes = out + head_bytes(f);
    std::fill_n(codes, (size_t(group) * bits + 7) / 8, std::byte{0});
    for (uint32_t i = 0; i < group; ++i) {
        const float v = (x[i] - offset) * inverse;
        uint32_t code = 0;
        while (code + 1 < 1u << bits && v > (levels[code] + levels[code + 1]) / 2) ++code;
        for (uint32_t b = 0; b < bits; ++b) {
            const size_t at = size_t(i) * bits + b;
            codes[at / 8] |= std::byte(uint8_t((code >> b & 1) << at % 8));
        }
    }
}

bool codebook_decode(BlockFormat f, uint32_t bits, const std::byte* in, uint32_t group, larder_dtype t,
                     float* x) noexcept {
    const float scale = scale_value(load_le<uint16_t>(in), t),
                offset = f == BlockFormat::median ? scale_value(load_le<uint16_t>(in + 2), t) : 0.0f;
    const float* levels = codebook_levels(f, bits);
    const std::byte* codes = in + head_bytes(f);
    for (uint32_t i = 0; i < group; ++i) {
        uint32_t code = 0;
        for (uint32_t b = 0; b < bits; ++b) {
            const size_t at = size_t(i) * bits + b;
            code |= (uint32_t(codes[at / 8]) >> at % 8 & 1) << b;
        }
        x[i] = levels[code] * scale + offset;
    }
    return std::isfinite(scale) && std::isfinite(offset);
}

}  // namespace larder
