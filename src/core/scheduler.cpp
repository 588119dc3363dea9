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
        ++n_ready_;
    }
    ready_.notify_one();
}

Task* Scheduler::pop_locked() noexcept {
    for (Fifo& f : fifos_) {
        if (Task* t = f.head) {
            f.head = t->next;
            if (!f.head) f.tail = nullptr;
            --n_ready_;
            return t;
        }
    }
    return nullptr;
}

bool Scheduler::progress(uint32_t max) noexcept {
    std::unique_lock lock(mutex_);
    // Tasks that submit themselves again, to look for I/O, must not keep the caller here: only what is ready now
    // counts.
    for (size_t n = max ? max : n_ready_; n && n_ready_; --n) {
        Task* t = pop_locked();
        lock.unlock();
        t->run(t);
        lock.lock();
    }
    return n_ready_ != 0;
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

}  // namespace larder
