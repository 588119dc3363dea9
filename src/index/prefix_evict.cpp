#include "index/prefix_impl.h"

namespace larder {

using namespace prefix_state;

namespace {

using QueueKey = bskip::Key<2>;
constexpr uint64_t time_mask = (uint64_t(1) << 60) - 1;

// At the same time the deeper one goes first.
QueueKey queue_key(uint32_t place, uint64_t last_use, uint32_t depth, uint32_t slot) {
    return {{uint64_t(place) << 60 | (last_use & time_mask), uint64_t(~depth) << 32 | slot}};
}

}  // namespace

// The caller holds the only pin and nothing follows: then the entry is dead, and the caller buries it.
bool PrefixIndex::Impl::try_kill(PrefixEntry& e, uint64_t* out_state) noexcept {
    uint64_t s = e.state.load(relaxed);
    do {
        if (pins(s) != 1 || child_count(s) || (s & location_lock)) return false;
    } while (!e.state.compare_exchange_weak(s, 0, acq_rel, relaxed));
    *out_state = s;
    return true;
}

// Take a dead entry out of the maps, then out of its parent's count: as long as it can be found its parent lives.
void PrefixIndex::Impl::bury(uint64_t id, uint64_t last_state) noexcept {
    const uint32_t slot = Id::index(id);
    PrefixEntry& e = *at(slot);
    const uint32_t parent = load_at(&e.parent);
    // Before the key is free to be published again.
    if (parent && events_.on()) tell(LARDER_EVENT_REMOVED, id, e, residency(last_state), 0);
    if (parent) unlink_child(parent, id);
    by_key_.remove(by_key_.hash(key_of(e)), slot);
    discard(id);
    if (!parent) return;
    context_.stats.add(Stat::prefix_blocks_removed);
    uint32_t bare = 0;  // places where the parent has become the last one
    for (uint32_t p = 0; p < n_places; ++p)
        if (residency(last_state) >> p & 1 && at(parent)->below[p].fetch_sub(1, relaxed) == 1) bare |= 1u << p;
    const uint64_t parent_id = id_of(parent);
    if (bare && !is_root(*at(parent))) enqueue(parent_id, bare);
    release_child(parent);
}

larder_status PrefixIndex::Impl::drop(uint64_t id, uint32_t bit, PrefixBlock* out) noexcept {
    uint64_t s;
    LARDER_TRY(pin(id, &s));
    PrefixEntry& e = *at(Id::index(id));
    if (out) describe(id, e, s, *out);
    for (;;) {
        larder_status refusal = LARDER_OK;
        if (!(residency(s) & bit))
            refusal = LARDER_MISS;
        else if (pins(s) > 1 || (s & location_lock))
            refusal = fail(LARDER_E_BUSY, "entry", "the entry is pinned");
        else if (residency(s) == bit && child_count(s))
            refusal = fail(LARDER_E_BUSY, "entry", "blocks that follow it are published");
        if (refusal != LARDER_OK) return unpin(e), refusal;
        if (residency(s) == bit) {
            if (!try_kill(e, &s)) {
                s = e.state.load(acquire);
                continue;
            }
            bury(id, s);
            return LARDER_OK;
        }
        const uint64_t locked = events_.on() ? location_lock : 0;
        if (!e.state.compare_exchange_weak(s, with_residency(s, residency(s) & ~bit) | locked, acq_rel, acquire))
            continue;
        if (!locked) break;
        tell(LARDER_EVENT_PLACED, id, e, residency(s), residency(s) & ~bit);
        e.state.fetch_sub(location_lock, release);
        break;
    }
    const uint32_t place = bit_to_place(bit), parent = load_at(&e.parent);
    if (at(parent)->below[place].fetch_sub(1, relaxed) == 1 && !is_root(*at(parent))) enqueue(id_of(parent), bit);
    unpin(e);
    return LARDER_OK;
}

// Whether it may be given up in that place, pins apart: nothing that follows it needs it there, and if it is its last
// place nothing follows at all.
bool PrefixIndex::Impl::evictable(const PrefixEntry& e, uint64_t s, uint32_t place) const noexcept {
    const uint32_t r = residency(s);
    if (!(s & live) || !(r >> place & 1) || e.below[place].load(relaxed)) return false;
    return r != 1u << place || !child_count(s);
}

void PrefixIndex::Impl::enqueue(uint64_t id, uint32_t places) noexcept {
    places &= active_places_.load(acquire);
    uint64_t s;
    if (!places || !try_pin(id, &s)) return;
    PrefixEntry& e = *at(Id::index(id));
    for (uint32_t p = 0; p < n_places; ++p) {
        const uint32_t bit = 1u << p;
        if (!(places & bit) || !evictable(e, s, p) || (e.queued.fetch_or(uint8_t(bit), acq_rel) & bit)) continue;
        const QueueKey k = queue_key(p, e.last_use.load(relaxed), load_at(&e.depth), Id::index(id));
        if (queue_.put(k, {id}) >= 0) continue;
        // No memory for the record: candidates() will look at all entries again.
        e.queued.fetch_and(uint8_t(~bit), relaxed);
        active_places_.fetch_and(~bit, relaxed);
    }
    unpin(e);
}

void PrefixIndex::Impl::activate(uint32_t place) {
    if (active_places_.fetch_or(1u << place, acq_rel) >> place & 1) return;
    for (uint32_t slot = 1; slot < entries_.end(); ++slot)
        if (residency(at(slot)->state.load(relaxed)) >> place & 1) enqueue(id_of(slot), 1u << place);
}

// Records are corrected as they are met: an entry that was used since gets its new time, one that cannot be evicted
// loses its record until it can.
larder_status PrefixIndex::Impl::candidates(uint32_t place, std::span<PrefixBlock> out, uint64_t& out_n) {
    std::lock_guard guard(evict_mutex_);
    activate(place);
    out_n = 0;
    QueueKey records[64], from{{uint64_t(place) << 60, 0}};
    bskip::Value<1> ids[64];
    bool strict = false;
    while (out_n < out.size()) {
        const size_t n = queue_.scan_up(&from, strict, std::min<size_t>(64, out.size() - out_n + 8), records, ids);
        for (size_t i = 0; i < n && out_n < out.size(); ++i) {
            const QueueKey r = from = records[i];
            if (r.w[0] >> 60 != place) return LARDER_OK;
            const uint64_t id = ids[i].w[0];
            uint64_t s;
            if (!try_pin(id, &s)) {
                queue_.remove(r, nullptr);
                continue;
            }
            PrefixEntry& e = *at(Id::index(id));
            const QueueKey now = queue_key(place, e.last_use.load(relaxed), load_at(&e.depth), Id::index(id));
            if (!evictable(e, s, place)) {
                queue_.remove(r, nullptr);
                e.queued.fetch_and(uint8_t(~(1u << place)), acq_rel);
                enqueue(id, 1u << place);  // it may have become evictable meanwhile
            } else if (now != r) {
                if (queue_.put(now, {id}) >= 0) queue_.remove(r, nullptr);
                if (now < records[n - 1]) i = n;  // it belongs among those that were fetched already: fetch again
            } else if (pins(s) == 1) {
                describe(id, e, s, out[out_n++]);
            }
            unpin(e);
        }
        if (!n) return LARDER_OK;
        strict = true;
    }
    return LARDER_OK;
}

// Depth first with a stack of {entry, where its children continue}.
larder_status PrefixIndex::Impl::remove_tree(uint64_t top, std::span<PrefixBlock> out, uint64_t& out_n) {
    struct Frame {
        uint64_t id;
        WideKey next;
        int rounds;
    };
    out_n = 0;
    uint64_t s;
    LARDER_TRY(pin(top, &s));
    Vec<Frame> stack(context_.alloc);
    bool blocked = false;
    const auto frame = [&](uint64_t id) { return Frame{id, {{uint64_t(Id::index(id)) << 32, 0, 0, 0}}, 0}; };
    try {
        stack.push_back(frame(top));
    } catch (...) {
        unpin(*at(Id::index(top)));
        throw;
    }
    // Every entry on the stack is pinned by us.
    while (!stack.empty()) {
        Frame& f = stack.back();
        const uint32_t slot = Id::index(f.id);
        PrefixEntry& e = *at(slot);
        WideKey k;
        uint64_t child;
        if (out_n < out.size() && scan_children(slot, f.next, true, {&k, 1}, &child)) {
            f.next = k;
            if (!try_pin(child, &s)) continue;
            try {
                stack.push_back(frame(child));
            } catch (...) {
                unpin(*at(Id::index(child)));
                for (const Frame& g : stack) unpin(*at(Id::index(g.id)));
                throw;
            }
            continue;
        }
        const uint64_t id = f.id;
        if (out_n < out.size() && try_kill(e, &s)) {
            describe(id, e, s, out[out_n++]);
            bury(id, s);
        } else if (out_n < out.size() && !blocked && f.rounds < 3 && pins(e.state.load(relaxed)) == 1) {
            f = frame(id);  // a child was published meanwhile
            f.rounds = 3;
            continue;
        } else {
            blocked |= out_n < out.size();
            unpin(e);
        }
        stack.pop_back();
    }
    if (blocked) return fail(LARDER_E_BUSY, "entry", "pinned entries stayed");
    return at_id(top) ? LARDER_PARTIAL : LARDER_OK;
}

}  // namespace larder
