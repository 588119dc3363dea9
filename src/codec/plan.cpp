// What must be read of a stream: from headers and indexes alone.
#include "base/options.h"
#include "codec/generations.h"
#include "codec/selection.h"
#include "codec/stream.h"

namespace larder {

namespace {

// Calls put(frame, extent number, offset in the stream, its first token in the stream) for each extent of a selection
// that is complete and valid, in the order of the stream.
template <class Put> larder_status each_extent(ByteSpan stream, const larder_stream_selection& s, Put put) noexcept {
    Generations g(stream, Reach::head);
    for (;;) {
        LARDER_ASSIGN(const bool more, g.next());
        if (!more) return LARDER_OK;
        const Frame& f = g.frame();
        const Overlap o = overlap(g.first_token(), f.shape.n_tokens, s.first_token, s.n_tokens);
        if (!o.n) continue;
        const uint32_t first_chunk = o.from / f.chain.chunk_tokens,
                       last_chunk = (o.from + o.n - 1) / f.chain.chunk_tokens;
        const uint64_t first = f.at.extent_number(s.first_layer, 0, 0),
                       end = f.at.extent_number(s.first_layer + s.n_layers, 0, 0);
        uint64_t offset = g.offset() + f.at.payload_offset;
        for (uint64_t i = 0; i < f.at.n_entries(); ++i) {
            const uint64_t level = i / f.at.n_extents, in_level = i % f.at.n_extents, chunk = i % f.at.n_chunks;
            const bool wanted = level >= s.first_level && level - s.first_level < s.n_levels && in_level >= first &&
                                in_level < end && chunk >= first_chunk && chunk <= last_chunk;
            if (wanted) put(f, i, offset, g.first_token() + uint32_t(chunk) * f.chain.chunk_tokens);
            offset += Frame::padded(f.extent_bytes(i));
        }
    }
}

larder_status complete(ByteSpan stream, larder_stream_selection& s) noexcept {
    uint32_t n_layers = 0, n_tokens = 0, n_levels = 0;
    Generations g(stream, Reach::head);
    for (;;) {
        LARDER_ASSIGN(const bool more, g.next());
        if (!more) break;
        n_layers = g.frame().shape.n_layers;
        n_tokens += g.frame().shape.n_tokens;
        n_levels = std::max(n_levels, g.n_levels());
    }
    LARDER_TRY(check_part(n_layers, s.first_layer, s.n_layers, "n_layers"));
    LARDER_TRY(check_part(n_tokens, s.first_token, s.n_tokens, "n_tokens"));
    return check_part(n_levels, s.first_level, s.n_levels, "n_levels");
}

larder_status too_many(uint32_t n, uint32_t capacity) noexcept {
    return n <= capacity
               ? LARDER_OK
               : fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "there is room for %u; %u are needed", capacity, n);
}

}  // namespace

larder_status stream_plan_read(ByteSpan stream, uint32_t first_layer, uint32_t n_layers, uint32_t first_token,
                               uint32_t n_tokens, larder_stream_extent* out, uint32_t capacity, uint32_t& n) noexcept {
    larder_stream_selection s = LARDER_STREAM_SELECTION_INIT;
    s.first_layer = first_layer, s.n_layers = n_layers, s.first_token = first_token, s.n_tokens = n_tokens;
    n = 0;
    LARDER_TRY(complete(stream, s));
    LARDER_TRY(each_extent(stream, s, [&](const Frame& f, uint64_t i, uint64_t offset, uint32_t token) {
        if (n < capacity)
            out[n] = {offset,
                      Frame::padded(f.extent_bytes(i)),
                      f.extent_crc(i),
                      token,
                      f.chunk_length(uint32_t(i % f.at.n_chunks)),
                      uint32_t(i / f.at.n_extents)};
        ++n;
    }));
    return too_many(n, capacity);
}

larder_status stream_plan_ranges(ByteSpan stream, const larder_stream_selection* selection, larder_stream_range* out,
                                 uint32_t capacity, uint32_t& n) noexcept {
    larder_stream_selection s;
    LARDER_TRY(read_options(selection, s, "larder_stream_selection"));
    LARDER_TRY(check_reserved(s.reserved0, "reserved0"));
    n = 0;
    LARDER_TRY(complete(stream, s));
    uint64_t end = 0;
    LARDER_TRY(each_extent(stream, s, [&](const Frame& f, uint64_t i, uint64_t offset, uint32_t) {
        const uint64_t bytes = Frame::padded(f.extent_bytes(i));
        if (!bytes) return;
        if (n && offset - end <= s.max_gap) {
            if (n <= capacity) out[n - 1].n_bytes = offset + bytes - out[n - 1].offset;
        } else {
            if (n < capacity) out[n] = {offset, bytes};
            ++n;
        }
        end = offset + bytes;
    }));
    return too_many(n, capacity);
}

}  // namespace larder
