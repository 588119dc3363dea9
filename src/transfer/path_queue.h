// One path between tiers: tasks go to the scheduler as long as their bytes fit the path's budget; the others wait here,
// demand before prefetch before write-back.
#pragma once

#include <array>
#include <mutex>

#include "core/scheduler.h"

namespace larder {

struct PathTask : Task {
    uint64_t n_bytes = 0;  // that it has in flight or in memory while it runs
};

class PathQueue {
  public:
    // A task that is larger than the budget goes alone.
    PathQueue(Scheduler& scheduler, uint64_t max_bytes) noexcept : scheduler_(scheduler), max_bytes_(max_bytes) {}
    PathQueue(const PathQueue&) = delete;

    // As with Scheduler::submit() the task belongs to the queue until it runs. Whoever runs it calls done() with its
    // n_bytes once, last.
    void submit(PathTask* t) noexcept;
    void done(uint64_t n_bytes) noexcept;
    // Take back a task that still waits here. False: it was handed over.
    bool cancel(PathTask* t) noexcept;

    uint64_t bytes_in_flight() const noexcept;
    size_t n_waiting() const noexcept;

  private:
    // The tasks that may go now, linked by next, in order.
    PathTask* pick_locked() noexcept;
    void hand_over(PathTask* list) noexcept;

    struct Fifo {
        PathTask* head = nullptr;
        PathTask* tail = nullptr;
    };
    Scheduler& scheduler_;
    const uint64_t max_bytes_;
    mutable std::mutex mutex_;
    std::array<Fifo, n_priorities> waiting_{};
    uint64_t in_flight_ = 0;
    size_t n_waiting_ = 0;
};

}  // namespace larder
