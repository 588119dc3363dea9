// The free lists under every schedule with up to three preemptions (two for three threads): threads take and give
// slots, and control may change hands before each atomic access.
//
// The code under test is compiled here a second time, with schedule points and chains of two slots, in a namespace of
// its own. Threads are contexts on one real thread, so a schedule is a list of numbers and every run can be repeated.
#define LARDER_SCHEDULE_EXPLORER 1
#define larder larder_explored
#include "base/alloc.cpp"
#include "memory/slot_pool.cpp"
#undef larder

#include <ucontext.h>

#include <functional>
#include <vector>

#include "support/cmocka.h"

namespace {

using larder_explored::Allocator;
using larder_explored::SlotPool;

// Runs a fixed set of threads under one schedule: the running thread goes on by default, and control changes at the
// chosen steps.
class Explorer {
  public:
    static constexpr size_t stack_bytes = 64 << 10;
    static constexpr uint32_t patience = 300;  // steps in a row after which a spinning thread waits for the others

    struct Switch {
        uint32_t step;
        uint32_t to;
    };

    explicit Explorer(std::vector<std::function<void()>> bodies)
        : bodies_(std::move(bodies)), threads_(bodies_.size()) {
        for (auto& t : threads_) t.stack.resize(stack_bytes);
    }
    // Returns the number of steps.
    uint32_t run(const std::vector<Switch>& switches) {
        self_ = this;
        switches_ = &switches;
        next_switch_ = step_ = in_a_row_ = 0;
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
        if (next_switch_ < switches_->size() && (*switches_)[next_switch_].step == step_)
            return go((*switches_)[next_switch_++].to);
        if (++in_a_row_ < patience) return;
        for (uint32_t k = 1; k < threads_.size(); ++k)
            if (const auto to = uint32_t((current_ + k) % threads_.size()); !threads_[to].done) return go(to);
    }

    static Explorer* self_;
    std::vector<std::function<void()>> bodies_;
    std::vector<Thread> threads_;
    ucontext_t main_;
    const std::vector<Switch>* switches_ = nullptr;
    size_t next_switch_ = 0;
    uint32_t step_ = 0, in_a_row_ = 0, current_ = 0;
};
Explorer* Explorer::self_ = nullptr;

}  // namespace

void larder_explored::schedule_point() noexcept {
    Explorer::point();
}

namespace {

// A pool of `n` slots and what each thread holds.
struct Play {
    explicit Play(uint32_t slots) : n(slots), owner(slots, 0) {}
    void reset() {
        pool = std::make_unique<SlotPool>(Allocator(), 0, n, 2);
        std::fill(owner.begin(), owner.end(), 0);
        broken = false;
        for (auto& h : hands) h.clear();
    }
    bool take(int thread, uint32_t k) {
        uint32_t out[8];
        if (!pool->take({out, k})) return false;
        for (uint32_t i = 0; i < k; ++i) {
            broken |= out[i] >= n || owner[out[i]] != 0;
            if (out[i] < n) owner[out[i]] = thread + 1;
            hands[thread].push_back(out[i]);
        }
        return true;
    }
    void give(int thread, uint32_t k) {
        uint32_t out[8];
        for (uint32_t i = 0; i < k; ++i) {
            out[i] = hands[thread].back();
            hands[thread].pop_back();
            broken |= owner[out[i]] != thread + 1;
            owner[out[i]] = 0;
        }
        pool->give({out, k});
    }
    // Every slot is free or held, once.
    void judge() {
        std::vector<int> seen(n, 0);
        pool->for_each_free([&](uint32_t s) { ++seen[s]; });
        uint64_t held = 0;
        for (uint32_t s = 0; s < n; ++s) broken |= seen[s] + (owner[s] != 0) != 1;
        for (auto& h : hands) held += h.size();
        broken |= pool->n_free() != n - held;
        assert_false(broken);
    }
    uint32_t n;
    std::unique_ptr<SlotPool> pool;
    std::vector<int> owner;
    std::vector<uint32_t> hands[3];
    bool broken = false;
};

uint64_t explore(Play& play, Explorer& e, uint32_t n_threads, uint32_t n_preemptions, uint32_t stride) {
    uint64_t n_runs = 0;
    std::vector<Explorer::Switch> s;
    std::function<void(uint32_t)> deeper = [&](uint32_t left) {
        play.reset();
        const uint32_t steps = e.run(s);
        play.judge();
        ++n_runs;
        if (!left) return;
        for (uint32_t at = (s.empty() ? 0 : s.back().step) + 1; at <= steps; at += stride)
            for (uint32_t to = 0; to < n_threads; ++to) {
                s.push_back({at, to});
                deeper(left - 1);
                s.pop_back();
            }
    };
    deeper(n_preemptions);
    return n_runs;
}

void two_threads_through_the_global_stack(void**) {
    Play play(12);
    auto body = [&](int me) {
        return [&play, me] {
            play.take(me, 6);
            play.give(me, 5);
            play.take(me, 3);
            play.give(me, 4);
        };
    };
    Explorer e({body(0), body(1)});
    print_message("%llu schedules\n", (unsigned long long)explore(play, e, 2, 3, 1));
}

void three_threads_on_the_last_slots(void**) {
    Play play(5);
    auto body = [&](int me) {
        return [&play, me] {
            // Not everybody can have two at once: a refusal is an answer, losing a slot is not.
            if (play.take(me, 2)) play.give(me, 2);
            if (play.take(me, 1)) play.give(me, 1);
        };
    };
    Explorer e({body(0), body(1), body(2)});
    print_message("%llu schedules\n", (unsigned long long)explore(play, e, 3, 2, 1));
}

void deeper_and_sparser(void**) {
    Play play(8);
    auto body = [&](int me) {
        return [&play, me] {
            if (play.take(me, 4)) play.give(me, 4);
            if (play.take(me, 3)) play.give(me, 2);
        };
    };
    Explorer e({body(0), body(1)});
    print_message("%llu schedules\n", (unsigned long long)explore(play, e, 2, 4, 3));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(two_threads_through_the_global_stack),
        cmocka_unit_test(three_threads_on_the_last_slots),
        cmocka_unit_test(deeper_and_sparser),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
