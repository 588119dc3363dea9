// The B-skiplist under several threads: recorded histories, scans against splits and merges, racing writers.
#include "support/cmocka.h"

#include <map>
#include <thread>
#include <vector>

#include "index/skiplist.h"
#include "support/linear.h"
#include "support/seed.h"

using namespace larder;
using List = bskip::Skiplist<1, 1>;
using Key = bskip::Key<1>;
using Value = bskip::Value<1>;

namespace {

larder_context* context;

int set_up(void**) {
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    return larder_context::create(&o, posix_os(), &context);
}
int tear_down(void**) {
    return larder_context_destroy(context);
}

struct World {
    SlabPool slabs{*context, uint64_t(1) << 40};
    List list{*context, slabs};
    World() { assert_int_equal(list.init(), LARDER_OK); }
    void check() {
        if (list.verify(context->alloc) < 0) print_error("%s\n", last_error().message);
        assert_int_equal(list.verify(context->alloc), LARDER_OK);
    }
};

// ---- the checker itself
// -----------------------------------------------------------------------------------------------

void checker_tells_right_from_wrong(void**) {
    using Op = LinearOp;
    const auto op = [](Op::Kind kind, uint64_t argument, bool done, std::optional<uint64_t> seen, uint64_t began,
                       uint64_t ended,
                       uint64_t expected = 0) { return Op{kind, 0, argument, expected, done, seen, began, ended}; };
    // A get may see a put that overlaps it, and must see one that ended before it.
    assert_true(LinearChecker::linearizable({op(Op::put, 1, true, {}, 0, 10), op(Op::get, 0, true, 1, 5, 6)}));
    assert_true(LinearChecker::linearizable({op(Op::put, 1, true, {}, 0, 10), op(Op::get, 0, false, {}, 5, 6)}));
    assert_false(LinearChecker::linearizable({op(Op::put, 1, true, {}, 0, 4), op(Op::get, 0, false, {}, 5, 6)}));
    // Two gets may not see two overlapping puts in an order and back.
    assert_false(LinearChecker::linearizable({op(Op::put, 1, true, {}, 0, 100), op(Op::put, 2, true, {}, 0, 100),
                                              op(Op::get, 0, true, 1, 10, 11), op(Op::get, 0, true, 2, 12, 13),
                                              op(Op::get, 0, true, 1, 14, 15)}));
    // Only one of two inserts wins; only one of two removals gets the value.
    assert_false(LinearChecker::linearizable({op(Op::insert, 1, true, {}, 0, 9), op(Op::insert, 2, true, {}, 0, 9)}));
    assert_false(LinearChecker::linearizable({op(Op::remove, 0, true, 7, 0, 9), op(Op::remove, 0, true, 7, 0, 9)}, 7));
    assert_true(
        LinearChecker::linearizable({op(Op::swap, 8, true, {}, 0, 9, 7), op(Op::swap, 9, false, 8, 0, 9, 7)}, 7));
    assert_false(
        LinearChecker::linearizable({op(Op::swap, 8, true, {}, 0, 9, 7), op(Op::swap, 9, true, {}, 0, 9, 7)}, 7));
}

// ---- recorded histories
// -----------------------------------------------------------------------------------------------

constexpr uint64_t n_hot_keys = 2, spread = 1000;

void run_one(List& list, LinearOp& o) {
    Value v{}, before{o.expected};
    const Key k{o.key};
    o.began = posix_os().now_ns();
    switch (o.kind) {
    case LinearOp::get:
        o.done = list.get(k, v);
        if (o.done) o.seen = v.w[0];
        break;
    case LinearOp::put:
        o.done = list.put(k, {o.argument}) == LARDER_OK;
        break;
    case LinearOp::insert:
        o.done = list.insert(k, {o.argument}, &v) == LARDER_OK;
        if (!o.done) o.seen = v.w[0];
        break;
    case LinearOp::swap: {
        const larder_status s = list.swap(k, before, {o.argument});
        o.done = s == LARDER_OK;
        if (s == LARDER_E_STATE) o.seen = before.w[0];
        break;
    }
    case LinearOp::remove:
        o.done = list.remove(k, &v);
        if (o.done) o.seen = v.w[0];
        break;
    }
    o.ended = posix_os().now_ns();
}

// Threads meet on two keys per round, while another one makes the leaves around them split and merge.
void record_histories(size_t n_threads) {
    const uint64_t seed = test_seed();
    const size_t n_ops = 4;
    const uint64_t n_rounds = test_rounds(2'500);
    World w;
    std::vector<std::vector<LinearOp>> history(n_threads);
    std::atomic<uint64_t> arrived{0};
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (size_t t = 0; t < n_threads; ++t)
        threads.emplace_back([&, t] {
            Rng r(seed + t);
            history[t].reserve(n_rounds * n_ops);
            for (uint64_t round = 0; round < n_rounds; ++round) {
                arrived.fetch_add(1);
                while (arrived.load() < (round + 1) * n_threads) std::this_thread::yield();
                for (size_t i = 0; i < n_ops; ++i) {
                    LinearOp o{};
                    o.kind = LinearOp::Kind(r.below(5));
                    o.key = (round * n_hot_keys + r.below(n_hot_keys)) * spread;
                    o.argument = t * 100 + i + 1;
                    o.expected = r.below(n_threads) * 100 + r.below(n_ops) + 1;
                    run_one(w.list, o);
                    history[t].push_back(o);
                }
            }
        });
    std::thread churn([&] {
        Rng r(seed ^ 99);
        while (!stop.load()) {
            const uint64_t base = arrived.load() / n_threads * n_hot_keys * spread;
            // Odd keys only: the hot ones are even.
            for (int i = 0; i < 400; ++i) w.list.put({base + r.below(2 * spread) * 2 + 1}, {1});
            for (uint64_t k = base + 1; k < base + 4 * spread; k += 2) w.list.remove({k}, nullptr);
        }
    });
    for (auto& t : threads) t.join();
    stop = true;
    churn.join();
    std::map<uint64_t, std::vector<LinearOp>> by_key;
    for (auto& h : history)
        for (auto& o : h) by_key[o.key].push_back(o);
    for (auto& [key, ops] : by_key) {
        if (!LinearChecker::linearizable(ops))
            print_error("key %llu:\n%s", (unsigned long long)key, LinearChecker::text(ops).c_str());
        assert_true(LinearChecker::linearizable(ops));
    }
    w.check();
}

// Twice n_rounds histories by each number of threads; a long run checks 3 x 10^5.
void histories_are_linearizable(void**) {
    for (size_t n_threads : {2, 3, 4}) record_histories(n_threads);
}

// ---- scans
// ------------------------------------------------------------------------------------------------------------

// Multiples of 3 are always there; the rest comes and goes in waves that split and merge every leaf. A scan sees each
// multiple of 3 exactly once, in order.
void scans_see_what_stays(void**) {
    const uint64_t seed = test_seed(), n = 6000;
    const uint64_t n_waves = test_rounds(30);
    // In a long run, for a minute: the published code locks up within a second.
    const uint64_t until = posix_os().now_ns() + (test_long() ? 60'000'000'000 : 0);
    World w;
    for (uint64_t k = 0; k < n; k += 3) assert_int_equal(w.list.put({k}, {k}), LARDER_OK);
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> n_scans{0}, n_bad{0};
    std::thread scanner([&] {
        Rng r(seed);
        std::vector<Key> keys(n + 1);
        std::vector<Value> values(n + 1);
        while (!stop.load()) {
            const bool up = r.below(2);
            const uint64_t from = r.below(n), len = 1 + r.below(n);
            const Key k{from};
            const size_t got = up ? w.list.scan_up(&k, false, len, keys.data(), values.data())
                                  : w.list.scan_down(&k, false, len, keys.data(), values.data());
            uint64_t expect = up ? (from + 2) / 3 * 3 : from / 3 * 3;
            bool good = true;
            for (size_t i = 0; i < got; ++i) {
                if (i) good &= up ? keys[i].w[0] > keys[i - 1].w[0] : keys[i].w[0] < keys[i - 1].w[0];
                good &= values[i].w[0] == keys[i].w[0];
                if (keys[i].w[0] % 3) continue;
                good &= keys[i].w[0] == expect;
                expect = up ? expect + 3 : expect - 3;
            }
            if (got < len) good &= up ? expect >= n : expect == uint64_t(0) - 3;
            if (!good) ++n_bad;
            ++n_scans;
        }
    });
    std::vector<std::thread> writers;
    for (uint64_t t = 1; t < 3; ++t)
        writers.emplace_back([&, t] {
            for (uint64_t wave = 0; wave < n_waves || posix_os().now_ns() < until; ++wave) {
                for (uint64_t k = t; k < n; k += 3) w.list.put({k}, {k});
                for (uint64_t k = t; k < n; k += 3) w.list.remove({k}, nullptr);
            }
        });
    for (auto& t : writers) t.join();
    while (n_scans.load() < 10) std::this_thread::yield();
    stop = true;
    scanner.join();
    assert_int_equal(n_bad.load(), 0);
    assert_int_equal(w.list.count(), n / 3);
    w.check();
}

// ---- many writers
// -----------------------------------------------------------------------------------------------------

// Each thread owns every n-th key and knows what must be there: nobody else's write may touch it.
void owners_find_their_own(void**) {
    const uint64_t seed = test_seed();
    constexpr uint64_t n_threads = 4, n_keys = 4000;
    const uint64_t n_ops = test_rounds(60'000);
    World w;
    std::atomic<uint64_t> n_bad{0}, n_left{0};
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < n_threads; ++t)
        threads.emplace_back([&, t] {
            Rng r(seed + t);
            std::map<uint64_t, uint64_t> mine;
            for (uint64_t i = 0; i < n_ops; ++i) {
                // Bursts of removals make leaves merge.
                const uint64_t k = (i / 2000 & 1 ? i % n_keys : r.below(n_keys)) * n_threads + t;
                Value v{};
                auto it = mine.find(k);
                switch (i / 2000 & 1 ? 3 : r.below(4)) {
                case 0:
                    n_bad += w.list.get({k}, v) != (it != mine.end()) || (it != mine.end() && v.w[0] != it->second);
                    break;
                case 1:
                case 2:
                    n_bad += w.list.put({k}, {i}) != LARDER_OK;
                    mine[k] = i;
                    break;
                default:
                    n_bad += w.list.remove({k}, &v) != (it != mine.end()) || (it != mine.end() && v.w[0] != it->second);
                    if (it != mine.end()) mine.erase(it);
                }
                if (i % 512) continue;
                Key keys[40];
                Value values[40];
                bool found[40];
                for (auto& x : keys) x = {r.below(n_keys) * n_threads + t};
                w.list.get_many(keys, 40, values, found);
                for (int j = 0; j < 40; ++j) {
                    auto at = mine.find(keys[j].w[0]);
                    n_bad += found[j] != (at != mine.end()) || (found[j] && values[j].w[0] != at->second);
                }
            }
            n_left += mine.size();
        });
    for (auto& t : threads) t.join();
    assert_int_equal(n_bad.load(), 0);
    assert_int_equal(w.list.count(), n_left.load());
    w.check();
}

// A million removals use no more nodes than the keys that are there at a time: freed nodes are used again at once,
// whoever may still be reading them.
void memory_stays_bounded(void**) {
    World w;
    const uint64_t n = test_rounds(1'000'000), window = 20'000;
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> n_bad{0};
    std::thread reader([&] {
        Rng r(test_seed());
        for (Value v; !stop.load();) {
            const uint64_t k = r.below(n);
            if (w.list.get({k}, v)) n_bad += v.w[0] != k;
        }
    });
    uint64_t most = 0;
    for (uint64_t i = 0; i < n; ++i) {
        w.list.put({i}, {i});
        if (i >= window) n_bad += !w.list.remove({i - window}, nullptr);
        if (i % 1000 == 0) most = std::max(most, w.list.totals().n_nodes + w.list.totals().n_free_nodes);
    }
    stop = true;
    reader.join();
    assert_int_equal(n_bad.load(), 0);
    assert_in_range(most, 1, window / 16);
    w.check();
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(checker_tells_right_from_wrong), cmocka_unit_test(histories_are_linearizable),
        cmocka_unit_test(scans_see_what_stays),           cmocka_unit_test(owners_find_their_own),
        cmocka_unit_test(memory_stays_bounded),
    };
    return cmocka_run_group_tests_name("skiplist_threads", tests, set_up, tear_down);
}
