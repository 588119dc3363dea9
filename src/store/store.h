// The store: objects under content keys over a host tier and a file tier.
//
// One mutex guards the bookkeeping (object table, policies, segment table); payloads are copied and files are read and written outside of it,
// while readers hold counts on what they use. Appends to the file are ordered by the file tier's own mutex, which is taken first.
#pragma once

#include <condition_variable>
#include <mutex>
#include <span>

#include "core/context.h"
#include "core/job.h"
#include "larder/store.h"

struct larder_store final : larder::Handle {
    // `o` was read and checked for its size; defaults are filled in here.
    static larder_status open(larder_context& c, const larder_store_options& o, larder_store** out);
    larder_store(larder_context& c, const larder_store_options& o);
    ~larder_store();
    larder_store(const larder_store&) = delete;

    // --- verbs, each as its namesake in larder/store.h; they do their work on the calling thread -----------------------------
    larder_status put(const larder_store_put_item& item);
    // progress (may be empty) is told how many items at the front of the array are done, and may stop the rest by returning false.
    struct Progress {
        bool (*fn)(void* ctx, size_t n_done, uint64_t n_bytes);
        void* ctx;
    };
    void get(std::span<const larder_store_get_item> items, larder_store_get_result* results, Progress progress = {nullptr, nullptr});
    larder_object_info lookup(const larder_key& key, const larder_object_want* want);
    larder_status scan(larder_store_scan_fn fn, void* ctx);
    larder_status evict(const larder_key& key, uint32_t tiers);
    larder_status pin(const larder_key& key);
    larder_status unpin(const larder_key& key);
    larder_status drop_tenant(uint32_t tenant, uint64_t* out_n);
    larder_status set_quota(uint32_t tenant, uint64_t host_bytes, uint64_t file_bytes);
    larder_status flush();
    larder_status scrub(larder_store_report& report);
    larder_status verify();
    larder_store_explanation explain(const larder_key& key);
    larder_store_info info();

    // --- the same as jobs -------------------------------------------------------------------------------------------------
    larder_status put_async(const larder_store_put_item* items, uint32_t stride, uint32_t n, larder_status* statuses, larder_queue& queue,
                            uint64_t user_data, larder_job* out_job);
    larder_status get_async(const larder_store_get_item* items, uint32_t stride, uint32_t n, larder_store_get_result* results,
                            larder_queue& queue, uint64_t user_data, larder_job* out_job);
    larder_status flush_async(larder_queue& queue, uint64_t user_data, larder_job* out_job);
};
