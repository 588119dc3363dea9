#include "codec/planes.h"

#include <cstring>

#include "base/options.h"

namespace larder {

void PlaneView::gather(uint64_t t, uint32_t n, std::byte* rows) const noexcept {
    const uint64_t row = n_heads * head_bytes;
    for (uint32_t i = 0; i < n; ++i, rows += row) {
        const std::byte* p = token(t + i);
        if (head_stride == head_bytes) {
            std::memcpy(rows, p, row);
        } else {
            for (uint32_t h = 0; h < n_heads; ++h) std::memcpy(rows + h * head_bytes, p + h * head_stride, head_bytes);
        }
    }
}

void PlaneView::scatter(uint64_t t, uint32_t n, const std::byte* rows) const noexcept {
    const uint64_t row = n_heads * head_bytes;
    for (uint32_t i = 0; i < n; ++i, rows += row) {
        std::byte* p = token(t + i);
        if (head_stride == head_bytes) {
            std::memcpy(p, rows, row);
        } else {
            for (uint32_t h = 0; h < n_heads; ++h) std::memcpy(p + h * head_stride, rows + h * head_bytes, head_bytes);
        }
    }
}

larder_status read_plane(const larder_stream_plane* planes, uint32_t stride, uint64_t i, uint32_t n_heads, uint32_t dim,
                         uint32_t elem_bytes, uint64_t n_tokens, PlaneView& out) noexcept {
    if (stride < sizeof(larder_stream_plane))
        return fail(LARDER_E_INVALID, "plane_stride", "plane_stride is %u; it must be at least %zu", stride,
                    sizeof(larder_stream_plane));
    larder_stream_plane p;
    std::memcpy(&p, reinterpret_cast<const std::byte*>(planes) + i * stride, sizeof p);
    LARDER_TRY(check_reserved(p.reserved0, "planes.reserved0"));
    out = {
        static_cast<std::byte*>(p.base), p.pages, p.page_offset, p.token_stride, p.head_stride, p.page_tokens, n_heads,
        uint64_t(dim) * elem_bytes};
    if (!out.head_stride) out.head_stride = out.head_bytes;
    if (!out.token_stride) out.token_stride = n_heads * out.head_stride;
    if (!out.pages) return LARDER_OK;
    if (!out.page_tokens)
        return fail(LARDER_E_INVALID, "planes.page_tokens", "plane %llu has pages but page_tokens is 0",
                    (unsigned long long)i);
    for (uint64_t k = 0; k < (n_tokens + out.page_tokens - 1) / out.page_tokens; ++k)
        if (!out.pages[k])
            return fail(LARDER_E_INVALID, "planes.pages", "page %llu of plane %llu is NULL", (unsigned long long)k,
                        (unsigned long long)i);
    return LARDER_OK;
}

}  // namespace larder
