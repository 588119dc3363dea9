// Streams made from streams: appended to, cut down to a level, encoded anew.
#include "base/alloc.h"
#include "base/options.h"
#include "codec/generations.h"
#include "codec/stream.h"
#include "core/layout.h"

namespace larder {

namespace {

larder_status check_continues(const Frame& first, const Generations& last, const larder_stream_source& s) noexcept {
    const larder_stream_shape &a = first.shape, &b = s.shape;
    const auto other = [](const char* what) {
        return fail(LARDER_E_IDENTITY, what, "%s is not what the stream has", what);
    };
    if (std::memcmp(first.identity.layout.bytes, s.identity.layout.bytes, 32)) return other("identity.layout");
    const larder_dtype k = b.k_dtype ? b.k_dtype : LARDER_DTYPE_F16;
    if (a.n_layers != b.n_layers || a.n_kv_heads != b.n_kv_heads || a.k_dim != b.k_dim || a.v_dim != b.v_dim ||
        a.k_dtype != k || a.v_dtype != (b.v_dtype ? b.v_dtype : k))
        return other("shape");
    if (first.identity.rope != (s.identity.rope ? s.identity.rope : LARDER_ROPE_POST)) return other("identity.rope");
    const uint64_t n = uint64_t(last.first_token()) + last.frame().shape.n_tokens;
    if (s.identity.first_token != first.identity.first_token + n) return other("identity.first_token");
    return check_range(n + b.n_tokens, 1, max_tokens, "n_tokens");
}

// The first levels of one generation; returns its length, and writes only what fits.
uint64_t truncate_generation(const Frame& f, uint32_t n_levels, const Link& link, MutByteSpan out) noexcept {
    FrameLayout at = f.at;
    at.limit_levels(n_levels);
    uint64_t end = f.at.payload_offset;
    for (uint64_t i = 0; i < at.n_entries(); ++i) end += Frame::padded(f.extent_bytes(i));
    const uint64_t n_payload = end - f.at.payload_offset, total = at.payload_offset + n_payload + trailer_bytes;
    if (out.size() < total) return total;
    const uint64_t index_end = at.index_offset + at.n_entries() * index_entry_bytes;
    std::memcpy(out.data(), f.bytes.data(), index_end);
    std::memset(out.data() + index_end, 0, at.payload_offset - index_end);
    std::memcpy(out.data() + at.payload_offset, f.bytes.data() + f.at.payload_offset, n_payload);
    Chain chain = f.chain;
    chain.refine = uint8_t(n_levels - 1);
    replace_link(out.subspan(header_bytes, f.stages_bytes), link);
    seal_frame(out.data(), at.payload_offset + n_payload, f.shape, f.identity, chain, f.stages_bytes,
               uint32_t(f.profile.size()), at);
    return total;
}

}  // namespace

Result<uint64_t> stream_append(const larder_codec& codec, ByteSpan stream, const larder_stream_source& user,
                               MutByteSpan out, MutByteSpan workspace) {
    larder_stream_source source;
    LARDER_TRY(read_options(&user, source, "larder_stream_source"));
    larder_stream_shape shape;
    LARDER_TRY(read_options(&source.shape, shape, "larder_stream_shape"));
    source.shape = shape;
    Generations g(stream, Reach::whole);
    Frame first;
    for (bool begun = false;; begun = true) {
        LARDER_ASSIGN(const bool more, g.next());
        if (!more) break;
        if (!begun) first = g.frame();
    }
    LARDER_TRY(check_continues(first, g, source));
    return codec.encode(source, g.next_link(), out, workspace);
}

larder_status stream_truncate(ByteSpan stream, uint32_t n_levels, MutByteSpan out, uint64_t& n_bytes) noexcept {
    n_bytes = 0;
    LARDER_TRY(check_range(n_levels, 1, 1 + max_refine, "n_levels"));
    LARDER_TRY(stream_verify(stream, nullptr, nullptr));
    Generations g(stream, Reach::whole);
    Link link;
    for (;;) {
        LARDER_ASSIGN(const bool more, g.next());
        if (!more) break;
        const uint64_t at = n_bytes;
        const MutByteSpan room = at < out.size() ? out.subspan(at) : MutByteSpan{};
        n_bytes += truncate_generation(g.frame(), std::min(n_levels, g.n_levels()), link, room);
        if (n_bytes <= out.size()) link = {link.generation + 1, load_le<uint32_t>(out.data() + n_bytes - 4), n_bytes};
    }
    return n_bytes <= out.size()
               ? LARDER_OK
               : fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "the result has %llu bytes", (unsigned long long)n_bytes);
}

Result<uint64_t> stream_transcode(const larder_codec& codec, ByteSpan stream, const larder_profile* const* profiles,
                                  uint32_t n_profiles, const float* saliency, MutByteSpan out) {
    larder_stream_info info = LARDER_STREAM_INFO_INIT;
    LARDER_TRY(stream_inspect(stream, info));
    uint64_t bound = 0, workspace = 0;
    LARDER_TRY(codec.sizes(info.shape, bound, workspace));
    if (out.size() < bound)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "the buffer has %zu bytes; this shape needs %llu",
                    out.size(), (unsigned long long)bound);
    larder_context& c = *codec.context;
    uint64_t plane_bytes[2];
    for (uint32_t kv = 0; kv < 2; ++kv)
        plane_bytes[kv] =
            uint64_t(info.shape.n_tokens) * plane_width(info.shape, kv) * dtype_bytes(plane_dtype(info.shape, kv));
    Vec<std::byte> tensors((plane_bytes[0] + plane_bytes[1]) * info.shape.n_layers, std::byte{0}, c.alloc);
    Vec<larder_stream_plane> planes(2 * size_t(info.shape.n_layers), larder_stream_plane LARDER_STREAM_PLANE_INIT,
                                    c.alloc);
    std::byte* at = tensors.data();
    for (size_t i = 0; i < planes.size(); at += plane_bytes[i % 2], ++i)
        if (plane_bytes[i % 2]) planes[i].base = at;
    larder_stream_target t = LARDER_STREAM_TARGET_INIT;
    t.planes = planes.data();
    t.profiles = profiles;
    t.n_profiles = n_profiles;
    LARDER_TRY(stream_decode(c, stream, t));
    larder_stream_source s = LARDER_STREAM_SOURCE_INIT;
    s.shape = info.shape;
    s.identity = info.identity;
    s.planes = planes.data();
    s.saliency = saliency;
    return codec.encode(s, out, {});
}

}  // namespace larder
