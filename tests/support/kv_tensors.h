// Random K and V for tests: shapes, strided and paged memory, and data that looks like a cache (or deliberately does
// not).
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "base/hash.h"
#include "base/numeric.h"
#include "core/layout.h"
#include "larder/larder.h"

namespace kv_test {

using larder::Rng;

enum class Data { normal, wild, constant };

inline double gaussian(Rng& r) {
    double u = r.unit() + 1e-12;
    return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * r.unit());
}

// One plane as [token][head][dim] elements without gaps.
inline std::vector<std::byte> make_plane(Rng& r, const larder_stream_shape& s, uint32_t kv, Data kind) {
    const uint32_t width = s.n_kv_heads * (kv ? s.v_dim : s.k_dim),
                   es = larder::dtype_bytes(kv ? s.v_dtype : s.k_dtype);
    const larder_dtype t = kv ? s.v_dtype : s.k_dtype;
    std::vector<std::byte> out(size_t(s.n_tokens) * width * es);
    std::vector<double> mean(width), spread(width);
    for (uint32_t c = 0; c < width; ++c) mean[c] = kv ? 0 : gaussian(r), spread[c] = std::exp(0.5 * gaussian(r));
    for (size_t i = 0; i < out.size() / es; ++i) {
        uint32_t bits = 0;
        const float x = float(mean[i % width] + spread[i % width] * gaussian(r));
        if (kind == Data::wild || !larder::is_float_dtype(t))
            bits = uint32_t(r.next());
        else if (kind == Data::constant)
            bits = 0x3c003c00;
        else
            bits = t == LARDER_DTYPE_F16    ? larder::f32_to_f16(x)
                   : t == LARDER_DTYPE_BF16 ? larder::f32_to_bf16(x)
                                            : larder::float_to_bits(x);
        std::memcpy(out.data() + i * es, &bits, es);
    }
    return out;
}

inline float element(const std::byte* p, larder_dtype t) {
    uint32_t u = 0;
    std::memcpy(&u, p, larder::dtype_bytes(t));
    return t == LARDER_DTYPE_F16    ? larder::f16_to_f32(uint16_t(u))
           : t == LARDER_DTYPE_BF16 ? larder::bf16_to_f32(uint16_t(u))
                                    : larder::bits_to_float(u);
}

// Strided or paged memory for all planes of a shape, filled with a guard pattern.
class Memory {
  public:
    static constexpr std::byte guard{0xa5};

    Memory(Rng& r, const larder_stream_shape& s, uint32_t n_layers, uint32_t n_tokens, bool paged)
        : shape_(s), n_tokens_(n_tokens) {
        planes.resize(2 * size_t(n_layers));
        store_.resize(planes.size());
        pages_.resize(planes.size());
        for (size_t i = 0; i < planes.size(); ++i) {
            const uint32_t kv = i % 2, dim = kv ? s.v_dim : s.k_dim,
                           es = larder::dtype_bytes(kv ? s.v_dtype : s.k_dtype);
            larder_stream_plane& p = planes[i];
            p = LARDER_STREAM_PLANE_INIT;
            if (!dim) continue;
            p.head_stride = dim * es + (r.below(2) ? 0 : r.below(20));
            p.token_stride = s.n_kv_heads * p.head_stride + r.below(30);
            p.page_offset = r.below(17);
            p.page_tokens = paged ? uint32_t(1 + r.below(n_tokens)) : n_tokens;
            const uint64_t n_pages = (n_tokens + p.page_tokens - 1) / p.page_tokens,
                           page = p.page_offset + p.page_tokens * p.token_stride;
            store_[i].assign(n_pages * page, guard);
            for (uint64_t k = 0; k < n_pages; ++k) pages_[i].push_back(store_[i].data() + (n_pages - 1 - k) * page);
            if (paged)
                p.pages = pages_[i].data();
            else
                p.base = store_[i].data() + p.page_offset;
        }
    }
    std::byte* at(size_t plane, uint32_t token, uint32_t head) {
        const larder_stream_plane& p = planes[plane];
        std::byte* t = p.pages ? static_cast<std::byte*>(p.pages[token / p.page_tokens]) + p.page_offset +
                                     token % p.page_tokens * p.token_stride
                               : static_cast<std::byte*>(p.base) + token * p.token_stride;
        return t + head * p.head_stride;
    }
    void fill(size_t plane, const std::vector<std::byte>& rows) {
        copy(plane, const_cast<std::byte*>(rows.data()), true);
    }
    std::vector<std::byte> read(size_t plane) {
        std::vector<std::byte> rows(size_t(n_tokens_) * row_bytes(plane));
        copy(plane, rows.data(), false);
        return rows;
    }
    // Bytes outside the elements still carry the guard.
    bool guarded() {
        for (size_t i = 0; i < planes.size(); ++i) {
            if (store_[i].empty()) continue;
            std::vector<std::byte> saved = read(i);
            fill(i, std::vector<std::byte>(saved.size(), guard));
            for (std::byte b : store_[i])
                if (b != guard) return false;
            fill(i, saved);
        }
        return true;
    }
    std::vector<larder_stream_plane> planes;

  private:
    size_t row_bytes(size_t plane) const {
        return size_t(shape_.n_kv_heads) * (plane % 2 ? shape_.v_dim : shape_.k_dim) *
               larder::dtype_bytes(plane % 2 ? shape_.v_dtype : shape_.k_dtype);
    }
    void copy(size_t plane, std::byte* rows, bool in) {
        const size_t row = row_bytes(plane), head = row / shape_.n_kv_heads;
        for (uint32_t t = 0; t < n_tokens_; ++t)
            for (uint32_t h = 0; h < shape_.n_kv_heads; ++h) {
                std::byte *a = at(plane, t, h), *b = rows + t * row + h * head;
                if (in)
                    std::memcpy(a, b, head);
                else
                    std::memcpy(b, a, head);
            }
    }
    larder_stream_shape shape_;
    uint32_t n_tokens_;
    std::vector<std::vector<std::byte>> store_;
    std::vector<std::vector<void*>> pages_;
};

}  // namespace kv_test
