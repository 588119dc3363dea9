#include "core/scheduler.h"

namespace larder {

larder_status Scheduler::start(uint32_t n_workers) {
    threads_.reserve(n_workers);
    for (uint32_t i = 0; i < n_workers; ++i) {
        LARDER_ASSIGN(uint64_t t, os_.thread_start(thread_main, this, "larder-worker"));
        threads_.push_back(t);
    }
    return LARDER_OK;
}

void Scheduler::stop() noexcept {
    stopping_.store(true, release);
    {
        std::lock_guard lock(mutex_);
        quit_ = true;
    }
    ready_.notify_all();
    for (uint64_t t : threads_) os_.thread_join(t);
    threads_.clear();
    while (progress(0)) {
    }
}

void Scheduler::submit(Task* t) noexcept {
    t->next = nullptr;
    {
        std::lock_guard lock(mutex_);
        Fifo& f = fifos_[size_t(t->priority)];
        (f.tail ? f.tail->next : f.head) = t;
        f.tail = t;
    }
    ready_.notify_one();
}

Task* Scheduler::pop_locked() noexcept {
    for (Fifo& f : fifos_) {
        if (Task* t = f.head) {
            f.head = t->next;
            if (!f.head) f.tail = nullptr;
            return t;
        }
    }
    return nullptr;
}

bool Scheduler::progress(uint32_t max) noexcept {
    for (uint32_t done = 0; max == 0 || done < max; ++done) {
        Task* t;
        {
            std::lock_guard lock(mutex_);
            t = pop_locked();
        }
        if (!t) return false;
        t->run(t);
    }
    std::lock_guard lock(mutex_);
    for (Fifo& f : fifos_)
        if (f.head) return true;
    return false;
}

void Scheduler::thread_main(void* self) noexcept {
    auto* s = static_cast<Scheduler*>(self);
    std::unique_lock lock(s->mutex_);
    for (;;) {
        if (Task* t = s->pop_locked()) {
            lock.unlock();
            t->run(t);
            lock.lock();
        } else if (s->quit_) {
            return;
        } else {
            s->ready_.wait(lock);
        }
    }
}

} // namespace larder
