// Which slots have chunks to come, the most urgent first, and which channels have nothing to do.
#pragma once

#include <condition_variable>
#include <mutex>

#include "core/scheduler.h"

namespace larder {

// Less is more urgent: what is waited for before what is foreseen, then by deadline.
struct Urgency {
    bool foreseen = false;
    uint64_t deadline_ns = 0;
    friend auto operator<=>(const Urgency&, const Urgency&) = default;
};

class LoadQueue {
  public:
    struct Entry {
        Urgency urgency;
        uint64_t turn;  // equal urgency: first come, first served
        uint32_t precision, slot;
    };
    LoadQueue(const Allocator& a, Scheduler& scheduler) : scheduler_(scheduler), entries_(a), idle_(a) {}

    // add() and idle channels take no memory after this.
    void reserve(size_t n_slots, size_t n_channels);
    // A channel is a task that takes an entry by pop(), moves a chunk, and ends with next().
    void add_channel(Task* t) noexcept;
    void add(uint32_t precision, uint32_t slot, Urgency urgency) noexcept;
    // When it is still here.
    void change(uint32_t precision, uint32_t slot, Urgency urgency) noexcept;
    bool pop(Entry& out) noexcept;
    // Runs again when there is more to do.
    void next(Task* channel) noexcept;
    // No channel runs when this returns, and none will.
    void stop() noexcept;

  private:
    size_t first_locked() const noexcept;
    void wake_locked() noexcept;
    void submit_locked(Task* t) noexcept;

    Scheduler& scheduler_;
    std::mutex mutex_;
    std::condition_variable quiet_;
    Vec<Entry> entries_;
    Vec<Task*> idle_;
    size_t n_channels_ = 0;
    uint64_t n_turns_ = 0;
    bool stopped_ = false;
};

}  // namespace larder
