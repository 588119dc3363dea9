// From a chain key to the slot of its entry: a concurrent open-addressing table.
//
// The hash's top bits choose a shard, a table of 64-bit words {hash 36, slot 28} in buckets of one cache line. A key
// stands in its home bucket, or in the next one that had room. Each shard grows on its own, so growth moves a few
// thousand words and stops nobody.
//
// Readers take no lock and write nothing. A word is a hint: who follows it compares the whole key in the entry. That
// nothing was found holds if the shard was not rebuilt meanwhile, because a bucket without an empty word never gets one
// again until the next rebuild (a removed word leaves a grave there), so a probe that ends at an empty word has passed
// every bucket where the key could have stood. Old tables are handed out again at once and stay readable.
#pragma once

#include <mutex>
#include <optional>

#include "base/hash.h"
#include "index/node_slots.h"

namespace larder {

class KeyTable {
  public:
    static constexpr uint32_t slot_bits = 28;

    KeyTable(larder_context& c, SlabPool& slabs, uint64_t max_keys);

    // Keys may be the caller's own and far from uniform; the seed keeps an adversary from choosing their places.
    uint64_t hash(const larder_key& k) const noexcept {
        uint64_t w[4];
        std::memcpy(w, k.bytes, sizeof w);
        return fold(fold(w[0] ^ seed_[0], w[1] ^ seed_[1]) ^ seed_[4], fold(w[2] ^ seed_[2], w[3] ^ seed_[3]));
    }

    // The steps of a look-up, apart, so that many can be in flight: warm_shard, warm_bucket, guess; then find().
    void warm_shard(uint64_t h) const noexcept { prefetch(&shard(h)); }
    void warm_bucket(uint64_t h) const noexcept {
        if (const Table t{shard(h).table.load(acquire)}; t.words()) prefetch(t.bucket(h));
    }
    // A slot that probably belongs to the hash; 0 when the home bucket holds none.
    uint32_t guess(uint64_t h) const noexcept;
    // The slot for which is_it(slot) holds, or 0.
    template <class Is> uint32_t find(uint64_t h, Is is_it) const noexcept;

    // E_EXISTS if is_it(slot) holds for a slot that is there; E_NOMEM, E_NOSPACE.
    template <class Is> larder_status insert(uint64_t h, uint32_t slot, Is is_it) noexcept;
    void remove(uint64_t h, uint32_t slot) noexcept;

    uint64_t count() const noexcept;  // quiescent use only

  private:
    static constexpr uint32_t words_per_bucket = 8, min_log2_buckets = 3, max_log2_buckets = 15;
    static constexpr uint64_t grave = uint64_t(1) << slot_bits;  // slot 0, which no entry has

    // Where a shard's words are, and how many: one word, so that both are read at once.
    struct Table {
        uint64_t bits;
        uint64_t* words() const noexcept { return reinterpret_cast<uint64_t*>(bits & ~uint64_t(63)); }
        uint32_t log2_buckets() const noexcept { return uint32_t(bits & 63); }
        uint64_t mask() const noexcept { return (uint64_t(1) << log2_buckets()) - 1; }
        uint64_t* bucket(uint64_t h) const noexcept { return words() + (h & mask()) * words_per_bucket; }
        uint64_t* next(uint64_t h, uint64_t i) const noexcept { return bucket(h + i); }
        uint32_t n_words() const noexcept { return words_per_bucket << log2_buckets(); }
    };
    struct alignas(64) Shard {
        atomic<uint64_t> n_rebuilds{0};
        atomic<uint64_t> table{0};
        uint32_t table_id = 0;
        uint32_t n_used = 0;  // words that are not empty, graves included
        std::mutex mutex;
    };

    static uint64_t fold(uint64_t a, uint64_t b) noexcept {
        const auto p = (unsigned __int128)a * b;
        return uint64_t(p) ^ uint64_t(p >> 64);
    }
    static uint64_t word(uint64_t h, uint32_t slot) noexcept { return h << slot_bits | slot; }
    static uint32_t slot_of(uint64_t w) noexcept { return uint32_t(w & ((1u << slot_bits) - 1)); }
    const Shard& shard(uint64_t h) const noexcept { return shards_[size_t(h >> shard_shift_)]; }
    Shard& shard(uint64_t h) noexcept { return shards_[size_t(h >> shard_shift_)]; }
    NodeSlots& pool(uint32_t log2_buckets) noexcept { return *pools_[log2_buckets - min_log2_buckets]; }
    larder_status make_room(Shard& s) noexcept;

    const uint32_t shard_shift_;
    uint64_t seed_[5];
    Vec<Shard> shards_;
    std::optional<NodeSlots> pools_[max_log2_buckets - min_log2_buckets + 1];
};

inline uint32_t KeyTable::guess(uint64_t h) const noexcept {
    const Table t{shard(h).table.load(acquire)};
    if (!t.words()) return 0;
    const uint64_t* b = t.bucket(h);
    for (uint32_t i = 0; i < words_per_bucket; ++i)
        if (const uint64_t w = load_at(b + i, acquire); w >> slot_bits == word(h, 0) >> slot_bits) return slot_of(w);
    return 0;
}

template <class Is> uint32_t KeyTable::find(uint64_t h, Is is_it) const noexcept {
    const Shard& s = shard(h);
    for (;;) {
        const uint64_t n_rebuilds = s.n_rebuilds.load(acquire);
        const Table t{s.table.load(acquire)};
        bool empty_seen = !t.words();
        for (uint64_t i = 0; !empty_seen && i <= t.mask(); ++i) {
            const uint64_t* b = t.next(h, i);
            for (uint32_t j = 0; j < words_per_bucket; ++j) {
                const uint64_t w = load_at(b + j, acquire);
                empty_seen |= !w;
                if ((w ^ word(h, 0)) >> slot_bits == 0 && slot_of(w) && is_it(slot_of(w))) return slot_of(w);
            }
        }
        fence(acquire);
        if (s.n_rebuilds.load(relaxed) == n_rebuilds) return 0;
    }
}

template <class Is> larder_status KeyTable::insert(uint64_t h, uint32_t slot, Is is_it) noexcept {
    Shard& s = shard(h);
    std::lock_guard guard(s.mutex);
    Table t{s.table.load(relaxed)};
    if (!t.words() || s.n_used >= t.n_words() / 4 * 3) {
        LARDER_TRY(make_room(s));
        t.bits = s.table.load(relaxed);
    }
    uint64_t* place = nullptr;
    for (uint64_t i = 0;; ++i) {
        uint64_t* b = t.next(h, i);
        bool empty_seen = false;
        for (uint32_t j = 0; j < words_per_bucket; ++j) {
            const uint64_t w = load_at(b + j);
            if ((!w || w == grave) && !place) place = b + j;
            empty_seen |= !w;
            if ((w ^ word(h, 0)) >> slot_bits == 0 && slot_of(w) && is_it(slot_of(w))) return LARDER_E_EXISTS;
        }
        if (empty_seen) break;
    }
    s.n_used += !load_at(place);
    store_at(place, word(h, slot), release);
    return LARDER_OK;
}

}  // namespace larder
