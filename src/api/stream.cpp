#include "larder/stream.h"

#include "api/guard.h"
#include "codec/codec.h"
#include "codec/stream.h"

using namespace larder;

namespace {

ByteSpan bytes_of(larder_span s) noexcept {
    return {static_cast<const std::byte*>(s.data), s.n_bytes};
}

}  // namespace

larder_status larder_stream_encode(const larder_codec* codec, const larder_stream_source* source, void* out,
                                   uint64_t capacity, void* workspace, uint64_t workspace_bytes,
                                   uint64_t* out_n_bytes) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(codec, codec);
    LARDER_API_NONNULL(source);
    LARDER_API_NONNULL(out);
    LARDER_API_NONNULL(out_n_bytes);
    if (workspace_bytes) LARDER_API_NONNULL(workspace);
    LARDER_ASSIGN(*out_n_bytes, codec->encode(*source, {static_cast<std::byte*>(out), capacity},
                                              {static_cast<std::byte*>(workspace), workspace_bytes}));
    return LARDER_OK;
    LARDER_API_END
}

larder_status larder_stream_inspect(larder_span stream, larder_stream_info* out) noexcept {
    if (stream.n_bytes) LARDER_API_NONNULL(stream.data);
    larder_stream_info info;
    LARDER_TRY(stream_inspect(bytes_of(stream), info));
    return write_struct(out, info, "larder_stream_info");
}

larder_status larder_stream_plan_read(larder_span stream, uint32_t first_layer, uint32_t n_layers, uint32_t first_token,
                                      uint32_t n_tokens, larder_stream_extent* out_extents, uint32_t capacity,
                                      uint32_t* out_n) noexcept {
    if (stream.n_bytes) LARDER_API_NONNULL(stream.data);
    LARDER_API_NONNULL(out_n);
    if (capacity) LARDER_API_NONNULL(out_extents);
    return stream_plan_read(bytes_of(stream), first_layer, n_layers, first_token, n_tokens, out_extents, capacity,
                            *out_n);
}

larder_status larder_stream_plan_ranges(larder_span stream, const larder_stream_selection* selection,
                                        larder_stream_range* out_ranges, uint32_t capacity, uint32_t* out_n) noexcept {
    if (stream.n_bytes) LARDER_API_NONNULL(stream.data);
    LARDER_API_NONNULL(out_n);
    if (capacity) LARDER_API_NONNULL(out_ranges);
    return stream_plan_ranges(bytes_of(stream), selection, out_ranges, capacity, *out_n);
}

larder_status larder_stream_describe_level(larder_span stream, uint32_t level, larder_stream_level* out) noexcept {
    if (stream.n_bytes) LARDER_API_NONNULL(stream.data);
    larder_stream_level l;
    LARDER_TRY(stream_describe_level(bytes_of(stream), level, l));
    return write_struct(out, l, "larder_stream_level");
}

larder_status larder_stream_append(const larder_codec* codec, larder_span stream, const larder_stream_source* source,
                                   void* out, uint64_t capacity, void* workspace, uint64_t workspace_bytes,
                                   uint64_t* out_n_bytes) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(codec, codec);
    if (stream.n_bytes) LARDER_API_NONNULL(stream.data);
    LARDER_API_NONNULL(source);
    LARDER_API_NONNULL(out);
    LARDER_API_NONNULL(out_n_bytes);
    if (workspace_bytes) LARDER_API_NONNULL(workspace);
    LARDER_ASSIGN(*out_n_bytes,
                  stream_append(*codec, bytes_of(stream), *source, {static_cast<std::byte*>(out), capacity},
                                {static_cast<std::byte*>(workspace), workspace_bytes}));
    return LARDER_OK;
    LARDER_API_END
}

larder_status larder_stream_truncate(larder_span stream, uint32_t n_levels, void* out, uint64_t capacity,
                                     uint64_t* out_n_bytes) noexcept {
    if (stream.n_bytes) LARDER_API_NONNULL(stream.data);
    if (capacity) LARDER_API_NONNULL(out);
    LARDER_API_NONNULL(out_n_bytes);
    return stream_truncate(bytes_of(stream), n_levels, {static_cast<std::byte*>(out), capacity}, *out_n_bytes);
}

larder_status larder_stream_transcode(const larder_codec* codec, larder_span stream,
                                      const larder_profile* const* profiles, uint32_t n_profiles, const float* saliency,
                                      void* out, uint64_t capacity, uint64_t* out_n_bytes) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(codec, codec);
    if (stream.n_bytes) LARDER_API_NONNULL(stream.data);
    LARDER_API_NONNULL(out);
    LARDER_API_NONNULL(out_n_bytes);
    LARDER_ASSIGN(*out_n_bytes, stream_transcode(*codec, bytes_of(stream), profiles, n_profiles, saliency,
                                                 {static_cast<std::byte*>(out), capacity}));
    return LARDER_OK;
    LARDER_API_END
}

larder_status larder_stream_verify(larder_span stream, const larder_key* expect_layout,
                                   const larder_key* expect_content) noexcept {
    if (stream.n_bytes) LARDER_API_NONNULL(stream.data);
    return stream_verify(bytes_of(stream), expect_layout, expect_content);
}

larder_status larder_stream_decode(larder_context* context, larder_span stream,
                                   const larder_stream_target* target) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    if (stream.n_bytes) LARDER_API_NONNULL(stream.data);
    LARDER_API_NONNULL(target);
    return stream_decode(*context, bytes_of(stream), *target);
    LARDER_API_END
}
