// A codec: a validated chain of stages with an optional profile, ready to encode. Immutable once made, so any number of
// threads may use it.
#pragma once

#include "base/bytes.h"
#include "codec/chain.h"
#include "codec/frame.h"
#include "codec/profile.h"
#include "core/context.h"
#include "larder/stream.h"

struct larder_codec final : larder::Handle {
    larder_codec(larder_context& c) : Handle(larder::HandleType::codec, c) {}
    ~larder_codec();
    static larder_status create(larder_context& c, const larder_codec_options* options, larder_codec** out);

    larder_quality quality() const noexcept { return larder::chain_quality(chain); }
    larder_status sizes(const larder_stream_shape& shape, uint64_t& bound, uint64_t& workspace) const noexcept;
    // Everything as larder_stream_encode() says; an empty workspace means the context's allocator.
    larder::Result<uint64_t> encode(const larder_stream_source& source, const larder::Link& link,
                                    larder::MutByteSpan out, larder::MutByteSpan workspace) const;

    larder::Result<uint64_t> encode(const larder_stream_source& source, larder::MutByteSpan out,
                                    larder::MutByteSpan workspace) const {
        return encode(source, {}, out, workspace);
    }

    larder::Chain chain{};
    larder::IsaLevel isa{};
    const larder_profile* profile = nullptr;
    bool embed_profile = false;
    const larder_codec_stage* stage = nullptr;  // of the chain; the context keeps it
};
