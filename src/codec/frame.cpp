#include "codec/frame.h"

#include <algorithm>

#include "base/crc32c.h"
#include "base/options.h"
#include "core/layout.h"

namespace larder {

namespace {

constexpr uint64_t align_up(uint64_t n, uint64_t a) noexcept {
    return (n + a - 1) / a * a;
}

// Offsets in the fixed header.
enum : size_t {
    at_magic = 0,
    at_major = 4,
    at_minor = 5,
    at_flags = 6,
    at_total = 8,
    at_layers = 16,
    at_heads = 18,
    at_tokens = 20,
    at_k_dim = 24,
    at_v_dim = 28,
    at_k_dtype = 32,
    at_v_dtype = 33,
    at_rope = 34,
    at_quality = 35,
    at_chunk = 36,
    at_first_token = 40,
    at_stages_bytes = 48,
    at_profile_bytes = 52,
    at_meta_crc = 56,
    at_header_crc = 60,
    at_layout = 64,
    at_content = 96
};

uint32_t header_crc(const std::byte* h) noexcept {
    // Over the header with its own field left out.
    return crc32c(crc32c(0, h, at_header_crc), h + at_layout, header_bytes - at_layout);
}

constexpr uint16_t flag_levels = 7, flag_checked = 8;

bool all_zero(const std::byte* p, uint64_t n) noexcept {
    return std::all_of(p, p + n, [](std::byte b) { return b == std::byte{0}; });
}

// What pads the sections before the payload.
bool padding_is_zero(const Frame& f) noexcept {
    const auto zero = [&](uint64_t from, uint64_t to) { return all_zero(f.bytes.data() + from, to - from); };
    return zero(header_bytes + f.stages_bytes, f.at.profile_offset) &&
           zero(f.at.profile_offset + f.profile.size(), f.at.index_offset) &&
           zero(f.at.index_offset + f.at.n_entries() * index_entry_bytes, f.at.payload_offset);
}

larder_status read_header(ByteSpan bytes, Frame& f, uint32_t& stages_bytes, uint32_t& profile_bytes) noexcept {
    const std::byte* h = bytes.data();
    const size_t have = std::min<size_t>(bytes.size(), 4);
    std::byte magic[4];
    store_le<uint32_t>(magic, stream_magic);
    if (have && std::memcmp(h, magic, have)) return fail(LARDER_E_FORMAT, "magic", "these bytes are not a stream");
    if (bytes.size() < header_bytes) return fail(LARDER_E_TRUNCATED, "header", "the stream ends within its header");
    if (uint8_t(h[at_major]) != stream_major)
        return fail(LARDER_E_VERSION, "version", "the stream has format version %u; this library reads version %u",
                    uint32_t(h[at_major]), stream_major);
    if (header_crc(h) != load_le<uint32_t>(h + at_header_crc))
        return fail(LARDER_E_CORRUPT, "header", "the checksum of the stream's header does not hold");
    const uint16_t flags = load_le<uint16_t>(h + at_flags);
    f.chain.refine = flags & flag_levels;
    f.chain.checked = flags & flag_checked;
    if (flags & ~(flag_levels | flag_checked) || f.chain.refine > max_refine)
        return fail(LARDER_E_VERSION, "flags", "the stream uses features that this library does not know");
    f.total_bytes = load_le<uint64_t>(h + at_total);
    f.shape = LARDER_STREAM_SHAPE_INIT;
    f.shape.n_layers = load_le<uint16_t>(h + at_layers);
    f.shape.n_kv_heads = load_le<uint16_t>(h + at_heads);
    f.shape.n_tokens = load_le<uint32_t>(h + at_tokens);
    f.shape.k_dim = load_le<uint32_t>(h + at_k_dim);
    f.shape.v_dim = load_le<uint32_t>(h + at_v_dim);
    f.shape.k_dtype = uint8_t(h[at_k_dtype]);
    f.shape.v_dtype = uint8_t(h[at_v_dtype]);
    f.identity = LARDER_STREAM_IDENTITY_INIT;
    f.identity.rope = uint8_t(h[at_rope]);
    f.identity.first_token = load_le<uint64_t>(h + at_first_token);
    std::memcpy(f.identity.layout.bytes, h + at_layout, 32);
    std::memcpy(f.identity.content.bytes, h + at_content, 32);
    f.quality = uint8_t(h[at_quality]);
    stages_bytes = load_le<uint32_t>(h + at_stages_bytes);
    profile_bytes = load_le<uint32_t>(h + at_profile_bytes);
    const uint32_t chunk_tokens = load_le<uint32_t>(h + at_chunk);
    const larder_stream_shape stored = f.shape;
    if (check_shape(f.shape, chunk_tokens) < 0 || stored.k_dtype != f.shape.k_dtype ||
        stored.v_dtype != f.shape.v_dtype || f.identity.rope < LARDER_ROPE_POST || f.identity.rope > LARDER_ROPE_NONE)
        return fail(LARDER_E_CORRUPT, "header", "the stream's header states an impossible shape");
    f.chain.chunk_tokens = chunk_tokens;
    f.at.set(f.shape, f.chain, stages_bytes, profile_bytes);
    if (f.total_bytes < f.at.payload_offset + trailer_bytes)
        return fail(LARDER_E_CORRUPT, "header", "the stream's stated length is too small");
    return LARDER_OK;
}

}  // namespace

void FrameLayout::set(const larder_stream_shape& s, const Chain& chain, uint64_t stages_bytes,
                      uint64_t profile_bytes) noexcept {
    n_chunks = (s.n_tokens + chain.chunk_tokens - 1) / chain.chunk_tokens;
    n_levels = 1u + chain.refine;
    n_sides = s.v_dim ? 2 : 1;
    n_extents = uint64_t(s.n_layers) * n_sides * n_chunks;
    profile_offset = align_up(header_bytes + stages_bytes, section_align);
    index_offset = align_up(profile_offset + profile_bytes, section_align);
    limit_levels(n_levels);
}

void FrameLayout::limit_levels(uint32_t n) noexcept {
    n_levels = std::min(n_levels, n);
    payload_offset = align_up(index_offset + n_entries() * index_entry_bytes, section_align);
}

larder_status check_shape(larder_stream_shape& s, uint32_t chunk_tokens) noexcept {
    if (!s.k_dtype) s.k_dtype = LARDER_DTYPE_F16;
    if (!s.v_dtype) s.v_dtype = s.k_dtype;
    LARDER_TRY(check_range(s.n_layers, 1, max_layers, "n_layers"));
    LARDER_TRY(check_range(s.n_tokens, 1, max_tokens, "n_tokens"));
    LARDER_TRY(check_range(s.n_kv_heads, 1, max_heads, "n_kv_heads"));
    LARDER_TRY(check_range(s.k_dim, 1, max_dim, "k_dim"));
    LARDER_TRY(check_range(s.v_dim, 0, max_dim, "v_dim"));
    if (!dtype_bytes(s.k_dtype)) return fail(LARDER_E_INVALID, "k_dtype", "there is no dtype %d", s.k_dtype);
    if (!dtype_bytes(s.v_dtype)) return fail(LARDER_E_INVALID, "v_dtype", "there is no dtype %d", s.v_dtype);
    LARDER_TRY(check_range(chunk_tokens, 1, max_chunk_tokens, "chunk_tokens"));
    const uint64_t token_values = uint64_t(s.n_kv_heads) * (uint64_t(s.k_dim) + s.v_dim);
    LARDER_TRY(
        check_range(token_values * std::min(s.n_tokens, chunk_tokens), 1, max_chunk_values, "values of a chunk"));
    return check_range(token_values * s.n_layers, 1, max_stream_values / s.n_tokens, "values of a token");
}

uint64_t Frame::extent_offset(uint64_t i) const noexcept {
    uint64_t offset = at.payload_offset;
    for (uint64_t j = 0; j < i; ++j) offset += padded(extent_bytes(j));
    return offset;
}

uint32_t Frame::chunk_length(uint32_t chunk) const noexcept {
    return std::min(chain.chunk_tokens, shape.n_tokens - chunk * chain.chunk_tokens);
}

larder_status read_frame(ByteSpan bytes, Reach reach, Frame& f) noexcept {
    f = Frame{};
    uint32_t stages_bytes = 0, profile_bytes = 0;
    LARDER_TRY(read_header(bytes, f, stages_bytes, profile_bytes));
    f.bytes = bytes = bytes.first(size_t(std::min<uint64_t>(bytes.size(), f.total_bytes)));
    if (bytes.size() < f.at.payload_offset || (reach == Reach::whole && bytes.size() < f.total_bytes))
        return fail(LARDER_E_TRUNCATED, "total_bytes", "the stream states %llu bytes; %zu are there",
                    (unsigned long long)f.total_bytes, bytes.size());
    if (crc32c(0, bytes.data() + header_bytes, f.at.payload_offset - header_bytes) !=
        load_le<uint32_t>(bytes.data() + at_meta_crc))
        return fail(LARDER_E_CORRUPT, "index",
                    "the checksum of the stream's stage list, profile and index does not hold");
    const Chain header = f.chain;
    LARDER_TRY(
        read_stages(bytes.subspan(header_bytes, stages_bytes), f.chain, f.profile_hash, f.names_profile, f.link));
    f.chain.chunk_tokens = header.chunk_tokens;
    f.chain.refine = header.refine;
    f.chain.checked = header.checked;
    f.stages_bytes = stages_bytes;
    f.profile = bytes.subspan(f.at.profile_offset, profile_bytes);
    if (f.quality != chain_quality(f.chain) || check_chain(f.chain) < 0 || check_chain_shape(f.chain, f.shape) < 0)
        return fail(LARDER_E_CORRUPT, "stages", "the stream's stages do not go with its header");
    if (!padding_is_zero(f))
        return fail(LARDER_E_CORRUPT, "padding", "the padding between the stream's sections is not zero");
    if (f.extent_offset(f.at.n_entries()) + trailer_bytes != f.total_bytes)
        return fail(LARDER_E_CORRUPT, "index", "the extents do not add up to the stream's length");
    if (reach != Reach::remains && bytes.size() == f.total_bytes && !has_trailer(f))
        return fail(LARDER_E_CORRUPT, "trailer", "the stream's trailer is damaged");
    return LARDER_OK;
}

bool has_trailer(const Frame& f) noexcept {
    if (f.bytes.size() < f.total_bytes) return false;
    const std::byte* t = f.bytes.data() + f.total_bytes - trailer_bytes;
    return load_le<uint64_t>(t) == trailer_magic && load_le<uint64_t>(t + 8) == f.total_bytes &&
           load_le<uint32_t>(t + 16) == load_le<uint32_t>(f.bytes.data() + at_header_crc) &&
           load_le<uint32_t>(t + 20) == load_le<uint32_t>(f.bytes.data() + at_meta_crc) &&
           load_le<uint32_t>(t + 24) == 0 && load_le<uint32_t>(t + 28) == crc32c(0, t, 28);
}

larder_status read_extent(const Frame& f, uint64_t i, uint64_t offset, ByteSpan& out) noexcept {
    const uint32_t n = f.extent_bytes(i);
    const uint64_t padded = Frame::padded(n);
    if (f.bytes.size() < offset + padded)
        return fail(LARDER_E_TRUNCATED, "extent", "the stream ends before extent %llu does", (unsigned long long)i);
    if (crc32c(0, f.bytes.data() + offset, padded) != f.extent_crc(i))
        return fail(LARDER_E_CORRUPT, "extent", "the checksum of extent %llu of the stream does not hold",
                    (unsigned long long)i);
    if (!all_zero(f.bytes.data() + offset + n, padded - n))
        return fail(LARDER_E_CORRUPT, "extent", "the padding of extent %llu is not zero", (unsigned long long)i);
    out = f.bytes.subspan(offset, n);
    return LARDER_OK;
}

uint64_t seal_frame(std::byte* out, uint64_t payload_end, const larder_stream_shape& shape,
                    const larder_stream_identity& identity, const Chain& chain, uint32_t stages_bytes,
                    uint32_t profile_bytes, const FrameLayout& at) noexcept {
    const uint64_t total = payload_end + trailer_bytes;
    std::memset(out, 0, header_bytes);
    store_le<uint32_t>(out + at_magic, stream_magic);
    store_le<uint8_t>(out + at_major, stream_major);
    store_le<uint8_t>(out + at_minor, stream_minor);
    store_le<uint16_t>(out + at_flags, uint16_t(chain.refine | (chain.checked ? flag_checked : 0)));
    store_le<uint64_t>(out + at_total, total);
    store_le<uint16_t>(out + at_layers, uint16_t(shape.n_layers));
    store_le<uint16_t>(out + at_heads, uint16_t(shape.n_kv_heads));
    store_le<uint32_t>(out + at_tokens, shape.n_tokens);
    store_le<uint32_t>(out + at_k_dim, shape.k_dim);
    store_le<uint32_t>(out + at_v_dim, shape.v_dim);
    store_le<uint8_t>(out + at_k_dtype, uint8_t(shape.k_dtype));
    store_le<uint8_t>(out + at_v_dtype, uint8_t(shape.v_dtype));
    store_le<uint8_t>(out + at_rope, uint8_t(identity.rope));
    store_le<uint8_t>(out + at_quality, uint8_t(chain_quality(chain)));
    store_le<uint32_t>(out + at_chunk, chain.chunk_tokens);
    store_le<uint64_t>(out + at_first_token, identity.first_token);
    store_le<uint32_t>(out + at_stages_bytes, stages_bytes);
    store_le<uint32_t>(out + at_profile_bytes, profile_bytes);
    store_le<uint32_t>(out + at_meta_crc, crc32c(0, out + header_bytes, at.payload_offset - header_bytes));
    std::memcpy(out + at_layout, identity.layout.bytes, 32);
    std::memcpy(out + at_content, identity.content.bytes, 32);
    store_le<uint32_t>(out + at_header_crc, header_crc(out));
    std::byte* t = out + payload_end;
    store_le<uint64_t>(t, trailer_magic);
    store_le<uint64_t>(t + 8, total);
    store_le<uint32_t>(t + 16, load_le<uint32_t>(out + at_header_crc));
    store_le<uint32_t>(t + 20, load_le<uint32_t>(out + at_meta_crc));
    store_le<uint32_t>(t + 24, 0);
    store_le<uint32_t>(t + 28, crc32c(0, t, 28));
    return total;
}

}  // namespace larder
