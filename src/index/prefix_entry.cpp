#include "index/prefix_impl.h"

namespace larder {

using namespace prefix_state;

PrefixIndex::Impl::Impl(larder_context& c, const larder_prefix_options& o)
    : context_(c), flags_(o.flags), block_tokens_(o.block_tokens), max_entries_(o.max_entries),
      slabs_(c, uint64_t(1) << 46), entries_(c, slabs_, sizeof(PrefixEntry), offsetof(PrefixEntry, link)),
      tokens_(c, slabs_, uint32_t(sizeof(int32_t)) * o.block_tokens, 0), by_key_(c, slabs_, o.max_entries),
      by_tokens_(c, slabs_), queue_(c, slabs_), events_(c.alloc, o.n_events), first_generation_(c.random_generation()) {
}

larder_status PrefixIndex::Impl::init() noexcept {
    LARDER_TRY(by_tokens_.init());
    return queue_.init();
}

PrefixEntry* PrefixIndex::Impl::at_id(uint64_t id) const noexcept {
    const uint32_t slot = Id::index(id);
    if (Id::kind(id) != IdKind::prefix_entry || !slot || slot >= entries_.end()) return nullptr;
    PrefixEntry* e = at(slot);
    return e->generation.load(acquire) + first_generation_ == Id::generation(id) ? e : nullptr;
}

// Add a pin to a live entry. The generation is looked at again afterwards: the slot may have changed hands just before
// the pin took hold.
bool PrefixIndex::Impl::try_pin(uint64_t id, uint64_t* out_state) noexcept {
    PrefixEntry* e = at_id(id);
    if (!e) return false;
    uint64_t s = e->state.load(relaxed);
    do {
        if (!(s & live) || (s & pins_mask) == pins_mask) return false;
    } while (!e->state.compare_exchange_weak(s, s + one_pin, acq_rel, relaxed));
    if (e->generation.load(relaxed) + first_generation_ != Id::generation(id)) {
        unpin(*e);
        return false;
    }
    if (out_state) *out_state = s + one_pin;
    return true;
}

larder_status PrefixIndex::Impl::pin(uint64_t id, uint64_t* out_state) noexcept {
    if (try_pin(id, out_state)) return LARDER_OK;
    return fail(LARDER_E_STALE, "entry", "entry %llx is not, or no longer, published", (unsigned long long)id);
}

void PrefixIndex::Impl::describe(uint64_t id, const PrefixEntry& e, uint64_t state, PrefixBlock& out) const noexcept {
    out.entry = id;
    out.residency = residency(state);
    out.n_tokens = n_tokens(e);
    out.depth = load_at(&e.depth);
    out.tag = e.tag.load(relaxed);
    for (uint32_t p = 0; p < n_places; ++p) out.location[p] = out.residency >> p & 1 ? e.location[p].load(acquire) : 0;
}

// A look without a pin: one state of the entry, or false when it is gone.
bool PrefixIndex::Impl::peek(uint64_t id, PrefixBlock& out) const noexcept {
    const PrefixEntry* e = at_id(id);
    if (!e) return false;
    for (;;) {
        const uint64_t s = e->state.load(acquire);
        if (!(s & live) || is_root(*e)) return false;
        describe(id, *e, s, out);
        fence(acquire);
        if (e->generation.load(relaxed) + first_generation_ != Id::generation(id)) return false;
        if (residency(e->state.load(relaxed)) == out.residency) return true;
    }
}

}  // namespace larder
