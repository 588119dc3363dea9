// Running plans, and telling those who wait.
#include <chrono>

#include "kv/kv.h"

using namespace larder;

struct larder_kv::PlanTask final : PathTask {
    // Takes the plan only when nothing can fail any more.
    PlanTask(larder_kv& k, Plan& p) : kv(k), statuses(p.ops.size(), LARDER_OK, k.context->alloc), plan(std::move(p)) {}
    larder_kv& kv;
    Vec<larder_status> statuses;
    Plan plan;
    JobRef job;
    PathQueue* path = nullptr;
    bool report_layers = false;
    bool job_is_plans = false;  // the job is about the plan, not about a sequence that waits for it
    bool writes_back = false;
    uint64_t deadline = 0;  // 0: none
    uint32_t n_failed = 0;

    PlanWatch watch() noexcept;
    larder_status outcome() const noexcept {
        larder_status s = LARDER_OK;
        for (size_t i = 0; i < statuses.size(); ++i) {
            if (statuses[i] >= 0) continue;
            if (plan.ops[i].kind == PlanOpKind::flush) return statuses[i];
            s = LARDER_PARTIAL;
        }
        return s;
    }
    bool cancelled() const noexcept {
        if (kv.closing_.load(acquire) || kv.context->scheduler.stopping()) return true;
        if (deadline && kv.context->os.now_ns() > deadline) return true;
        return job.queue && job.queue->cancelled(job.job);
    }
    void loads_checked(std::span<const larder_status> s) noexcept {
        for (size_t i = 0; i < s.size(); ++i)
            if (plan.ops[i].kind == PlanOpKind::load && s[i] < 0) {
                ++n_failed;
                if (job.queue) job.queue->item_failed(job.job, i, s[i]);
            }
        kv.planner->loads_checked(plan.id, s);
    }
};

PlanWatch larder_kv::PlanTask::watch() noexcept {
    PlanWatch w;
    w.ctx = this;
    w.cancelled = [](void* t) { return static_cast<PlanTask*>(t)->cancelled(); };
    w.checked = [](void* t, std::span<const larder_status> s) { static_cast<PlanTask*>(t)->loads_checked(s); };
    if (!job.queue) return w;
    w.moved = [](void* t, uint64_t n) {
        auto* p = static_cast<PlanTask*>(t);
        p->job.queue->add_bytes(p->job.job, n);
    };
    if (report_layers)
        w.layers_done = [](void* t, uint32_t n) {
            auto* p = static_cast<PlanTask*>(t);
            p->job.queue->layers_done(p->job.job, n);
        };
    return w;
}

void larder_kv::run_task(PlanTask& t) noexcept {
    worker->run(t.plan, t.statuses, t.watch());
    Ticket* done = nullptr;
    planner->report(t.plan.id, 0, t.statuses, done);
    answer(done, t.job, t.n_failed);
    if (!t.job_is_plans || !t.job.queue) return;
    larder_status status = LARDER_OK;
    for (size_t i = 0; i < t.statuses.size(); ++i) {
        if (t.statuses[i] >= 0) continue;
        if (t.plan.ops[i].kind == PlanOpKind::flush)
            status = t.statuses[i];
        else
            t.job.queue->item_failed(t.job.job, i, t.statuses[i]);
    }
    t.job.queue->finish(t.job.job, status);
}

void larder_kv::answer(Ticket* done, JobRef own, uint32_t own_failures) noexcept {
    for (Ticket* t = done; t; t = t->next) {
        if (!t->job.queue) continue;
        // Failures of its own loads stand in the job already.
        const bool known = own.queue == t->job.queue && own.job == t->job.job && own_failures;
        if (t->n_failed && !known) {
            fail(t->first_failure, "record", "a record could not be loaded");
            t->job.queue->item_failed(t->job.job, 0, t->first_failure);
        }
        t->job.queue->finish(t->job.job, LARDER_OK);
    }
    planner->free_tickets(done);
}

void larder_kv::finished_one() noexcept {
    {
        std::lock_guard lock(run_mutex_);
        --n_running_;
        ++n_ran_;
        // Under the lock: a closing kv must not go while we are still in here.
        ran_.notify_all();
    }
}

// There is no memory to run a plan. Copies need none; loads and stores did not happen, which a cache may say.
void larder_kv::give_up(const Plan& plan, JobRef job, bool job_is_plans) noexcept {
    worker->run_copies(plan);
    Ticket* done = nullptr;
    planner->abandon(plan.id, done);
    answer(done, {}, 0);
    if (!job_is_plans || !job.queue) return;
    fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    job.queue->finish(job.job, LARDER_E_NOMEM);
}

// PARTIAL: some blocks could not be stored; an error: what the flush itself met.
larder_status larder_kv::run_now(Plan plan) noexcept {
    {
        std::lock_guard lock(run_mutex_);
        ++n_running_;
    }
    larder_status status = LARDER_OK;
    try {
        PlanTask t(*this, plan);
        run_task(t);
        status = t.outcome();
    } catch (const std::bad_alloc&) {
        give_up(plan, {}, false);
        status = fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    }
    finished_one();
    return status;
}

void larder_kv::spawn(Plan plan, JobRef job, Priority priority, bool report_layers, bool job_is_plans,
                      uint64_t deadline_ns) noexcept {
    PlanTask* t = nullptr;
    try {
        t = context->alloc.create<PlanTask>(*this, plan);
    } catch (const std::bad_alloc&) {
        return give_up(plan, job, job_is_plans);
    }
    t->job = job;
    t->report_layers = report_layers;
    t->job_is_plans = job_is_plans;
    t->writes_back = priority == Priority::write_back && !job.queue;
    t->deadline = deadline_ns ? context->os.now_ns() + deadline_ns : 0;
    t->priority = priority;
    t->n_bytes = t->plan.ops.size() * worker->block_bytes();
    t->path = priority == Priority::write_back ? &down_ : &up_;
    t->run = [](Task* task) noexcept {
        auto* p = static_cast<PlanTask*>(task);
        larder_kv& kv = p->kv;
        kv.run_task(*p);
        const bool wrote_back = p->writes_back;
        PathQueue& path = *p->path;
        const uint64_t n_bytes = p->n_bytes;
        kv.context->alloc.destroy(p);
        path.done(n_bytes);
        if (wrote_back) {
            kv.n_write_backs_.fetch_sub(1, acq_rel);
            kv.write_back_if_due();
        }
        kv.finished_one();
    };
    {
        std::lock_guard lock(run_mutex_);
        ++n_running_;
    }
    t->path->submit(t);
}

// One write-back at a time: it is never urgent, and what is urgent is reclaimed by whoever needs it.
void larder_kv::write_back_if_due() noexcept {
    if (!planner->write_back_due() || closing_.load(acquire)) return;
    uint32_t none = 0;
    if (!n_write_backs_.compare_exchange_strong(none, 1, acq_rel, relaxed)) return;
    try {
        Plan plan(context->alloc);
        planner->write_back(plan);
        if (plan.id) return spawn(std::move(plan), {}, Priority::write_back, false, false, 0);
    } catch (const std::bad_alloc&) {
        // Later.
    }
    n_write_backs_.store(0, release);
}

void larder_kv::wait_for_a_plan() noexcept {
    std::unique_lock lock(run_mutex_);
    if (!n_running_) return;
    if (context->scheduler.n_workers() == 0) {
        lock.unlock();
        context->scheduler.progress(1);
        lock.lock();
        if (!n_running_) return;
        ran_.wait_for(lock, std::chrono::microseconds(100));
        return;
    }
    const uint64_t before = n_ran_;
    ran_.wait_for(lock, std::chrono::milliseconds(100), [&] { return n_ran_ != before; });
}

larder_status larder_kv::make_room(Plan plan) noexcept {
    if (plan.id) {
        // Blocks that could not be stored can be forgotten now; without memory nothing would change in the next round.
        const larder_status s = run_now(std::move(plan));
        return s == LARDER_E_NOMEM ? s : LARDER_OK;
    }
    wait_for_a_plan();
    return LARDER_OK;
}

// The sequence waits for its plan, or for plans of others, or for both.
larder_status larder_kv::wait_or_spawn(larder_seq seq, Plan plan, larder_queue* queue, uint64_t user_data,
                                       larder_job* out_job, uint64_t deadline_ns) noexcept {
    bool loads = false;
    for (const PlanOp& op : plan.ops) loads |= op.kind == PlanOpKind::load || op.kind == PlanOpKind::store;
    if (plan.id && !loads) {
        run_now(std::move(plan));
        plan = Plan(context->alloc);
    }
    if (!planner->waiting(seq)) return LARDER_OK;
    Result<larder_job> job(LARDER_E_BUSY);
    try {
        if (queue) job = queue->begin(user_data, worker->n_layers());
    } catch (const std::bad_alloc&) {
        // As with a full queue: here and now.
    }
    if (job.ok()) {
        if (out_job) *out_job = *job;
        uint32_t n_plans = 0;
        if (!planner->attach_job(seq, {queue, *job}, n_plans)) queue->finish(*job, LARDER_OK);
        // What others are loading for this sequence may still fail: layers are only reported when there is nothing of
        // the kind.
        if (plan.id) spawn(std::move(plan), {queue, *job}, Priority::demand, n_plans == 1, false, deadline_ns);
        return LARDER_PENDING;
    }
    if (plan.id) run_now(std::move(plan));
    while (planner->waiting(seq)) wait_for_a_plan();
    return LARDER_OK;
}
