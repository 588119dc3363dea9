#include "expert/load_queue.h"

#include <algorithm>
#include <chrono>
#include <tuple>

namespace larder {

void LoadQueue::reserve(size_t n_slots, size_t n_channels) {
    entries_.reserve(n_slots);
    idle_.reserve(n_channels);
}

void LoadQueue::add_channel(Task* t) noexcept {
    idle_.push_back(t);
    ++n_channels_;
}

void LoadQueue::add(uint32_t precision, uint32_t slot, Urgency urgency) noexcept {
    std::lock_guard lock(mutex_);
    entries_.push_back({urgency, n_turns_++, precision, slot});
    wake_locked();
}

void LoadQueue::change(uint32_t precision, uint32_t slot, Urgency urgency) noexcept {
    std::lock_guard lock(mutex_);
    for (Entry& e : entries_)
        if (e.slot == slot && e.precision == precision) e.urgency = urgency, e.turn = n_turns_++;
}

size_t LoadQueue::first_locked() const noexcept {
    const auto less = [](const Entry& a, const Entry& b) {
        return std::tie(a.urgency, a.turn) < std::tie(b.urgency, b.turn);
    };
    return size_t(std::min_element(entries_.begin(), entries_.end(), less) - entries_.begin());
}

bool LoadQueue::pop(Entry& out) noexcept {
    std::lock_guard lock(mutex_);
    if (stopped_ || entries_.empty()) return false;
    const size_t i = first_locked();
    out = entries_[i];
    entries_[i] = entries_.back();
    entries_.pop_back();
    return true;
}

void LoadQueue::submit_locked(Task* t) noexcept {
    t->priority = entries_[first_locked()].urgency.foreseen ? Priority::prefetch : Priority::demand;
    scheduler_.submit(t);
}

void LoadQueue::wake_locked() noexcept {
    if (stopped_ || idle_.empty()) return;
    Task* t = idle_.back();
    idle_.pop_back();
    submit_locked(t);
}

void LoadQueue::next(Task* channel) noexcept {
    std::lock_guard lock(mutex_);
    if (!stopped_ && !entries_.empty()) return submit_locked(channel);
    idle_.push_back(channel);
    quiet_.notify_all();
}

void LoadQueue::stop() noexcept {
    std::unique_lock lock(mutex_);
    stopped_ = true;
    while (idle_.size() < n_channels_) {
        if (scheduler_.n_workers()) {
            quiet_.wait(lock);
            continue;
        }
        lock.unlock();
        const bool worked = scheduler_.progress(1);
        lock.lock();
        // Another thread has the task in hand.
        if (!worked && idle_.size() < n_channels_) quiet_.wait_for(lock, std::chrono::milliseconds(1));
    }
}

}  // namespace larder
