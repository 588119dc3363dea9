#include "index/key_table.h"

#include <algorithm>

namespace larder {

KeyTable::~KeyTable() {
    for (Segment& s : segments_)
        if (Table* t = s.table.load(relaxed)) alloc_.free(t, table_bytes(t->mask), 64);
    for (Table* t : idle_) alloc_.free(t, table_bytes(t->mask), 64);
}

larder_status KeyTable::init() noexcept {
    for (Segment& s : segments_) {
        Table* t = make_table(first_words);
        if (!t) return fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
        s.table.store(t, release);
    }
    return LARDER_OK;
}

KeyTable::Table* KeyTable::make_table(uint32_t n_words) noexcept {
    {
        std::lock_guard lock(idle_mutex_);
        const auto it = std::find_if(idle_.begin(), idle_.end(), [&](Table* t) { return t->mask == n_words - 1; });
        if (it != idle_.end()) {
            Table* t = *it;
            *it = idle_.back();
            idle_.pop_back();
            for (uint32_t i = 0; i < n_words; ++i) store_at(t->words() + i, uint64_t(0));  // late readers are about
            return t;
        }
        try {
            idle_.reserve(idle_.size() + 2 * n_segments);  // so that putting one there cannot fail
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
    }
    auto* t = static_cast<Table*>(alloc_.try_alloc(table_bytes(n_words - 1), 64));
    if (!t) return nullptr;
    memory_bytes_.fetch_add(table_bytes(n_words - 1), relaxed);
    t->mask = n_words - 1;
    std::memset(t->words(), 0, size_t(n_words) * sizeof(uint64_t));
    return t;
}

// The segment's lock is held. Readers go on in the old table, which nobody changes any more.
bool KeyTable::grow(Segment& s) noexcept {
    Table* old = s.table.load(relaxed);
    if (old->mask >= UINT32_MAX / 2) return false;
    Table* t = make_table(2 * (old->mask + 1));
    if (!t) return false;
    for (uint32_t i = 0; i <= old->mask; ++i) {
        const uint64_t w = load_at(old->words() + i);
        if (!w) continue;
        uint32_t to = uint32_t(w >> 32) & t->mask;
        while (load_at(t->words() + to)) to = (to + 1) & t->mask;
        store_at(t->words() + to, w);
    }
    s.table.store(t, release);
    s.version.fetch_add(2, release);
    std::lock_guard lock(idle_mutex_);
    idle_.push_back(old);
    return true;
}

// Words behind the hole move up until the row ends, so that no look-up has to pass over graves.
void KeyTable::remove(const larder_key& key, uint32_t slot) noexcept {
    const uint64_t h = hash_of(key), mine = word(tag_of(h), slot);
    Segment& s = segment(h);
    std::lock_guard lock(s.lock);
    Table* t = s.table.load(relaxed);
    const uint32_t mask = t->mask;
    uint32_t hole = tag_of(h) & mask;
    for (uint64_t w; (w = load_at(t->words() + hole)) != mine; hole = (hole + 1) & mask)
        if (!w) return;
    s.version.fetch_add(1, relaxed);
    fence(release);
    for (uint32_t i = (hole + 1) & mask;; i = (i + 1) & mask) {
        const uint64_t w = load_at(t->words() + i);
        if (!w) break;
        const uint32_t home = uint32_t(w >> 32) & mask;
        // It may stay where it is when its home lies behind the hole.
        if (((i - home) & mask) < ((i - hole) & mask)) continue;
        store_at(t->words() + hole, w, release);
        hole = i;
    }
    store_at(t->words() + hole, uint64_t(0), release);
    s.version.fetch_add(1, release);
    --s.n;
}

uint64_t KeyTable::count() const noexcept {
    uint64_t n = 0;
    for (const Segment& s : segments_) n += s.n;
    return n;
}

}  // namespace larder
