// Decoding a selection of a stream, several extents at a time.
#pragma once

#include "codec/arena.h"
#include "codec/extent.h"
#include "codec/frame.h"
#include "core/context.h"

namespace larder {

uint64_t decode_workspace(const Frame& f) noexcept;
// What of one generation goes where.
struct GenerationPart {
    uint32_t first_token, n_tokens;  // relative to the generation
    uint32_t view_token;             // where they begin in the target's views
    uint32_t n_levels;
};
// The target's layers and the part are valid, its workspace large enough.
larder_status decode_selection(larder_context& c, const Frame& f, const larder_stream_target& t,
                               const GenerationPart& part, std::byte* workspace) noexcept;

}  // namespace larder
