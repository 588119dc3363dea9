// Reading streams: everything here is total over hostile bytes and allocates nothing when it is given a workspace.
#pragma once

#include "codec/codec.h"
#include "core/context.h"
#include "larder/stream.h"

namespace larder {

// Headers, stage lists, indexes; trailers too when the bytes reach that far.
larder_status stream_inspect(ByteSpan stream, larder_stream_info& out) noexcept;
larder_status stream_describe_level(ByteSpan stream, uint32_t level, larder_stream_level& out) noexcept;
larder_status stream_verify(ByteSpan stream, const larder_key* layout, const larder_key* content) noexcept;
larder_status stream_decode(larder_context& c, ByteSpan stream, const larder_stream_target& target);

// plan.cpp: what must be read.
larder_status stream_plan_read(ByteSpan stream, uint32_t first_layer, uint32_t n_layers, uint32_t first_token,
                               uint32_t n_tokens, larder_stream_extent* out, uint32_t capacity, uint32_t& n) noexcept;
larder_status stream_plan_ranges(ByteSpan stream, const larder_stream_selection* selection, larder_stream_range* out,
                                 uint32_t capacity, uint32_t& n) noexcept;

// rewrite.cpp: streams from streams.
Result<uint64_t> stream_append(const larder_codec& codec, ByteSpan stream, const larder_stream_source& source,
                               MutByteSpan out, MutByteSpan workspace);
larder_status stream_truncate(ByteSpan stream, uint32_t n_levels, MutByteSpan out, uint64_t& n_bytes) noexcept;
Result<uint64_t> stream_transcode(const larder_codec& codec, ByteSpan stream, const larder_profile* const* profiles,
                                  uint32_t n_profiles, const float* saliency, MutByteSpan out);

}  // namespace larder
