#include "codec/stream.h"

#include <algorithm>

#include "base/options.h"
#include "codec/decoder.h"
#include "codec/generations.h"
#include "codec/profile.h"
#include "codec/selection.h"

namespace larder {

namespace {

larder_status check_identity(const larder_stream_identity& is, const larder_key* layout,
                             const larder_key* content) noexcept {
    if (layout && std::memcmp(layout->bytes, is.layout.bytes, 32))
        return fail(LARDER_E_IDENTITY, "layout", "the stream belongs to another layout");
    if (content && std::memcmp(content->bytes, is.content.bytes, 32))
        return fail(LARDER_E_IDENTITY, "content", "the stream holds other content");
    return LARDER_OK;
}

void describe_first(const Frame& f, larder_stream_info& out) noexcept {
    out = LARDER_STREAM_INFO_INIT;
    out.quality = f.quality;
    out.shape = f.shape;
    out.identity = f.identity;
    out.chunk_tokens = f.chain.chunk_tokens;
    out.n_levels = f.at.n_levels;
    out.has_profile = f.names_profile ? 2 : needs_profile(f.chain) ? 1 : 0;
    out.profile_hash = f.profile_hash;
    out.shape.n_tokens = 0;
    print_chain(f.chain, out.chain, sizeof out.chain);
}

larder_status read_target(const larder_stream_target& user, larder_stream_target& t) noexcept {
    LARDER_TRY(read_options(&user, t, "larder_stream_target"));
    LARDER_TRY(check_reserved(t.reserved0, "reserved0"));
    if (t.flags & ~LARDER_STREAM_ALLOW_PARTIAL)
        return fail(LARDER_E_INVALID, "flags", "flags %#x are not known", t.flags);
    if (!t.planes) return fail(LARDER_E_INVALID, "planes", "planes is NULL");
    if (t.n_profiles && !t.profiles)
        return fail(LARDER_E_INVALID, "profiles", "n_profiles is %u, but profiles is NULL", t.n_profiles);
    for (uint32_t i = 0; i < t.n_profiles; ++i)
        if (t.profiles[i]) LARDER_TRY(check_handle(t.profiles[i], HandleType::profile, "profiles"));
    return LARDER_OK;
}

// What all generations together are, as far as they can be decoded.
struct Whole {
    larder_stream_identity identity{};
    uint32_t n_layers = 0, n_tokens = 0, n_levels = UINT32_MAX;
    uint64_t workspace = 0;
    bool cut = false;
};

larder_status survey(ByteSpan stream, Reach reach, Whole& out) noexcept {
    Generations g(stream, reach);
    for (;;) {
        LARDER_ASSIGN(const bool more, g.next());
        if (!more) break;
        out.identity = g.frame().identity;
        out.n_layers = g.frame().shape.n_layers;
        out.n_tokens += g.frame().shape.n_tokens;
        out.n_levels = std::min(out.n_levels, g.n_levels());
        out.workspace = std::max(out.workspace, decode_workspace(g.frame()));
    }
    out.cut = g.is_cut();
    return LARDER_OK;
}

larder_status decode_generations(larder_context& c, ByteSpan stream, Reach reach, const larder_stream_target& t,
                                 std::byte* workspace) noexcept {
    Generations g(stream, reach);
    for (;;) {
        LARDER_ASSIGN(const bool more, g.next());
        if (!more) return LARDER_OK;
        const Overlap o = overlap(g.first_token(), g.frame().shape.n_tokens, t.first_token, t.n_tokens);
        if (!o.n) continue;
        const GenerationPart part{o.from, o.n, g.first_token() + o.from - t.first_token,
                                  t.n_levels ? std::min(t.n_levels, g.n_levels()) : g.n_levels()};
        LARDER_TRY(decode_selection(c, g.frame(), t, part, workspace));
    }
}

}  // namespace

larder_status stream_inspect(ByteSpan stream, larder_stream_info& out) noexcept {
    Generations g(stream, Reach::head);
    for (uint32_t n = 1;; ++n) {
        LARDER_ASSIGN(const bool more, g.next());
        if (!more) return LARDER_OK;
        const Frame& f = g.frame();
        if (n == 1) describe_first(f, out);
        out.quality = std::max(out.quality, f.quality);
        out.n_levels = std::min(out.n_levels, f.at.n_levels);
        out.identity.content = f.identity.content;
        out.shape.n_tokens += f.shape.n_tokens;
        out.n_bytes += f.total_bytes;
        out.payload_bytes += f.total_bytes - trailer_bytes - f.at.payload_offset;
        out.decode_workspace = std::max(out.decode_workspace, decode_workspace(f));
        out.n_chunks += f.at.n_chunks;
        out.n_generations = n;
    }
}

larder_status stream_describe_level(ByteSpan stream, uint32_t level, larder_stream_level& out) noexcept {
    out = LARDER_STREAM_LEVEL_INIT;
    out.level = level;
    Generations g(stream, Reach::head);
    bool found = false;
    uint64_t n_values = 0;
    for (;;) {
        LARDER_ASSIGN(const bool more, g.next());
        if (!more) break;
        const Frame& f = g.frame();
        const uint32_t last = std::min(level, f.at.n_levels - 1);
        found = found || last == level;
        FrameLayout at = f.at;
        at.limit_levels(last + 1);
        out.n_bytes += at.payload_offset + trailer_bytes;
        for (uint64_t i = 0; i < f.at.n_extents * (last + 1); ++i) {
            const uint64_t n = Frame::padded(f.extent_bytes(i));
            out.n_bytes += n;
            if (i >= f.at.n_extents * level) out.payload_bytes += n;
        }
        n_values += uint64_t(f.shape.n_tokens) * f.shape.n_layers * (plane_width(f.shape, 0) + plane_width(f.shape, 1));
        if (f.chain.quant == Quant::affine || f.chain.quant == Quant::step)
            out.max_error_in_cells = std::max(out.max_error_in_cells, 0.5 / double(1u << last));
    }
    out.bits_per_value = 8 * double(out.n_bytes) / double(n_values);
    return found ? LARDER_OK : fail(LARDER_E_NOT_FOUND, "level", "the stream has no level %u", level);
}

larder_status stream_verify(ByteSpan stream, const larder_key* layout, const larder_key* content) noexcept {
    Generations g(stream, Reach::whole);
    larder_stream_identity identity{};
    for (;;) {
        LARDER_ASSIGN(const bool more, g.next());
        if (!more) break;
        const Frame& f = g.frame();
        identity = f.identity;
        uint64_t offset = f.at.payload_offset;
        for (uint64_t i = 0; i < f.at.n_entries(); ++i) {
            ByteSpan bytes;
            LARDER_TRY(read_extent(f, i, offset, bytes));
            offset += Frame::padded(bytes.size());
        }
    }
    return check_identity(identity, layout, content);
}

larder_status stream_decode(larder_context& c, ByteSpan stream, const larder_stream_target& user) {
    larder_stream_target t;
    LARDER_TRY(read_target(user, t));
    const Reach reach = t.flags & LARDER_STREAM_ALLOW_PARTIAL ? Reach::remains : Reach::whole;
    Whole whole;
    LARDER_TRY(survey(stream, reach, whole));
    LARDER_TRY(check_identity(whole.identity, t.expect_layout, t.expect_content));
    LARDER_TRY(check_part(whole.n_layers, t.first_layer, t.n_layers, "n_layers"));
    LARDER_TRY(check_part(whole.n_tokens, t.first_token, t.n_tokens, "n_tokens"));
    if (t.workspace && t.workspace_bytes < whole.workspace)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "workspace_bytes",
                    "the workspace has %llu bytes; this stream needs %llu", (unsigned long long)t.workspace_bytes,
                    (unsigned long long)whole.workspace);
    if (t.out_n_levels) *t.out_n_levels = t.n_levels ? std::min(t.n_levels, whole.n_levels) : whole.n_levels;
    auto* memory = static_cast<std::byte*>(t.workspace ? t.workspace : c.alloc.alloc(whole.workspace, scratch_align));
    const larder_status status = decode_generations(c, stream, reach, t, memory);
    if (!t.workspace) c.alloc.free(memory, whole.workspace, scratch_align);
    return status == LARDER_OK && whole.cut ? LARDER_PARTIAL : status;
}

}  // namespace larder
