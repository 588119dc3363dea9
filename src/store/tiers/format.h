// The bytes of the file tier (docs/formats/store.md): superblock, segment header, record header, footer. Nothing here
// does I/O.
#pragma once

#include <array>

#include "base/bytes.h"
#include "base/result.h"
#include "store/object.h"

namespace larder::format {

inline constexpr uint32_t version = 1;
inline constexpr uint64_t known_incompatible = 0;  // feature bits that this library understands
inline constexpr uint32_t block_bytes =
    4096;  // unit of writing: nothing shares a block with what was made durable before it
inline constexpr uint32_t n_superblocks = 4;
inline constexpr uint64_t data_offset = uint64_t(n_superblocks) * block_bytes;
inline constexpr uint32_t segment_header_bytes = 128;
inline constexpr uint32_t record_header_bytes = 128;
inline constexpr uint32_t record_align = 64;
inline constexpr uint32_t trailer_bytes = 128;
inline constexpr uint64_t min_segment_bytes = 64 << 10, max_segment_bytes = 64 << 20;
inline constexpr uint32_t max_segments = 1 << 20;

template <class T> constexpr T align_up(T v, T unit) noexcept {
    return (v + unit - 1) & ~(unit - 1);
}
template <class T> constexpr T align_down(T v, T unit) noexcept {
    return v & ~(unit - 1);
}

using StoreId = std::array<uint8_t, 16>;

struct Superblock {
    StoreId id{};
    uint64_t epoch = 0;  // grows by one each time the store is opened for writing
    uint64_t segment_bytes = 0;
    uint64_t incompatible = 0;
    uint64_t compatible = 0;
};
inline constexpr size_t superblock_magic_bytes = 8;
bool has_superblock_magic(const std::byte* block) noexcept;
void encode_superblock(const Superblock& s, std::byte* block) noexcept;
// OK; E_FORMAT (no magic); E_CORRUPT (checksum or a field that cannot be); E_VERSION.
larder_status decode_superblock(const std::byte* block, Superblock& out) noexcept;

// What ties bytes to their place: the same bytes at another place, in another segment or of an earlier use of it do not
// pass.
struct Place {
    const StoreId& id;
    uint32_t segment;
    uint64_t sequence;
    uint32_t seed(uint32_t offset) const noexcept;
};

void encode_segment_header(const Place& p, std::byte* out) noexcept;
// The sequence number, or 0 when this is not a header of that segment of that store.
uint64_t decode_segment_header(const std::byte* in, const StoreId& id, uint32_t segment) noexcept;

enum class RecordKind : uint8_t { object = 1, key_removal = 2, tenant_removal = 3 };

// A position in the log. Records before a removal's horizon are removed by it, also where the removal itself was moved.
struct LogPosition {
    uint64_t sequence = 0;
    uint32_t offset = 0;
    auto operator<=>(const LogPosition&) const = default;
};

struct Record {
    RecordKind kind = RecordKind::object;
    larder_key key{};
    ObjectMeta meta;  // of removals only the tenant counts
    uint32_t n_bytes = 0;
    uint32_t payload_sum = 0;
    LogPosition horizon;  // removals only

    uint32_t n_extents() const noexcept { return extent_count(n_bytes); }
    uint32_t table_bytes() const noexcept { return n_extents() > 1 ? n_extents() * 4 : 0; }
    uint64_t payload_offset() const noexcept { return record_header_bytes + table_bytes(); }
    uint64_t total_bytes() const noexcept { return align_up<uint64_t>(payload_offset() + n_bytes, record_align); }
    uint32_t footer_bytes() const noexcept { return 4 + record_header_bytes + table_bytes(); }
};
void encode_record(const Record& r, const Place& p, uint32_t offset, std::byte* out) noexcept;
// False when these 128 bytes are not the header of a record at that place.
bool decode_record(const std::byte* in, const Place& p, uint32_t offset, Record& out) noexcept;

// The record's payload_sum: of a payload of one extent its CRC32C, of a larger one the CRC32C over the table of its
// extents' sums.
uint32_t payload_sum(const ExtentSums& sums) noexcept;

// Bytes at the end of a segment that a footer of this table takes, a multiple of block_bytes.
constexpr uint64_t footer_zone(uint64_t table_bytes) noexcept {
    return align_up<uint64_t>(table_bytes + trailer_bytes, block_bytes);
}

struct Trailer {
    uint32_t n_records = 0;
    uint32_t table_bytes = 0;
    uint32_t table_sum = 0;
    uint32_t tail = 0;  // first byte behind the last record
};
void encode_trailer(const Trailer& t, const Place& p, std::byte* out) noexcept;
// The sequence number, or 0 when this is not a trailer of that segment.
uint64_t decode_trailer(const std::byte* in, const StoreId& id, uint32_t segment, uint64_t segment_bytes,
                        Trailer& out) noexcept;

// The largest payload that fits into a segment.
uint64_t max_payload(uint64_t segment_bytes) noexcept;

}  // namespace larder::format
