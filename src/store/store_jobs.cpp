// The verbs as jobs: one task each, run by a worker or by whoever waits.
#include <algorithm>

#include "base/options.h"
#include "store/store.h"

using namespace larder;

struct larder_store::Job : Task {
    enum class Kind { put, get, flush, prefetch, move };
    Job(larder_store& s, Kind k) noexcept : store(s), kind(k) {}
    larder_store& store;
    const Kind kind;
    larder_queue* queue = nullptr;
    larder_job id = 0;
    const std::byte* items = nullptr;
    uint32_t stride = 0, n = 0;
    larder_status* statuses = nullptr;
    larder_store_get_result* results = nullptr;
    const larder_key* keys = nullptr;
    uint64_t deadline_ns = 0;  // of a prefetch, absolute; 0: none
    uint32_t n_done = 0;
    uint32_t to_tier = 0, move_flags = 0;

    bool held_back() const noexcept;
    larder_status work();
    larder_status work_put();
    larder_status work_get();
    larder_status work_prefetch();
    larder_status work_move();
    static void run_task(Task* t) noexcept;
    static bool progress(void* ctx, size_t n_done, uint64_t n_bytes);
};

larder_status larder_store::Job::work_put() {
    for (uint32_t i = 0; i < n; ++i) {
        larder_store_put_item item;
        larder_status status = LARDER_E_CANCELLED;
        if (!queue->cancelled(id)) {
            status = read_options(reinterpret_cast<const larder_store_put_item*>(items + size_t(i) * stride), item,
                                  "larder_store_put_item");
            if (status >= 0) status = store.put(item);
            if (status >= 0) queue->add_bytes(id, item.n_bytes);
        } else {
            fail(status, "", "cancelled");
        }
        if (statuses) statuses[i] = status;
        if (status < 0) queue->item_failed(id, i, status);
    }
    return queue->cancelled(id) ? LARDER_E_CANCELLED : LARDER_OK;
}

bool larder_store::Job::progress(void* ctx, size_t n_done, uint64_t n_bytes) {
    const Job& job = *static_cast<const Job*>(ctx);
    if (n_bytes) job.queue->add_bytes(job.id, n_bytes);
    job.queue->layers_done(job.id, uint32_t(n_done));
    return !job.queue->cancelled(job.id);
}

larder_status larder_store::Job::work_get() {
    constexpr size_t turn = 256;
    Vec<larder_store_get_item> copy(store.context->alloc);
    copy.reserve(std::min<size_t>(turn, n));
    struct Shifted {
        const Job* job;
        size_t base;
        static bool fn(void* ctx, size_t n_done, uint64_t n_bytes) {
            const Shifted& s = *static_cast<const Shifted*>(ctx);
            return Job::progress(const_cast<Job*>(s.job), s.base + n_done, n_bytes);
        }
    } shifted{this, 0};
    for (uint32_t base = 0; base < n; base += turn) {
        copy.clear();
        for (uint32_t i = base; i < n && i < base + turn; ++i) {
            larder_store_get_item item;
            const auto* from = reinterpret_cast<const larder_store_get_item*>(items + size_t(i) * stride);
            // A struct that cannot be read asks for nothing, and is answered so.
            if (read_options(from, item, "larder_store_get_item") < 0) item.want = nullptr;
            copy.push_back(item);
        }
        if (queue->cancelled(id)) {
            for (uint32_t i = base; i < n; ++i) results[i] = {LARDER_E_CANCELLED, 0, 0};
            return fail(LARDER_E_CANCELLED, "", "cancelled");
        }
        shifted.base = base;
        store.get(copy, results + base, {Shifted::fn, &shifted});
        for (uint32_t i = base; i < n && i < base + turn; ++i)
            if (results[i].status < 0) queue->item_failed(id, i, results[i].status);
    }
    return LARDER_OK;
}

// One turn; PENDING when there is more.
larder_status larder_store::Job::work_prefetch() {
    larder_status stop = LARDER_OK;
    if (queue->cancelled(id) || store.context->scheduler.stopping()) stop = fail(LARDER_E_CANCELLED, "", "cancelled");
    if (deadline_ns && store.context->os.now_ns() >= deadline_ns)
        stop = fail(LARDER_E_TIMEOUT, "deadline_ns", "the time for prefetching is over");
    const uint32_t from = n_done;
    if (stop < 0) {
        std::fill(statuses + from, statuses + n, stop);
        n_done = n;
    } else {
        try {
            n_done += store.prefetch_some(keys + from, n - from, statuses + from);
        } catch (const std::bad_alloc&) {
            std::fill(statuses + from, statuses + n, LARDER_E_NOMEM);
            n_done = n;
        }
    }
    for (uint32_t i = from; i < n_done; ++i)
        if (statuses[i] < 0) queue->item_failed(id, i, statuses[i]);
    queue->layers_done(id, n_done);
    if (n_done < n) return LARDER_PENDING;
    return stop == LARDER_E_CANCELLED ? stop : LARDER_OK;
}

// One object a turn; PENDING when there is more.
larder_status larder_store::Job::work_move() {
    const bool stop = queue->cancelled(id);
    do {
        larder_status status = LARDER_E_CANCELLED;
        if (stop) {
            fail(status, "", "cancelled");
        } else {
            try {
                status = store.move(keys[n_done], to_tier, move_flags);
            } catch (const std::bad_alloc&) {
                status = fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
            }
        }
        statuses[n_done] = status;
        if (status < 0) queue->item_failed(id, n_done, status);
        queue->layers_done(id, ++n_done);
    } while (stop && n_done < n);
    if (n_done < n) return LARDER_PENDING;
    return stop ? LARDER_E_CANCELLED : LARDER_OK;
}

// True when the bandwidth of prefetching is used up: it was waited a little, and others may have their turn.
bool larder_store::Job::held_back() const noexcept {
    constexpr uint64_t slice_ns = 200000;
    const bool brings = kind == Kind::prefetch || (kind == Kind::move && to_tier == LARDER_TIER_HOST);
    const uint64_t wait_ns = brings ? store.prefetch_wait_ns() : 0;
    if (!wait_ns || queue->cancelled(id)) return false;
    store.context->os.sleep_ns(std::min(wait_ns, slice_ns));
    return wait_ns > slice_ns && !(deadline_ns && store.context->os.now_ns() >= deadline_ns);
}

larder_status larder_store::Job::work() {
    if (held_back()) return LARDER_PENDING;
    try {
        switch (kind) {
        case Kind::put:
            return work_put();
        case Kind::get:
            return work_get();
        case Kind::flush:
            return store.flush();
        case Kind::prefetch:
            return work_prefetch();
        case Kind::move:
            return work_move();
        }
    } catch (const std::bad_alloc&) {
        return fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    }
    return LARDER_E_INTERNAL;
}

void larder_store::Job::run_task(Task* t) noexcept {
    Job* job = static_cast<Job*>(t);
    larder_store& store = job->store;
    const larder_status status = job->work();
    // What is more urgent has its turn in between.
    if (status == LARDER_PENDING) return store.context->scheduler.submit(job);
    job->queue->finish(job->id, status);
    store.context->alloc.destroy(job);
    store.finish_job();
}

void larder_store::finish_job() noexcept {
    Lock lock(mutex_);
    if (--n_jobs_ == 0) idle_.notify_all();
}

larder_status larder_store::submit(Job* job, larder_queue& queue, uint64_t user_data, uint32_t n_layers,
                                   larder_job* out_job) {
    if (queue.context != context) {
        context->alloc.destroy(job);
        return fail(LARDER_E_INVALID, "queue", "the queue belongs to another context");
    }
    Result<larder_job> id = larder_status(LARDER_E_NOMEM);
    try {
        id = queue.begin(user_data, n_layers);
    } catch (...) {
        context->alloc.destroy(job);
        throw;
    }
    if (!id.ok()) {
        context->alloc.destroy(job);
        return id.status();
    }
    job->run = Job::run_task;
    const bool brings = job->kind == Job::Kind::prefetch || job->to_tier == LARDER_TIER_HOST;
    job->priority = job->kind == Job::Kind::get ? Priority::demand : brings ? Priority::prefetch : Priority::write_back;
    job->queue = &queue;
    job->id = *id;
    if (out_job) *out_job = *id;
    {
        Lock lock(mutex_);
        ++n_jobs_;
    }
    context->scheduler.submit(job);
    return LARDER_PENDING;
}

larder_status larder_store::put_async(const larder_store_put_item* items, uint32_t stride, uint32_t n,
                                      larder_status* statuses, larder_queue& queue, uint64_t user_data,
                                      larder_job* out_job) {
    Job* job = context->alloc.create<Job>(*this, Job::Kind::put);
    job->items = reinterpret_cast<const std::byte*>(items);
    job->stride = stride;
    job->n = n;
    job->statuses = statuses;
    return submit(job, queue, user_data, 1, out_job);
}

larder_status larder_store::get_async(const larder_store_get_item* items, uint32_t stride, uint32_t n,
                                      larder_store_get_result* results, larder_queue& queue, uint64_t user_data,
                                      larder_job* out_job) {
    Job* job = context->alloc.create<Job>(*this, Job::Kind::get);
    job->items = reinterpret_cast<const std::byte*>(items);
    job->stride = stride;
    job->n = n;
    job->results = results;
    return submit(job, queue, user_data, n, out_job);
}

larder_status larder_store::prefetch_async(const larder_key* keys, uint32_t n, uint64_t deadline_ns,
                                           larder_status* statuses, larder_queue& queue, uint64_t user_data,
                                           larder_job* out_job) {
    if (!host_ || !(file_ || remote_))
        return fail(LARDER_E_STATE, "store", "prefetching needs a host tier and one below it");
    Job* job = context->alloc.create<Job>(*this, Job::Kind::prefetch);
    job->keys = keys;
    job->n = n;
    job->statuses = statuses;
    job->deadline_ns = deadline_ns ? context->os.now_ns() + deadline_ns : 0;
    return submit(job, queue, user_data, n, out_job);
}

larder_status larder_store::move_async(const larder_key* keys, uint32_t n, uint32_t to_tier, uint32_t flags,
                                       larder_status* statuses, larder_queue& queue, uint64_t user_data,
                                       larder_job* out_job) {
    Job* job = context->alloc.create<Job>(*this, Job::Kind::move);
    job->keys = keys;
    job->n = n;
    job->statuses = statuses;
    job->to_tier = to_tier;
    job->move_flags = flags;
    return submit(job, queue, user_data, n, out_job);
}

larder_status larder_store::flush_async(larder_queue& queue, uint64_t user_data, larder_job* out_job) {
    if (!file_) return fail(LARDER_E_STATE, "store", "the store has no file tier");
    return submit(context->alloc.create<Job>(*this, Job::Kind::flush), queue, user_data, 1, out_job);
}
