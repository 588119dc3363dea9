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

// An entry that nobody can find yet.
Result<uint64_t> PrefixIndex::Impl::make_entry(const larder_key& key, uint32_t parent, uint32_t depth,
                                               const PrefixItem* item) {
    if (n_entries_.load(relaxed) + n_roots_.load(relaxed) >= max_entries_)
        return fail(LARDER_E_NOSPACE, "max_entries", "all %llu entries are in use", (unsigned long long)max_entries_);
    LARDER_ASSIGN(const uint32_t slot, entries_.alloc());
    uint32_t tokens_slot = 0;
    if (item && item->tokens && !(flags_ & LARDER_PREFIX_NO_TOKENS)) {
        Result<uint32_t> t = tokens_.alloc();
        if (!t.ok()) return entries_.free(slot), t.status();
        tokens_slot = *t;
    }
    PrefixEntry& e = *at(slot);
    uint64_t words[4];
    std::memcpy(words, key.bytes, sizeof words);
    for (int i = 0; i < 4; ++i) store_at(reinterpret_cast<uint64_t*>(e.key.bytes) + i, words[i]);
    store_at(&e.parent, parent);
    store_at(&e.depth, depth);
    const uint32_t flags = !item                                         ? uint32_t(prefix_root_entry)
                           : item->flags & LARDER_PREFIX_ITEM_NO_PARTIAL ? uint32_t(prefix_no_partial)
                                                                         : 0u;
    store_at(&e.shape, flags << 24 | (item ? item->n_tokens : 0));
    store_at(&e.tokens_slot, tokens_slot);
    e.tag.store(item ? item->tag : 0, relaxed);
    e.aside.store(0, relaxed);
    e.last_use.store(clock_.load(relaxed), relaxed);
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
}

// Enter it into the maps and bring it to life with `first_state`. E_EXISTS when somebody else published the key; then
// it is discarded, as after any failure.
larder_status PrefixIndex::Impl::list_and_publish(uint64_t id, uint64_t first_state) noexcept {
    const uint32_t slot = Id::index(id);
    PrefixEntry& e = *at(slot);
    const bool root = is_root(e);
    larder_status s = by_key_.insert(e.key, slot, [&](uint32_t other) { return has_key(other, e.key, false); });
    if (s >= 0 && !root && (s = list_child(slot)) < 0) by_key_.remove(e.key, slot);
    if (s < 0) {
        discard(id);
        return s;
    }
    (root ? n_roots_ : n_entries_).fetch_add(1, relaxed);
    e.state.store(first_state, release);
    return LARDER_OK;
}

// The first child stands in the parent, the others in by_tokens_.
larder_status PrefixIndex::Impl::list_child(uint32_t slot) noexcept {
    PrefixEntry& p = *at(load_at(&at(slot)->parent));
    uint32_t a = p.aside.load(relaxed);
    while (!(a & aside_slot))
        if (p.aside.compare_exchange_weak(a, a | slot, acq_rel, relaxed)) return LARDER_OK;
    return by_tokens_.put(token_key_of(slot), {id_of(slot)});
}

void PrefixIndex::Impl::unlist_child(uint32_t slot) noexcept {
    PrefixEntry& p = *at(load_at(&at(slot)->parent));
    uint32_t a = p.aside.load(relaxed);
    while ((a & aside_slot) == slot)
        if (p.aside.compare_exchange_weak(a, a & ~aside_slot, acq_rel, relaxed)) return;
    by_tokens_.remove(token_key_of(slot), nullptr);
}

// The root's entry with one child reserved; made when it is not there.
Result<uint64_t> PrefixIndex::Impl::root_for_child(const larder_key& root) {
    for (;; cpu_relax()) {
        if (const uint64_t id = find(root)) {
            if (!reserve_child(id)) continue;  // being born or dying
            if (is_root(*at(Id::index(id)))) return id;
            release_child(Id::index(id));
            return fail(LARDER_E_INVALID, "root", "the root is the key of a published block");
        }
        LARDER_ASSIGN(const uint64_t id, make_entry(root, 0, 0, nullptr));
        const larder_status s = list_and_publish(id, live | one_child);
        if (s >= 0) return id;
        if (s != LARDER_E_EXISTS) return s;
    }
}

larder_status PrefixIndex::Impl::add_place(PrefixEntry& e, uint32_t bit, uint64_t location, bool replace) noexcept {
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
    if (fresh) {
        n_resident_[place].fetch_add(1, relaxed);
        at(load_at(&e.parent))->below[place].fetch_add(1, relaxed);
    }
    for (s |= location_lock;;)
        if (e.state.compare_exchange_weak(s, with_residency(s & ~location_lock, residency(s) | bit), acq_rel, relaxed))
            break;
    return LARDER_OK;
}

// Leaves the entry pinned once.
larder_status PrefixIndex::Impl::publish_one(uint64_t parent, const PrefixItem& item, PrefixPublished& out) {
    const uint32_t parent_slot = Id::index(parent);
    for (;; cpu_relax()) {
        out.outcome = LARDER_PREFIX_NEW;
        if (uint64_t id = find(item.key)) {
            uint64_t s;
            if (!try_pin(id, &s)) continue;  // being born or dying
            PrefixEntry& e = *at(Id::index(id));
            if (is_root(e) || load_at(&e.parent) != parent_slot) {
                unpin(e);
                return fail(LARDER_E_INVALID, "items.key", "a key is published already after another block");
            }
            const larder_status joined = add_place(e, item.residency, item.location, false);
            out.outcome = joined == LARDER_OK ? LARDER_PREFIX_JOINED : LARDER_PREFIX_DUPLICATE;
            e.last_use.store(tick(1), relaxed);
            describe(id, e, e.state.load(acquire), out.block);
            return LARDER_OK;
        }
        PrefixEntry& p = *at(parent_slot);
        if (!reserve_child(parent)) return fail(LARDER_E_STALE, "parent", "the parent is no longer published");
        const uint32_t depth = is_root(p) ? 0 : load_at(&p.depth) + 1;
        larder_status s;
        Result<uint64_t> id = make_entry(item.key, parent_slot, depth, &item);
        if (id.ok()) {
            const uint32_t place = bit_to_place(item.residency);
            p.below[place].fetch_add(1, relaxed);
            at(Id::index(*id))->last_use.store(tick(1), relaxed);
            const uint64_t state = with_residency(live | one_pin, item.residency);
            s = list_and_publish(*id, state);
            if (s >= 0) {
                n_resident_[place].fetch_add(1, relaxed);
                describe(*id, *at(Id::index(*id)), state, out.block);
                return LARDER_OK;
            }
            p.below[place].fetch_sub(1, relaxed);
        } else {
            s = id.status();
        }
        release_child(parent_slot);
        if (s != LARDER_E_EXISTS) return s;
    }
}

larder_status PrefixIndex::Impl::publish_under(uint64_t parent, std::span<const PrefixItem> items, bool keep_pins,
                                               std::span<PrefixPublished> out, uint64_t& out_n) {
    larder_status s = LARDER_OK;
    uint64_t n_new = 0;
    for (out_n = 0; out_n < items.size() && s >= 0; ++out_n) {
        if (out_n % wave == 0 && items.size() > 1)
            warm(&items[out_n].key, sizeof items[0], std::min(wave, items.size() - out_n));
        s = publish_one(parent, items[out_n], out[out_n]);
        if (s < 0) break;
        n_new += out[out_n].outcome == LARDER_PREFIX_NEW;
        out[out_n].reserved0 = 0;
        parent = out[out_n].block.entry;
    }
    for (uint64_t i = 0; i < out_n; ++i) {
        const PrefixBlock& b = out[i].block;
        // Inner blocks of the chain have a child by now; a joined place may have none below it.
        if (i + 1 == out_n || out[i].outcome == LARDER_PREFIX_JOINED) enqueue(b.entry, b.residency);
        if (!keep_pins) unpin(*at(Id::index(b.entry)));
    }
    context_.stats.add(Stat::prefix_blocks_published, n_new);
    context_.stats.add(Stat::prefix_blocks_deduplicated, out_n - n_new);
    return s >= 0 || !out_n ? s : LARDER_PARTIAL;
}

}  // namespace larder
