#include "index/prefix_impl.h"

namespace larder {

using namespace prefix_state;

void PrefixIndex::Impl::info(larder_prefix_info& out) noexcept {
    out.block_tokens = block_tokens_;
    out.n_entries = out.n_roots = out.n_pinned = 0;
    for (uint64_t& n : out.n_resident) n = 0;
    for (uint32_t slot = 1; slot < entries_.end(); ++slot) {
        const uint64_t s = at(slot)->state.load(relaxed);
        if (!(s & live)) continue;
        ++(is_root(*at(slot)) ? out.n_roots : out.n_entries);
        out.n_pinned += pins(s) != 0;
        for (uint32_t p = 0; p < n_places; ++p) out.n_resident[p] += residency(s) >> p & 1;
    }
    out.memory_bytes = slabs_.held_bytes();
}

larder_status PrefixIndex::Impl::verify_entry(uint32_t slot, uint64_t& n_entries, uint64_t& n_roots,
                                              uint64_t& n_in_map) const {
    const PrefixEntry& e = *at(slot);
    const uint64_t s = e.state.load(acquire), id = id_of(slot);
    if (!s) return LARDER_OK;
    const auto bad = [&](const char* what) {
        return fail(LARDER_E_CORRUPT, "prefix", "entry %llx: %s", (unsigned long long)id, what);
    };
    if (!(s & live)) return bad("it is neither alive nor dead");
    if (s & location_lock) return bad("a location is locked");
    if (find(key_of(e)) != id) return bad("its key does not lead to it");
    if (is_root(e)) {
        ++n_roots;
        if (!child_count(s) || residency(s) || e.parent)
            return bad("a root without children, with a place or with a parent");
    } else {
        ++n_entries;
        const PrefixEntry& p = *at(e.parent);
        if (!(p.state.load(relaxed) & live)) return bad("its parent is gone");
        if (e.depth != (is_root(p) ? 0 : p.depth + 1)) return bad("its depth is not its parent's and one");
        if (!residency(s)) return bad("it lies nowhere");
        bskip::Value<1> v;
        if (p.child.load(relaxed) == many_children && (!by_tokens_.get(token_key_of(slot), v) || v.w[0] != id))
            return bad("its tokens do not lead to it");
        n_in_map += p.child.load(relaxed) == many_children;
    }
    // Its children, against the counts.
    uint32_t n_children = 0, below[n_places] = {};
    WideKey from{{uint64_t(slot) << 32, 0, 0, 0}}, k;
    uint64_t child;
    while (scan_children(slot, from, true, {&k, 1}, &child)) {
        const PrefixEntry* c = at_id(child);
        if (!c || c->parent != slot) return bad("a child that is none");
        const uint32_t r = residency(c->state.load(relaxed));
        for (uint32_t p = 0; p < n_places; ++p) below[p] += r >> p & 1;
        ++n_children;
        from = k;
    }
    if (n_children != child_count(s)) return bad("the number of children is wrong");
    for (uint32_t p = 0; p < n_places; ++p)
        if (below[p] != e.below[p].load(relaxed)) return bad("the number of children in a place is wrong");
    return LARDER_OK;
}

larder_status PrefixIndex::Impl::verify() {
    LARDER_TRY(by_tokens_.verify(context_.alloc));
    LARDER_TRY(queue_.verify(context_.alloc));
    uint64_t n_entries = 0, n_roots = 0, n_in_map = 0;
    for (uint32_t slot = 1; slot < entries_.end(); ++slot) {
        LARDER_TRY(verify_entry(slot, n_entries, n_roots, n_in_map));
        const PrefixEntry& e = *at(slot);
        const uint64_t s = e.state.load(relaxed);
        for (uint32_t p = 0; p < n_places; ++p) {
            const bool queued = e.queued.load(relaxed) >> p & 1;
            if (s && (active_places_.load(relaxed) >> p & 1) && !is_root(e) && evictable(e, s, p) && !queued)
                return fail(LARDER_E_CORRUPT, "prefix", "slot %u can be evicted from place %u and is in no queue", slot,
                            p);
        }
    }
    if (by_key_.count() != n_entries + n_roots || by_tokens_.count() != n_in_map)
        return fail(LARDER_E_CORRUPT, "prefix", "%llu entries and %llu roots are there, the maps hold %llu and %llu",
                    (unsigned long long)n_entries, (unsigned long long)n_roots, (unsigned long long)by_key_.count(),
                    (unsigned long long)by_tokens_.count());
    if (n_used_.load(relaxed) != n_entries + n_roots)
        return fail(LARDER_E_CORRUPT, "prefix", "room for entries has leaked");
    if (entries_.end() - 1 - entries_.n_free() != n_entries + n_roots)
        return fail(LARDER_E_CORRUPT, "prefix", "entry slots have leaked");
    return LARDER_OK;
}

}  // namespace larder
