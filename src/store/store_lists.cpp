// The store's bookkeeping. Everything here runs under the table mutex and keeps every list, count and statistic in
// step.
#include <bit>

#include "base/assert.h"
#include "store/store.h"

using namespace larder;

uint32_t larder_store::add_object(const larder_key& key, const ObjectMeta& meta, uint32_t n_bytes, ExtentSums sums) {
    Tenant& t = tenant(meta.tenant);
    const uint32_t slot = objects_.insert(key);
    try {
        // By powers of two: policies with a memory of what went hash it anew when they grow.
        if (host_policy_) host_policy_->reserve(std::bit_ceil(objects_.n_slots()));
    } catch (...) {
        objects_.forget_key(slot);
        objects_.release(slot);
        throw;
    }
    Object& o = objects_[slot];
    o.meta = meta;
    o.n_bytes = n_bytes;
    o.sums = std::move(sums);
    t.objects.push_back(objects_, slot);
    const uint32_t parent = objects_.slot_of(meta.parent);
    if (parent != no_slot && !objects_[parent].extended) {
        objects_[parent].extended = true;
        if (objects_[parent].in_host_policy) host_policy_->extended(parent);
    }
    context->stats.add(Stat::store_objects);
    return slot;
}

void larder_store::attach_host(uint32_t slot, HostExtent extent) noexcept {
    Object& o = objects_[slot];
    LARDER_ASSERT(!o.in_host());
    o.host = std::move(extent);
    const uint64_t n = HostTier::rounded(o.n_bytes);
    tenants_.find(o.meta.tenant)->second.host_bytes += n;
    context->stats.add(Stat::store_host_bytes, n);
    ++n_host_objects_;
}

void larder_store::detach_host(uint32_t slot) noexcept {
    Object& o = objects_[slot];
    LARDER_ASSERT(o.in_host() && o.n_host_readers == 0);
    host_->free(o.host);
    const uint64_t n = HostTier::rounded(o.n_bytes);
    tenants_.find(o.meta.tenant)->second.host_bytes -= n;
    context->stats.sub(Stat::store_host_bytes, n);
    --n_host_objects_;
    set_dirty(slot, false);
    update_host_policy(slot);
}

void larder_store::attach_file(uint32_t slot, RecordPlace place) noexcept {
    Object& o = objects_[slot];
    LARDER_ASSERT(!o.in_file());
    o.place = place;
    o.hot = false;
    SegmentBook& b = books_[place.segment];
    b.objects.push_back(objects_, slot);
    ++b.n_objects;
    b.live_bytes += o.record_bytes();
    if (o.n_pins) b.pinned_bytes += o.record_bytes();
    tenants_.find(o.meta.tenant)->second.file_bytes += o.n_bytes;
    context->stats.add(Stat::store_file_bytes, o.n_bytes);
    ++n_file_objects_;
    if (b.in_policy) return;
    b.in_policy = true;
    file_policy_->admit(place.segment, {.id = place.segment, .now = ++clock_});
}

void larder_store::detach_file(uint32_t slot) noexcept {
    Object& o = objects_[slot];
    LARDER_ASSERT(o.in_file());
    SegmentBook& b = books_[o.place.segment];
    b.objects.remove(objects_, slot);
    --b.n_objects;
    b.live_bytes -= o.record_bytes();
    if (o.n_pins) b.pinned_bytes -= o.record_bytes();
    tenants_.find(o.meta.tenant)->second.file_bytes -= o.n_bytes;
    context->stats.sub(Stat::store_file_bytes, o.n_bytes);
    --n_file_objects_;
    o.place = {};
}

// In the policy stands what may be evicted from RAM, and nothing else.
void larder_store::update_host_policy(uint32_t slot) noexcept {
    Object& o = objects_[slot];
    if (!host_policy_) return;
    const bool evictable =
        o.live && o.in_host() && !o.writing && !o.dirty && !o.writing_back && !o.n_pins && !o.n_leases && !o.zombie;
    if (evictable == o.in_host_policy) return;
    o.in_host_policy = evictable;
    if (evictable)
        host_policy_->admit(slot, reference(slot));
    else
        host_policy_->remove(slot);
}

void larder_store::touch(uint32_t slot) noexcept {
    Object& o = objects_[slot];
    if (o.in_host_policy) host_policy_->touch(slot, reference(slot));
    if (o.in_file() && books_[o.place.segment].in_policy)
        file_policy_->touch(o.place.segment, {.id = o.place.segment, .now = ++clock_});
}

void larder_store::set_dirty(uint32_t slot, bool dirty) noexcept {
    Object& o = objects_[slot];
    if (o.dirty == dirty) return;
    o.dirty = dirty;
    if (dirty) {
        dirty_.push_back(objects_, slot);
        dirty_bytes_ += o.n_bytes;
        context->stats.add(Stat::store_dirty_bytes, o.n_bytes);
    } else {
        dirty_.remove(objects_, slot);
        dirty_bytes_ -= o.n_bytes;
        context->stats.sub(Stat::store_dirty_bytes, o.n_bytes);
    }
}

void larder_store::note_departure(const larder_key& key, larder_absence why, uint32_t tier) noexcept {
    departures_.note(key, why, tier, context->os.now_ns());
}

void larder_store::remove_object(uint32_t slot, larder_absence why, uint32_t tier) noexcept {
    Object& o = objects_[slot];
    LARDER_ASSERT(!o.zombie);
    note_departure(o.key, why, tier);
    tell_removed(o, LARDER_TIER_HOST | LARDER_TIER_FILE, why);
    forget_protection(o);
    set_dirty(slot, false);
    if (o.in_file()) detach_file(slot);
    if (o.n_pins) count_pinned(false);
    o.n_pins = 0;
    objects_.forget_key(slot);
    tenants_.find(o.meta.tenant)->second.objects.remove(objects_, slot);
    context->stats.sub(Stat::store_objects);
    o.zombie = true;
    update_host_policy(slot);
    if (o.n_host_readers) return;
    if (o.in_host()) detach_host(slot);
    objects_.release(slot);
}

void larder_store::count_pinned(bool more) noexcept {
    n_pinned_ += more ? 1 : -1;
    context->stats.add(Stat::store_pinned, more ? 1 : uint64_t(-1));
}

larder_status larder_store::pin_slot(uint32_t slot) noexcept {
    Object& o = objects_[slot];
    if (o.n_pins == UINT32_MAX) return fail(LARDER_E_RANGE, "keys", "the object has too many pins");
    if (o.n_pins++) return LARDER_OK;
    count_pinned(true);
    if (o.in_file()) books_[o.place.segment].pinned_bytes += o.record_bytes();
    update_host_policy(slot);
    return LARDER_OK;
}

void larder_store::remove_if_nowhere(uint32_t slot, larder_absence why, uint32_t tier) noexcept {
    Object& o = objects_[slot];
    if (!o.zombie && !o.in_host() && !o.in_file() && !o.writing) remove_object(slot, why, tier);
}

// Out of one tier, and away with it when that was the last.
void larder_store::leave(uint32_t slot, uint32_t tier, larder_absence why) noexcept {
    tell_removed(objects_[slot], tier, why);
    if (tier == LARDER_TIER_HOST)
        detach_host(slot);
    else
        detach_file(slot);
    remove_if_nowhere(slot, why, tier);
}

void larder_store::end_host_read(uint32_t slot) noexcept {
    Object& o = objects_[slot];
    LARDER_ASSERT(o.n_host_readers > 0);
    if (--o.n_host_readers || !o.zombie) return;
    if (o.in_host()) detach_host(slot);
    objects_.release(slot);
}

void larder_store::end_file_read(uint32_t segment, bool buffer) noexcept {
    file_->unhold(segment, buffer);
    if (file_->segment(segment).n_readers == 0) readers_gone_.notify_all();
}

// Forget the records that the file tier could not write or make durable.
void larder_store::drop_failed_segments(AppendLock&) {
    for (const FileTier::Failure& f : file_->take_failures()) {
        Lock lock(mutex_);
        SegmentBook& b = books_[f.segment];
        for (uint32_t slot = b.objects.front; slot != no_slot;) {
            const uint32_t next = decltype(b.objects)::next(objects_, slot);
            if (objects_[slot].place.offset >= f.durable) {
                leave(slot, LARDER_TIER_FILE, LARDER_ABSENT_IO);
            }
            slot = next;
        }
        // A segment that will never be written again is not a candidate for eviction either.
        if (file_->segment(f.segment).state == FileTier::State::quarantined && b.in_policy) {
            file_policy_->remove(f.segment);
            b.in_policy = false;
        }
    }
}
