// Runs tasks on worker threads, or on whoever calls progress() and wait when there are none.
#pragma once

#include <condition_variable>
#include <mutex>

#include "base/alloc.h"
#include "base/atomic.h"
#include "base/result.h"
#include "os/os.h"

namespace larder {

enum class Priority : uint8_t { demand = 0, prefetch = 1, write_back = 2 };
inline constexpr size_t n_priorities = 3;

// Intrusive: whoever submits a task owns it until run() is called; run() may free it.
struct Task {
    void (*run)(Task*) noexcept = nullptr;
    Task* next = nullptr;
    Priority priority = Priority::demand;
};

class Scheduler {
  public:
    Scheduler(const Allocator& a, Os& os) noexcept : os_(os), threads_(a) {}
    ~Scheduler() { stop(); }

    larder_status start(uint32_t n_workers);
    // Runs what is queued to its end on the calling thread, then joins the workers. Tasks see stopping() and cut
    // themselves short.
    void stop() noexcept;
    bool stopping() const noexcept { return stopping_.load(acquire); }

    void submit(Task* t) noexcept;
    // Run up to max ready tasks (0: as many as are ready now) on this thread. True when work was left.
    bool progress(uint32_t max) noexcept;
    uint32_t n_workers() const noexcept { return uint32_t(threads_.size()); }

  private:
    Task* pop_locked() noexcept;
    static void thread_main(void* self) noexcept;

    struct Fifo {
        Task* head = nullptr;
        Task* tail = nullptr;
    };
    Os& os_;
    std::mutex mutex_;
    std::condition_variable ready_;
    Fifo fifos_[n_priorities];
    size_t n_ready_ = 0;
    bool quit_ = false;
    atomic<bool> stopping_{false};
    Vec<uint64_t> threads_;
};

}  // namespace larder
