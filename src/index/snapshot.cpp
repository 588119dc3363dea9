// Snapshots of an index. The format is frozen: docs/formats/index-snapshot.md.
#include "base/bytes.h"
#include "base/crc32c.h"
#include "index/ordered_map.h"

namespace larder {
namespace {

constexpr char magic[8] = {'L', 'A', 'R', 'D', 'I', 'D', 'X', '\n'};
constexpr uint32_t version = 1;
constexpr uint32_t header_bytes = 64, chunk_header_bytes = 16;

struct Header {
    uint32_t key_bytes, value_bytes, order;
};

void write_header(const Header& h, std::byte (&out)[header_bytes]) noexcept {
    std::memset(out, 0, sizeof out);
    std::memcpy(out, magic, sizeof magic);
    store_le(out + 8, version);
    store_le(out + 12, header_bytes);
    store_le(out + 16, h.key_bytes);
    store_le(out + 20, h.value_bytes);
    store_le(out + 24, h.order);
    store_le(out + 60, crc32c(0, out, 60));
}

larder_status check_header(const Header& want, const std::byte (&in)[header_bytes]) noexcept {
    if (std::memcmp(in, magic, sizeof magic))
        return fail(LARDER_E_FORMAT, "source", "this is not a snapshot of an index");
    if (load_le<uint32_t>(in + 60) != crc32c(0, in, 60))
        return fail(LARDER_E_CORRUPT, "source", "the snapshot's header fails its checksum");
    if (load_le<uint32_t>(in + 8) > version)
        return fail(LARDER_E_VERSION, "source", "the snapshot has version %u, this library reads %u",
                    load_le<uint32_t>(in + 8), version);
    if (load_le<uint32_t>(in + 12) != header_bytes)
        return fail(LARDER_E_CORRUPT, "source", "the snapshot's header has a wrong size");
    const Header h{load_le<uint32_t>(in + 16), load_le<uint32_t>(in + 20), load_le<uint32_t>(in + 24)};
    if (h.key_bytes != want.key_bytes || h.value_bytes != want.value_bytes || h.order != want.order)
        return fail(LARDER_E_IDENTITY, "source",
                    "the snapshot has keys of %u bytes, values of %u and order %u; the index has %u, %u and %u",
                    h.key_bytes, h.value_bytes, h.order, want.key_bytes, want.value_bytes, want.order);
    return LARDER_OK;
}

// {n_pairs u32, checksum u32, first_pair u64}; the checksum covers the other two fields and the pairs.
void write_chunk_header(std::byte* out, uint32_t n, uint64_t first, const std::byte* pairs, size_t n_bytes) noexcept {
    store_le(out, n);
    store_le(out + 8, first);
    uint32_t crc = crc32c(0, out, 4);
    crc = crc32c(crc, out + 8, 8);
    store_le(out + 4, crc32c(crc, pairs, n_bytes));
}

}  // namespace

larder_status OrderedMap::save(const larder_index_sink& sink) const {
    std::byte header[header_bytes];
    write_header({options_.key_bytes, options_.value_bytes, uint32_t(options_.order)}, header);
    LARDER_TRY(sink.write(sink.ctx, header, sizeof header));
    const uint32_t key_bytes = options_.key_bytes, pair_bytes = key_bytes + options_.value_bytes;
    constexpr uint32_t most = SnapshotReader::pairs_per_chunk;
    Vec<std::byte> chunk(chunk_header_bytes + size_t(most) * pair_bytes, std::byte{}, context_.alloc);
    Vec<std::byte> values(size_t(most) * options_.value_bytes, std::byte{}, context_.alloc);
    std::byte last[32];
    std::byte* const pairs = chunk.data() + chunk_header_bytes;
    for (uint64_t first = 0;;) {
        const uint32_t n = uint32_t(scan(first ? LARDER_INDEX_ABOVE : LARDER_INDEX_AT_LEAST, first ? last : nullptr,
                                         pairs, values.data(), most));
        const size_t n_bytes = size_t(n) * pair_bytes;
        if (n) {
            std::memcpy(last, pairs + size_t(n - 1) * key_bytes, key_bytes);
            std::memcpy(pairs + size_t(n) * key_bytes, values.data(), size_t(n) * options_.value_bytes);
        }
        write_chunk_header(chunk.data(), n, first, pairs, n_bytes);
        LARDER_TRY(sink.write(sink.ctx, chunk.data(), chunk_header_bytes + n_bytes));
        if (!n) return LARDER_OK;
        first += n;
    }
}

larder_status OrderedMap::load(const larder_index_source& source) {
    if (count()) return fail(LARDER_E_STATE, "index", "the index is not empty");
    std::byte header[header_bytes];
    LARDER_TRY(source.read(source.ctx, header, sizeof header));
    LARDER_TRY(check_header({options_.key_bytes, options_.value_bytes, uint32_t(options_.order)}, header));
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

SnapshotReader::SnapshotReader(const larder_index_source& source, uint32_t pair_bytes, const Allocator& a)
    : source_(source), pair_bytes_(pair_bytes), payload_(size_t(pairs_per_chunk) * pair_bytes, std::byte{}, a) {}

larder_status SnapshotReader::next(uint32_t& n) {
    std::byte header[chunk_header_bytes], expected[chunk_header_bytes];
    LARDER_TRY(source_.read(source_.ctx, header, sizeof header));
    n = load_le<uint32_t>(header);
    if (n > pairs_per_chunk) return fail(LARDER_E_CORRUPT, "source", "a chunk of the snapshot claims %u pairs", n);
    const size_t n_bytes = size_t(n) * pair_bytes_;
    if (n) LARDER_TRY(source_.read(source_.ctx, payload_.data(), n_bytes));
    write_chunk_header(expected, n, n_pairs_, payload_.data(), n_bytes);
    if (std::memcmp(header, expected, sizeof header))
        return fail(LARDER_E_CORRUPT, "source", "the chunk after pair %llu of the snapshot fails its checksum",
                    (unsigned long long)n_pairs_);
    n_pairs_ += n;
    return LARDER_OK;
}

}  // namespace larder
