// Content keys to slots: an open-addressing hash table whose words are {tag 32, slot 32}. The whole key stands in the
// slot's entry, so a look-up reads one cache line here and one there.
//
// Keys are uniform hashes: some bits choose one of the segments, others the place in it. A segment has its own lock for
// writers and doubles by itself. Readers take no lock: an entry that was found is verified by its key; that none was
// found holds if the segment's version has not changed meanwhile. Tables that were outgrown stay readable and serve
// other segments of the same size, so a late reader reads old words, never freed ones.
#pragma once

#include <array>
#include <cstring>
#include <mutex>

#include "base/atomic.h"
#include "base/spin_lock.h"
#include "core/context.h"

namespace larder {

class KeyTable {
  public:
    explicit KeyTable(larder_context& c) : alloc_(c.alloc), idle_(c.alloc) {}
    ~KeyTable();
    KeyTable(const KeyTable&) = delete;
    larder_status init() noexcept;

    // same(slot): whether the slot's entry has the key. It may be asked about slots that were freed meanwhile.
    template <class Same> uint32_t find(const larder_key& key, Same same) const noexcept;
    void prefetch_words(const larder_key& key) const noexcept;
    // What find() would look at first; 0: nothing.
    uint32_t likely_slot(const larder_key& key) const noexcept;
    // E_EXISTS when the key is there; E_NOMEM.
    template <class Same> larder_status insert(const larder_key& key, uint32_t slot, Same same) noexcept;
    void remove(const larder_key& key, uint32_t slot) noexcept;

    uint64_t count() const noexcept;
    uint64_t memory_bytes() const noexcept { return memory_bytes_.load(relaxed); }

  private:
    static constexpr uint32_t n_segments = 128, first_words = 16;
    struct Table {
        uint32_t mask;
        uint64_t* words() noexcept { return reinterpret_cast<uint64_t*>(this) + 8; }  // a cache line on
    };
    struct alignas(64) Segment {
        atomic<Table*> table{nullptr};
        atomic<uint32_t> version{0};  // odd while words are being moved
        uint32_t n = 0;
        SpinLock lock;
    };
    static uint64_t hash_of(const larder_key& key) noexcept {
        uint64_t h;
        std::memcpy(&h, key.bytes, sizeof h);
        return h;
    }
    static uint32_t tag_of(uint64_t h) noexcept { return uint32_t(h); }
    Segment& segment(uint64_t h) noexcept { return segments_[h >> 57]; }
    const Segment& segment(uint64_t h) const noexcept { return segments_[h >> 57]; }
    static uint64_t word(uint32_t tag, uint32_t slot) noexcept { return uint64_t(tag) << 32 | slot; }
    static size_t table_bytes(uint32_t mask) noexcept { return 64 + (size_t(mask) + 1) * sizeof(uint64_t); }
    Table* make_table(uint32_t n_words) noexcept;
    bool grow(Segment& s) noexcept;

    const Allocator alloc_;
    std::array<Segment, n_segments> segments_;
    std::mutex idle_mutex_;
    Vec<Table*> idle_;  // outgrown, by rising size in no order
    atomic<uint64_t> memory_bytes_{0};
};

template <class Same> uint32_t KeyTable::find(const larder_key& key, Same same) const noexcept {
    const uint64_t h = hash_of(key);
    const uint32_t tag = tag_of(h);
    const Segment& s = segment(h);
    for (;; cpu_relax()) {
        const uint32_t version = s.version.load(acquire);
        Table* t = s.table.load(acquire);
        const uint32_t mask = t->mask;
        for (uint32_t i = tag & mask, n = 0; n <= mask; i = (i + 1) & mask, ++n) {
            const uint64_t w = load_at(t->words() + i, acquire);
            if (!w) break;
            if (uint32_t(w >> 32) == tag && same(uint32_t(w))) return uint32_t(w);
        }
        fence(acquire);
        if (!(version & 1) && s.version.load(relaxed) == version) return 0;
    }
}

inline void KeyTable::prefetch_words(const larder_key& key) const noexcept {
    const uint64_t h = hash_of(key);
    Table* t = segment(h).table.load(acquire);
    prefetch(t->words() + (tag_of(h) & t->mask));
}

inline uint32_t KeyTable::likely_slot(const larder_key& key) const noexcept {
    const uint64_t h = hash_of(key);
    Table* t = segment(h).table.load(acquire);
    const uint32_t tag = tag_of(h), mask = t->mask;
    for (uint32_t i = tag & mask, n = 0; n < 8; i = (i + 1) & mask, ++n) {
        const uint64_t w = load_at(t->words() + i);
        if (!w || uint32_t(w >> 32) == tag) return uint32_t(w);
    }
    return 0;
}

template <class Same> larder_status KeyTable::insert(const larder_key& key, uint32_t slot, Same same) noexcept {
    const uint64_t h = hash_of(key);
    const uint32_t tag = tag_of(h);
    Segment& s = segment(h);
    std::lock_guard lock(s.lock);
    Table* t = s.table.load(relaxed);
    if ((s.n + 1) * uint64_t(8) > (t->mask + 1) * uint64_t(5)) {
        if (!grow(s)) return LARDER_E_NOMEM;
        t = s.table.load(relaxed);
    }
    uint32_t i = tag & t->mask;
    for (uint64_t w; (w = load_at(t->words() + i)); i = (i + 1) & t->mask)
        if (uint32_t(w >> 32) == tag && same(uint32_t(w))) return LARDER_E_EXISTS;
    store_at(t->words() + i, word(tag, slot), release);
    ++s.n;
    return LARDER_OK;
}

}  // namespace larder
