// The verbs around put and get: looking, pinning, removing, checking.
#include <algorithm>
#include <cstdio>

#include "base/options.h"
#include "store/store.h"

using namespace larder;

namespace {

larder_object_meta public_meta(const ObjectMeta& m) noexcept {
    larder_object_meta out = LARDER_OBJECT_META_INIT;
    out.tenant = m.tenant;
    out.layout = m.layout;
    out.parent = m.parent;
    out.n_tokens = m.n_tokens;
    out.quality = m.quality;
    out.codec = m.codec;
    out.user_flags = m.user_flags;
    return out;
}

larder_object_info describe(const Object& o) noexcept {
    larder_object_info info = LARDER_OBJECT_INFO_INIT;
    info.status = o.writing ? LARDER_PENDING : LARDER_OK;
    info.tiers = o.writing ? 0 : o.residency();
    info.coming = (o.writing ? LARDER_TIER_HOST : 0) | (o.dirty || o.writing_back ? LARDER_TIER_FILE : 0);
    info.n_pins = o.n_pins;
    info.n_leases = o.n_leases;
    info.n_bytes = o.n_bytes;
    info.key = o.key;
    info.meta = public_meta(o.meta);
    return info;
}

const char* absence_text(larder_absence why) noexcept {
    switch (why) {
    case LARDER_ABSENT_NOT:
        return "it is there";
    case LARDER_ABSENT_EVICTED:
        return "evicted: the tier needed the room";
    case LARDER_ABSENT_REMOVED:
        return "removed by larder_store_evict()";
    case LARDER_ABSENT_DROPPED:
        return "removed with its tenant or kind";
    case LARDER_ABSENT_QUOTA:
        return "its tenant's quota was used up";
    case LARDER_ABSENT_CORRUPT:
        return "its checksum or identity did not hold when it was read";
    case LARDER_ABSENT_REJECTED:
        return "there was no room when it was put";
    case LARDER_ABSENT_IO:
        return "the file tier failed to write or read it";
    case LARDER_ABSENT_REPLACED:
        return "replaced by an object of finer quality, which then went as well";
    case LARDER_ABSENT_ABORTED:
        return "reserved, and not committed";
    case LARDER_ABSENT_MOVED:
        return "moved to another tier, and gone from there as well";
    default:
        return "never put since the store was opened, as far as is remembered";
    }
}

}  // namespace

larder_object_info larder_store::lookup(const larder_key& key, const larder_object_want* want) {
    Lock lock(mutex_);
    const uint32_t slot = slot_of(key);
    larder_object_info info = LARDER_OBJECT_INFO_INIT;
    info.key = key;
    info.status = LARDER_MISS;
    if (slot == no_slot) return info;
    const Object& o = objects_[slot];
    info = describe(o);
    if (!want) return info;
    const larder_status met = check_want(o, want);
    if (met != LARDER_OK) info.status = met;
    return info;
}

larder_status larder_store::scan(larder_store_scan_fn fn, void* ctx) {
    // In turns, so that the callback runs without the mutex.
    constexpr size_t turn = 256;
    Vec<larder_object_info> infos(context->alloc);
    infos.reserve(turn);
    for (uint32_t slot = 0;;) {
        infos.clear();
        {
            Lock lock(mutex_);
            for (; slot < objects_.n_slots() && infos.size() < turn; ++slot) {
                const Object& o = objects_[slot];
                if (o.live && !o.zombie) infos.push_back(describe(o));
            }
        }
        if (infos.empty()) return LARDER_OK;
        for (const larder_object_info& info : infos)
            if (fn(ctx, &info)) return LARDER_PARTIAL;
    }
}

larder_status larder_store::evict(const larder_key& key, uint32_t tiers) {
    const bool from_file = tiers & LARDER_TIER_FILE && file_, from_host = tiers & LARDER_TIER_HOST;
    const bool from_remote = tiers & LARDER_TIER_REMOTE && remote_;
    // No write-back of the object may be under way while its removal is recorded.
    AppendLock append = from_file ? file_->lock() : AppendLock();
    Lock lock(mutex_);
    const uint32_t slot = objects_.slot_of(key);
    uint32_t tenant_id = 0;
    bool found = false;
    if (slot != no_slot) {
        Object& o = objects_[slot];
        const bool host = from_host && o.in_host(), file = from_file && o.in_file();
        if (o.writing || o.n_pins) return fail(LARDER_E_BUSY, "keys", "the object is pinned or being put");
        if (host && (o.n_host_readers || (o.dirty && !from_file)))
            return fail(LARDER_E_BUSY, "keys", "the object is being read, or not yet written");
        found = host || file;
        if (from_remote) o.keep_local = true;
        tenant_id = o.meta.tenant;
        // Without its RAM copy being asked for, the object must not find its way into the file again.
        if (from_file) o.keep_in_ram = true, set_dirty(slot, false), update_host_policy(slot);
        if (file) leave(slot, LARDER_TIER_FILE, LARDER_ABSENT_REMOVED);
        if (host) leave(slot, LARDER_TIER_HOST, LARDER_ABSENT_REMOVED);
    }
    lock.unlock();
    // Recorded also when nothing was found: an evicted record stays in the file until its segment is written anew.
    if (from_file) LARDER_TRY(append_removal(append, format::RecordKind::key_removal, key, tenant_id));
    if (from_remote) {
        append = AppendLock();
        const larder_status status = remote_->tier->remove(key, remote_->tier->options().get_timeout_ns);
        if (status < 0) return status;
        found |= status == LARDER_OK;
    }
    return found ? LARDER_OK : LARDER_MISS;
}

larder_status larder_store::pin(const larder_key& key) {
    Lock lock(mutex_);
    const uint32_t slot = objects_.slot_of(key);
    if (slot == no_slot) return LARDER_MISS;
    if (objects_[slot].writing) return LARDER_RETRY;
    return pin_slot(slot);
}

larder_status larder_store::unpin(const larder_key& key) {
    Lock lock(mutex_);
    const uint32_t slot = objects_.slot_of(key);
    if (slot == no_slot) return LARDER_MISS;
    Object& o = objects_[slot];
    if (o.n_pins == 0) return fail(LARDER_E_STATE, "keys", "the object is not pinned");
    if (--o.n_pins) return LARDER_OK;
    count_pinned(false);
    if (o.in_file()) books_[o.place.segment].pinned_bytes -= o.record_bytes();
    update_host_policy(slot);
    return LARDER_OK;
}

larder_status larder_store::drop_tenant(uint32_t tenant_id, uint64_t* out_n) {
    AppendLock append = file_ ? file_->lock() : AppendLock();
    uint64_t n = 0;
    bool busy = false;
    {
        Lock lock(mutex_);
        const auto t = tenants_.find(tenant_id);
        if (t == tenants_.end()) return LARDER_OK;
        for (uint32_t slot = t->second.objects.front; slot != no_slot;) {
            const uint32_t next = objects_[slot].in_tenant.next;
            if (objects_[slot].writing) {
                busy = true;
            } else {
                const Object& o = objects_[slot];
                remove_object(slot, LARDER_ABSENT_DROPPED,
                              (o.in_host() ? LARDER_TIER_HOST : 0) | (o.in_file() ? LARDER_TIER_FILE : 0));
                ++n;
            }
            slot = next;
        }
    }
    if (out_n) *out_n = n;
    // Recorded also when nothing was found: records of an earlier life may still be in the file.
    if (file_) LARDER_TRY(append_removal(append, format::RecordKind::tenant_removal, larder_key{}, tenant_id));
    return busy ? fail(LARDER_E_BUSY, "tenant", "an object of the tenant is being put") : LARDER_OK;
}

larder_status larder_store::drop(const larder_object_filter& filter, uint64_t* out_n) {
    const auto matches = [&](const Object& o) {
        const bool any = !(filter.set_mask & LARDER_FILTER_TENANT) || o.meta.tenant == filter.tenant;
        const bool layout = !(filter.set_mask & LARDER_FILTER_LAYOUT) || o.meta.layout == filter.layout;
        return any && layout && (o.meta.user_flags & filter.flags_mask) == filter.flags_value;
    };
    AppendLock append = file_ ? file_->lock() : AppendLock();
    Vec<std::pair<larder_key, uint32_t>> in_file(context->alloc);  // and the tenant
    uint64_t n = 0;
    bool busy = false;
    {
        Lock lock(mutex_);
        in_file.reserve(n_file_objects_);
        for (uint32_t slot = 0; slot < objects_.n_slots(); ++slot) {
            const Object& o = objects_[slot];
            if (!o.live || o.zombie || !matches(o)) continue;
            busy = busy || o.writing;
            if (o.writing) continue;
            if (o.in_file()) in_file.emplace_back(o.key, o.meta.tenant);
            remove_object(slot, LARDER_ABSENT_DROPPED,
                          (o.in_host() ? LARDER_TIER_HOST : 0) | (o.in_file() ? LARDER_TIER_FILE : 0));
            ++n;
        }
    }
    if (out_n) *out_n = n;
    for (const auto& [key, tenant_id] : in_file)
        LARDER_TRY(append_removal(append, format::RecordKind::key_removal, key, tenant_id));
    return busy ? fail(LARDER_E_BUSY, "filter", "an object that is meant is being put") : LARDER_OK;
}

larder_status larder_store::set_quota(uint32_t tenant_id, uint64_t host_bytes, uint64_t file_bytes) {
    Lock lock(mutex_);
    Tenant& t = tenant(tenant_id);
    t.host_quota = host_bytes;
    t.file_quota = file_bytes;
    return LARDER_OK;
}

larder_store_explanation larder_store::explain(const larder_key& key) {
    larder_store_explanation e = LARDER_STORE_EXPLANATION_INIT;
    Lock lock(mutex_);
    e.why = LARDER_ABSENT_NEVER;
    if (objects_.find(key)) {
        e.why = LARDER_ABSENT_NOT;
    } else if (const Departures::Entry* d = departures_.find(key)) {
        e.why = d->why;
        e.tier = d->tier;
        e.age_ns = context->os.now_ns() - d->when_ns;
    }
    std::snprintf(e.text, sizeof e.text, "%s", absence_text(e.why));
    return e;
}

// --- scrub: every object of both tiers, read and held against its sums
// --------------------------------------------------------

// False: the bytes in RAM have changed, and the object is gone.
bool larder_store::verify_host(const larder_key& key, bool* out_there) {
    uint32_t slot;
    const Object* o;
    *out_there = false;
    {
        Lock lock(mutex_);
        slot = objects_.slot_of(key);
        if (slot == no_slot || !objects_[slot].in_host() || objects_[slot].writing) return true;
        o = &objects_[slot];
        ++objects_[slot].n_host_readers;
    }
    *out_there = true;
    const bool holds = copy_host(*o, 0, o->n_bytes, nullptr);
    Lock lock(mutex_);
    if (!holds) drop_bad_host(slot);
    end_host_read(slot);
    return holds;
}

larder_status larder_store::scrub(larder_store_report& report) {
    const Allocator& a = context->alloc;
    Vec<larder_key> keys(a);
    {
        Lock lock(mutex_);
        keys.reserve(objects_.size());
        for (uint32_t slot = 0; slot < objects_.n_slots(); ++slot)
            if (objects_[slot].live && !objects_[slot].zombie) keys.push_back(objects_[slot].key);
    }
    struct Count : FileReader::Sink {
        void done(size_t) override {}
    } sink;
    Vec<std::byte> scratch(a);
    for (const larder_key& key : keys) {
        bool in_host = false, holds = verify_host(key, &in_host);
        FileRead read;
        {
            Lock lock(mutex_);
            const uint32_t slot = objects_.slot_of(key);
            if (slot != no_slot && objects_[slot].in_file() && !objects_[slot].writing) {
                fill_file_read(slot, read);
                scratch.resize(read.n_bytes);
                file_->hold(read.segment, read.buffer != nullptr);
            }
        }
        if (read.segment != no_segment) {
            read.want_bytes = read.n_bytes;
            read.out = scratch.data();
            const larder_status ran = reader_->run({&read, 1}, sink);
            Lock lock(mutex_);
            if (ran >= 0 && read.status < 0) drop_bad_record(read);
            end_file_read(read.segment, read.buffer != nullptr);
            if (ran < 0) return ran;
            holds = holds && read.status >= 0;
        }
        if (!in_host && read.segment == no_segment) continue;
        if (holds) {
            ++report.n_records;
            report.n_bytes += scratch.size();
        } else {
            ++report.n_corrupt;
            ++report.n_repaired;
        }
    }
    return report.n_corrupt ? LARDER_PARTIAL : LARDER_OK;
}

// --- verify: the books against each other
// --------------------------------------------------------------------------------------

#define LARDER_BOOKS(cond, what)                                                                                       \
    do {                                                                                                               \
        if (!(cond)) return fail(LARDER_E_INTERNAL, "store", "the books do not agree: %s", what);                      \
    } while (0)

larder_status larder_store::verify() {
    AppendLock append = file_ ? file_->lock() : AppendLock();
    Lock lock(mutex_);
    LARDER_TRY(verify_host_books());
    return file_ ? verify_file_books() : LARDER_OK;
}

larder_status larder_store::verify_host_books() {
    uint64_t n = 0, n_host = 0, host = 0, dirty = 0, pinned = 0, n_leases = 0;
    HashMap<uint32_t, uint64_t> by_tenant(context->alloc);
    for (uint32_t slot = 0; slot < objects_.n_slots(); ++slot) {
        const Object& o = objects_[slot];
        if (!o.live) continue;
        n += !o.zombie;
        pinned += o.n_pins != 0;
        dirty += o.dirty ? o.n_bytes : 0;
        LARDER_BOOKS(o.zombie || objects_.slot_of(o.key) == slot, "an object is not found under its key");
        LARDER_BOOKS(o.zombie || o.in_host() || o.in_file() || o.writing, "an object is nowhere");
        LARDER_BOOKS(!o.dirty || o.in_host(), "an unwritten object is not in RAM");
        LARDER_BOOKS(o.n_leases <= o.n_host_readers, "more leases than readers");
        n_leases += o.n_leases;
        LARDER_BOOKS(!o.in_host_policy || (o.in_host() && !o.dirty && !o.n_pins && !o.n_leases),
                     "an object that must stay is up for eviction");
        if (!o.in_host()) continue;
        ++n_host;
        host += HostTier::rounded(o.n_bytes);
        by_tenant[o.meta.tenant] += HostTier::rounded(o.n_bytes);
    }
    LARDER_BOOKS(n == objects_.size(), "number of objects");
    LARDER_BOOKS(n_host == n_host_objects_, "number of objects in RAM");
    LARDER_BOOKS(dirty == dirty_bytes_, "unwritten bytes");
    LARDER_BOOKS(pinned == n_pinned_, "number of pinned objects");
    LARDER_BOOKS(n_leases + n_reserved_ == leases_.size(), "number of leases");
    LARDER_BOOKS(!host_ || host_->used_bytes() <= host_->capacity_bytes(), "RAM over its budget");
    LARDER_BOOKS(!host_ || host_->used_bytes() >= host, "bytes in RAM");
    for (auto& [id, t] : tenants_) LARDER_BOOKS(t.host_bytes == by_tenant[id], "a tenant's bytes in RAM");
    LARDER_BOOKS(!host_ || host_->consistent(), "pieces of RAM");
    return LARDER_OK;
}

larder_status larder_store::verify_file_books() {
    uint64_t n_file = 0;
    for (uint32_t i = 0; i < file_->n_segments(); ++i) {
        const FileTier::Segment& s = file_->segment(i);
        const SegmentBook& b = books_[i];
        uint64_t live = 0, pinned = 0, n = 0;
        for (uint32_t slot = b.objects.front; slot != no_slot; slot = objects_[slot].in_segment.next) {
            const Object& o = objects_[slot];
            LARDER_BOOKS(o.live && o.place.segment == i, "a segment lists an object that is elsewhere");
            LARDER_BOOKS(o.place.offset + o.record_bytes() <= s.tail, "a record reaches over the end of its segment");
            ++n;
            live += o.record_bytes();
            if (o.n_pins) pinned += o.record_bytes();
        }
        LARDER_BOOKS(n == b.n_objects && live == b.live_bytes && pinned == b.pinned_bytes, "counts of a segment");
        const bool in_use = s.state == FileTier::State::open || s.state == FileTier::State::sealing ||
                            s.state == FileTier::State::sealed;
        LARDER_BOOKS(n == 0 || in_use, "a segment that is not in use has objects");
        LARDER_BOOKS(b.n_objects == 0 || b.in_policy, "a segment with objects can never be evicted");
        n_file += n;
    }
    LARDER_BOOKS(n_file == n_file_objects_, "number of objects in the file");
    size_t n_removals = 0;
    for (const SegmentBook& b : books_) n_removals += b.n_removals;
    LARDER_BOOKS(n_removals == removals_.size(), "number of removals");
    return LARDER_OK;
}
