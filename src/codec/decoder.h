// Decoding a selection of a stream, several extents at a time.
#pragma once

#include "codec/arena.h"
#include "codec/extent.h"
#include "codec/frame.h"
#include "core/context.h"

namespace larder {

uint64_t decode_workspace(const Frame& f) noexcept;
// The target's selection is valid, its workspace large enough.
larder_status decode_selection(larder_context& c, const Frame& f, const larder_stream_target& t,
                               std::byte* workspace) noexcept;

}  // namespace larder
