#include "codec/stream.h"

#include <algorithm>

#include "base/options.h"
#include "codec/decoder.h"
#include "codec/frame.h"
#include "codec/profile.h"

namespace larder {

namespace {

larder_status check_identity(const Frame& f, const larder_key* layout, const larder_key* content) noexcept {
    if (layout && std::memcmp(layout->bytes, f.identity.layout.bytes, 32))
        return fail(LARDER_E_IDENTITY, "layout", "the stream belongs to another layout");
    if (content && std::memcmp(content->bytes, f.identity.content.bytes, 32))
        return fail(LARDER_E_IDENTITY, "content", "the stream holds other content");
    return LARDER_OK;
}

larder_status check_selection(const Frame& f, uint32_t first_layer, uint32_t& n_layers, uint32_t first_token,
                              uint32_t& n_tokens) noexcept {
    if (!n_layers && first_layer < f.shape.n_layers) n_layers = f.shape.n_layers - first_layer;
    if (!n_tokens && first_token < f.shape.n_tokens) n_tokens = f.shape.n_tokens - first_token;
    if (!n_layers || uint64_t(first_layer) + n_layers > f.shape.n_layers)
        return fail(LARDER_E_RANGE, "n_layers", "layers %u..+%u are not within the stream's %u", first_layer, n_layers,
                    f.shape.n_layers);
    if (!n_tokens || uint64_t(first_token) + n_tokens > f.shape.n_tokens)
        return fail(LARDER_E_RANGE, "n_tokens", "tokens %u..+%u are not within the stream's %u", first_token, n_tokens,
                    f.shape.n_tokens);
    return LARDER_OK;
}

}  // namespace

larder_status stream_inspect(ByteSpan stream, larder_stream_info& out) noexcept {
    Frame f;
    LARDER_TRY(read_frame(stream, false, f));
    out = LARDER_STREAM_INFO_INIT;
    out.quality = f.quality;
    out.shape = f.shape;
    out.identity = f.identity;
    out.n_bytes = f.total_bytes;
    out.payload_bytes = f.total_bytes - trailer_bytes - f.at.payload_offset;
    out.decode_workspace = decode_workspace(f);
    out.chunk_tokens = f.chain.chunk_tokens;
    out.n_chunks = f.at.n_chunks;
    out.has_profile = f.names_profile ? 2 : needs_profile(f.chain) ? 1 : 0;
    out.profile_hash = f.profile_hash;
    print_chain(f.chain, out.chain, sizeof out.chain);
    return LARDER_OK;
}

larder_status stream_plan_read(ByteSpan stream, uint32_t first_layer, uint32_t n_layers, uint32_t first_token,
                               uint32_t n_tokens, larder_stream_extent* out, uint32_t capacity, uint32_t& n) noexcept {
    Frame f;
    n = 0;
    LARDER_TRY(read_frame(stream, false, f));
    LARDER_TRY(check_selection(f, first_layer, n_layers, first_token, n_tokens));
    const uint32_t first_chunk = first_token / f.chain.chunk_tokens,
                   last_chunk = (first_token + n_tokens - 1) / f.chain.chunk_tokens;
    uint64_t i = f.at.extent_number(first_layer, 0, 0), offset = f.extent_offset(i);
    const uint64_t end = f.at.extent_number(first_layer + n_layers, 0, 0);
    for (; i < end; offset += Frame::padded(f.extent_bytes(i)), ++i) {
        const uint32_t chunk = uint32_t(i % f.at.n_chunks);
        if (chunk < first_chunk || chunk > last_chunk) continue;
        if (n < capacity)
            out[n] = {offset,
                      Frame::padded(f.extent_bytes(i)),
                      f.extent_crc(i),
                      chunk * f.chain.chunk_tokens,
                      f.chunk_length(chunk),
                      0};
        ++n;
    }
    if (n > capacity) return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "the selection has %u extents", n);
    return LARDER_OK;
}

larder_status stream_verify(ByteSpan stream, const larder_key* layout, const larder_key* content) noexcept {
    Frame f;
    LARDER_TRY(read_frame(stream, true, f));
    LARDER_TRY(check_identity(f, layout, content));
    uint64_t offset = f.at.payload_offset;
    for (uint64_t i = 0; i < f.at.n_extents; ++i) {
        ByteSpan bytes;
        LARDER_TRY(read_extent(f, i, offset, bytes));
        offset += Frame::padded(bytes.size());
    }
    return LARDER_OK;
}

larder_status stream_decode(larder_context& c, ByteSpan stream, const larder_stream_target& user) {
    larder_stream_target t;
    LARDER_TRY(read_options(&user, t, "larder_stream_target"));
    LARDER_TRY(check_reserved(t.reserved0, "reserved0"));
    if (!t.planes) return fail(LARDER_E_INVALID, "planes", "planes is NULL");
    if (t.n_profiles && !t.profiles)
        return fail(LARDER_E_INVALID, "profiles", "n_profiles is %u, but profiles is NULL", t.n_profiles);
    for (uint32_t i = 0; i < t.n_profiles; ++i)
        if (t.profiles[i]) LARDER_TRY(check_handle(t.profiles[i], HandleType::profile, "profiles"));
    Frame f;
    LARDER_TRY(read_frame(stream, true, f));
    LARDER_TRY(check_identity(f, t.expect_layout, t.expect_content));
    LARDER_TRY(check_selection(f, t.first_layer, t.n_layers, t.first_token, t.n_tokens));
    const uint64_t need = decode_workspace(f);
    if (t.workspace) {
        if (t.workspace_bytes < need)
            return fail(LARDER_E_BUFFER_TOO_SMALL, "workspace_bytes",
                        "the workspace has %llu bytes; this stream needs %llu", (unsigned long long)t.workspace_bytes,
                        (unsigned long long)need);
        return decode_selection(c, f, t, static_cast<std::byte*>(t.workspace));
    }
    auto* memory = static_cast<std::byte*>(c.alloc.alloc(need, scratch_align));
    const larder_status status = decode_selection(c, f, t, memory);
    c.alloc.free(memory, need, scratch_align);
    return status;
}

}  // namespace larder
