#include "index/key_table.h"

#include <algorithm>

namespace larder {

// About four thousand keys per shard when the index is full: what a rebuild may move.
static uint32_t shard_bits(uint64_t max_keys) noexcept {
    const auto log2 = uint32_t(std::bit_width(max_keys - 1));
    return std::clamp(log2, 16u, 27u) - 12;
}

KeyTable::KeyTable(larder_context& c, SlabPool& slabs, uint64_t max_keys)
    : shard_shift_(64 - shard_bits(max_keys)), shards_(size_t(1) << shard_bits(max_keys), c.alloc) {
    for (uint64_t& x : seed_) x = c.random_u64();
    // The link of a free table overwrites hash bits, so that a late reader still meets slots that exist.
    for (uint32_t i = 0; i < std::size(pools_); ++i)
        pools_[i].emplace(c, slabs, uint32_t(sizeof(uint64_t) * words_per_bucket) << (i + min_log2_buckets),
                          uint32_t(sizeof(uint32_t)));
}

// A new table for a shard that is three quarters full; twice as large unless graves fill it. The caller holds the lock.
larder_status KeyTable::make_room(Shard& s) noexcept {
    const Table old{s.table.load(relaxed)};
    const uint32_t n_old = old.words() ? old.n_words() : 0;
    uint32_t n_live = 0;
    for (uint32_t i = 0; i < n_old; ++i) n_live += slot_of(load_at(old.words() + i)) != 0;
    const uint32_t log2 = !n_old ? min_log2_buckets : old.log2_buckets() + (n_live > n_old / 8 * 3);
    if (log2 > max_log2_buckets) return fail(LARDER_E_NOSPACE, "max_entries", "a part of the key table is full");
    LARDER_ASSIGN(const uint32_t id, pool(log2).alloc());
    const Table t{uint64_t(reinterpret_cast<uintptr_t>(pool(log2).at(id))) | log2};
    for (uint32_t i = 0; i < t.n_words(); ++i) store_at(t.words() + i, uint64_t(0), release);
    for (uint32_t i = 0; i < n_old; ++i) {
        const uint64_t w = load_at(old.words() + i);
        if (!slot_of(w)) continue;
        uint64_t* place = nullptr;
        for (uint64_t n = 0; !place; ++n) {
            uint64_t* b = t.next(w >> slot_bits, n);
            for (uint32_t j = 0; j < words_per_bucket && !place; ++j)
                if (!load_at(b + j)) place = b + j;
        }
        store_at(place, w, release);
    }
    s.table.store(t.bits, release);
    s.n_rebuilds.fetch_add(1, acq_rel);
    if (n_old) pool(old.log2_buckets()).free(s.table_id);
    s.table_id = id;
    s.n_used = n_live;
    return LARDER_OK;
}

void KeyTable::remove(uint64_t h, uint32_t slot) noexcept {
    Shard& s = shard(h);
    std::lock_guard guard(s.mutex);
    const Table t{s.table.load(relaxed)};
    if (!t.words()) return;
    for (uint64_t i = 0; i <= t.mask(); ++i) {
        uint64_t* b = t.next(h, i);
        uint64_t* found = nullptr;
        bool empty_seen = false;
        for (uint32_t j = 0; j < words_per_bucket; ++j) {
            const uint64_t w = load_at(b + j);
            if (w == word(h, slot)) found = b + j;
            empty_seen |= !w;
        }
        if (found) {
            store_at(found, empty_seen ? uint64_t(0) : grave, release);
            s.n_used -= empty_seen;
            return;
        }
        if (empty_seen) return;
    }
}

uint64_t KeyTable::count() const noexcept {
    uint64_t n = 0;
    for (const Shard& s : shards_) {
        const Table t{s.table.load(relaxed)};
        for (uint32_t i = 0; t.words() && i < t.n_words(); ++i) n += slot_of(load_at(t.words() + i)) != 0;
    }
    return n;
}

}  // namespace larder
