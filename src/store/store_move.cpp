// From tier to tier because somebody said so.
#include "store/store.h"

using namespace larder;

larder_status larder_store::check_move(uint32_t to_tier, uint32_t flags) const noexcept {
    if (flags & ~LARDER_MOVE_KEEP) return fail(LARDER_E_INVALID, "flags", "flags has bits that mean nothing");
    if (to_tier != LARDER_TIER_HOST && to_tier != LARDER_TIER_FILE)
        return fail(LARDER_E_RANGE, "to_tier", "to_tier is %u; it must be one tier", to_tier);
    return host_ && file_ ? LARDER_OK : fail(LARDER_E_STATE, "store", "moving needs both tiers");
}

larder_status larder_store::move(const larder_key& key, uint32_t to_tier, uint32_t flags) {
    const bool keep = flags & LARDER_MOVE_KEEP;
    const larder_status status = to_tier == LARDER_TIER_HOST ? onboard(key, keep) : offload(key, keep);
    if (status == LARDER_OK) context->stats.add(Stat::store_moved);
    return status;
}

larder_status larder_store::offload(const larder_key& key, bool keep) {
    for (int tries = 0;; ++tries) {
        {
            Lock lock(mutex_);
            const uint32_t slot = slot_of(key);
            if (slot == no_slot) return LARDER_MISS;
            const Object& o = objects_[slot];
            if (o.writing) return LARDER_RETRY;
            if (o.in_file()) {
                if (!o.in_host() || keep) return LARDER_OK;
                if (o.n_pins || o.n_host_readers) return fail(LARDER_E_BUSY, "keys", "the object is pinned or in use");
                leave(slot, LARDER_TIER_HOST, LARDER_ABSENT_MOVED);
                return LARDER_OK;
            }
            if (o.keep_in_ram) return fail(LARDER_E_STATE, "keys", "the object was put or moved to stay in RAM");
        }
        if (tries == 2) return fail(LARDER_E_NOSPACE, "file_bytes", "what was written was evicted at once");
        const larder_status written = write_back(&key);
        if (written < 0) return written;
    }
}

larder_status larder_store::onboard(const larder_key& key, bool keep) {
    larder_status status;
    prefetch_some(&key, 1, &status);
    if (status != LARDER_OK || keep) return status;
    {
        Lock lock(mutex_);
        const uint32_t slot = objects_.slot_of(key);
        if (slot == no_slot) return LARDER_MISS;
        if (!objects_[slot].in_host()) return fail(LARDER_E_NOSPACE, "host_bytes", "the object was evicted at once");
        if (!objects_[slot].in_file() && objects_[slot].keep_in_ram) return LARDER_OK;
    }
    return evict(key, LARDER_TIER_FILE);
}
