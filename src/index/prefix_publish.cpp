#include "index/prefix_impl.h"

namespace larder {

using namespace prefix_state;

bool PrefixIndex::Impl::reserve_child(uint64_t id) noexcept {
    PrefixEntry* e = at_id(id);
    if (!e) return false;
    uint64_t s = e->state.load(relaxed);
    do {
        if (!(s & live) || child_count(s) == UINT32_MAX) return false;
    } while (!e->state.compare_exchange_weak(s, s + one_child, acq_rel, relaxed));
    if (e->generation.load(relaxed) + first_generation_ == Id::generation(id)) return true;
    release_child(Id::index(id));
    return false;
}

// With its last child a root goes, and any other entry may be evicted.
void PrefixIndex::Impl::release_child(uint32_t slot) noexcept {
    PrefixEntry& e = *at(slot);
    const uint64_t id = id_of(slot);
    const bool root = is_root(e);
    const uint64_t before = e.state.fetch_sub(one_child, acq_rel);
    if (child_count(before) != 1) return;
    if (!root) return enqueue(id, residency(before));
    uint64_t lonely = live;
    if (e.state.compare_exchange_strong(lonely, 0, acq_rel, relaxed)) bury(id, live);
}

larder_status PrefixIndex::Impl::refill(Supply& s) noexcept {
    uint64_t n = std::clamp<uint64_t>(s.n_wanted, 1, std::size(s.entries)), used = n_used_.load(relaxed);
    do {
        if (used >= max_entries_)
            return fail(LARDER_E_NOSPACE, "max_entries", "all %llu entries are in use",
                        (unsigned long long)max_entries_);
        n = std::min(n, max_entries_ - used);
    } while (!n_used_.compare_exchange_weak(used, used + n, relaxed, relaxed));
    const auto take = [&](NodeSlots& pool, uint32_t* slots, uint32_t wanted, larder_status& status) {
        uint32_t got = 0;
        for (; got < wanted; ++got) {
            const Result<uint32_t> slot = pool.alloc();
            if (!slot.ok()) {
                status = slot.status();
                break;
            }
            slots[got] = *slot;
        }
        return got;
    };
    larder_status status = LARDER_OK;
    const uint32_t n_entries = take(entries_, s.entries, uint32_t(n), status);
    s.n = s.with_tokens ? take(tokens_, s.tokens, n_entries, status) : n_entries;
    for (uint32_t i = s.n; i < n_entries; ++i) entries_.free(s.entries[i]);
    n_used_.fetch_sub(n - s.n, relaxed);
    return s.n ? LARDER_OK : status;
}

void PrefixIndex::Impl::give_back(Supply& s) noexcept {
    for (uint32_t i = 0; i < s.n; ++i) {
        entries_.free(s.entries[i]);
        if (s.with_tokens) tokens_.free(s.tokens[i]);
    }
    if (s.n) n_used_.fetch_sub(s.n, relaxed);
}

// An entry that nobody can find yet. The supply is not empty.
uint64_t PrefixIndex::Impl::make_entry(Supply& supply, const larder_key& key, uint32_t parent, uint32_t depth,
                                       const PrefixItem* item, uint64_t last_use) noexcept {
    const uint32_t slot = supply.entries[--supply.n];
    uint32_t tokens_slot = supply.with_tokens ? supply.tokens[supply.n] : 0;
    if (tokens_slot && !item->tokens) {
        tokens_.free(tokens_slot);
        tokens_slot = 0;
    }
    PrefixEntry& e = *at(slot);
    uint64_t words[4];
    std::memcpy(words, key.bytes, sizeof words);
    for (int i = 0; i < 4; ++i) store_at(e.key + i, words[i]);
    store_at(&e.parent, parent);
    store_at(&e.depth, depth);
    store_at(&e.n_tokens, uint16_t(item ? item->n_tokens : 0));
    store_at(&e.flags, !item                                         ? uint8_t(prefix_root_entry)
                       : item->flags & LARDER_PREFIX_ITEM_NO_PARTIAL ? uint8_t(prefix_no_partial)
                                                                     : uint8_t(0));
    store_at(&e.tokens_slot, tokens_slot);
    e.tag.store(item ? item->tag : 0, relaxed);
    e.child.store(0, relaxed);
    e.queued.store(0, relaxed);
    e.last_use.store(last_use, relaxed);
    for (uint32_t p = 0; p < n_places; ++p) {
        e.below[p].store(0, relaxed);
        e.location[p].store(item && item->residency >> p & 1 ? item->location : 0, relaxed);
    }
    if (tokens_slot)
        for (uint32_t i = 0; i < item->n_tokens; ++i) store_at(tokens_of(e) + i, item->tokens[i]);
    return id_of(slot);
}

// Take back an entry that was never alive, or is buried.
void PrefixIndex::Impl::discard(uint64_t id) noexcept {
    const uint32_t slot = Id::index(id);
    PrefixEntry& e = *at(slot);
    if (const uint32_t t = load_at(&e.tokens_slot)) {
        store_at(&e.tokens_slot, 0u);
        tokens_.free(t);
    }
    e.generation.fetch_add(1, release);
    entries_.free(slot);
    n_used_.fetch_sub(1, relaxed);
}

// Make it known and bring it to life with `first_state`. E_EXISTS when somebody else published the key; then it is
// discarded, as after any failure.
larder_status PrefixIndex::Impl::list_and_publish(uint64_t id, const larder_key& key, uint64_t hash,
                                                  uint64_t first_state) noexcept {
    const uint32_t slot = Id::index(id);
    PrefixEntry& e = *at(slot);
    larder_status s = by_key_.insert(hash, slot, [&](uint32_t other) { return has_key(*at(other), key); });
    if (s >= 0 && !is_root(e)) {
        s = link_child(load_at(&e.parent), id);
        if (s < 0) by_key_.remove(hash, slot);
    }
    if (s < 0) {
        discard(id);
        return s;
    }
    if (is_root(e) || !events_.on()) {
        e.state.store(first_state, release);
        return LARDER_OK;
    }
    e.state.store(first_state | location_lock, release);
    tell(LARDER_EVENT_PUBLISHED, id, e, 0, residency(first_state));
    e.state.fetch_sub(location_lock, release);
    return LARDER_OK;
}

// The root's entry with one child reserved; made when it is not there.
Result<uint64_t> PrefixIndex::Impl::root_for_child(const larder_key& root) {
    const uint64_t hash = by_key_.hash(root);
    for (;; cpu_relax()) {
        if (const uint64_t id = find(root, hash)) {
            if (!reserve_child(id)) continue;  // dying
            if (is_root(*at(Id::index(id)))) return id;
            release_child(Id::index(id));
            return fail(LARDER_E_INVALID, "root", "the root is the key of a published block");
        }
        Supply one{1};
        LARDER_TRY(refill(one));
        const uint64_t id = make_entry(one, root, 0, 0, nullptr, 0);
        const larder_status s = list_and_publish(id, root, hash, live | one_child);
        if (s >= 0) return id;
        if (s != LARDER_E_EXISTS) return s;
    }
}

// The caller holds a pin.
larder_status PrefixIndex::Impl::add_place(uint64_t id, uint32_t bit, uint64_t location, bool replace) noexcept {
    PrefixEntry& e = *at(Id::index(id));
    uint64_t s = e.state.load(acquire);
    for (;;) {
        if (s & location_lock) {
            cpu_relax();
            s = e.state.load(acquire);
            continue;
        }
        const bool there = residency(s) & bit;
        if (there && !replace) return LARDER_E_EXISTS;
        if (there && pins(s) > 1)
            return fail(LARDER_E_BUSY, "entry", "others pin the entry: its location cannot change");
        if (e.state.compare_exchange_weak(s, s | location_lock, acq_rel, acquire)) break;
    }
    const uint32_t place = bit_to_place(bit);
    e.location[place].store(location, release);
    const bool fresh = !(residency(s) & bit);
    if (fresh) at(load_at(&e.parent))->below[place].fetch_add(1, relaxed);
    const uint64_t change = fresh ? uint64_t(bit) << residency_shift : 0;
    if (change && events_.on()) {
        e.state.fetch_add(change, release);
        tell(LARDER_EVENT_PLACED, id, e, residency(s), residency(s) | bit);
        e.state.fetch_sub(location_lock, release);
    } else {
        e.state.fetch_add(change - location_lock, release);
    }
    return LARDER_OK;
}

// The block is known: add the place. False when the entry went meanwhile. Leaves it pinned once.
bool PrefixIndex::Impl::join(uint64_t id, uint32_t parent_slot, const PrefixItem& item, uint64_t now,
                             PrefixPublished& out, larder_status& status) noexcept {
    if (!try_pin(id, nullptr)) return false;
    PrefixEntry& e = *at(Id::index(id));
    if (is_root(e) || load_at(&e.parent) != parent_slot) {
        unpin(e);
        status = fail(LARDER_E_INVALID, "items.key", "a key is published already after another block");
        return true;
    }
    const larder_status joined = add_place(id, item.residency, item.location, false);
    out.outcome = joined == LARDER_OK ? LARDER_PREFIX_JOINED : LARDER_PREFIX_DUPLICATE;
    e.last_use.store(now, relaxed);
    describe(id, e, e.state.load(acquire), out.block);
    status = LARDER_OK;
    return true;
}

// Leaves the entry pinned once.
larder_status PrefixIndex::Impl::publish_one(uint64_t parent, const PrefixItem& item, uint64_t hash, uint64_t now,
                                             Supply& supply, PrefixPublished& out) {
    const uint32_t parent_slot = Id::index(parent);
    for (;; cpu_relax()) {
        larder_status s;
        if (const uint64_t known = find(item.key, hash)) {
            if (join(known, parent_slot, item, now, out, s)) return s;
            continue;
        }
        if (!supply.n) LARDER_TRY(refill(supply));
        PrefixEntry& p = *at(parent_slot);
        if (!reserve_child(parent)) return fail(LARDER_E_STALE, "parent", "the parent is no longer published");
        const uint32_t depth = is_root(p) ? 0 : load_at(&p.depth) + 1, place = bit_to_place(item.residency);
        const uint64_t id = make_entry(supply, item.key, parent_slot, depth, &item, now);
        const uint64_t state = with_residency(live | one_pin, item.residency);
        p.below[place].fetch_add(1, relaxed);
        s = list_and_publish(id, item.key, hash, state);
        if (s >= 0) {
            out.outcome = LARDER_PREFIX_NEW;
            describe(id, *at(Id::index(id)), state, out.block);
            return LARDER_OK;
        }
        p.below[place].fetch_sub(1, relaxed);
        release_child(parent_slot);
        if (s != LARDER_E_EXISTS) return s;
    }
}

// Bring near what the next items will look up and change.
void PrefixIndex::Impl::warm(std::span<const PrefixItem> items, uint64_t* hashes) const noexcept {
    for (size_t i = 0; i < items.size(); ++i) by_key_.warm_shard(hashes[i] = by_key_.hash(items[i].key));
    for (size_t i = 0; i < items.size(); ++i) by_key_.warm_bucket(hashes[i]);
}

larder_status PrefixIndex::Impl::publish_under(uint64_t parent, std::span<const PrefixItem> items, bool keep_pins,
                                               std::span<PrefixPublished> out, uint64_t& out_n) {
    constexpr size_t at_once = 32;
    uint64_t hashes[at_once];
    larder_status s = LARDER_OK;
    uint64_t n_new = 0;
    const uint64_t now = tick(items.size());
    Supply supply{items.size()};
    supply.with_tokens = !(flags_ & LARDER_PREFIX_NO_TOKENS) &&
                         std::any_of(items.begin(), items.end(), [](const PrefixItem& i) { return i.tokens; });
    for (out_n = 0; out_n < items.size(); ++out_n) {
        if (out_n % at_once == 0) warm(items.subspan(out_n, std::min(at_once, items.size() - out_n)), hashes);
        supply.n_wanted = items.size() - out_n;
        s = publish_one(parent, items[out_n], hashes[out_n % at_once], now + out_n, supply, out[out_n]);
        if (s < 0) break;
        n_new += out[out_n].outcome == LARDER_PREFIX_NEW;
        out[out_n].reserved0 = 0;
        // From now on its child holds it.
        if (out_n && !keep_pins) unpin(*at(Id::index(parent)));
        parent = out[out_n].block.entry;
    }
    give_back(supply);
    for (uint64_t i = 0; i < out_n; ++i) {
        const PrefixBlock& b = out[i].block;
        // Inner blocks of the chain have a child by now; a joined place may have none below it.
        if (i + 1 == out_n || out[i].outcome == LARDER_PREFIX_JOINED) enqueue(b.entry, b.residency);
    }
    if (out_n && !keep_pins) unpin(*at(Id::index(parent)));
    context_.stats.add(Stat::prefix_blocks_published, n_new);
    context_.stats.add(Stat::prefix_blocks_deduplicated, out_n - n_new);
    return s >= 0 || !out_n ? s : LARDER_PARTIAL;
}

}  // namespace larder
