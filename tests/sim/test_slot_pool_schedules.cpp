// The free lists under every schedule with up to three preemptions (two for three threads): threads take and give
// slots, and control may change hands before each atomic access.
//
// The code under test is compiled here a second time, with schedule points and chains of two slots, in a namespace of
// its own. Threads are contexts on one real thread, so a schedule is a list of numbers and every run can be repeated.
#define LARDER_SCHEDULE_EXPLORER 1
#define larder larder_explored
#include "base/alloc.cpp"
#include "memory/cpu_stacks.cpp"
#include "memory/slot_pool.cpp"
#undef larder

#include <memory>

#include "support/cmocka.h"
#include "support/explorer.h"

using explorer::Explorer;

void larder_explored::schedule_point() noexcept {
    Explorer::point();
}

namespace {

using larder_explored::Allocator;
using larder_explored::SlotPool;

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
    return explorer::explore(
        e, n_threads, n_preemptions, stride, [&] { play.reset(); }, [&] { play.judge(); });
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
