// The front door: planner and worker in one process. Plans go from one to the other by reference, on the scheduler's
// threads.
#pragma once

#include <condition_variable>
#include <mutex>

#include "core/job.h"
#include "kv/planner.h"
#include "kv/worker.h"
#include "transfer/path_queue.h"

namespace larder {

// The planner's and worker's options out of a kv's, checked and with defaults filled in.
larder_status read_kv_options(const larder_kv_options* user, const larder_layout& layout, larder_kv_options& out);
larder_status read_scope(const larder_layout& layout, larder_span tenant_key, larder_span salt, const Allocator& a,
                         ChainScope& out);
larder_status check_watermarks(uint32_t& low, uint32_t& high) noexcept;

}  // namespace larder

struct larder_kv final : larder::Handle {
    larder_kv(larder_context& c, const larder_kv_options& o)
        : Handle(larder::HandleType::kv, c), flags_(o.flags), up_(c.scheduler, max_load_bytes),
          down_(c.scheduler, max_store_bytes) {}
    ~larder_kv();
    larder_kv(const larder_kv&) = delete;
    static larder_status open(larder_context& c, larder_layout& layout, const larder_kv_options* options,
                              larder_kv** out);

    larder_status begin(larder_lease lease, const larder_kv_begin_options& o, larder_queue* queue, uint64_t user_data,
                        larder_seq* out_seq, larder_job* out_job);
    larder_status reserve(larder_seq seq, uint64_t n_tokens, uint64_t n_lookahead);
    larder_status commit(larder_seq seq, const int32_t* tokens, uint64_t n);
    larder_status truncate(larder_seq seq, uint64_t n_tokens);
    larder_status compact(larder_seq seq, const uint64_t* src, const uint64_t* dst, uint64_t n);
    larder_status suspend(larder_seq seq, larder_kv_suspend_mode mode, larder_queue* queue, uint64_t user_data,
                          larder_job* out_job);
    larder_status resume(larder_seq seq, const larder_kv_begin_options& o, larder_queue* queue, uint64_t user_data,
                         larder_job* out_job);
    larder_status end(larder_seq seq);
    larder_status flush(larder_queue* queue, uint64_t user_data, larder_job* out_job);
    larder_status evict(uint64_t n_blocks, uint64_t& out_n);
    void info(larder_kv_info& out);

    // Verbs that only the planner or the worker has to do with go straight there.
    larder::Owned<larder::Worker> worker;
    larder::Owned<larder::StoreDirectory> below;
    larder::Owned<larder::Planner> planner;

  private:
    struct PlanTask;
    larder_status set_up(larder_layout& layout, const larder_kv_options& o);
    // Run a plan here and now, and answer whoever waited for it.
    larder_status run_now(larder::Plan plan) noexcept;
    void give_up(const larder::Plan& plan, larder::JobRef job, bool job_is_plans) noexcept;
    // Run it on the scheduler.
    void spawn(larder::Plan plan, larder::JobRef job, larder::Priority priority, bool report_layers, bool job_is_plans,
               uint64_t deadline_ns) noexcept;
    void run_task(PlanTask& t) noexcept;
    void answer(larder::Ticket* done, larder::JobRef own, uint32_t own_failures) noexcept;
    // Room has to be made: run the plan that makes it, or wait until another one ends.
    larder_status make_room(larder::Plan plan) noexcept;
    void wait_for_a_plan() noexcept;
    larder_status wait_or_spawn(larder_seq seq, larder::Plan plan, larder_queue* queue, uint64_t user_data,
                                larder_job* out_job, uint64_t deadline_ns) noexcept;
    void write_back_if_due() noexcept;
    void finished_one() noexcept;

    // Tensor bytes of the plans that run at once: loads hold their records in memory, stores keep worker threads from
    // loads.
    static constexpr uint64_t max_load_bytes = uint64_t(256) << 20, max_store_bytes = uint64_t(32) << 20;
    const uint32_t flags_;
    larder::PathQueue up_, down_;
    larder::atomic<bool> closing_{false};
    larder::atomic<uint32_t> n_write_backs_{0};
    std::mutex run_mutex_;
    std::condition_variable ran_;
    uint64_t n_running_ = 0, n_ran_ = 0;
};
