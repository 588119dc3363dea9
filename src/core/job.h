// Jobs and completion queues.
#pragma once

#include <condition_variable>
#include <mutex>

#include "base/ids.h"
#include "core/context.h"
#include "core/device_handle.h"
#include "larder/job.h"

namespace larder {

// What one job has reached. Lives in the queue's table; touched under the queue's mutex.
struct JobState {
    static constexpr size_t max_errors = 256;
    uint64_t user_data = 0;
    uint64_t n_bytes = 0;
    uint32_t n_layers = 1;
    uint32_t layers_done = 0;  // layers 0 .. layers_done-1 have arrived
    uint32_t n_failed = 0;
    larder_status status = LARDER_PENDING;
    bool finished = false;
    bool taken = false;
    bool cancelled = false;
    larder_error_info detail = LARDER_ERROR_INFO_INIT;
    Vec<larder_job_error> errors;
    struct Gate {  // a stream that waits for a layer
        uint32_t layer;
        larder_device* device;  // held
        GateId gate;
    };
    Vec<Gate> gates;
    struct Follower {  // told once, by the thread that finishes the job
        void (*fn)(void* ctx) noexcept;
        void* ctx;
    };
    Vec<Follower> followers;
};

}  // namespace larder

struct larder_queue final : larder::Handle {
    larder_queue(larder_context& c, uint32_t max_jobs, larder::OsHandle event);
    ~larder_queue();
    larder_queue(const larder_queue&) = delete;

    // --- for those who do the work --------------------------------------------------------------
    // E_BUSY when max_jobs are alive. Whoever begins a job must finish it, once.
    larder::Result<larder_job> begin(uint64_t user_data, uint32_t n_layers);
    bool cancelled(larder_job job) noexcept;
    void add_bytes(larder_job job, uint64_t n) noexcept;
    // Layers below `n` have arrived. Never goes back.
    void layers_done(larder_job job, uint32_t n) noexcept;
    // One item failed; its detail is this thread's last error.
    void item_failed(larder_job job, uint64_t item, larder_status status) noexcept;
    // LARDER_OK becomes LARDER_PARTIAL when items failed.
    void finish(larder_job job, larder_status status) noexcept;

    // --- for those who wait ---------------------------------------------------------------------
    larder_status poll(larder_completion* out, uint32_t stride, uint32_t n, uint64_t timeout_ns, uint32_t* out_n);
    larder_status wait(larder_job job, uint64_t timeout_ns);
    larder_status wait_layer(larder_job job, uint32_t layer, uint64_t timeout_ns);
    larder_status stream_wait(larder_job job, uint32_t layer, larder_device& device, larder::StreamId stream);
    // PENDING: f will be called when the job finishes. OK: it has finished, and f is not called.
    larder_status follow(larder_job job, larder::JobState::Follower f);
    larder_status cancel(larder_job job);
    larder_status errors(larder_job job, larder_job_error* out, uint32_t stride, uint32_t n, uint32_t* out_n);
    larder::OsHandle event() const noexcept { return event_; }

  private:
    template <class Done> bool wait_until(std::unique_lock<std::mutex>& lock, uint64_t timeout_ns, Done done);
    void sleep_locked(std::unique_lock<std::mutex>& lock, uint64_t ns);
    void retire_locked(larder_job job) noexcept;
    void open_gates_locked(larder::JobState& j) noexcept;

    std::mutex mutex_;
    std::condition_variable changed_;
    const uint32_t max_jobs_;
    const larder::OsHandle event_;
    uint32_t n_alive_ = 0;  // begun and not yet taken
    larder::IdTable<larder::JobState> jobs_;
    larder::Vec<larder_job> done_;  // a ring of max_jobs_: finished, not taken
    uint64_t done_head_ = 0, done_tail_ = 0;
    larder::Vec<larder_job> retired_;  // a ring of max_jobs_: taken, kept so that errors() can still be asked
    uint64_t retired_n_ = 0;
};
