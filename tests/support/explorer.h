// Runs code that was compiled with LARDER_SCHEDULE_EXPLORER under chosen schedules: control may change hands before
// each atomic access. Threads are contexts on one real thread, so a schedule is a list of numbers and every run can be
// repeated. To be included once in a program, after the code under test.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace explorer {

// Runs a fixed set of threads under one schedule: the running thread goes on by default, and control changes at the
// chosen steps.
class Explorer {
  public:
    static constexpr size_t stack_bytes = 64 << 10;

    struct Switch {
        uint32_t step;
        uint32_t to;
    };

    // patience: steps in a row after which a thread that may be spinning lets the others go on.
    explicit Explorer(std::vector<std::function<void()>> bodies, uint32_t patience = 300)
        : patience_(patience), bodies_(std::move(bodies)), threads_(bodies_.size()) {
        for (auto& t : threads_) t.stack.resize(stack_bytes);
    }
    // Returns the number of steps.
    uint32_t run(const std::vector<Switch>& switches) {
        self_ = this;
        switches_ = &switches;
        next_switch_ = step_ = in_a_row_ = 0;
        trace_.clear();
        for (auto& t : threads_) {
            t.done = false;
            getcontext(&t.context);
            t.context.uc_stack.ss_sp = t.stack.data();
            t.context.uc_stack.ss_size = t.stack.size();
            t.context.uc_link = nullptr;
            makecontext(&t.context, &Explorer::entry, 0);
        }
        current_ = 0;
        swapcontext(&main_, &threads_[0].context);
        self_ = nullptr;
        return step_;
    }
    // Who was running when each step came.
    const std::vector<uint8_t>& trace() const { return trace_; }
    // Steps so far.
    uint32_t now() const { return step_; }
    static void point() {
        if (self_) self_->at_point();
    }

  private:
    struct Thread {
        ucontext_t context;
        std::vector<char> stack;
        bool done = false;
    };
    static void entry() {
        Explorer& e = *self_;
        e.bodies_[e.current_]();
        e.threads_[e.current_].done = true;
        for (size_t i = 0; i < e.threads_.size(); ++i)
            if (!e.threads_[i].done) e.go(uint32_t(i));
        setcontext(&e.main_);
    }
    void go(uint32_t to) {
        if (to == current_ || threads_[to].done) return;
        const uint32_t from = current_;
        current_ = to;
        in_a_row_ = 0;
        swapcontext(&threads_[from].context, &threads_[to].context);
    }
    void at_point() {
        ++step_;
        trace_.push_back(uint8_t(current_));
        if (next_switch_ < switches_->size() && (*switches_)[next_switch_].step == step_)
            return go((*switches_)[next_switch_++].to);
        if (++in_a_row_ < patience_) return;
        for (uint32_t k = 1; k < threads_.size(); ++k)
            if (const auto to = uint32_t((current_ + k) % threads_.size()); !threads_[to].done) return go(to);
    }

    static inline Explorer* self_ = nullptr;
    const uint32_t patience_;
    std::vector<std::function<void()>> bodies_;
    std::vector<uint8_t> trace_;
    std::vector<Thread> threads_;
    ucontext_t main_;
    const std::vector<Switch>* switches_ = nullptr;
    size_t next_switch_ = 0;
    uint32_t step_ = 0, in_a_row_ = 0, current_ = 0;
};
// Every schedule with up to n_preemptions switches at every stride-th step: reset(), the threads, judge(). Returns how
// many there were.
inline uint64_t explore(Explorer& e, uint32_t n_threads, uint32_t n_preemptions, uint32_t stride,
                        const std::function<void()>& reset, const std::function<void()>& judge) {
    uint64_t n_runs = 0;
    std::vector<Explorer::Switch> s;
    const std::function<void(uint32_t)> deeper = [&](uint32_t left) {
        reset();
        const uint32_t steps = e.run(s);
        const std::vector<uint8_t> trace = left ? e.trace() : std::vector<uint8_t>();
        judge();
        ++n_runs;
        if (!left) return;
        for (uint32_t at = (s.empty() ? 0 : s.back().step) + 1; at <= steps; at += stride)
            for (uint32_t to = 0; to < n_threads; ++to) {
                if (trace[at - 1] == to) continue;
                s.push_back({at, to});
                deeper(left - 1);
                s.pop_back();
            }
    };
    deeper(n_preemptions);
    return n_runs;
}

}  // namespace explorer
