#include "base/options.h"
#include "index/prefix_impl.h"

namespace larder {

using namespace prefix_state;

void PrefixIndex::Impl::fill_event(larder_event& out, uint64_t id, const PrefixEntry& e) const noexcept {
    out.key = key_of(e);
    out.parent = key_of(*at(load_at(&e.parent)));
    out.entry = id;
    out.depth = load_at(&e.depth);
    out.n_tokens = n_tokens(e);
    out.tag = e.tag.load(relaxed);
}

// The caller holds the entry's location lock, or has killed it: nobody else tells of this entry, and its parent lives.
void PrefixIndex::Impl::tell(larder_event_kind kind, uint64_t id, const PrefixEntry& e, uint32_t before,
                             uint32_t after) noexcept {
    larder_event event{};
    event.kind = kind;
    event.places = after;
    event.places_before = before;
    fill_event(event, id, e);
    // The parent may be so young that its own event is still on its way.
    const PrefixEntry& parent = *at(load_at(&e.parent));
    if (kind == LARDER_EVENT_PUBLISHED)
        while (parent.state.load(acquire) & location_lock) cpu_relax();
    events_.append(event);
}

// In the order of slots, each looked at once. What changes behind or before the one that is looked at has its event
// behind the cursor.
larder_status PrefixIndex::Impl::snapshot(uint64_t& position, uint64_t& cursor, larder_event* out, uint32_t stride,
                                          uint64_t n, uint64_t& out_n) noexcept {
    if (!position) cursor = events_.newest();
    const uint32_t end = entries_.end();
    LARDER_TRY(check_range(position, 0, end, "position"));
    out_n = 0;
    for (uint64_t slot = position ? position : 1; slot < end; ++slot) {
        const uint64_t id = id_of(uint32_t(slot));
        PrefixBlock b;
        larder_event event{};
        if (!peek(id, b)) continue;
        if (out_n == n) {
            position = slot;
            return LARDER_PARTIAL;
        }
        event.kind = LARDER_EVENT_PUBLISHED;
        event.places = b.residency;
        fill_event(event, id, *at(uint32_t(slot)));
        fence(acquire);
        if (!at_id(id)) continue;
        write_event(event_at(out, stride, out_n++), stride, event);
    }
    position = end;
    return LARDER_OK;
}

}  // namespace larder
