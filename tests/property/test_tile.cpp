// Kernel bodies on the host: every order of threads gives the same result, and a missing barrier is seen.
#include "support/cmocka.h"

#include <cstring>
#include <vector>

#include "../../cuda/kernels/gather_blocks.h"
#include "../../cuda/tile/host_block.h"
#include "base/hash.h"
#include "support/seed.h"

using namespace larder;
using namespace larder::tile;

namespace {

void gather_matches_a_loop(void**) {
    Rng rng(test_seed());
    for (uint64_t round = 0; round < test_rounds(40); ++round) {
        const uint64_t block = 16 * (1 + rng.below(round % 2 ? 4 : 3000)), stride = block + 16 * rng.below(3);
        const uint64_t n_pool = 1 + rng.below(20), n = 1 + rng.below(round % 2 ? 3000 : 6);
        std::vector<Vector16> pool(stride * n_pool / 16), packed(block * n / 16);
        for (auto* v : {&pool, &packed})
            for (auto& x : *v)
                for (auto& w : x.w) w = uint32_t(rng.next());
        std::vector<int32_t> table(n);
        std::vector<bool> used(n_pool, false);
        const bool scatter = rng.below(2);
        for (auto& b : table) {
            b = int32_t(rng.below(n_pool + 1)) - 1;
            if (scatter && b >= 0 && used[size_t(b)]) b = -1;
            if (b >= 0) used[size_t(b)] = true;
        }
        auto want_pool = pool, want_packed = packed;
        for (size_t i = 0; i < n; ++i) {
            if (table[i] < 0) continue;
            Vector16* in_pool = &want_pool[uint64_t(table[i]) * stride / 16];
            if (scatter)
                std::memcpy(in_pool, &want_packed[i * block / 16], block);
            else
                std::memcpy(&want_packed[i * block / 16], in_pool, block);
        }
        const GatherArgs args{reinterpret_cast<unsigned char*>(pool.data()),
                              reinterpret_cast<unsigned char*>(packed.data()),
                              table.data(),
                              block,
                              stride,
                              uint32_t(n),
                              scatter};
        const int64_t races = run_grid(int64_t(gather_tiles(args)), gather_threads, rng.next(), [&](HostBlock& b) {
            HostBlock::Shared<int32_t, gather_table_entries> numbers(b);
            gather_blocks(b, numbers, args);
        });
        assert_int_equal(races, 0);
        assert_memory_equal(pool.data(), want_pool.data(), pool.size() * 16);
        assert_memory_equal(packed.data(), want_packed.data(), packed.size() * 16);
    }
}

// Each thread reads what its neighbour wrote: right in two phases, a race in one.
template <bool with_barrier> int64_t rotate(uint64_t seed, std::vector<int>& out) {
    constexpr int n = 64;
    out.assign(n, 0);
    return run_grid(1, n, seed, [&](HostBlock& b) {
        HostBlock::Shared<int, n> s(b);
        const auto write = [&](int t) { s.store(t, t, t); };
        const auto read = [&](int t) { out[size_t(t)] = s.load(t, (t + 1) % n); };
        if (with_barrier) {
            b.phase(write);
            b.phase(read);
        } else {
            b.phase([&](int t) { write(t), read(t); });
        }
    });
}

void a_missing_barrier_is_a_race(void**) {
    std::vector<int> out;
    for (uint64_t seed = 0; seed < 64; ++seed) {
        assert_int_equal(rotate<true>(seed, out), 0);
        for (int t = 0; t < 64; ++t) assert_int_equal(out[size_t(t)], (t + 1) % 64);
        assert_true(rotate<false>(seed, out) > 0);
    }
}

void two_writers_are_a_race(void**) {
    assert_true(run_grid(1, 2, 1, [](HostBlock& b) {
                    HostBlock::Shared<int, 1> s(b);
                    b.phase([&](int t) { s.store(t, 0, t); });
                }) > 0);
    assert_true(run_grid(1, 3, 1, [](HostBlock& b) {
                    HostBlock::Shared<int, 1> s(b);
                    b.phase([&](int t) { t == 2 ? s.store(t, 0, t) : void(s.load(t, 0)); });
                }) > 0);
    assert_int_equal(run_grid(1, 2, 1,
                              [](HostBlock& b) {
                                  HostBlock::Shared<int, 1> s(b);
                                  b.phase([&](int t) { (void)s.load(t, 0); });
                                  b.phase([&](int t) { t == 0 ? s.store(t, 0, t) : void(); });
                              }),
                     0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(gather_matches_a_loop), cmocka_unit_test(a_missing_barrier_is_a_race),
                                cmocka_unit_test(two_writers_are_a_race)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
