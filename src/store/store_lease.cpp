// Leases: memory of the host tier in other hands. Reservations are objects in the state `writing`; readers' leases are
// host readers that stay.
#include <algorithm>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/options.h"
#include "store/store.h"

using namespace larder;

larder_status larder_store::lease_owner(int32_t pid, ProcessRef& owner) const noexcept {
    owner = {};
    if (!host_) return fail(LARDER_E_STATE, "store", "the store has no host tier");
    if (!pid) return LARDER_OK;
    owner = context->os.process(pid);
    if (!context->os.alive(owner)) return fail(LARDER_E_NOT_FOUND, "owner_pid", "there is no process %d", pid);
    if (owner.pid == context->os.self().pid) owner = {};
    return LARDER_OK;
}

larder_store::Lease* larder_store::find_lease(larder_lease id, bool writes) noexcept {
    Lease* l = leases_.find(id);
    if (l && l->writes == writes && !l->busy) return l;
    fail(LARDER_E_STALE, "leases", "the lease has ended, is being committed, or is of another kind");
    return nullptr;
}

void larder_store::end_lease(larder_lease id) noexcept {
    const Lease l = *leases_.find(id);
    leases_.remove(id);
    if (l.writes) {
        --n_reserved_;
        context->stats.sub(Stat::store_reservations);
        return remove_object(l.slot, LARDER_ABSENT_ABORTED, 0);
    }
    context->stats.sub(Stat::store_leases);
    --objects_[l.slot].n_leases;
    update_host_policy(l.slot);
    end_host_read(l.slot);
}

// Of one object's, or of all, those whose owners are gone.
uint64_t larder_store::expire_leases(uint32_t slot) noexcept {
    uint64_t n = 0;
    leases_.for_each([&](uint64_t id, Lease& l) {
        if ((slot != no_slot && l.slot != slot) || l.busy || !l.owner.pid || context->os.alive(l.owner)) return;
        end_lease(id);
        ++n;
    });
    context->stats.add(Stat::store_leases_expired, n);
    return n;
}

// The slot under a key, of which a writer that is gone no longer is in the way.
uint32_t larder_store::slot_of(const larder_key& key) noexcept {
    const uint32_t slot = objects_.slot_of(key);
    if (slot == no_slot || !objects_[slot].foreign_writer || !expire_leases(slot)) return slot;
    return objects_.slot_of(key);
}

// --- writing
// ----------------------------------------------------------------------------------------------------------

larder_status larder_store::reserve(const larder_store_put_item& item, const ProcessRef& owner, larder_lease* out) {
    *out = 0;
    if (item.data) return fail(LARDER_E_INVALID, "data", "data of a reservation must be NULL");
    ObjectMeta meta;
    LARDER_TRY(check_put(item, meta));
    if (item.flags & LARDER_PUT_NO_HOST) return fail(LARDER_E_INVALID, "flags", "a reservation is of RAM");
    uint32_t slot = no_slot;
    larder_status status = begin_write(item, meta, &slot);
    if (status == LARDER_OK) {
        Lock lock(mutex_);
        try {
            *out = leases_.insert({.slot = slot, .writes = true, .owner = owner});
        } catch (...) {
            remove_object(slot, LARDER_ABSENT_ABORTED, 0);
            throw;
        }
        objects_[slot].foreign_writer = owner.pid != 0;
        ++n_reserved_;
        context->stats.add(Stat::store_reservations);
    } else if (is_error(status) && status != LARDER_E_EXISTS) {
        note_rejection(item.key, status);
    }
    if (file_takes(item.flags)) help_to_write();
    return status;
}

void larder_store::sum_payload(const Object& o, uint64_t n_bytes, ExtentSums& sums) const noexcept {
    uint32_t extent = 0, sum = 0;
    uint64_t left = extent_bytes;
    host_->for_each(o.host, n_bytes, [&](const std::byte* p, uint64_t n) {
        while (n) {
            const uint64_t step = std::min(n, left);
            sum = crc32c(sum, p, step);
            p += step, n -= step, left -= step;
            sums.data()[extent] = sum;
            if (left == 0) ++extent, sum = 0, left = extent_bytes;
        }
    });
}

// Nobody else looks into the memory of what is being written. Its list of pieces changes under the mutex alone.
void larder_store::prepare_commit(const larder_lease* leases, uint32_t n, const uint64_t* n_bytes,
                                  Vec<ExtentSums>& sums) {
    sums.reserve(n);
    for (uint32_t i = 0; i < n; ++i) {
        Object* o;
        {
            Lock lock(mutex_);
            o = &objects_[leases_.find(leases[i])->slot];
        }
        const uint64_t size = n_bytes ? n_bytes[i] : o->n_bytes;
        sums.emplace_back(context->alloc, extent_count(size));
        sum_payload(*o, size, sums.back());
        Lock lock(mutex_);
        o->host.reserve(o->host.size() + HostTier::n_orders);
    }
}

void larder_store::publish(uint32_t slot, uint64_t n_bytes, ExtentSums sums) noexcept {
    Object& o = objects_[slot];
    if (n_bytes != o.n_bytes) {
        const uint64_t back = HostTier::rounded(o.n_bytes) - HostTier::rounded(n_bytes);
        host_->shrink(o.host, n_bytes);
        tenants_.find(o.meta.tenant)->second.host_bytes -= back;
        context->stats.sub(Stat::store_host_bytes, back);
        o.n_bytes = uint32_t(n_bytes);
    }
    o.sums = std::move(sums);
    o.foreign_writer = false;
    end_write(slot);
}

larder_status larder_store::commit(const larder_lease* leases, uint32_t n, const uint64_t* n_bytes) {
    uint32_t taken = 0;
    larder_status status = LARDER_OK;
    {
        Lock lock(mutex_);
        for (; taken < n; ++taken) {
            Lease* l = find_lease(leases[taken], true);
            status = !l        ? LARDER_E_STALE
                     : n_bytes ? check_range(n_bytes[taken], 1, objects_[l->slot].n_bytes, "n_bytes")
                               : LARDER_OK;
            if (status < 0) break;
            l->busy = true;
        }
    }
    Vec<ExtentSums> sums(context->alloc);
    try {
        if (status >= 0) prepare_commit(leases, n, n_bytes, sums);
    } catch (const std::bad_alloc&) {
        status = fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    }
    Lock lock(mutex_);
    if (status < 0) {
        for (uint32_t i = 0; i < taken; ++i) leases_.find(leases[i])->busy = false;
        return status;
    }
    for (uint32_t i = 0; i < n; ++i) {
        const uint32_t slot = leases_.find(leases[i])->slot;
        leases_.remove(leases[i]);
        publish(slot, n_bytes ? n_bytes[i] : objects_[slot].n_bytes, std::move(sums[i]));
    }
    n_reserved_ -= n;
    context->stats.sub(Stat::store_reservations, n);
    context->stats.add(Stat::store_puts, n);
    return LARDER_OK;
}

larder_status larder_store::end_leases(const larder_lease* leases, uint32_t n, bool writes) noexcept {
    larder_status status = LARDER_OK;
    Lock lock(mutex_);
    for (uint32_t i = 0; i < n; ++i) {
        if (find_lease(leases[i], writes))
            end_lease(leases[i]);
        else
            status = LARDER_E_STALE;
    }
    return status;
}

// --- reading
// ----------------------------------------------------------------------------------------------------------

// Under the table mutex: OK with a lease, PENDING when the object must be read into RAM first, or why not.
larder_status larder_store::try_acquire(const larder_key& key, const larder_object_want& want, const ProcessRef& owner,
                                        larder_lease* out) {
    uint32_t slot;
    const larder_status found = find_readable(key, want, &slot);
    if (found != LARDER_OK) return found;
    Object& o = objects_[slot];
    if (!o.in_host()) return LARDER_PENDING;
    *out = leases_.insert({.slot = slot, .writes = false, .owner = owner});
    touch(slot);
    ++o.n_leases;
    ++o.n_host_readers;
    update_host_policy(slot);
    context->stats.add(Stat::store_leases);
    return LARDER_OK;
}

// The same, with whatever reading it takes. What was brought into RAM may be evicted again before it can be held.
larder_status larder_store::bring_and_acquire(const larder_key& key, const larder_object_want& want,
                                              const ProcessRef& owner, larder_lease* out, uint32_t* tier) {
    *tier = LARDER_TIER_HOST;
    for (int tries = 0;; ++tries) {
        larder_status status;
        {
            Lock lock(mutex_);
            if (recorder_ && !tries) recorder_->request(), record_get(key, want);
            status = try_acquire(key, want, owner, out);
        }
        if (status != LARDER_PENDING) return status;
        if (tries == 2) return fail(LARDER_E_NOSPACE, "host_bytes", "the host tier is too busy to hold the object");
        *tier = LARDER_TIER_FILE;
        prefetch_some(&key, 1, &status);
        if (status < 0) return status;
    }
}

larder_status larder_store::acquire(const larder_key& key, const larder_object_want& want, uint32_t flags,
                                    const ProcessRef& owner, larder_lease* out) {
    *out = 0;
    context->stats.add(Stat::store_gets);
    uint32_t tier;
    larder_status status;
    try {
        status = bring_and_acquire(key, want, owner, out, &tier);
    } catch (const std::bad_alloc&) {
        status = fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    }
    if (status == LARDER_MISS) context->stats.add(Stat::store_misses);
    if (status < 0 && status != LARDER_E_IDENTITY) context->stats.add(Stat::store_gets_failed);
    if (status != LARDER_OK) return status;
    return verify_lease(out, tier, !(flags & LARDER_ACQUIRE_UNVERIFIED));
}

larder_status larder_store::verify_lease(larder_lease* id, uint32_t tier, bool verify) noexcept {
    const Object* o;
    {
        Lock lock(mutex_);
        o = &objects_[leases_.find(*id)->slot];
    }
    const bool holds = !verify || copy_host(*o, 0, o->n_bytes, nullptr);
    count_read(tier, holds, o->n_bytes);
    if (holds) return LARDER_OK;
    Lock lock(mutex_);
    drop_bad_host(leases_.find(*id)->slot);
    end_lease(*id);
    *id = 0;
    return LARDER_MISS;
}

// Leases that end with a job.
struct larder_store::JobLeases {
    explicit JobLeases(larder_store& s) : store(s), leases(s.context->alloc) {}
    larder_store& store;
    Vec<larder_lease> leases;
    static void finished(void* ctx) noexcept {
        JobLeases* self = static_cast<JobLeases*>(ctx);
        larder_store& store = self->store;
        // One of them may have expired meanwhile.
        store.end_leases(self->leases.data(), uint32_t(self->leases.size()), false);
        store.context->alloc.destroy(self);
        store.finish_job();
    }
};

larder_status larder_store::release_after(const larder_lease* leases, uint32_t n, larder_queue& queue, larder_job job) {
    JobLeases* held = context->alloc.create<JobLeases>(*this);
    {
        Lock lock(mutex_);
        ++n_jobs_;
    }
    larder_status status;
    try {
        held->leases.assign(leases, leases + n);
        status = queue.follow(job, {JobLeases::finished, held});
    } catch (const std::bad_alloc&) {
        status = fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    }
    if (status == LARDER_PENDING) return LARDER_OK;
    context->alloc.destroy(held);
    finish_job();
    return status < 0 ? status : end_leases(leases, n, false);
}

larder_status larder_store::view(larder_lease lease, larder_piece* pieces, uint32_t capacity, uint32_t* out_n) {
    Lock lock(mutex_);
    const Lease* l = leases_.find(lease);
    if (!l || l->busy) return fail(LARDER_E_STALE, "lease", "the lease has ended or is being committed");
    const Object& o = objects_[l->slot];
    *out_n = uint32_t(o.host.size());
    if (capacity < *out_n) return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "the object is in %u pieces", *out_n);
    host_->for_each(o.host, o.n_bytes, [&](std::byte* p, uint64_t n) { *pieces++ = {p, n}; });
    return LARDER_OK;
}

uint64_t larder_store::expire() noexcept {
    Lock lock(mutex_);
    return expire_leases(no_slot);
}
