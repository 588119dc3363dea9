// What comes into each tier and what leaves it: told to statistics and to the event log, in order.
#include "base/options.h"
#include "store/store.h"

using namespace larder;

namespace {

// The reasons for leaving a tier, and what counts them.
struct Departure {
    Stat host, file;
};
Departure departure(larder_absence why) noexcept {
    switch (why) {
    case LARDER_ABSENT_EVICTED:
        return {Stat::store_host_evicted, Stat::store_file_evicted};
    case LARDER_ABSENT_QUOTA:
        return {Stat::store_host_over_quota, Stat::store_file_over_quota};
    case LARDER_ABSENT_REPLACED:
        return {Stat::store_host_replaced, Stat::store_file_replaced};
    case LARDER_ABSENT_CORRUPT:
    case LARDER_ABSENT_IO:
        return {Stat::store_host_lost, Stat::store_file_lost};
    default:
        return {Stat::store_host_removed, Stat::store_file_removed};
    }
}

larder_event event_of(const Object& o, larder_event_kind kind, uint32_t before, uint32_t after) noexcept {
    larder_event e{};
    e.kind = kind;
    e.places = after;
    e.places_before = before;
    e.key = o.key;
    e.parent = o.meta.parent;
    e.n_bytes = o.n_bytes;
    e.n_tokens = o.meta.n_tokens;
    return e;
}

}  // namespace

void larder_store::tell(const Object& o, uint32_t before, uint32_t after, larder_absence why) noexcept {
    if (!events_.on() || before == after) return;
    larder_event e = event_of(o,
                              !before  ? LARDER_EVENT_PUBLISHED
                              : !after ? LARDER_EVENT_REMOVED
                                       : LARDER_EVENT_PLACED,
                              before, after);
    e.cause = why;
    events_.append(e);
}

void larder_store::tell_added(uint32_t slot, uint32_t tier) noexcept {
    const Object& o = objects_[slot];
    context->stats.add(tier == LARDER_TIER_HOST ? Stat::store_host_added : Stat::store_file_added);
    if (tier == LARDER_TIER_FILE) context->stats.add(Stat::store_file_put_bytes, o.n_bytes);
    tell(o, o.residency() & ~tier, o.residency(), LARDER_ABSENT_NOT);
}

// It goes from these tiers, of those that it can be read from.
void larder_store::tell_removed(const Object& o, uint32_t tiers, larder_absence why) noexcept {
    if (!open_) return;  // what recovery meets twice was never there
    const Departure counts = departure(why);
    const uint32_t from = o.residency() & tiers;
    for (const auto& [tier, count] : {std::pair{LARDER_TIER_HOST, counts.host}, {LARDER_TIER_FILE, counts.file}}) {
        if (!(from & tier)) continue;
        context->stats.add(count);
        if (why == LARDER_ABSENT_EVICTED || why == LARDER_ABSENT_QUOTA) context->stats.add(Stat::store_evictions);
    }
    tell(o, o.residency(), o.residency() & ~tiers, why);
}

larder_status larder_store::snapshot(uint64_t& position, uint64_t& cursor, larder_event* out, uint32_t stride,
                                     uint64_t n, uint64_t& out_n) noexcept {
    out_n = 0;
    Lock lock(mutex_);
    LARDER_TRY(check_range(position, 0, objects_.n_slots(), "position"));
    // What changes while others walk over the objects is told behind this place.
    if (position == 0) cursor = events_.newest();
    for (; position < objects_.n_slots() && out_n < n; ++position) {
        const Object& o = objects_[uint32_t(position)];
        if (!o.live || o.zombie || !o.residency()) continue;
        write_event(event_at(out, stride, out_n++), stride, event_of(o, LARDER_EVENT_PUBLISHED, 0, o.residency()));
    }
    return position < objects_.n_slots() ? LARDER_PARTIAL : LARDER_OK;
}
