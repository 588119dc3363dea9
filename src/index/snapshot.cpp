// Snapshots of an index. The format is frozen: docs/formats/index-snapshot.md.
#include "index/snapshot.h"

#include "base/crc32c.h"
#include "index/ordered_map.h"

namespace larder {
namespace snapshot {

static constexpr char magic[8] = {'L', 'A', 'R', 'D', 'I', 'D', 'X', '\n'};
static constexpr uint32_t newest_version = 2;

void write_header(const Header& h, std::byte (&out)[header_bytes]) noexcept {
    std::memset(out, 0, sizeof out);
    std::memcpy(out, magic, sizeof magic);
    store_le(out + 8, h.key_bytes ? 1u : 2u);  // the oldest version that can say it
    store_le(out + 12, header_bytes);
    store_le(out + 16, h.key_bytes);
    store_le(out + 20, h.value_bytes);
    store_le(out + 24, h.order);
    store_le(out + 60, crc32c(0, out, 60));
}

larder_status read_header(const std::byte* in, Header& out) noexcept {
    if (std::memcmp(in, magic, sizeof magic))
        return fail(LARDER_E_FORMAT, "source", "this is not a snapshot of an index");
    if (load_le<uint32_t>(in + 60) != crc32c(0, in, 60))
        return fail(LARDER_E_CORRUPT, "source", "the snapshot's header fails its checksum");
    if (load_le<uint32_t>(in + 8) > newest_version)
        return fail(LARDER_E_VERSION, "source", "the snapshot has version %u, this library reads %u",
                    load_le<uint32_t>(in + 8), newest_version);
    if (load_le<uint32_t>(in + 12) != header_bytes)
        return fail(LARDER_E_CORRUPT, "source", "the snapshot's header has a wrong size");
    out = {load_le<uint32_t>(in + 16), load_le<uint32_t>(in + 20), load_le<uint32_t>(in + 24)};
    return LARDER_OK;
}

// {n_pairs u32, checksum u32, first_pair u64}; the checksum covers the other two fields and the pairs.
static void write_chunk_header(std::byte* out, uint32_t n, uint64_t first, const std::byte* payload,
                               size_t n_bytes) noexcept {
    store_le(out, n);
    store_le(out + 8, first);
    uint32_t crc = crc32c(0, out, 4);
    crc = crc32c(crc, out + 8, 8);
    store_le(out + 4, crc32c(crc, payload, n_bytes));
}

larder_status read_chunk(const std::byte* header, const std::byte* payload, size_t n_bytes, ChunkHeader& out) noexcept {
    out = {load_le<uint32_t>(header), load_le<uint64_t>(header + 8)};
    std::byte expected[chunk_header_bytes];
    write_chunk_header(expected, out.n_pairs, out.first_pair, payload, n_bytes);
    if (std::memcmp(header, expected, sizeof expected))
        return fail(LARDER_E_CORRUPT, "source", "the chunk at pair %llu of the snapshot fails its checksum",
                    (unsigned long long)out.first_pair);
    return LARDER_OK;
}

bool AnyChunk::sound() const noexcept {
    if (size_t(n_) * (value_bytes_ + end_bytes + 1) > any_payload_bytes) return false;
    const uint32_t room = any_payload_bytes - n_ * (value_bytes_ + end_bytes);
    for (uint32_t i = 0, begin = 0; i < n_; begin = end(i++))
        if (end(i) <= begin || end(i) > room || end(i) - begin > LARDER_INDEX_MAX_KEY_BYTES) return false;
    return true;
}

}  // namespace snapshot

using namespace snapshot;

larder_status not_ascending_is_corrupt(larder_status s) noexcept {
    return s == LARDER_E_INVALID ? fail(LARDER_E_CORRUPT, "source", "the keys of the snapshot are not ascending") : s;
}

larder_status check_index_key(const larder_index_key& k, uint64_t i) noexcept {
    if (!k.n_bytes || k.n_bytes > LARDER_INDEX_MAX_KEY_BYTES)
        return fail(LARDER_E_RANGE, "n_bytes", "key %llu has %llu bytes; it must have 1 to %u", (unsigned long long)i,
                    (unsigned long long)k.n_bytes, LARDER_INDEX_MAX_KEY_BYTES);
    if (!k.data) return fail(LARDER_E_INVALID, "data", "the data of key %llu is NULL", (unsigned long long)i);
    return LARDER_OK;
}

static uint32_t stored_key_bytes(const larder_index_options& o) noexcept {
    return o.key_bytes == LARDER_INDEX_ANY_LENGTH ? 0 : o.key_bytes;
}

larder_status OrderedMap::save(const larder_index_sink& sink) const {
    std::byte header[header_bytes];
    write_header({stored_key_bytes(options_), options_.value_bytes, uint32_t(options_.order)}, header);
    LARDER_TRY(sink.write(sink.ctx, header, sizeof header));
    return save_pairs(sink);
}

static larder_status check_header(const std::byte* in, const larder_index_options& o) noexcept {
    Header h;
    LARDER_TRY(read_header(in, h));
    if (h.key_bytes != stored_key_bytes(o) || h.value_bytes != o.value_bytes || h.order != uint32_t(o.order))
        return fail(LARDER_E_IDENTITY, "source",
                    "the snapshot has keys of %u bytes (0: any length), values of %u and order %u; the index has %u, "
                    "%u and %u",
                    h.key_bytes, h.value_bytes, h.order, stored_key_bytes(o), o.value_bytes, o.order);
    return LARDER_OK;
}

larder_status OrderedMap::load(const larder_index_source& source) {
    if (count()) return fail(LARDER_E_STATE, "index", "the index is not empty");
    std::byte header[header_bytes];
    LARDER_TRY(source.read(source.ctx, header, sizeof header));
    LARDER_TRY(check_header(header, options_));
    larder_status s = LARDER_E_NOMEM;
    try {
        s = load_pairs(source);
    } catch (const std::bad_alloc&) {
        fail(s, "", "the allocator gave no memory");
    }
    if (s < 0) {
        const larder_error_info why = last_error();
        clear();
        set_last_error(why);
    }
    return s;
}

ChunkReader::ChunkReader(const larder_index_source& source, uint32_t pair_bytes, const Allocator& a)
    : source_(source), pair_bytes_(pair_bytes),
      payload_(pair_bytes ? size_t(pairs_per_chunk) * pair_bytes : any_payload_bytes, std::byte{}, a) {}

larder_status ChunkReader::next(uint32_t& n) {
    std::byte header[chunk_header_bytes];
    LARDER_TRY(source_.read(source_.ctx, header, sizeof header));
    n = load_le<uint32_t>(header);
    if (pair_bytes_ && n > pairs_per_chunk)
        return fail(LARDER_E_CORRUPT, "source", "a chunk of the snapshot claims %u pairs", n);
    const size_t n_bytes = !n ? 0 : pair_bytes_ ? size_t(n) * pair_bytes_ : any_payload_bytes;
    if (n) LARDER_TRY(source_.read(source_.ctx, payload_.data(), n_bytes));
    ChunkHeader h;
    LARDER_TRY(read_chunk(header, payload_.data(), n_bytes, h));
    if (h.first_pair != n_pairs_)
        return fail(LARDER_E_CORRUPT, "source", "after pair %llu of the snapshot comes pair %llu",
                    (unsigned long long)n_pairs_, (unsigned long long)h.first_pair);
    n_pairs_ += n;
    return LARDER_OK;
}

ChunkWriter::ChunkWriter(const larder_index_sink& sink, size_t payload_bytes, const Allocator& a)
    : sink_(sink), chunk_(chunk_header_bytes + payload_bytes, std::byte{}, a) {}

larder_status ChunkWriter::write(uint32_t n, size_t n_bytes) {
    write_chunk_header(chunk_.data(), n, n_pairs_, payload(), n_bytes);
    n_pairs_ += n;
    return sink_.write(sink_.ctx, chunk_.data(), chunk_header_bytes + n_bytes);
}

}  // namespace larder
