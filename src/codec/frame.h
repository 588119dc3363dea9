// The container: fixed header, stage list, profile or tables, index, extents, trailer. docs/formats/stream.md gives
// every byte.
#pragma once

#include "base/bytes.h"
#include "codec/chain.h"
#include "larder/stream.h"

namespace larder {

inline constexpr uint32_t stream_magic = 0x31564b4c;            // "LKV1"
inline constexpr uint64_t trailer_magic = 0x31454e4f44564b4cu;  // "LKVDONE1"
inline constexpr uint8_t stream_major = 1, stream_minor = 0;
inline constexpr size_t header_bytes = 128, trailer_bytes = 32, section_align = 64, extent_align = 8,
                        index_entry_bytes = 8;
inline constexpr uint32_t max_layers = 4096, max_heads = 4096, max_dim = 65536, max_tokens = 1u << 24,
                          max_chunk_tokens = 65536;
inline constexpr uint64_t max_chunk_values = uint64_t(1) << 24, max_stream_values = uint64_t(1) << 40;

// Where things lie; follows from shape, chunk size and the lengths of the two variable sections.
struct FrameLayout {
    uint32_t n_chunks = 0, n_sides = 0;  // sides: K, or K and V
    uint32_t n_levels = 1;               // the base and its refinements
    uint64_t n_extents = 0;              // of one level
    uint64_t profile_offset = 0, index_offset = 0, payload_offset = 0;
    void set(const larder_stream_shape& shape, const Chain& chain, uint64_t stages_bytes,
             uint64_t profile_bytes) noexcept;
    // Of the same generation with at most n levels.
    void limit_levels(uint32_t n) noexcept;
    uint64_t n_entries() const noexcept { return n_extents * n_levels; }
    uint64_t extent_number(uint32_t layer, uint32_t kv, uint32_t chunk, uint32_t level = 0) const noexcept {
        return level * n_extents + (uint64_t(layer) * n_sides + kv) * n_chunks + chunk;
    }
};

// Fills defaults and checks ranges. E_RANGE or E_INVALID with the field's name.
larder_status check_shape(larder_stream_shape& shape, uint32_t chunk_tokens) noexcept;

constexpr uint32_t plane_width(const larder_stream_shape& s, uint32_t kv) noexcept {
    return s.n_kv_heads * (kv ? s.v_dim : s.k_dim);
}
constexpr larder_dtype plane_dtype(const larder_stream_shape& s, uint32_t kv) noexcept {
    return kv ? s.v_dtype : s.k_dtype;
}

// What ties a later generation of a stream to the bytes before it.
struct Link {
    uint32_t generation = 0;  // 0: the first, which has no link
    uint32_t previous_crc = 0;
    uint64_t offset = 0;
};

// A parsed generation. Borrows the bytes.
struct Frame {
    larder_stream_shape shape;
    larder_stream_identity identity;
    Chain chain;
    larder_quality quality;
    larder_key profile_hash;
    bool names_profile;
    Link link;
    uint64_t total_bytes;
    uint32_t stages_bytes;
    FrameLayout at;
    ByteSpan bytes, profile;

    uint32_t extent_bytes(uint64_t i) const noexcept {
        return load_le<uint32_t>(bytes.data() + at.index_offset + i * index_entry_bytes);
    }
    uint32_t extent_crc(uint64_t i) const noexcept {
        return load_le<uint32_t>(bytes.data() + at.index_offset + i * index_entry_bytes + 4);
    }
    static constexpr uint64_t padded(uint64_t n) noexcept {
        return (n + extent_align - 1) / extent_align * extent_align;
    }
    // Bytes with padding, and their position, of extent i; O(i).
    uint64_t extent_offset(uint64_t i) const noexcept;
    uint32_t chunk_length(uint32_t chunk) const noexcept;
    // How a later generation knows this one.
    uint32_t trailer_crc() const noexcept { return load_le<uint32_t>(bytes.data() + total_bytes - 4); }
};

// How much of a generation must be there.
enum class Reach : uint8_t {
    head,     // everything before the payload; the trailer is checked when the bytes reach it
    whole,    // all of it: E_TRUNCATED otherwise
    remains,  // everything before the payload; what follows may be missing or torn
};

// The generation that bytes begin with; more may follow it.
larder_status read_frame(ByteSpan bytes, Reach reach, Frame& out) noexcept;
// Whether the trailer is there and right.
bool has_trailer(const Frame& f) noexcept;
// One extent's bytes, checked against its CRC and for its padding. E_TRUNCATED when the bytes end before it.
larder_status read_extent(const Frame& f, uint64_t i, uint64_t offset, ByteSpan& out) noexcept;

// Writing: the sections are in place already; fills in header and trailer. Returns the total.
uint64_t seal_frame(std::byte* out, uint64_t payload_end, const larder_stream_shape& shape,
                    const larder_stream_identity& identity, const Chain& chain, uint32_t stages_bytes,
                    uint32_t profile_bytes, const FrameLayout& at) noexcept;

}  // namespace larder
