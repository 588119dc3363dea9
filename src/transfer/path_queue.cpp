#include "transfer/path_queue.h"

namespace larder {
namespace {

PathTask* next_of(PathTask* t) noexcept {
    return static_cast<PathTask*>(t->next);
}

}  // namespace

PathTask* PathQueue::pick_locked() noexcept {
    PathTask* first = nullptr;
    PathTask* last = nullptr;
    for (Fifo& f : waiting_) {
        while (PathTask* t = f.head) {
            // Strictly in order: a large task of higher priority is not overtaken by small ones until it never fits.
            if (in_flight_ && in_flight_ + t->n_bytes > max_bytes_) return first;
            f.head = next_of(t);
            if (!f.head) f.tail = nullptr;
            --n_waiting_;
            in_flight_ += t->n_bytes;
            t->next = nullptr;
            if (last)
                last->next = t;
            else
                first = t;
            last = t;
        }
    }
    return first;
}

void PathQueue::hand_over(PathTask* list) noexcept {
    while (PathTask* t = list) {
        list = next_of(t);
        scheduler_.submit(t);
    }
}

void PathQueue::submit(PathTask* t) noexcept {
    t->next = nullptr;
    PathTask* ready;
    {
        std::lock_guard lock(mutex_);
        Fifo& f = waiting_[size_t(t->priority)];
        if (f.tail)
            f.tail->next = t;
        else
            f.head = t;
        f.tail = t;
        ++n_waiting_;
        ready = pick_locked();
    }
    hand_over(ready);
}

void PathQueue::done(uint64_t n_bytes) noexcept {
    PathTask* ready;
    {
        std::lock_guard lock(mutex_);
        in_flight_ -= n_bytes;
        ready = pick_locked();
    }
    hand_over(ready);
}

bool PathQueue::cancel(PathTask* t) noexcept {
    std::lock_guard lock(mutex_);
    Fifo& f = waiting_[size_t(t->priority)];
    PathTask* before = nullptr;
    for (PathTask* at = f.head; at; before = at, at = next_of(at)) {
        if (at != t) continue;
        if (before)
            before->next = t->next;
        else
            f.head = next_of(t);
        if (f.tail == t) f.tail = before;
        t->next = nullptr;
        --n_waiting_;
        return true;
    }
    return false;
}

uint64_t PathQueue::bytes_in_flight() const noexcept {
    std::lock_guard lock(mutex_);
    return in_flight_;
}

size_t PathQueue::n_waiting() const noexcept {
    std::lock_guard lock(mutex_);
    return n_waiting_;
}

}  // namespace larder
