// Strided and paged views of one layer's K or V: gathering rows of tokens and scattering them back.
#pragma once

#include <cstddef>

#include "larder/stream.h"

namespace larder {

struct PlaneView {
    std::byte* base;
    void* const* pages;
    uint64_t page_offset, token_stride, head_stride;
    uint32_t page_tokens, n_heads;
    uint64_t head_bytes;

    bool given() const noexcept { return base || pages; }
    std::byte* token(uint64_t t) const noexcept {
        if (!pages) return base + t * token_stride;
        return static_cast<std::byte*>(pages[t / page_tokens]) + page_offset + t % page_tokens * token_stride;
    }
    // The place of n tokens when their rows follow each other without gaps, otherwise NULL.
    std::byte* contiguous(uint64_t t, uint32_t n) const noexcept {
        const bool packed = head_stride == head_bytes && token_stride == n_heads * head_bytes;
        return packed && (!pages || t % page_tokens + n <= page_tokens) ? token(t) : nullptr;
    }
    // n tokens from t on, to or from contiguous rows.
    void gather(uint64_t t, uint32_t n, std::byte* rows) const noexcept;
    void scatter(uint64_t t, uint32_t n, const std::byte* rows) const noexcept;
};

// Element i of the caller's array of planes, defaults filled in. E_INVALID for pages without a size or with a NULL
// among the first n_tokens tokens.
larder_status read_plane(const larder_stream_plane* planes, uint32_t stride, uint64_t i, uint32_t n_heads, uint32_t dim,
                         uint32_t elem_bytes, uint64_t n_tokens, PlaneView& out) noexcept;

}  // namespace larder
