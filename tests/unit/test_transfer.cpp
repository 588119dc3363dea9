// Path queues and the merging of copies.
#include "support/cmocka.h"

#include <thread>
#include <vector>

#include "base/hash.h"
#include "core/context.h"
#include "support/seed.h"
#include "transfer/copy_runs.h"
#include "transfer/path_queue.h"
#include "transfer/throttle.h"

using namespace larder;

namespace {

larder_context* make_context(uint32_t n_workers) {
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    o.n_workers = n_workers;
    larder_context* c = nullptr;
    assert_int_equal(larder_context_create(&o, &c), LARDER_OK);
    return c;
}

struct Probe : PathTask {
    PathQueue* queue = nullptr;
    std::vector<int>* log = nullptr;
    int name = 0;
    static void run_probe(Task* t) noexcept {
        auto* p = static_cast<Probe*>(t);
        p->log->push_back(p->name);
        p->queue->done(p->n_bytes);
    }
    Probe(PathQueue& q, std::vector<int>& l, int n, Priority pr, uint64_t bytes) : queue(&q), log(&l), name(n) {
        run = run_probe;
        priority = pr;
        n_bytes = bytes;
    }
};

void test_budget_and_priority(void**) {
    larder_context* c = make_context(0);
    {
        PathQueue q(c->scheduler, 100);
        std::vector<int> log;
        Probe a(q, log, 1, Priority::write_back, 60), b(q, log, 2, Priority::write_back, 60),
            d(q, log, 3, Priority::prefetch, 30), e(q, log, 4, Priority::demand, 500),
            f(q, log, 5, Priority::write_back, 1);
        q.submit(&a);
        assert_int_equal(q.bytes_in_flight(), 60);
        q.submit(&b);  // does not fit
        q.submit(&d);  // fits beside a
        q.submit(&e);  // larger than the budget: alone
        q.submit(&f);
        assert_int_equal(q.bytes_in_flight(), 90);
        assert_int_equal(q.n_waiting(), 3);
        assert_true(q.cancel(&f));
        assert_false(q.cancel(&f));
        assert_false(q.cancel(&a));
        while (c->scheduler.progress(1)) {
        }
        const std::vector<int> want{3, 1, 4, 2};
        assert_true(log == want);
        assert_int_equal(q.bytes_in_flight(), 0);
    }
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

void test_many_threads(void**) {
    larder_context* c = make_context(2);
    {
        struct Counted : PathTask {
            PathQueue* queue;
            atomic<uint64_t>* sum;
        };
        PathQueue q(c->scheduler, 1000);
        atomic<uint64_t> sum{0};
        std::vector<Counted> tasks(3000);
        std::vector<std::thread> threads;
        for (size_t t = 0; t < 3; ++t)
            threads.emplace_back([&, t] {
                for (size_t i = t; i < tasks.size(); i += 3) {
                    Counted& k = tasks[i];
                    k.queue = &q;
                    k.sum = &sum;
                    k.n_bytes = i % 400;
                    k.priority = Priority(i % n_priorities);
                    k.run = [](Task* task) noexcept {
                        auto* me = static_cast<Counted*>(task);
                        PathQueue* queue = me->queue;
                        const uint64_t n = me->n_bytes;
                        me->sum->fetch_add(n, relaxed);
                        queue->done(n);
                    };
                    q.submit(&k);
                }
            });
        for (auto& t : threads) t.join();
        c->scheduler.stop();
        uint64_t want = 0;
        for (size_t i = 0; i < tasks.size(); ++i) want += i % 400;
        assert_int_equal(sum.load(relaxed), want);
        assert_int_equal(q.bytes_in_flight(), 0);
        assert_int_equal(q.n_waiting(), 0);
    }
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

void test_runs_copy_the_same(void**) {
    Rng rng(test_seed());
    for (int round = 0; round < 2000; ++round) {
        const uint64_t stride = uint64_t(1) << rng.below(5);
        std::vector<uint64_t> dst, src;
        for (uint64_t at = rng.below(3), to = 0; at < 64; at += 1 + (rng.below(3) == 0 ? rng.below(6) : 0)) {
            if (to > at) break;
            src.push_back(at);
            dst.push_back(to);
            to += 1 + (rng.below(8) == 0);
        }
        std::vector<int> a(128), b;
        for (int i = 0; i < 128; ++i) a[size_t(i)] = i;
        b = a;
        for (size_t i = 0; i < dst.size(); ++i) a[dst[i]] = a[src[i]];
        const uint64_t n = for_each_copy_run(dst, src, stride, [&](CopyRun r) {
            assert_true(r.dst / stride == (r.dst + r.n - 1) / stride && r.src / stride == (r.src + r.n - 1) / stride);
            std::memmove(&b[r.dst], &b[r.src], r.n * sizeof(int));
        });
        assert_true(a == b);
        assert_true(n <= dst.size());
    }
}

// Against a model that keeps every taking: over any stretch of time no more than its share and what may come at once,
// and nothing is held back longer than it must be.
void test_throttle(void**) {
    Rng rng(test_seed());
    for (int round = 0; round < 50; ++round) {
        const uint64_t rate = 1 + rng.below(round % 2 ? 1000000 : 20), period = 1 + rng.below(1000000),
                       burst = 1 + rng.below(5000);
        uint64_t now = rng.below(1000);
        Throttle t(rate, period, burst, now);
        std::vector<std::pair<uint64_t, uint64_t>> taken;
        for (int i = 0; i < 200; ++i) {
            const uint64_t wait = t.wait_ns(now);
            if (wait && rng.below(2)) {
                if (wait > 1) assert_false(t.open(now + (wait - 1) / 2));
                now += wait + 1;  // asking in between may cost a nanosecond
                assert_true(t.open(now));
            } else {
                now += rng.below(2 * period / rate + 2);
            }
            if (!t.open(now)) continue;
            const uint64_t n = 1 + rng.below(300);
            t.take(n);
            taken.emplace_back(now, n);
        }
        for (size_t a = 0; a < taken.size(); ++a) {
            uint64_t sum = 0;
            for (size_t b = a; b < taken.size(); ++b) {
                sum += taken[b].second;
                const double most = double(taken[b].first - taken[a].first) * double(rate) / double(period);
                assert_true(double(sum) <= most + double(burst) + 300 + 1);
            }
        }
    }
    Throttle none;
    assert_true(none.open(0));
    none.take(uint64_t(1) << 40);
    assert_true(none.open(1));
    assert_int_equal(none.wait_ns(1), 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(test_throttle), cmocka_unit_test(test_budget_and_priority),
                                cmocka_unit_test(test_many_threads), cmocka_unit_test(test_runs_copy_the_same)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
