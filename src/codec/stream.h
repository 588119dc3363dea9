// Reading streams: everything here is total over hostile bytes and allocates nothing when it is given a workspace.
#pragma once

#include "base/bytes.h"
#include "core/context.h"
#include "larder/stream.h"

namespace larder {

// Header, stage list, index; trailer too when the bytes reach that far.
larder_status stream_inspect(ByteSpan stream, larder_stream_info& out) noexcept;
larder_status stream_plan_read(ByteSpan stream, uint32_t first_layer, uint32_t n_layers, uint32_t first_token,
                               uint32_t n_tokens, larder_stream_extent* out, uint32_t capacity, uint32_t& n) noexcept;
larder_status stream_verify(ByteSpan stream, const larder_key* layout, const larder_key* content) noexcept;
larder_status stream_decode(larder_context& c, ByteSpan stream, const larder_stream_target& target);

}  // namespace larder
