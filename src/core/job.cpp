#include "core/job.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

using namespace larder;

larder_queue::larder_queue(larder_context& c, uint32_t max_jobs, OsHandle event)
    : Handle(HandleType::queue, c), max_jobs_(max_jobs), event_(event),
      jobs_(c.alloc, IdKind::job, c.random_generation()), done_(max_jobs, 0, c.alloc), retired_(max_jobs, 0, c.alloc) {}

larder_queue::~larder_queue() {
    std::unique_lock lock(mutex_);
    jobs_.for_each([](uint64_t, JobState& j) { j.cancelled = true; });
    wait_until(lock, UINT64_MAX, [&] { return done_tail_ - done_head_ == n_alive_; });
    lock.unlock();
    context->os.close(event_);
}

Result<larder_job> larder_queue::begin(uint64_t user_data, uint32_t n_layers) {
    std::lock_guard lock(mutex_);
    if (n_alive_ == max_jobs_)
        return fail(LARDER_E_BUSY, "max_jobs", "the queue has %u jobs already; take completions first", max_jobs_);
    JobState j{.user_data = user_data,
               .n_layers = std::max(n_layers, 1u),
               .errors = Vec<larder_job_error>(context->alloc),
               .gates = Vec<JobState::Gate>(context->alloc),
               .followers = Vec<JobState::Follower>(context->alloc)};
    const larder_job id = jobs_.insert(std::move(j));
    ++n_alive_;
    context->stats.add(Stat::jobs_submitted);
    return id;
}

bool larder_queue::cancelled(larder_job job) noexcept {
    if (context->scheduler.stopping()) return true;
    std::lock_guard lock(mutex_);
    JobState* j = jobs_.find(job);
    return !j || j->cancelled;
}

void larder_queue::add_bytes(larder_job job, uint64_t n) noexcept {
    std::lock_guard lock(mutex_);
    if (JobState* j = jobs_.find(job)) j->n_bytes += n;
}

void larder_queue::layers_done(larder_job job, uint32_t n) noexcept {
    std::lock_guard lock(mutex_);
    JobState* j = jobs_.find(job);
    if (!j || n <= j->layers_done) return;
    j->layers_done = std::min(n, j->n_layers);
    open_gates_locked(*j);
    changed_.notify_all();
}

// The thread's last error tells more, when it is about this failure.
static void note_failure(JobState& j, larder_status status) noexcept {
    j.detail = last_error();
    if (j.detail.status == status) return;
    j.detail = LARDER_ERROR_INFO_INIT;
    j.detail.status = status;
    std::snprintf(j.detail.message, sizeof j.detail.message, "%s",
                  status == LARDER_E_CANCELLED ? "the job was cancelled" : "the job failed");
}

void larder_queue::item_failed(larder_job job, uint64_t item, larder_status status) noexcept {
    std::lock_guard lock(mutex_);
    JobState* j = jobs_.find(job);
    if (!j) return;
    if (j->n_failed++ == 0) note_failure(*j, status);
    try {
        if (j->errors.size() < JobState::max_errors) j->errors.push_back({item, status, 0});
    } catch (const std::bad_alloc&) {
        // The count stays right; only the list is shorter.
    }
}

void larder_queue::finish(larder_job job, larder_status status) noexcept {
    Vec<JobState::Follower> followers(context->alloc);
    std::unique_lock lock(mutex_);
    JobState* j = jobs_.find(job);
    LARDER_ASSERT(j && !j->finished);
    if (!j || j->finished) return;
    // Before anybody can see that the job has finished.
    while (!j->followers.empty()) {
        followers.clear();
        followers.swap(j->followers);
        lock.unlock();
        for (const JobState::Follower& f : followers) f.fn(f.ctx);
        lock.lock();
    }
    if (is_error(status)) {
        if (j->n_failed == 0) note_failure(*j, status);
    } else if (j->n_failed) {
        status = LARDER_PARTIAL;
    } else {
        j->layers_done = j->n_layers;
    }
    j->status = status;
    j->finished = true;
    open_gates_locked(*j);
    done_[done_tail_++ % max_jobs_] = job;
    context->stats.add(Stat::jobs_completed);
    if (status == LARDER_E_CANCELLED)
        context->stats.add(Stat::jobs_cancelled);
    else if (is_error(status))
        context->stats.add(Stat::jobs_failed);
    context->os.event_set(event_);
    changed_.notify_all();
}

// Another thread may be in the middle of the last task, or a clock may be virtual: sleeps are short, and there is
// always a next one.
static constexpr uint64_t idle_slice_ns = 1000000, worker_slice_ns = 100000000;

void larder_queue::sleep_locked(std::unique_lock<std::mutex>& lock, uint64_t ns) {
    if (context->os.is_simulated()) {
        lock.unlock();
        context->os.sleep_ns(std::min(ns, idle_slice_ns));
        lock.lock();
        if (context->scheduler.n_workers() == 0) return;
        ns = idle_slice_ns;  // real threads work on: give them real time as well
    }
    changed_.wait_for(lock, std::chrono::nanoseconds(ns));
}

// With worker threads: sleep. Without: the waiting thread does the work.
template <class Done>
bool larder_queue::wait_until(std::unique_lock<std::mutex>& lock, uint64_t timeout_ns, Done done) {
    const bool alone = context->scheduler.n_workers() == 0, bounded = timeout_ns != UINT64_MAX;
    const uint64_t start = timeout_ns && bounded ? context->os.now_ns() : 0;
    while (!done()) {
        bool worked = false;
        if (alone) {
            lock.unlock();
            worked = context->scheduler.progress(timeout_ns ? 1 : 0);
            lock.lock();
            if (done()) return true;
        }
        uint64_t left = timeout_ns;
        if (timeout_ns && bounded) {
            const uint64_t spent = context->os.now_ns() - start;
            left = spent < timeout_ns ? timeout_ns - spent : 0;
        }
        if (left == 0) return false;
        if (!worked) sleep_locked(lock, std::min(left, alone ? idle_slice_ns : worker_slice_ns));
    }
    return true;
}

void larder_queue::retire_locked(larder_job job) noexcept {
    larder_job& slot = retired_[retired_n_++ % max_jobs_];
    if (slot) jobs_.remove(slot);
    slot = job;
}

larder_status larder_queue::poll(larder_completion* out, uint32_t stride, uint32_t n, uint64_t timeout_ns,
                                 uint32_t* out_n) {
    *out_n = 0;
    std::unique_lock lock(mutex_);
    if (timeout_ns && n_alive_ == 0) return fail(LARDER_E_NOT_FOUND, "queue", "the queue has no job to wait for");
    const bool any =
        wait_until(lock, timeout_ns, [&] { return done_head_ != done_tail_ || (timeout_ns && n_alive_ == 0); });
    if (any && done_head_ == done_tail_) return fail(LARDER_E_NOT_FOUND, "queue", "another thread took the last job");
    if (!any) return timeout_ns ? fail(LARDER_E_TIMEOUT, "timeout_ns", "no job finished in time") : LARDER_OK;
    auto* bytes = reinterpret_cast<unsigned char*>(out);
    while (*out_n < n && done_head_ != done_tail_) {
        const larder_job id = done_[done_head_++ % max_jobs_];
        JobState& j = *jobs_.find(id);
        const larder_completion c{id, j.user_data, j.status, j.n_failed, j.n_bytes};
        std::memcpy(bytes + size_t(stride) * (*out_n)++, &c, std::min<size_t>(stride, sizeof c));
        j.taken = true;
        --n_alive_;
        if (is_error(j.status)) set_last_error(j.detail);
        retire_locked(id);
    }
    if (done_head_ == done_tail_) context->os.event_clear(event_);
    if (n_alive_ == 0) changed_.notify_all();  // who still waits for a job would wait for ever
    return LARDER_OK;
}

larder_status larder_queue::wait(larder_job job, uint64_t timeout_ns) {
    std::unique_lock lock(mutex_);
    JobState* j = jobs_.find(job);
    if (!j || j->taken) return fail(LARDER_E_STALE, "job", "no such job, or its completion was taken already");
    if (!wait_until(lock, timeout_ns, [&] { return !(j = jobs_.find(job)) || j->finished; }))
        return fail(LARDER_E_TIMEOUT, "timeout_ns", "the job did not finish in time");
    if (!j) return fail(LARDER_E_STALE, "job", "its completion was taken by another thread");
    if (is_error(j->status)) set_last_error(j->detail);
    return j->status;
}

larder_status larder_queue::wait_layer(larder_job job, uint32_t layer, uint64_t timeout_ns) {
    std::unique_lock lock(mutex_);
    JobState* j = jobs_.find(job);
    if (!j) return fail(LARDER_E_STALE, "job", "no such job");
    if (layer >= j->n_layers) return fail(LARDER_E_RANGE, "layer", "layer is %u; the job has %u", layer, j->n_layers);
    const bool came =
        wait_until(lock, timeout_ns, [&] { return !(j = jobs_.find(job)) || j->finished || j->layers_done > layer; });
    if (!came) return fail(LARDER_E_TIMEOUT, "timeout_ns", "layer %u did not arrive in time", layer);
    if (!j) return fail(LARDER_E_STALE, "job", "its completion was taken by another thread");
    if (j->layers_done > layer) return LARDER_OK;
    set_last_error(j->detail);
    return is_error(j->status) ? j->status : j->detail.status;
}

larder_status larder_queue::follow(larder_job job, JobState::Follower f) {
    std::lock_guard lock(mutex_);
    JobState* j = jobs_.find(job);
    if (!j) return fail(LARDER_E_STALE, "job", "no such job");
    if (j->finished) return LARDER_OK;
    j->followers.push_back(f);
    return LARDER_PENDING;
}

// Failed jobs release their streams too: a stream that is never released would hang the device.
void larder_queue::open_gates_locked(JobState& j) noexcept {
    std::erase_if(j.gates, [&](const JobState::Gate& g) {
        if (!j.finished && j.layers_done <= g.layer) return false;
        g.device->device->gate_open(g.gate);
        g.device->unref();
        return true;
    });
}

larder_status larder_queue::stream_wait(larder_job job, uint32_t layer, larder_device& device, StreamId stream) {
    if (device.device->info().kind == DeviceKind::host) return wait_layer(job, layer, UINT64_MAX);
    std::lock_guard lock(mutex_);
    JobState* j = jobs_.find(job);
    if (!j) return fail(LARDER_E_STALE, "job", "no such job");
    if (layer >= j->n_layers) return fail(LARDER_E_RANGE, "layer", "layer is %u; the job has %u", layer, j->n_layers);
    if (j->layers_done > layer) return LARDER_OK;
    if (j->finished) {
        set_last_error(j->detail);
        return is_error(j->status) ? j->status : j->detail.status;
    }
    j->gates.reserve(j->gates.size() + 1);
    LARDER_ASSIGN(GateId gate, device.device->gate_create());
    const larder_status s = device.device->stream_wait_gate(stream, gate);
    if (s < 0) {
        device.device->gate_open(gate);
        return s;
    }
    j->gates.push_back({layer, device.ref(), gate});
    return LARDER_OK;
}

larder_status larder_queue::cancel(larder_job job) {
    std::lock_guard lock(mutex_);
    JobState* j = jobs_.find(job);
    if (!j) return fail(LARDER_E_STALE, "job", "no such job");
    j->cancelled = true;
    return LARDER_OK;
}

larder_status larder_queue::errors(larder_job job, larder_job_error* out, uint32_t stride, uint32_t n,
                                   uint32_t* out_n) {
    *out_n = 0;
    std::lock_guard lock(mutex_);
    JobState* j = jobs_.find(job);
    if (!j) return fail(LARDER_E_STALE, "job", "no such job, or too many completions were taken since");
    auto* bytes = reinterpret_cast<unsigned char*>(out);
    for (const larder_job_error& e : j->errors) {
        if (*out_n == n) break;
        std::memcpy(bytes + size_t(stride) * (*out_n)++, &e, std::min<size_t>(stride, sizeof e));
    }
    return *out_n < j->n_failed ? LARDER_PARTIAL : LARDER_OK;
}
