// Bodies of the kernels as plain loops that compilers vectorise. Included by one file per instruction set, inside its
// own namespace; nothing here may be an ordinary inline function, or the linker could merge versions of different
// instruction sets.

constexpr uint32_t max_mix = 1024;  // max_basis_channels of basis.h

void to_f32_body(const std::byte* src, larder_dtype t, float* dst, size_t n) noexcept {
    if (t == LARDER_DTYPE_F16) {
        for (size_t i = 0; i < n; ++i) {
            uint16_t h;
            __builtin_memcpy(&h, src + 2 * i, 2);
            const uint32_t a = h & 0x7fffu;
            h = a > 0x7c00u ? 0 : a == 0x7c00u ? uint16_t(h - 1) : h;
            dst[i] = f16_to_f32(h);
        }
        return;
    }
    constexpr float limit = 0x1p126f;  // differences of two stay finite
    for (size_t i = 0; i < n; ++i) {
        uint32_t u;
        if (t == LARDER_DTYPE_BF16) {
            uint16_t h;
            __builtin_memcpy(&h, src + 2 * i, 2);
            u = uint32_t(h) << 16;
        } else {
            __builtin_memcpy(&u, src + 4 * i, 4);
        }
        u = (u & 0x7fffffffu) > 0x7f800000u ? 0 : u;
        dst[i] = clamp(bits_to_float(u), -limit, limit);
    }
}

void from_f32_body(const float* src, larder_dtype t, std::byte* dst, size_t n) noexcept {
    if (t == LARDER_DTYPE_F16) {
        for (size_t i = 0; i < n; ++i) {
            const uint16_t h = f32_to_f16(clamp(src[i], -65504.0f, 65504.0f));
            __builtin_memcpy(dst + 2 * i, &h, 2);
        }
    } else if (t == LARDER_DTYPE_BF16) {
        for (size_t i = 0; i < n; ++i) {
            const uint16_t h = f32_to_bf16(src[i]);
            __builtin_memcpy(dst + 2 * i, &h, 2);
        }
    } else {
        __builtin_memcpy(dst, src, 4 * n);
    }
}

void transpose8_body(const uint8_t* src, size_t src_stride, uint8_t* dst, size_t dst_stride, uint32_t rows,
                     uint32_t columns) noexcept {
    for (uint32_t c0 = 0; c0 < columns; c0 += 16) {
        const uint32_t c1 = c0 + 16 < columns ? c0 + 16 : columns;
        for (uint32_t c = c0; c < c1; ++c)
            for (uint32_t r = 0; r < rows; ++r) dst[c * dst_stride + r] = src[r * src_stride + c];
    }
}

// Sign and mantissa. F16: a byte per value (the low mantissa bits), then three bit planes of 32-bit words: mantissa
// bits 8, 9 and the sign. BF16: sign and mantissa in a byte. F32: three byte planes, low to high, the last with the
// sign on top.
void split_body(const std::byte* src, larder_dtype t, int16_t* q, std::byte* rest, size_t n) noexcept {
    auto* low = reinterpret_cast<uint8_t*>(rest);
    if (t == LARDER_DTYPE_BF16) {
        for (size_t i = 0; i < n; ++i) {
            uint16_t h;
            __builtin_memcpy(&h, src + 2 * i, 2);
            q[i] = int16_t(h >> 7 & 0xff);
            low[i] = uint8_t((h & 0x7f) | (h >> 8 & 0x80));
        }
        return;
    }
    if (t == LARDER_DTYPE_F32) {
        for (size_t i = 0; i < n; ++i) {
            uint32_t u;
            __builtin_memcpy(&u, src + 4 * i, 4);
            q[i] = int16_t(u >> 23 & 0xff);
            low[i] = uint8_t(u);
            low[n + i] = uint8_t(u >> 8);
            low[2 * n + i] = uint8_t((u >> 16 & 0x7f) | (u >> 24 & 0x80));
        }
        return;
    }
    const size_t words = (n + 31) / 32;
    for (size_t i = 0; i < n; ++i) {
        uint16_t h;
        __builtin_memcpy(&h, src + 2 * i, 2);
        q[i] = int16_t(h >> 10 & 0x1f);
        low[i] = uint8_t(h);
    }
    for (size_t w = 0; w < words; ++w) {
        uint32_t plane[3] = {0, 0, 0};
        const size_t m = n - 32 * w < 32 ? n - 32 * w : 32;
        for (size_t j = 0; j < m; ++j) {
            uint16_t h;
            __builtin_memcpy(&h, src + 2 * (32 * w + j), 2);
            plane[0] |= uint32_t(h >> 8 & 1) << j;
            plane[1] |= uint32_t(h >> 9 & 1) << j;
            plane[2] |= uint32_t(h >> 15) << j;
        }
        for (size_t p = 0; p < 3; ++p) __builtin_memcpy(rest + n + 4 * (p * words + w), &plane[p], 4);
    }
}

void join_body(const int16_t* q, const std::byte* rest, larder_dtype t, std::byte* dst, size_t n) noexcept {
    auto* low = reinterpret_cast<const uint8_t*>(rest);
    if (t == LARDER_DTYPE_BF16) {
        for (size_t i = 0; i < n; ++i) {
            const uint16_t h = uint16_t((low[i] & 0x7f) | (low[i] & 0x80) << 8 | (q[i] & 0xff) << 7);
            __builtin_memcpy(dst + 2 * i, &h, 2);
        }
        return;
    }
    if (t == LARDER_DTYPE_F32) {
        for (size_t i = 0; i < n; ++i) {
            const uint32_t top = low[2 * n + i];
            const uint32_t u = low[i] | uint32_t(low[n + i]) << 8 | (top & 0x7f) << 16 | (top & 0x80) << 24 |
                               uint32_t(q[i] & 0xff) << 23;
            __builtin_memcpy(dst + 4 * i, &u, 4);
        }
        return;
    }
    const size_t words = (n + 31) / 32;
    for (size_t w = 0; w < words; ++w) {
        uint32_t plane[3];
        for (size_t p = 0; p < 3; ++p) __builtin_memcpy(&plane[p], rest + n + 4 * (p * words + w), 4);
        const size_t m = n - 32 * w < 32 ? n - 32 * w : 32;
        for (size_t j = 0; j < m; ++j) {
            const size_t i = 32 * w + j;
            const uint32_t h = low[i] | (plane[0] >> j & 1) << 8 | (plane[1] >> j & 1) << 9 |
                               (plane[2] >> j & 1) << 15 | uint32_t(q[i] & 0x1f) << 10;
            const uint16_t v = uint16_t(h);
            __builtin_memcpy(dst + 2 * i, &v, 2);
        }
    }
}

bool classify_body(const int16_t* q, const ChannelCodes& codes, uint8_t* symbols, uint8_t* low, uint32_t n) noexcept {
    uint32_t escaped = 0;
    if (!low) {
        uint16_t any = 0;
        for (uint32_t i = 0; i < n; ++i) {
            const uint16_t s = uint16_t(q[i] - codes.base[i]), m = codes.n[i];
            symbols[i] = uint8_t(s < m ? s : m);
            any |= uint16_t(s < m ? 0 : 1);
        }
        return any;
    }
    for (uint32_t i = 0; i < n; ++i) {
        const int32_t s = (q[i] >> codes.k[i]) - codes.base[i];
        const uint32_t bad = uint32_t(s) >= uint32_t(codes.n[i]);
        symbols[i] = uint8_t(bad ? codes.n[i] : s);
        low[i] = uint8_t(q[i] & ((1 << codes.k[i]) - 1));
        escaped |= bad;
    }
    return escaped;
}

bool declassify_body(const uint8_t* symbols, const uint8_t* low, const ChannelCodes& codes, int16_t* q,
                     uint32_t n) noexcept {
    uint32_t escaped = 0;
    if (!low) {
        uint16_t any = 0;
        for (uint32_t i = 0; i < n; ++i) {
            q[i] = int16_t(symbols[i] + codes.base[i]);
            any |= uint16_t(symbols[i] < codes.n[i] ? 0 : 1);
        }
        return any;
    }
    for (uint32_t i = 0; i < n; ++i) {
        q[i] = int16_t((uint32_t(int32_t(symbols[i]) + codes.base[i]) << codes.k[i]) | low[i]);
        escaped |= symbols[i] >= codes.n[i];
    }
    return escaped;
}

[[maybe_unused]] uint32_t find_escapes_body(const uint8_t* symbols, const uint16_t* limits, uint32_t n,
                                            uint32_t* at) noexcept {
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; ++i)
        if (symbols[i] == limits[i]) at[found++] = i;
    return found;
}

bool scales_to_f32_body(const std::byte* src, larder_dtype t, float* dst, uint32_t n) noexcept {
    const bool half = t == LARDER_DTYPE_F16;
    const uint32_t exponent = half ? 0x7c00u : 0x7f80u;
    uint32_t bad = 0;
    for (uint32_t i = 0; i < n; ++i) {
        uint16_t h;
        __builtin_memcpy(&h, src + 2 * size_t(i), 2);
        bad |= (h & exponent) == exponent;
        dst[i] = half ? f16_to_f32(h) : bf16_to_f32(h);
    }
    return !bad;
}

// Floats as integers of the same order, so that minima and maxima vectorise; -0 sorts below +0.
LARDER_INLINE int32_t order_key(float x) noexcept {
    const int32_t i = int32_t(float_to_bits(x));
    return i ^ (i >> 31 & 0x7fffffff);
}
LARDER_INLINE float from_order_key(int32_t k) noexcept {
    return bits_to_float(uint32_t(k ^ (k >> 31 & 0x7fffffff)));
}

void group_range_body(const float* x, uint32_t n, uint32_t g, float* lo, float* hi) noexcept {
    for (uint32_t i = 0, j = 0; i < n; i += g, ++j) {
        int32_t a = INT32_MAX, b = INT32_MIN;
        for (uint32_t k = 0; k < g; ++k) {
            const int32_t v = order_key(x[i + k]);
            a = v < a ? v : a;
            b = v > b ? v : b;
        }
        lo[j] = from_order_key(a);
        hi[j] = from_order_key(b);
    }
}

void column_range_body(const float* x, uint32_t n, float* lo, float* hi) noexcept {
    for (uint32_t i = 0; i < n; ++i) {
        lo[i] = x[i] < lo[i] ? x[i] : lo[i];
        hi[i] = x[i] > hi[i] ? x[i] : hi[i];
    }
}

void quantize_body(const float* x, const float* mid, const float* inverse, uint32_t g, float lo, float hi, int16_t* q,
                   uint32_t n) noexcept {
    if (g == 1) {
        for (uint32_t i = 0; i < n; ++i)
            q[i] = int16_t(int32_t(round_even(clamp((x[i] - mid[i]) * inverse[i], lo, hi))));
        return;
    }
    for (uint32_t i = 0, j = 0; i < n; i += g, ++j) {
        const float m = mid[j], v = inverse[j];
        for (uint32_t k = 0; k < g; ++k) q[i + k] = int16_t(int32_t(round_even(clamp((x[i + k] - m) * v, lo, hi))));
    }
}

// n_rows and n_outputs are constants, so that the sums stay in registers.
template <bool listed, uint32_t n_rows, uint32_t n_outputs>
void mix_tile(const float* x, size_t stride, const uint16_t* used, uint32_t n_used, const float* matrix, uint32_t size,
              float* y) noexcept {
    float sum[n_rows][n_outputs] = {};
    for (uint32_t k = 0; k < n_used; ++k) {
        const size_t i = listed ? used[k] : k;
        for (uint32_t r = 0; r < n_rows; ++r)
            for (uint32_t o = 0; o < n_outputs; ++o) sum[r][o] += x[r * stride + i] * matrix[i * size + o];
    }
    for (uint32_t r = 0; r < n_rows; ++r)
        for (uint32_t o = 0; o < n_outputs; ++o) y[r * stride + o] = sum[r][o];
}

// A term that is zero in all rows changes no sum: sums begin at +0 and never become -0. Most components of a coarse
// level are such terms.
template <uint32_t n_rows>
void mix_rows(const float* x, size_t stride, const float* matrix, uint32_t size, float* y) noexcept {
    constexpr uint32_t outputs = 32;
    uint16_t used[max_mix];
    uint32_t n_used = 0, o = 0;
    for (uint32_t i = 0; i < size; ++i) {
        bool any = false;
        for (uint32_t r = 0; r < n_rows; ++r) any |= x[r * stride + i] != 0;
        used[n_used] = uint16_t(i);
        n_used += any;
    }
    const bool listed = n_used < size - size / 4;  // a list of nearly all costs more than it saves
    for (; listed && o + outputs <= size; o += outputs)
        mix_tile<true, n_rows, outputs>(x, stride, used, n_used, matrix + o, size, y + o);
    for (; o + outputs <= size; o += outputs)
        mix_tile<false, n_rows, outputs>(x, stride, used, size, matrix + o, size, y + o);
    for (; o < size; ++o) mix_tile<true, n_rows, 1>(x, stride, used, n_used, matrix + o, size, y + o);
}

void mix_body(const float* x, size_t stride, uint32_t n_rows, const float* matrix, uint32_t size, float* y) noexcept {
    constexpr uint32_t rows = 4;
    uint32_t r = 0;
    for (; r + rows <= n_rows; r += rows) mix_rows<rows>(x + r * stride, stride, matrix, size, y + r * stride);
    for (; r < n_rows; ++r) mix_rows<1>(x + r * stride, stride, matrix, size, y + r * stride);
}

void dequantize_body(const int16_t* q, const float* mid, const float* step, uint32_t g, float* y, uint32_t n) noexcept {
    if (g == 1) {
        for (uint32_t i = 0; i < n; ++i) y[i] = float(q[i]) * step[i] + mid[i];
        return;
    }
    for (uint32_t i = 0, j = 0; i < n; i += g, ++j) {
        const float m = mid[j], s = step[j];
        for (uint32_t k = 0; k < g; ++k) y[i + k] = float(q[i + k]) * s + m;
    }
}

void rotate_body(float* x, const float* cosines, const float* sines, uint32_t n_pairs, bool interleaved) noexcept {
    if (interleaved) {
        for (uint32_t i = 0; i < n_pairs; ++i) {
            const float a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = a * cosines[i] - b * sines[i];
            x[2 * i + 1] = a * sines[i] + b * cosines[i];
        }
        return;
    }
    float* y = x + n_pairs;
    for (uint32_t i = 0; i < n_pairs; ++i) {
        const float a = x[i], b = y[i];
        x[i] = a * cosines[i] - b * sines[i];
        y[i] = a * sines[i] + b * cosines[i];
    }
}

void pack_body(const int16_t* q, uint32_t bits, std::byte* dst, uint32_t n) noexcept {
    if (bits == 8) {
        for (uint32_t i = 0; i < n; ++i) dst[i] = std::byte(uint8_t(q[i]));
    } else if (bits == 4 && n % 2 == 0) {
        for (uint32_t i = 0; i < n / 2; ++i) dst[i] = std::byte(uint8_t(q[2 * i] | q[2 * i + 1] << 4));
    } else if (bits == 2 && n % 4 == 0) {
        for (uint32_t i = 0; i < n / 4; ++i)
            dst[i] = std::byte(uint8_t(q[4 * i] | q[4 * i + 1] << 2 | q[4 * i + 2] << 4 | q[4 * i + 3] << 6));
    } else {
        uint32_t held = 0, n_held = 0;
        for (uint32_t i = 0; i < n; ++i) {
            held |= uint32_t(q[i]) << n_held;
            for (n_held += bits; n_held >= 8; n_held -= 8, held >>= 8) *dst++ = std::byte(uint8_t(held));
        }
        if (n_held) *dst = std::byte(uint8_t(held));
    }
}

void unpack_body(const std::byte* src, uint32_t bits, int16_t* q, uint32_t n) noexcept {
    auto* s = reinterpret_cast<const uint8_t*>(src);
    if (bits == 8) {
        for (uint32_t i = 0; i < n; ++i) q[i] = s[i];
    } else if (bits == 4 && n % 2 == 0) {
        for (uint32_t i = 0; i < n / 2; ++i) q[2 * i] = s[i] & 15, q[2 * i + 1] = s[i] >> 4;
    } else if (bits == 2 && n % 4 == 0) {
        for (uint32_t i = 0; i < n / 4; ++i)
            q[4 * i] = s[i] & 3, q[4 * i + 1] = s[i] >> 2 & 3, q[4 * i + 2] = s[i] >> 4 & 3, q[4 * i + 3] = s[i] >> 6;
    } else {
        const uint32_t mask = (1u << bits) - 1;
        uint32_t held = 0, n_held = 0;
        for (uint32_t i = 0; i < n; ++i) {
            for (; n_held < bits; n_held += 8) held |= uint32_t(*s++) << n_held;
            q[i] = int16_t(held & mask);
            held >>= bits;
            n_held -= bits;
        }
    }
}
