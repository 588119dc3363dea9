// Putting objects: into RAM, from where they are written behind the caller's back, or straight into the file.
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/options.h"
#include "store/store.h"

using namespace larder;

bool larder_store::file_takes(uint32_t flags) const noexcept {
    return file_ && !(flags & LARDER_PUT_NO_FILE) && file_->status() >= 0;
}

larder_status larder_store::check_put(const larder_store_put_item& item, ObjectMeta& meta) const noexcept {
    if (!item.meta) return fail(LARDER_E_INVALID, "meta", "meta is NULL");
    if (item.flags & ~(LARDER_PUT_NO_HOST | LARDER_PUT_NO_FILE | LARDER_PUT_PIN | LARDER_PUT_NO_REMOTE))
        return fail(LARDER_E_INVALID, "flags", "flags has bits that mean nothing");
    larder_object_meta m;
    LARDER_TRY(read_options(item.meta, m, "larder_object_meta"));
    if (!m.quality) m.quality = LARDER_QUALITY_EXACT;
    LARDER_TRY(check_range(uint32_t(m.quality), 1, 255, "quality"));
    LARDER_TRY(check_range(m.codec, 0, 65535, "codec"));
    const bool to_host = host_ && !(item.flags & LARDER_PUT_NO_HOST),
               to_file = file_ && !(item.flags & LARDER_PUT_NO_FILE);
    if (!to_host && !to_file) return fail(LARDER_E_INVALID, "flags", "the flags leave no tier to put into");
    const uint64_t max = to_file ? file_->max_payload_bytes() : std::min<uint64_t>(host_->capacity_bytes(), UINT32_MAX);
    LARDER_TRY(check_range(item.n_bytes, 1, max, "n_bytes"));
    meta = {m.layout, m.parent, m.tenant, m.n_tokens, m.user_flags, uint16_t(m.codec), uint8_t(m.quality)};
    return LARDER_OK;
}

larder_status larder_store::put(const larder_store_put_item& item) {
    ObjectMeta meta;
    if (!item.data) return fail(LARDER_E_INVALID, "data", "data is NULL");
    LARDER_TRY(check_put(item, meta));
    context->stats.add(Stat::store_puts);
    larder_status status = LARDER_E_NOSPACE;
    if (host_ && !(item.flags & LARDER_PUT_NO_HOST)) status = put_host(item, meta);
    // What finds no room in RAM, or is larger than RAM, goes straight to the file.
    if ((status == LARDER_E_NOSPACE || status == LARDER_E_NOMEM) && file_takes(item.flags))
        status = put_file(item, meta);
    if (is_error(status)) note_rejection(item.key, status);
    if (!is_error(status) && file_takes(item.flags)) help_to_write();
    return status;
}

void larder_store::note_rejection(const larder_key& key, larder_status status) noexcept {
    if (status == LARDER_E_IDENTITY) return;
    context->stats.add(Stat::store_rejections);
    context->stats.add(status == LARDER_E_NOSPACE ? Stat::store_rejected_room
                       : status == LARDER_E_QUOTA ? Stat::store_rejected_quota
                                                  : Stat::store_rejected_failure);
    Lock lock(mutex_);
    if (!objects_.find(key))
        note_departure(key, status == LARDER_E_QUOTA ? LARDER_ABSENT_QUOTA : LARDER_ABSENT_REJECTED, 0);
}

// Whoever fills RAM faster than the disk takes it helps to write.
void larder_store::help_to_write() {
    while (host_) {
        {
            Lock lock(mutex_);
            if (dirty_bytes_ <= options_.max_dirty_bytes) break;
        }
        if (!write_back_one()) break;
    }
}

// What a put finds under its key. LARDER_E_EXISTS: it is there already, nothing is left to do. LARDER_OK: go on; what
// is there, if anything, is coarser.
larder_status larder_store::meet_existing(const larder_key& key, const ObjectMeta& meta, uint32_t flags) noexcept {
    const uint32_t slot = slot_of(key);
    if (recorder_) recorder_->put(load_le<uint64_t>(key.bytes), 0);
    if (slot == no_slot) return LARDER_OK;
    Object& o = objects_[slot];
    if (!o.meta.same_identity(meta))
        return fail(LARDER_E_IDENTITY, "key", "the key is there with another layout or tenant");
    if (o.writing) return LARDER_RETRY;
    if (o.meta.quality > meta.quality) return LARDER_OK;
    touch(slot);
    if (flags & LARDER_PUT_PIN) LARDER_TRY(pin_slot(slot));
    return LARDER_E_EXISTS;
}

// The new object, in the place of a coarser one, whose pins it takes over. Strong against bad_alloc.
uint32_t larder_store::replace_object(const larder_store_put_item& item, const ObjectMeta& meta, ExtentSums sums) {
    uint32_t pins = item.flags & LARDER_PUT_PIN ? 1 : 0;
    const uint32_t old = objects_.slot_of(item.key);
    if (old != no_slot) {
        const Object& o = objects_[old];
        pins += o.n_pins;
        remove_object(old, LARDER_ABSENT_REPLACED,
                      (o.in_host() ? LARDER_TIER_HOST : 0) | (o.in_file() ? LARDER_TIER_FILE : 0));
    }
    const uint32_t slot = add_object(item.key, meta, uint32_t(item.n_bytes), std::move(sums));
    Object& o = objects_[slot];
    o.keep_in_ram = item.flags & LARDER_PUT_NO_FILE;
    o.keep_local = item.flags & LARDER_PUT_NO_REMOTE;
    o.n_pins = pins;
    if (pins) count_pinned(true);
    return slot;
}

bool larder_store::make_host_room(uint64_t n_bytes) noexcept {
    end_protection();
    // An object that is being copied out cannot go now; it was just used anyhow, so it moves to the young end.
    for (uint64_t tries = 0; !host_->room(n_bytes); ++tries) {
        if (tries > n_host_objects_) return false;
        const uint32_t slot = host_policy_->evict();
        if (slot == Policy::no_victim) {
            if (expire_leases(no_slot)) continue;
            return false;
        }
        Object& o = objects_[slot];
        o.in_host_policy = false;
        if (o.n_host_readers) {
            update_host_policy(slot);
            continue;
        }
        leave(slot, LARDER_TIER_HOST, LARDER_ABSENT_EVICTED);
        tries = 0;
    }
    return true;
}

// A tenant over its quota gives up its own oldest objects first.
bool larder_store::make_host_quota(Tenant& t, uint64_t n_bytes) noexcept {
    if (!t.host_quota) return true;
    for (uint32_t slot = t.objects.front; t.host_bytes + n_bytes > t.host_quota && slot != no_slot;) {
        const uint32_t next = decltype(t.objects)::next(objects_, slot);
        Object& o = objects_[slot];
        if (o.in_host_policy && !o.n_host_readers) {
            leave(slot, LARDER_TIER_HOST, LARDER_ABSENT_QUOTA);
        }
        slot = next;
    }
    return t.host_bytes + n_bytes <= t.host_quota;
}

// Under the table mutex: an object in the state `writing`, with memory. What was there stays unless this succeeds.
larder_status larder_store::reserve_host(const larder_store_put_item& item, const ObjectMeta& meta, ExtentSums& sums,
                                         uint32_t* out_slot) {
    if (!make_host_quota(tenant(meta.tenant), HostTier::rounded(item.n_bytes)))
        return fail(LARDER_E_QUOTA, "tenant", "the host quota of tenant %u is used up", meta.tenant);
    if (!make_host_room(item.n_bytes)) return fail(LARDER_E_NOSPACE, "host_bytes", "the host tier is full");
    HostExtent extent(context->alloc);
    LARDER_TRY(host_->alloc(item.n_bytes, extent));
    try {
        *out_slot = replace_object(item, meta, std::move(sums));
    } catch (...) {
        host_->free(extent);
        throw;
    }
    objects_[*out_slot].writing = true;
    attach_host(*out_slot, std::move(extent));
    return LARDER_OK;
}

// A new object in the state `writing`, with memory. LARDER_E_EXISTS when there is nothing to write.
larder_status larder_store::begin_write(const larder_store_put_item& item, const ObjectMeta& meta, uint32_t* out_slot) {
    if (item.n_bytes > host_->capacity_bytes())
        return fail(LARDER_E_NOSPACE, "n_bytes", "the object is larger than the host tier");
    ExtentSums sums(context->alloc, extent_count(item.n_bytes));
    for (;;) {
        larder_status status;
        {
            Lock lock(mutex_);
            const larder_status met = meet_existing(item.key, meta, item.flags);
            if (met != LARDER_OK) return met;
            status = reserve_host(item, meta, sums, out_slot);
        }
        if (status >= 0) return status;
        // Perhaps RAM is full of what the file has not got yet.
        const bool again = (status == LARDER_E_NOSPACE || status == LARDER_E_QUOTA) && file_ && write_back_one();
        if (!again) return status;
    }
}

// Under the table mutex: it is there.
void larder_store::end_write(uint32_t slot) noexcept {
    Object& o = objects_[slot];
    o.writing = false;
    tell_added(slot, LARDER_TIER_HOST);
    context->stats.add(Stat::store_put_bytes, o.n_bytes);
    queue_remote(slot);
    if (file_takes(o.keep_in_ram ? LARDER_PUT_NO_FILE : 0)) {
        set_dirty(slot, true);
        if (options_.write_policy == LARDER_WRITE_THROUGH) schedule_drain();
    }
    update_host_policy(slot);
}

larder_status larder_store::put_host(const larder_store_put_item& item, const ObjectMeta& meta) {
    uint32_t slot = no_slot;
    const larder_status begun = begin_write(item, meta, &slot);
    if (begun != LARDER_OK) return begun == LARDER_E_EXISTS ? LARDER_OK : begun;
    // Nobody else looks into it until `writing` ends.
    Object* mine;
    {
        Lock lock(mutex_);
        mine = &objects_[slot];
    }
    Object& o = *mine;
    const std::byte* from = static_cast<const std::byte*>(item.data);
    uint32_t extent = 0;
    uint64_t left_in_extent = extent_bytes;
    uint32_t sum = 0;
    host_->for_each(o.host, item.n_bytes, [&](std::byte* to, uint64_t n) {
        while (n) {
            const uint64_t step = std::min(n, left_in_extent);
            sum = crc32c_copy(sum, to, from, step);
            to += step, from += step, n -= step, left_in_extent -= step;
            o.sums.data()[extent] = sum;
            if (left_in_extent == 0) ++extent, sum = 0, left_in_extent = extent_bytes;
        }
    });
    Lock lock(mutex_);
    end_write(slot);
    return LARDER_OK;
}

// Straight into the log. The append mutex is held throughout, so that nobody else puts the same key this way.
larder_status larder_store::put_file(const larder_store_put_item& item, const ObjectMeta& meta) {
    AppendLock append = file_->lock();
    {
        Lock lock(mutex_);
        const larder_status met = meet_existing(item.key, meta, item.flags);
        if (met == LARDER_E_EXISTS) return LARDER_OK;
        if (met != LARDER_OK) return met;
        if (!make_file_quota(tenant(meta.tenant), item.n_bytes))
            return fail(LARDER_E_QUOTA, "tenant", "the file quota of tenant %u is used up", meta.tenant);
    }
    format::Record r{.key = item.key, .meta = meta, .n_bytes = uint32_t(item.n_bytes)};
    ExtentSums sums;
    larder_status status = make_file_room(append, r);
    if (status >= 0) {
        const ByteSpan data(static_cast<const std::byte*>(item.data), item.n_bytes);
        const Result<RecordPlace> placed = file_->append(r, nullptr, {&data, 1}, &sums);
        status = placed.status();
        if (placed.ok()) {
            Lock lock(mutex_);
            // Somebody may have put it into RAM meanwhile; then the record is of no use.
            status = meet_existing(item.key, meta, item.flags);
            if (status == LARDER_OK) {
                const uint32_t slot = replace_object(item, meta, std::move(sums));
                attach_file(slot, *placed);
                tell_added(slot, LARDER_TIER_FILE);
                queue_remote(slot);
                put_bytes_ += item.n_bytes;
                context->stats.add(Stat::store_put_bytes, item.n_bytes);
            } else if (status == LARDER_E_EXISTS) {
                status = LARDER_OK;
            }
        }
    }
    const larder_error_info why = last_error();
    drop_failed_segments(append);
    if (status < 0) set_last_error(why);
    return status;
}
