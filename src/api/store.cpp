#include "larder/store.h"

#include "api/guard.h"
#include "store/fsck.h"
#include "store/store.h"

using namespace larder;

namespace {

template <class T> const T* at(const T* items, uint32_t stride, uint32_t i) noexcept {
    return reinterpret_cast<const T*>(reinterpret_cast<const unsigned char*>(items) + size_t(stride) * i);
}
template <class T> T* at(T* items, uint32_t stride, uint32_t i) noexcept {
    return reinterpret_cast<T*>(reinterpret_cast<unsigned char*>(items) + size_t(stride) * i);
}

// Each item must fit into its stride.
template <class T> larder_status check_stride(const T* items, uint32_t stride, uint32_t n, const char* field) noexcept {
    LARDER_TRY(check_range(stride, 8, 65536, field));
    for (uint32_t i = 0; items && i < n; ++i) {
        const uint32_t size = at(items, stride, i)->struct_size;
        if (size > stride)
            return fail(LARDER_E_INVALID, field, "%s is %u, less than the struct_size %u of item %u", field, stride,
                        size, i);
    }
    return LARDER_OK;
}

// Each item by itself; OK when each was, otherwise PARTIAL.
template <class F> larder_status for_each_index(uint32_t n, larder_status* statuses, F f) {
    larder_status all = LARDER_OK;
    for (uint32_t i = 0; i < n; ++i) {
        const larder_status status = f(i);
        if (statuses) statuses[i] = status;
        if (status != LARDER_OK) all = LARDER_PARTIAL;
    }
    return all;
}
// What this item got stays known to the caller when memory runs out at the next.
template <class F> larder_status or_nomem(F f) noexcept {
    try {
        return f();
    } catch (const std::bad_alloc&) {
        return fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    }
}
template <class F> larder_status for_each_key(const larder_key* keys, uint32_t n, larder_status* statuses, F f) {
    return for_each_index(n, statuses, [&](uint32_t i) { return f(keys[i]); });
}

}  // namespace

larder_status larder_store_open(larder_context* context, const larder_store_options* options,
                                larder_store** out_store) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_store);
    *out_store = nullptr;
    larder_store_options o;
    LARDER_TRY(read_options(options, o, "larder_store_options"));
    return larder_store::open(*context, o, out_store);
    LARDER_API_END
}

void larder_store_close(larder_store* store) noexcept {
    if (store && check_handle(store, HandleType::store, "store") >= 0) store->context->drop_handle(store);
}

larder_status larder_store_put(larder_store* store, const larder_store_put_item* items, uint32_t stride, uint32_t n,
                               larder_status* statuses, larder_queue* queue, uint64_t user_data,
                               larder_job* out_job) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    LARDER_TRY(check_stride(items, stride, n, "stride"));
    LARDER_TRY(check_range(n, 1, UINT32_MAX, "n"));
    LARDER_API_NONNULL(items);
    if (queue) {
        LARDER_API_HANDLE_OF(store->context, queue, queue);
        return store->put_async(items, stride, n, statuses, *queue, user_data, out_job);
    }
    larder_status all = LARDER_OK;
    for (uint32_t i = 0; i < n; ++i) {
        larder_store_put_item item;
        larder_status status = read_options(at(items, stride, i), item, "larder_store_put_item");
        if (status >= 0) status = store->put(item);
        if (statuses) statuses[i] = status;
        if (status < 0) all = LARDER_PARTIAL;
    }
    return all;
    LARDER_API_END
}

larder_status larder_store_get(larder_store* store, const larder_store_get_item* items, uint32_t stride, uint32_t n,
                               larder_store_get_result* results, larder_queue* queue, uint64_t user_data,
                               larder_job* out_job) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    LARDER_TRY(check_stride(items, stride, n, "stride"));
    LARDER_TRY(check_range(n, 1, UINT32_MAX, "n"));
    LARDER_API_NONNULL(items);
    LARDER_API_NONNULL(results);
    if (queue) {
        LARDER_API_HANDLE_OF(store->context, queue, queue);
        return store->get_async(items, stride, n, results, *queue, user_data, out_job);
    }
    Vec<larder_store_get_item> read(n, larder_store_get_item{}, store->context->alloc);
    for (uint32_t i = 0; i < n; ++i) LARDER_TRY(read_options(at(items, stride, i), read[i], "larder_store_get_item"));
    store->get(read, results);
    return LARDER_OK;
    LARDER_API_END
}

larder_status larder_store_lookup(larder_store* store, const larder_key* keys, uint32_t n,
                                  const larder_object_want* want, larder_object_info* infos,
                                  uint32_t info_stride) noexcept {
    LARDER_API_HANDLE(store, store);
    if (n == 0) return LARDER_OK;
    LARDER_API_NONNULL(keys);
    LARDER_API_NONNULL(infos);
    LARDER_TRY(check_stride(infos, info_stride, n, "info_stride"));
    larder_object_want w;
    if (want) LARDER_TRY(larder_store::read_want(want, w));
    for (uint32_t i = 0; i < n; ++i)
        LARDER_TRY(
            write_struct(at(infos, info_stride, i), store->lookup(keys[i], want ? &w : nullptr), "larder_object_info"));
    return LARDER_OK;
}

larder_status larder_store_reserve(larder_store* store, const larder_store_put_item* items, uint32_t stride, uint32_t n,
                                   int32_t owner_pid, larder_lease* leases, larder_status* statuses) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    LARDER_TRY(check_stride(items, stride, n, "stride"));
    if (n) {
        LARDER_API_NONNULL(items);
        LARDER_API_NONNULL(leases);
    }
    ProcessRef owner;
    LARDER_TRY(store->lease_owner(owner_pid, owner));
    return for_each_index(n, statuses, [&](uint32_t i) {
        larder_store_put_item item;
        leases[i] = 0;
        LARDER_TRY(read_options(at(items, stride, i), item, "larder_store_put_item"));
        return or_nomem([&] { return store->reserve(item, owner, &leases[i]); });
    });
    LARDER_API_END
}

larder_status larder_store_commit(larder_store* store, const larder_lease* leases, uint32_t n,
                                  const uint64_t* n_bytes) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    if (n) LARDER_API_NONNULL(leases);
    return store->commit(leases, n, n_bytes);
    LARDER_API_END
}

larder_status larder_store_abort(larder_store* store, const larder_lease* leases, uint32_t n) noexcept {
    LARDER_API_HANDLE(store, store);
    if (n) LARDER_API_NONNULL(leases);
    return store->end_leases(leases, n, true);
}

larder_status larder_store_acquire(larder_store* store, const larder_key* keys, uint32_t n,
                                   const larder_object_want* want, uint32_t flags, int32_t owner_pid,
                                   larder_lease* leases, larder_status* statuses) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    LARDER_API_NONNULL(want);
    if (n) {
        LARDER_API_NONNULL(keys);
        LARDER_API_NONNULL(leases);
    }
    if (flags & ~LARDER_ACQUIRE_UNVERIFIED) return fail(LARDER_E_INVALID, "flags", "flags has bits that mean nothing");
    larder_object_want w;
    LARDER_TRY(larder_store::read_want(want, w));
    ProcessRef owner;
    LARDER_TRY(store->lease_owner(owner_pid, owner));
    return for_each_index(n, statuses,
                          [&](uint32_t i) { return store->acquire(keys[i], w, flags, owner, &leases[i]); });
    LARDER_API_END
}

larder_status larder_store_release(larder_store* store, const larder_lease* leases, uint32_t n, larder_queue* queue,
                                   larder_job job) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    if (n) LARDER_API_NONNULL(leases);
    if (!queue) return store->end_leases(leases, n, false);
    LARDER_API_HANDLE_OF(store->context, queue, queue);
    return store->release_after(leases, n, *queue, job);
    LARDER_API_END
}

larder_status larder_store_view(larder_store* store, larder_lease lease, larder_piece* pieces, uint32_t capacity,
                                uint32_t* out_n) noexcept {
    LARDER_API_HANDLE(store, store);
    if (capacity) LARDER_API_NONNULL(pieces);
    LARDER_API_NONNULL(out_n);
    return store->view(lease, pieces, capacity, out_n);
}

larder_status larder_store_expire(larder_store* store, uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(store, store);
    const uint64_t n = store->expire();
    if (out_n) *out_n = n;
    return LARDER_OK;
}

larder_status larder_store_scan(larder_store* store, larder_store_scan_fn fn, void* ctx) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    LARDER_API_NONNULL(fn);
    return store->scan(fn, ctx);
    LARDER_API_END
}

larder_status larder_store_events_read(larder_store* store, uint64_t* cursor, larder_event* out, uint32_t stride,
                                       uint64_t n, uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(store, store);
    LARDER_API_NONNULL(cursor);
    LARDER_API_NONNULL(out_n);
    if (n) LARDER_API_NONNULL(out);
    LARDER_TRY(check_event_stride(stride));
    return store->read_events(*cursor, out, stride, n, *out_n);
}

larder_status larder_store_events_snapshot(larder_store* store, uint64_t* position, uint64_t* cursor, larder_event* out,
                                           uint32_t stride, uint64_t n, uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(store, store);
    LARDER_API_NONNULL(position);
    LARDER_API_NONNULL(cursor);
    LARDER_API_NONNULL(out);
    LARDER_API_NONNULL(out_n);
    LARDER_TRY(check_range(n, 1, UINT64_MAX, "n"));
    LARDER_TRY(check_event_stride(stride));
    return store->snapshot(*position, *cursor, out, stride, n, *out_n);
}

larder_status larder_store_move(larder_store* store, const larder_key* keys, uint32_t n, uint32_t to_tier,
                                uint32_t flags, larder_status* statuses, larder_queue* queue, uint64_t user_data,
                                larder_job* out_job) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    LARDER_TRY(check_range(n, 1, UINT32_MAX, "n"));
    LARDER_API_NONNULL(keys);
    LARDER_TRY(store->check_move(to_tier, flags));
    if (!queue)
        return for_each_key(keys, n, statuses, [&](const larder_key& k) {
            return or_nomem([&] { return store->move(k, to_tier, flags); });
        });
    LARDER_API_NONNULL(statuses);
    LARDER_API_HANDLE_OF(store->context, queue, queue);
    return store->move_async(keys, n, to_tier, flags, statuses, *queue, user_data, out_job);
    LARDER_API_END
}

larder_status larder_store_offload(larder_store* store, const larder_key* keys, uint32_t n, larder_status* statuses,
                                   larder_queue* queue, uint64_t user_data, larder_job* out_job) noexcept {
    return larder_store_move(store, keys, n, LARDER_TIER_FILE, 0, statuses, queue, user_data, out_job);
}

larder_status larder_store_onboard(larder_store* store, const larder_key* keys, uint32_t n, larder_status* statuses,
                                   larder_queue* queue, uint64_t user_data, larder_job* out_job) noexcept {
    return larder_store_move(store, keys, n, LARDER_TIER_HOST, LARDER_MOVE_KEEP, statuses, queue, user_data, out_job);
}

larder_status larder_store_evict(larder_store* store, const larder_key* keys, uint32_t n, uint32_t tiers,
                                 larder_status* statuses) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    if (n) LARDER_API_NONNULL(keys);
    LARDER_TRY(tiers && !(tiers & ~(LARDER_TIER_HOST | LARDER_TIER_FILE | LARDER_TIER_REMOTE))
                   ? LARDER_OK
                   : fail(LARDER_E_RANGE, "tiers", "tiers is %#x; it must be a mask of LARDER_TIER_*", tiers));
    return for_each_key(keys, n, statuses, [&](const larder_key& k) { return store->evict(k, tiers); });
    LARDER_API_END
}

larder_status larder_store_pin(larder_store* store, const larder_key* keys, uint32_t n,
                               larder_status* statuses) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    if (n) LARDER_API_NONNULL(keys);
    return for_each_key(keys, n, statuses, [&](const larder_key& k) { return store->pin(k); });
    LARDER_API_END
}

larder_status larder_store_unpin(larder_store* store, const larder_key* keys, uint32_t n,
                                 larder_status* statuses) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    if (n) LARDER_API_NONNULL(keys);
    return for_each_key(keys, n, statuses, [&](const larder_key& k) { return store->unpin(k); });
    LARDER_API_END
}

larder_status larder_store_hint(larder_store* store, const larder_key* keys, uint32_t n, uint64_t request,
                                larder_outcome* outcomes) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    if (n) LARDER_API_NONNULL(keys);
    return store->hint(keys, n, request, outcomes);
    LARDER_API_END
}

larder_status larder_store_hint_served(larder_store* store, uint64_t request) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    return store->hint_served(request);
    LARDER_API_END
}

larder_status larder_store_protect(larder_store* store, const larder_key* keys, uint32_t n, uint32_t priority,
                                   uint64_t ttl_ns, larder_outcome* outcomes) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    if (n) LARDER_API_NONNULL(keys);
    LARDER_TRY(check_range(priority, 0, 100, "priority"));
    return store->protect(keys, n, uint8_t(priority), ttl_ns, outcomes);
    LARDER_API_END
}

larder_status larder_store_drop_tenant(larder_store* store, uint32_t tenant, uint64_t* out_n) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    if (out_n) *out_n = 0;
    return store->drop_tenant(tenant, out_n);
    LARDER_API_END
}

larder_status larder_store_drop(larder_store* store, const larder_object_filter* filter, uint64_t* out_n) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    LARDER_API_NONNULL(filter);
    if (out_n) *out_n = 0;
    larder_object_filter f;
    LARDER_TRY(read_options(filter, f, "larder_object_filter"));
    LARDER_TRY(check_reserved(f.reserved0, "reserved0"));
    if (f.set_mask & ~(LARDER_FILTER_TENANT | LARDER_FILTER_LAYOUT))
        return fail(LARDER_E_INVALID, "set_mask", "set_mask has bits that mean nothing");
    if (!f.set_mask && !f.flags_mask) return fail(LARDER_E_INVALID, "set_mask", "the filter means everything");
    if (f.flags_value & ~f.flags_mask)
        return fail(LARDER_E_INVALID, "flags_value", "flags_value has bits outside of flags_mask");
    return store->drop(f, out_n);
    LARDER_API_END
}

larder_status larder_store_prefetch(larder_store* store, const larder_key* keys, uint32_t n, uint64_t deadline_ns,
                                    larder_status* statuses, larder_queue* queue, uint64_t user_data,
                                    larder_job* out_job) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    LARDER_TRY(check_range(n, 1, UINT32_MAX, "n"));
    LARDER_API_NONNULL(keys);
    LARDER_API_NONNULL(statuses);
    LARDER_API_HANDLE_OF(store->context, queue, queue);
    return store->prefetch_async(keys, n, deadline_ns, statuses, *queue, user_data, out_job);
    LARDER_API_END
}

larder_status larder_store_plan(larder_store* store, const larder_key* keys, const uint64_t* prefill_ns, uint32_t n,
                                const larder_object_want* want, uint64_t deadline_ns, larder_load_step* steps,
                                larder_load_plan* out) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    LARDER_API_NONNULL(want);
    if (n) {
        LARDER_API_NONNULL(keys);
        LARDER_API_NONNULL(prefill_ns);
        LARDER_API_NONNULL(steps);
    }
    larder_object_want w;
    LARDER_TRY(larder_store::read_want(want, w));
    larder_load_plan plan = LARDER_LOAD_PLAN_INIT;
    LARDER_TRY(store->plan(keys, prefill_ns, n, &w, steps, plan));
    LARDER_TRY(write_struct(out, plan, "larder_load_plan"));
    return deadline_ns && plan.total_ns > deadline_ns ? LARDER_PARTIAL : LARDER_OK;
    LARDER_API_END
}

larder_status larder_store_set_quota(larder_store* store, uint32_t tenant, uint64_t host_bytes,
                                     uint64_t file_bytes) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    return store->set_quota(tenant, host_bytes, file_bytes);
    LARDER_API_END
}

larder_status larder_store_flush(larder_store* store, larder_queue* queue, uint64_t user_data,
                                 larder_job* out_job) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    if (!queue) return store->flush();
    LARDER_API_HANDLE_OF(store->context, queue, queue);
    return store->flush_async(*queue, user_data, out_job);
    LARDER_API_END
}

larder_status larder_store_scrub(larder_store* store, larder_store_report* out_report) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    LARDER_API_NONNULL(out_report);
    larder_store_report report = LARDER_STORE_REPORT_INIT;
    const larder_status status = store->scrub(report);
    LARDER_TRY(status);
    LARDER_TRY(write_struct(out_report, report, "larder_store_report"));
    return status;
    LARDER_API_END
}

larder_status larder_store_verify(larder_store* store) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    return store->verify();
    LARDER_API_END
}

larder_status larder_store_explain(larder_store* store, const larder_key* key, larder_store_explanation* out) noexcept {
    LARDER_API_HANDLE(store, store);
    LARDER_API_NONNULL(key);
    return write_struct(out, store->explain(*key), "larder_store_explanation");
}

larder_status larder_store_info_get(larder_store* store, larder_store_info* out) noexcept {
    LARDER_API_HANDLE(store, store);
    return write_struct(out, store->info(), "larder_store_info");
}

larder_status larder_store_check(larder_context* context, const char* directory, uint32_t check_flags,
                                 larder_store_record_fn fn, void* ctx, larder_store_report* out_report) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(directory);
    LARDER_API_NONNULL(out_report);
    if (check_flags & ~LARDER_CHECK_REPAIR)
        return fail(LARDER_E_INVALID, "check_flags", "check_flags has bits that mean nothing");
    larder_store_report report = LARDER_STORE_REPORT_INIT;
    const larder_status status = check_store(*context, directory, check_flags & LARDER_CHECK_REPAIR, {fn, ctx}, report);
    LARDER_TRY(write_struct(out_report, report, "larder_store_report"));
    return status;
    LARDER_API_END
}
