// More threads than CPUs on one small pool: slots are taken and given in every size, the pool runs dry all the time, so
// that stacks of other CPUs are gathered while their threads are inside. Nobody may get a slot that another one holds.
#include "support/cmocka.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "base/hash.h"
#include "memory/slot_pool.h"
#include "os/posix.h"
#include "support/seed.h"

using namespace larder;

namespace {

void storm(const Cpus& cpus, uint32_t n_slots, uint32_t n_threads) {
    const Allocator a;
    SlotPool pool(a, 1, n_slots + 1, cpus);
    AtomicArray<uint32_t> owner(a, n_slots + 1);
    atomic<uint32_t> n_broken{0};
    atomic<uint64_t> n_refused{0};
    const uint64_t rounds = test_rounds(60000);
    auto work = [&](uint32_t me) {
        Rng rng(test_seed() + me);
        std::vector<uint32_t> mine;
        uint32_t slots[200];
        for (uint64_t i = 0; i < rounds; ++i) {
            const uint32_t most = rng.below(8) ? 5 : 200;
            const auto n = uint32_t(1 + rng.below(most));
            if (rng.below(2)) {
                if (n == 1 ? (slots[0] = pool.take_one()) == SlotPool::none : !pool.take({slots, n})) {
                    n_refused.fetch_add(1, relaxed);
                    continue;
                }
                for (uint32_t k = 0; k < n; ++k) {
                    if (slots[k] - 1 >= n_slots || owner[slots[k]].exchange(me, relaxed))
                        n_broken.fetch_add(1, relaxed);
                    mine.push_back(slots[k]);
                }
            } else {
                const size_t k = std::min<size_t>(n, mine.size());
                for (size_t j = 0; j < k; ++j) {
                    slots[j] = mine.back();
                    mine.pop_back();
                    if (owner[slots[j]].exchange(0, relaxed) != me) n_broken.fetch_add(1, relaxed);
                }
                if (k == 1)
                    pool.give_one(slots[0]);
                else
                    pool.give({slots, k});
            }
        }
        for (uint32_t s : mine) owner[s].store(0, relaxed);
        pool.give(mine);
    };
    std::vector<std::thread> threads;
    for (uint32_t t = 0; t < n_threads; ++t) threads.emplace_back(work, t + 1);
    for (auto& t : threads) t.join();
    assert_int_equal(n_broken.load(relaxed), 0);
    assert_true(n_refused.load(relaxed) > 0);
    assert_int_equal(pool.n_free(), n_slots);
    std::vector<uint32_t> seen(n_slots + 1, 0);
    pool.for_each_free([&](uint32_t s) { ++seen[s]; });
    for (uint32_t s = 1; s <= n_slots; ++s) assert_int_equal(seen[s], 1);
    std::vector<uint32_t> all(n_slots);
    assert_true(pool.take(all));
    assert_int_equal(pool.take_one(), SlotPool::none);
    assert_int_equal(pool.n_free(), 0);
}

void restartable(void**) {
    Os& os = posix_os();
    print_message("%u restartable CPUs\n", os.topology().n_restartable_cpus);
    for (uint32_t n : {40u, 700u, 5000u}) storm(Cpus(os), n, 6);
}

void with_locks(void**) {
    for (uint32_t n : {40u, 700u}) storm(Cpus(2u), n, 6);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(restartable), cmocka_unit_test(with_locks)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
