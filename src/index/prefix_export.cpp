// Export and import of the prefix index: docs/formats/prefix-snapshot.md. Chunks are those of index snapshots with keys
// of any length.
#include <algorithm>

#include "base/crc32c.h"
#include "index/prefix_impl.h"
#include "index/snapshot.h"

namespace larder {

using namespace prefix_state;
using namespace snapshot;

namespace {

constexpr char magic[8] = {'L', 'A', 'R', 'D', 'P', 'F', 'X', '\n'};
constexpr uint32_t newest_version = 1;
constexpr uint64_t last_clock = (uint64_t(1) << 56) - 1;

constexpr uint32_t root_bytes = 40, block_bytes = 56;
enum RecordFlag : uint16_t { record_is_root = 1, record_no_partial = 2, record_has_tokens = 4 };

struct ExportHeader {
    uint32_t block_tokens;
    uint64_t clock;
};

void write_export_header(const ExportHeader& h, uint32_t places, std::byte (&out)[header_bytes]) noexcept {
    std::memset(out, 0, sizeof out);
    std::memcpy(out, magic, sizeof magic);
    store_le(out + 8, newest_version);
    store_le(out + 12, header_bytes);
    store_le(out + 16, h.block_tokens);
    store_le(out + 20, places);
    store_le(out + 24, h.clock);
    store_le(out + 60, crc32c(0, out, 60));
}

larder_status read_export_header(const std::byte* in, ExportHeader& out) noexcept {
    if (std::memcmp(in, magic, sizeof magic))
        return fail(LARDER_E_FORMAT, "source", "this is not an export of a prefix index");
    if (load_le<uint32_t>(in + 60) != crc32c(0, in, 60))
        return fail(LARDER_E_CORRUPT, "source", "the export's header fails its checksum");
    if (load_le<uint32_t>(in + 8) > newest_version)
        return fail(LARDER_E_VERSION, "source", "the export has version %u, this library reads %u",
                    load_le<uint32_t>(in + 8), newest_version);
    out = {load_le<uint32_t>(in + 16), load_le<uint64_t>(in + 24)};
    if (load_le<uint32_t>(in + 12) != header_bytes || out.clock > last_clock)
        return fail(LARDER_E_CORRUPT, "source", "the export's header has a wrong size or clock");
    return LARDER_OK;
}

larder_status corrupt(uint64_t record, const char* what) noexcept {
    return fail(LARDER_E_CORRUPT, "source", "record %llu of the export: %s", (unsigned long long)record, what);
}

}  // namespace

// Puts records into chunks.
class PrefixIndex::Impl::Writer {
  public:
    Writer(Impl& index, uint32_t places, const larder_index_sink& sink)
        : index_(index), places_(places), chunks_(sink, any_payload_bytes, index.context_.alloc),
          written_(index.entries_.end(), Written{}, index.context_.alloc) {}

    larder_status write(uint32_t slot, uint64_t clock);
    larder_status finish() {
        if (n_) LARDER_TRY(flush());
        return chunks_.write(0, 0);
    }

  private:
    struct Written {
        uint32_t generation = 0, record = none;
    };
    static constexpr uint32_t none = UINT32_MAX;

    uint32_t record_of(uint32_t slot) const noexcept {
        if (slot >= written_.size() || written_[slot].record == none) return none;
        return written_[slot].generation == index_.at(slot)->generation.load(acquire) ? written_[slot].record : none;
    }
    void note(uint32_t slot) noexcept {
        written_[slot] = {index_.at(slot)->generation.load(relaxed), n_records_++};
        ++n_;
    }
    larder_status flush() {
        std::memset(chunks_.payload() + at_, 0, any_payload_bytes - at_);
        const uint32_t n = n_;
        n_ = at_ = 0;
        return chunks_.write(n, any_payload_bytes);
    }
    // Where n bytes can be written.
    larder_status room(uint32_t n, std::byte*& out) {
        if (at_ + n > any_payload_bytes) LARDER_TRY(flush());
        out = chunks_.payload() + at_;
        at_ += n;
        return LARDER_OK;
    }
    larder_status write_root(uint32_t slot);
    larder_status write_held(uint32_t slot, const PrefixBlock& b, uint64_t clock);

    Impl& index_;
    const uint32_t places_;
    ChunkWriter chunks_;
    Vec<Written> written_;  // by slot
    uint32_t n_ = 0, at_ = 0, n_records_ = 0;
};

larder_status PrefixIndex::Impl::Writer::write_root(uint32_t slot) {
    std::byte* out;
    LARDER_TRY(room(root_bytes, out));
    std::memset(out, 0, root_bytes);
    store_le(out, uint16_t(record_is_root));
    store_le(out + 8, key_of(*index_.at(slot)));
    note(slot);
    return LARDER_OK;
}

larder_status PrefixIndex::Impl::Writer::write(uint32_t slot, uint64_t clock) {
    const uint64_t id = index_.id_of(slot);
    uint64_t s;
    if (!index_.try_pin(id, &s)) return LARDER_OK;
    PrefixEntry& e = *index_.at(slot);
    PrefixBlock b;
    index_.describe(id, e, s, b);
    const larder_status status = is_root(e) || !(b.residency & places_) ? LARDER_OK : write_held(slot, b, clock);
    index_.unpin(e);
    return status;
}

larder_status PrefixIndex::Impl::Writer::write_held(uint32_t slot, const PrefixBlock& b, uint64_t clock) {
    const PrefixEntry& e = *index_.at(slot);
    const uint32_t parent = load_at(&e.parent), n = load_at(&e.tokens_slot) ? b.n_tokens : 0;
    if (slot >= written_.size() || parent >= written_.size()) return LARDER_OK;  // younger than the export
    if (is_root(*index_.at(parent)) && record_of(parent) == none) LARDER_TRY(write_root(parent));
    if (record_of(parent) == none) return LARDER_OK;
    const uint32_t places = b.residency & places_, n_held = uint32_t(std::popcount(places));
    std::byte* out;
    LARDER_TRY(room(block_bytes + 8 * n_held + 4 * n, out));
    const bool hidden = load_at(&e.flags) & prefix_no_partial;
    store_le(out, uint16_t((hidden ? record_no_partial : 0) | (n ? record_has_tokens : 0)));
    store_le(out + 2, uint16_t(b.n_tokens));
    store_le(out + 4, record_of(parent));
    store_le(out + 8, key_of(e));
    store_le(out + 40, std::min(e.last_use.load(relaxed), clock));
    store_le(out + 48, b.tag);
    store_le(out + 52, places);
    out += block_bytes;
    for (uint32_t p = 0; p < n_places; ++p)
        if (places >> p & 1) {
            store_le(out, b.location[p]);
            out += 8;
        }
    for (uint32_t i = 0; i < n; ++i) store_le(out + 4 * i, load_at(index_.tokens_of(e) + i));
    note(slot);
    return LARDER_OK;
}

// Shallow blocks first, so that a reader has seen the block before each.
larder_status PrefixIndex::Impl::save(uint32_t places, const larder_index_sink& sink) {
    const uint64_t clock = std::min(clock_.load(relaxed), last_clock);
    std::byte header[header_bytes];
    write_export_header({block_tokens_, clock}, places, header);
    LARDER_TRY(sink.write(sink.ctx, header, sizeof header));
    Writer writer(*this, places, sink);
    Vec<uint64_t> order(context_.alloc);  // {depth, slot}
    for (uint32_t slot = 1; slot < entries_.end(); ++slot)
        if (residency(at(slot)->state.load(acquire)) & places)
            order.push_back(uint64_t(load_at(&at(slot)->depth)) << 32 | slot);
    std::sort(order.begin(), order.end());
    for (const uint64_t o : order) LARDER_TRY(writer.write(uint32_t(o), clock));
    return writer.finish();
}

// Takes records in.
class PrefixIndex::Impl::Loader {
  public:
    Loader(Impl& index, uint64_t clock, larder_prefix_import_info& info)
        : index_(index), base_(index.tick(clock + 1)), clock_(clock), info_(info), records_(index.context_.alloc),
          ids_(index.context_.alloc), roots_(index.context_.alloc) {}
    ~Loader() {
        index_.give_back(supply_);
        for (const uint64_t id : ids_)
            if (is_entry(id)) index_.enqueue(id, all_places);
        for (const uint32_t slot : roots_) index_.release_child(slot);
        index_.context_.stats.add(Stat::prefix_blocks_published, info_.n_new);
        index_.context_.stats.add(Stat::prefix_blocks_deduplicated, info_.n_known);
    }
    Loader(const Loader&) = delete;

    larder_status take(ByteSpan payload, uint32_t n);

  private:
    // ids_ of records that no entry stands for.
    static constexpr uint64_t absent = 0, tail = 1;
    static bool is_entry(uint64_t id) noexcept { return id > tail; }

    struct Record {
        PrefixItem item;
        uint32_t parent;  // another record's number
        bool root;
        uint64_t location[n_places], last_use;
    };
    larder_status parse(ByteReader& in, uint64_t number, Record& out) const;
    larder_status publish(const Record& r, uint64_t hash);
    larder_status publish_places(uint64_t parent, const Record& r, uint64_t hash, PrefixPublished& out);

    Impl& index_;
    const uint64_t base_, clock_;
    larder_prefix_import_info& info_;
    Vec<Record> records_;  // of this chunk
    Vec<uint64_t> ids_;    // of all records so far
    Vec<uint32_t> roots_;  // slots; a child is reserved in each
    Supply supply_{std::size(Supply{}.entries)};
};

larder_status PrefixIndex::Impl::Loader::parse(ByteReader& in, uint64_t number, Record& r) const {
    const auto flags = in.get<uint16_t>();
    const auto n_tokens = in.get<uint16_t>();
    r = {};
    r.parent = in.get<uint32_t>();
    r.item.key = in.get<larder_key>();
    r.root = flags & record_is_root;
    if (r.root)
        return in.ok() && flags == record_is_root && !n_tokens && !r.parent ? LARDER_OK
                                                                            : corrupt(number, "a root that is none");
    r.last_use = in.get<uint64_t>();
    r.item.tag = in.get<uint32_t>();
    r.item.residency = in.get<uint32_t>();
    if (flags & ~(record_no_partial | record_has_tokens) || !n_tokens || n_tokens > index_.block_tokens_ ||
        r.parent >= number || r.last_use > clock_ || !r.item.residency || r.item.residency > all_places)
        return corrupt(number, "a field is out of its range");
    for (uint32_t p = 0; p < n_places; ++p)
        if (r.item.residency >> p & 1) r.location[p] = in.get<uint64_t>();
    r.item.n_tokens = n_tokens;
    r.item.flags = flags & record_no_partial ? LARDER_PREFIX_ITEM_NO_PARTIAL : 0;
    if (flags & record_has_tokens) {
        const ByteSpan tokens = in.take(size_t(n_tokens) * sizeof(int32_t));
        r.item.tokens = reinterpret_cast<const int32_t*>(tokens.data());
        for (size_t i = 0; i < tokens.size(); i += sizeof(int32_t))
            if (load_le<int32_t>(tokens.data() + i) < 0) return corrupt(number, "a token is negative");
    }
    return in.ok() ? LARDER_OK : corrupt(number, "it goes beyond its chunk");
}

larder_status PrefixIndex::Impl::Loader::take(ByteSpan payload, uint32_t n) {
    if (n > payload.size() / root_bytes) return corrupt(ids_.size(), "its chunk claims too many records");
    records_.resize(n);
    ids_.reserve(ids_.size() + n);
    ByteReader in(payload);
    for (uint32_t i = 0; i < n; ++i) LARDER_TRY(parse(in, ids_.size() + i, records_[i]));
    constexpr size_t at_once = 32;
    uint64_t hashes[at_once];
    for (uint32_t i = 0; i < n; ++i) {
        if (i % at_once == 0) {
            const size_t m = std::min<size_t>(at_once, n - i);
            for (size_t j = 0; j < m; ++j)
                index_.by_key_.warm_shard(hashes[j] = index_.by_key_.hash(records_[i + j].item.key));
            for (size_t j = 0; j < m; ++j) index_.by_key_.warm_bucket(hashes[j]);
        }
        LARDER_TRY(publish(records_[i], hashes[i % at_once]));
    }
    return LARDER_OK;
}

larder_status PrefixIndex::Impl::Loader::publish(const Record& r, uint64_t hash) {
    if (r.root) {
        roots_.reserve(roots_.size() + 1);
        const Result<uint64_t> id = index_.root_for_child(r.item.key);
        if (id.ok()) roots_.push_back(Id::index(*id));
        ids_.push_back(id.ok() ? *id : absent);
        return id.ok() || id.status() == LARDER_E_INVALID ? LARDER_OK : id.status();
    }
    const uint64_t parent = ids_[r.parent];
    if (parent == tail) return corrupt(ids_.size(), "it follows a tail");
    ++info_.n_blocks;
    PrefixPublished out{};
    larder_status s = parent == absent ? LARDER_E_STALE : publish_places(parent, r, hash, out);
    if (s == LARDER_E_STALE || s == LARDER_E_INVALID) {
        ++info_.n_left_out;
        ids_.push_back(absent);
        return LARDER_OK;
    }
    if (s < 0) return s;
    ++(out.outcome == LARDER_PREFIX_NEW ? info_.n_new : info_.n_known);
    ids_.push_back(r.item.n_tokens < index_.block_tokens_ ? tail : out.block.entry);
    if (ids_.back() == tail) index_.enqueue(out.block.entry, all_places);
    return LARDER_OK;
}

larder_status PrefixIndex::Impl::Loader::publish_places(uint64_t parent, const Record& r, uint64_t hash,
                                                        PrefixPublished& out) {
    PrefixItem item = r.item;
    uint32_t rest = item.residency;
    item.residency = rest & ~(rest - 1);
    item.location = r.location[bit_to_place(item.residency)];
    supply_.with_tokens = !(index_.flags_ & LARDER_PREFIX_NO_TOKENS);
    LARDER_TRY(index_.publish_one(parent, item, hash, base_ + r.last_use, supply_, out));
    const uint64_t id = out.block.entry;
    while (rest &= rest - 1) {
        const uint32_t bit = rest & ~(rest - 1);
        index_.add_place(id, bit, r.location[bit_to_place(bit)], false);
    }
    index_.unpin(*index_.at(Id::index(id)));
    return LARDER_OK;
}

larder_status PrefixIndex::Impl::load(const larder_index_source& source, larder_prefix_import_info& info) {
    std::byte bytes[header_bytes];
    LARDER_TRY(source.read(source.ctx, bytes, sizeof bytes));
    ExportHeader header{};
    LARDER_TRY(read_export_header(bytes, header));
    if (header.block_tokens != block_tokens_)
        return fail(LARDER_E_IDENTITY, "source", "the export has blocks of %u tokens, the index of %u",
                    header.block_tokens, block_tokens_);
    ChunkReader chunks(source, 0, context_.alloc);
    Loader loader(*this, header.clock, info);
    for (uint32_t n = 0;;) {
        LARDER_TRY(chunks.next(n));
        if (!n) return LARDER_OK;
        LARDER_TRY(loader.take({chunks.payload(), any_payload_bytes}, n));
    }
}

}  // namespace larder
