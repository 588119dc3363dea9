#include "store/tiers/format.h"

#include "base/crc32c.h"

namespace larder::format {
namespace {

constexpr char superblock_magic[9] = "LARDERST";
constexpr char segment_magic[9] = "LARDSEGM";
constexpr char trailer_magic[9] = "LARDFOOT";
constexpr uint32_t record_magic = 0x4345524c;  // "LREC"

void put_bytes(std::byte* out, const void* in, size_t n) noexcept {
    std::memcpy(out, in, n);
}

bool same(const std::byte* a, const void* b, size_t n) noexcept {
    return std::memcmp(a, b, n) == 0;
}

}  // namespace

bool has_superblock_magic(const std::byte* b) noexcept {
    return same(b, superblock_magic, superblock_magic_bytes);
}

void encode_superblock(const Superblock& s, std::byte* b) noexcept {
    std::memset(b, 0, block_bytes);
    put_bytes(b, superblock_magic, 8);
    store_le<uint32_t>(b + 8, version);
    store_le<uint32_t>(b + 12, block_bytes);
    store_le<uint64_t>(b + 16, s.incompatible);
    store_le<uint64_t>(b + 24, s.compatible);
    put_bytes(b + 32, s.id.data(), 16);
    store_le<uint64_t>(b + 48, s.epoch);
    store_le<uint64_t>(b + 56, s.segment_bytes);
    store_le<uint64_t>(b + 64, data_offset);
    store_le<uint32_t>(b + block_bytes - 4, crc32c(0, b, block_bytes - 4));
}

larder_status decode_superblock(const std::byte* b, Superblock& out) noexcept {
    if (!has_superblock_magic(b)) return LARDER_E_FORMAT;
    if (load_le<uint32_t>(b + block_bytes - 4) != crc32c(0, b, block_bytes - 4)) return LARDER_E_CORRUPT;
    out.incompatible = load_le<uint64_t>(b + 16);
    out.compatible = load_le<uint64_t>(b + 24);
    if (load_le<uint32_t>(b + 8) > version || out.incompatible & ~known_incompatible) return LARDER_E_VERSION;
    std::memcpy(out.id.data(), b + 32, 16);
    out.epoch = load_le<uint64_t>(b + 48);
    out.segment_bytes = load_le<uint64_t>(b + 56);
    const bool sane = out.segment_bytes >= min_segment_bytes && out.segment_bytes <= max_segment_bytes &&
                      !(out.segment_bytes & (out.segment_bytes - 1)) && load_le<uint64_t>(b + 64) == data_offset &&
                      out.epoch < UINT32_MAX;
    return sane ? LARDER_OK : LARDER_E_CORRUPT;
}

uint32_t Place::seed(uint32_t offset) const noexcept {
    std::byte b[32];
    put_bytes(b, id.data(), 16);
    store_le<uint32_t>(b + 16, segment);
    store_le<uint32_t>(b + 20, offset);
    store_le<uint64_t>(b + 24, sequence);
    return crc32c(0, b, sizeof b);
}

void encode_segment_header(const Place& p, std::byte* out) noexcept {
    std::memset(out, 0, segment_header_bytes);
    put_bytes(out, segment_magic, 8);
    put_bytes(out + 8, p.id.data(), 16);
    store_le<uint32_t>(out + 24, p.segment);
    store_le<uint64_t>(out + 32, p.sequence);
    store_le<uint32_t>(out + segment_header_bytes - 4, crc32c(0, out, segment_header_bytes - 4));
}

uint64_t decode_segment_header(const std::byte* in, const StoreId& id, uint32_t segment) noexcept {
    if (!same(in, segment_magic, 8) || !same(in + 8, id.data(), 16) || load_le<uint32_t>(in + 24) != segment) return 0;
    if (load_le<uint32_t>(in + segment_header_bytes - 4) != crc32c(0, in, segment_header_bytes - 4)) return 0;
    return load_le<uint64_t>(in + 32);
}

static uint32_t record_sum(const std::byte* h, const Place& p, uint32_t offset) noexcept {
    // The magic and everything behind the checksum's own field.
    return crc32c(crc32c(p.seed(offset), h, 4), h + 8, record_header_bytes - 8);
}

void encode_record(const Record& r, const Place& p, uint32_t offset, std::byte* h) noexcept {
    store_le<uint32_t>(h, record_magic);
    put_bytes(h + 8, r.key.bytes, 32);
    put_bytes(h + 40, r.meta.layout.bytes, 32);
    if (r.kind == RecordKind::object) {
        put_bytes(h + 72, r.meta.parent.bytes, 32);
    } else {
        std::memset(h + 72, 0, 32);
        store_le<uint64_t>(h + 72, r.horizon.sequence);
        store_le<uint32_t>(h + 80, r.horizon.offset);
    }
    store_le<uint32_t>(h + 104, r.n_bytes);
    store_le<uint32_t>(h + 108, r.payload_sum);
    store_le<uint32_t>(h + 112, r.meta.n_tokens);
    store_le<uint32_t>(h + 116, r.meta.user_flags);
    store_le<uint32_t>(h + 120, r.meta.tenant);
    store_le<uint16_t>(h + 124, r.meta.codec);
    h[126] = std::byte(r.meta.quality);
    h[127] = std::byte(r.kind);
    store_le<uint32_t>(h + 4, record_sum(h, p, offset));
}

bool decode_record(const std::byte* h, const Place& p, uint32_t offset, Record& out) noexcept {
    if (load_le<uint32_t>(h) != record_magic || load_le<uint32_t>(h + 4) != record_sum(h, p, offset)) return false;
    out.kind = RecordKind(h[127]);
    std::memcpy(out.key.bytes, h + 8, 32);
    std::memcpy(out.meta.layout.bytes, h + 40, 32);
    std::memset(out.meta.parent.bytes, 0, 32);
    out.horizon = {};
    if (out.kind == RecordKind::object) {
        std::memcpy(out.meta.parent.bytes, h + 72, 32);
    } else {
        out.horizon = {load_le<uint64_t>(h + 72), load_le<uint32_t>(h + 80)};
    }
    out.n_bytes = load_le<uint32_t>(h + 104);
    out.payload_sum = load_le<uint32_t>(h + 108);
    out.meta.n_tokens = load_le<uint32_t>(h + 112);
    out.meta.user_flags = load_le<uint32_t>(h + 116);
    out.meta.tenant = load_le<uint32_t>(h + 120);
    out.meta.codec = load_le<uint16_t>(h + 124);
    out.meta.quality = uint8_t(h[126]);
    // A checksum that fits by chance, or a hostile file: nothing below may be taken on trust.
    switch (out.kind) {
    case RecordKind::object:
        return out.n_bytes > 0 && out.n_bytes <= max_segment_bytes && out.meta.quality > 0;
    case RecordKind::key_removal:
    case RecordKind::tenant_removal:
        return out.n_bytes == 0;
    }
    return false;
}

uint32_t payload_sum(const ExtentSums& sums) noexcept {
    if (sums.size() == 0) return 0;
    return sums.size() == 1 ? sums[0] : crc32c(0, sums.data(), size_t(sums.size()) * 4);
}

void encode_trailer(const Trailer& t, const Place& p, std::byte* out) noexcept {
    std::memset(out, 0, trailer_bytes);
    put_bytes(out, trailer_magic, 8);
    put_bytes(out + 8, p.id.data(), 16);
    store_le<uint32_t>(out + 24, p.segment);
    store_le<uint32_t>(out + 28, t.n_records);
    store_le<uint64_t>(out + 32, p.sequence);
    store_le<uint32_t>(out + 40, t.table_bytes);
    store_le<uint32_t>(out + 44, t.table_sum);
    store_le<uint32_t>(out + 48, t.tail);
    store_le<uint32_t>(out + trailer_bytes - 4, crc32c(0, out, trailer_bytes - 4));
}

uint64_t decode_trailer(const std::byte* in, const StoreId& id, uint32_t segment, uint64_t segment_bytes,
                        Trailer& out) noexcept {
    if (!same(in, trailer_magic, 8) || !same(in + 8, id.data(), 16) || load_le<uint32_t>(in + 24) != segment) return 0;
    if (load_le<uint32_t>(in + trailer_bytes - 4) != crc32c(0, in, trailer_bytes - 4)) return 0;
    out.n_records = load_le<uint32_t>(in + 28);
    out.table_bytes = load_le<uint32_t>(in + 40);
    out.table_sum = load_le<uint32_t>(in + 44);
    out.tail = load_le<uint32_t>(in + 48);
    if (out.table_bytes > segment_bytes || out.tail > segment_bytes || out.tail < segment_header_bytes) return 0;
    if (footer_zone(out.table_bytes) + out.tail > segment_bytes) return 0;
    return load_le<uint64_t>(in + 32);
}

uint64_t max_payload(uint64_t segment_bytes) noexcept {
    // The payload's own table stands in the record and again in the footer; a little less than the exact bound keeps
    // this simple.
    const uint64_t tables = uint64_t(extent_count(segment_bytes)) * 4;
    const uint64_t fixed = segment_header_bytes + record_header_bytes + tables + record_align +
                           footer_zone(4 + record_header_bytes + tables);
    return align_down<uint64_t>(segment_bytes - fixed, 64);
}

}  // namespace larder::format
