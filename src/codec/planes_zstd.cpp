#include "codec/planes_zstd.h"

#include <zstd.h>

#include <memory>

#include "base/result.h"

namespace larder {

namespace {

// zstd's contexts are costly to make and belong to one thread at a time; they live as long as the thread does.
struct FreeC {
    void operator()(ZSTD_CCtx* c) const noexcept { ZSTD_freeCCtx(c); }
};
struct FreeD {
    void operator()(ZSTD_DCtx* d) const noexcept { ZSTD_freeDCtx(d); }
};
thread_local std::unique_ptr<ZSTD_CCtx, FreeC> t_compressor;
thread_local std::unique_ptr<ZSTD_DCtx, FreeD> t_decompressor;

constexpr int level = 1;

}  // namespace

size_t zstd_encode(const std::byte* elems, uint32_t elem_bytes, size_t n, std::byte* planes, std::byte* out,
                   size_t room) noexcept {
    if (!t_compressor) t_compressor.reset(ZSTD_createCCtx());
    if (!t_compressor) return 0;
    for (uint32_t b = 0; b < elem_bytes; ++b)
        for (size_t i = 0; i < n; ++i) planes[b * n + i] = elems[i * elem_bytes + b];
    const size_t got = ZSTD_compressCCtx(t_compressor.get(), out, room, planes, n * elem_bytes, level);
    return ZSTD_isError(got) ? 0 : got;
}

larder_status zstd_decode(ByteSpan packed, uint32_t elem_bytes, size_t n, std::byte* planes,
                          std::byte* elems) noexcept {
    if (!t_decompressor) t_decompressor.reset(ZSTD_createDCtx());
    if (!t_decompressor) return fail(LARDER_E_NOMEM, "zstd", "no memory for a decompression context");
    const size_t got = ZSTD_decompressDCtx(t_decompressor.get(), planes, n * elem_bytes, packed.data(), packed.size());
    if (ZSTD_isError(got) || got != n * elem_bytes)
        return fail(LARDER_E_CORRUPT, "extent", "a zstd frame does not decode to the extent's size");
    for (uint32_t b = 0; b < elem_bytes; ++b)
        for (size_t i = 0; i < n; ++i) elems[i * elem_bytes + b] = planes[b * n + i];
    return LARDER_OK;
}

}  // namespace larder
