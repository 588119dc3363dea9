// The loading controller on a simulated clock and link: against the exhaustive optimum on a steady link, and over
// random bandwidth, where it must never do worse than it could know.
#include "support/cmocka.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "base/hash.h"
#include "larder/larder.h"
#include "support/seed.h"

using larder::Rng;

namespace {

struct Case {
    uint32_t n_chunks, n_levels;
    std::vector<uint64_t> bytes, recompute;
    std::vector<double> values;
    uint64_t deadline, bandwidth, request;
};

Case random_case(Rng& r, uint32_t max_chunks) {
    Case c;
    c.n_chunks = uint32_t(1 + r.below(max_chunks));
    c.n_levels = uint32_t(1 + r.below(3));
    for (uint32_t i = 0; i < c.n_chunks; ++i) {
        const uint32_t own = uint32_t(1 + r.below(c.n_levels));
        for (uint32_t l = 0; l < c.n_levels; ++l) c.bytes.push_back(l < own ? 1000 + r.below(100000) : 0);
        c.recompute.push_back(r.below(3) ? 1000 + r.below(200000) : LARDER_LOADER_NEVER);
    }
    for (uint32_t l = 0; l <= c.n_levels; ++l) c.values.push_back(l + 1);
    c.bandwidth = 1000000000;  // a byte in a nanosecond
    c.request = r.below(2) ? 0 : r.below(3000);
    c.deadline = 20000 + r.below(uint64_t(c.n_chunks) * 150000);
    return c;
}

struct Loader {
    larder_context* context = nullptr;
    larder_loader* loader = nullptr;
    explicit Loader(const Case& c) {
        larder_context_options co = LARDER_CONTEXT_OPTIONS_INIT;
        co.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        assert_int_equal(larder_context_create(&co, &context), LARDER_OK);
        larder_loader_options o = LARDER_LOADER_OPTIONS_INIT;
        o.n_chunks = c.n_chunks, o.n_levels = c.n_levels, o.level_bytes = c.bytes.data();
        o.recompute_ns = c.recompute.data(), o.values = c.values.data();
        o.deadline_ns = c.deadline, o.bytes_per_s = c.bandwidth, o.request_ns = c.request;
        assert_int_equal(larder_loader_create(context, &o, &loader), LARDER_OK);
    }
    ~Loader() {
        larder_loader_destroy(loader);
        larder_context_destroy(context);
    }
    larder_loader_info info() const {
        larder_loader_info i = LARDER_LOADER_INFO_INIT;
        assert_int_equal(larder_loader_inspect(loader, &i), LARDER_OK);
        return i;
    }
};

// Runs to the end; transfer says when a read that begins now is over. Checks what every step must keep.
uint64_t run(const Case& c, Loader& l, const std::function<uint64_t(uint64_t now, uint64_t n_bytes)>& transfer) {
    std::vector<uint32_t> have(c.n_chunks, 0);
    std::vector<bool> usable(c.n_chunks, false);
    uint64_t now = 0;
    for (;;) {
        larder_loader_step s = LARDER_LOADER_STEP_INIT;
        const larder_status st = larder_loader_next(l.loader, now, &s);
        if (st == LARDER_MISS) return now;
        assert_int_equal(st, LARDER_OK);
        assert_int_equal(larder_loader_next(l.loader, now, &s), LARDER_E_STATE);
        for (uint32_t i = 0; i < s.chunk; ++i) assert_true(usable[i]);  // prefixes first
        if (s.action == LARDER_LOADER_FETCH) {
            uint64_t n = 0;
            assert_int_equal(s.first_level, have[s.chunk]);
            for (uint32_t k = s.first_level; k < s.first_level + s.n_levels; ++k)
                n += c.bytes[s.chunk * c.n_levels + k];
            assert_int_equal(s.n_bytes, n);
            have[s.chunk] += s.n_levels;
            now = transfer(now + c.request, n);
        } else {
            assert_int_equal(s.action, LARDER_LOADER_RECOMPUTE);
            now += c.recompute[s.chunk];
        }
        usable[s.chunk] = true;
        assert_int_equal(larder_loader_report(l.loader, now, 1), LARDER_OK);
    }
}

// The best sum of values that fits, and the least time that makes all usable; by trying everything.
void exhaust(const Case& c, uint32_t chunk, double ns, double value, double& best, double& least) {
    if (chunk == c.n_chunks) {
        least = std::min(least, ns);
        if (ns <= double(c.deadline)) best = std::max(best, value);
        return;
    }
    uint64_t n = 0;
    for (uint32_t l = 0; l < c.n_levels && c.bytes[chunk * c.n_levels + l]; ++l) {
        n += c.bytes[chunk * c.n_levels + l];
        exhaust(c, chunk + 1, ns + double(c.request + n), value + c.values[l], best, least);
    }
    if (c.recompute[chunk] != LARDER_LOADER_NEVER)
        exhaust(c, chunk + 1, ns + double(c.recompute[chunk]), value + c.values[c.n_levels], best, least);
}

// On a link that is as fast as was said the deadline is kept where it can be kept with the care that the controller
// takes, and the value comes near the optimum.
void a_steady_link_is_used_well(void**) {
    Rng r(test_seed());
    double got = 0, possible = 0;
    uint32_t kept = 0, could = 0;
    for (uint32_t round = 0; round < test_rounds(400); ++round) {
        const Case c = random_case(r, 5);
        Loader l(c);
        run(c, l, [](uint64_t now, uint64_t n) { return now + n; });
        double best = 0, least = 1e300;
        exhaust(c, 0, 0, 0, best, least);
        const larder_loader_info i = l.info();
        assert_int_equal(i.n_usable, c.n_chunks);
        assert_true(i.usable_ns >= uint64_t(least));
        // A quarter more time than needed is what an unknown link is given at first.
        if (least * 1.3 <= double(c.deadline)) assert_true(i.usable_ns <= c.deadline);
        could += best > 0;
        kept += best > 0 && i.usable_ns <= c.deadline;
        if (best <= 0 || i.usable_ns > c.deadline) continue;
        assert_true(i.value <= best + 1e-9);
        got += i.value, possible += best;
    }
    print_message("kept %u of %u deadlines that can be kept, %.3f of the optimal value\n", kept, could, got / possible);
    assert_true(kept >= 0.97 * could);
    assert_true(got >= 0.9 * possible);
}

void random_links_never_stop_it(void**) {
    Rng r(test_seed() + 1);
    for (uint32_t round = 0; round < test_rounds(300); ++round) {
        const Case c = random_case(r, 40);
        Loader l(c);
        const uint64_t end = run(c, l, [&](uint64_t now, uint64_t n) { return now + n * (1 + r.below(100)) / 10; });
        const larder_loader_info i = l.info();
        assert_int_equal(i.n_usable, c.n_chunks);
        assert_true(i.usable_ns > 0 && i.usable_ns <= end);
        // The same calls give the same answers.
        Loader a(c), b(c);
        const uint64_t x = run(c, a, [](uint64_t now, uint64_t n) { return now + n * 2 + n % 7; });
        assert_int_equal(x, run(c, b, [](uint64_t now, uint64_t n) { return now + n * 2 + n % 7; }));
        assert_true(a.info().value == b.info().value);
    }
}

// Slack that early chunks leave goes to later ones and to refinements of all.
void slack_is_carried_over(void**) {
    Case c;
    c.n_chunks = 4, c.n_levels = 2, c.bytes = {100, 100, 100, 100, 100, 100, 100, 100};
    c.recompute.assign(4, LARDER_LOADER_NEVER);
    c.values = {1, 2, 2};
    c.deadline = 1600, c.bandwidth = 500000000, c.request = 0;  // two nanoseconds a byte: 1600 for everything
    Loader l(c);
    run(c, l, [](uint64_t now, uint64_t n) { return now + n; });  // and then the link is twice as fast
    assert_true(l.info().value == 8);
    Loader slow(c);
    run(c, slow, [](uint64_t now, uint64_t n) { return now + 4 * n; });
    assert_true(slow.info().value == 4);
    assert_int_equal(slow.info().usable_ns, 1600);
}

void what_failed_is_tried_otherwise(void**) {
    Case c;
    c.n_chunks = 1, c.n_levels = 1, c.bytes = {1000};
    c.recompute = {10};
    c.values = {1, 1};
    c.deadline = 5000, c.bandwidth = 1000000000, c.request = 0;
    Loader l(c);
    larder_loader_step s = LARDER_LOADER_STEP_INIT;
    assert_int_equal(larder_loader_next(l.loader, 0, &s), LARDER_OK);
    assert_int_equal(s.action, LARDER_LOADER_RECOMPUTE);
    assert_int_equal(larder_loader_report(l.loader, 10, 0), LARDER_OK);
    assert_int_equal(larder_loader_next(l.loader, 10, &s), LARDER_OK);
    assert_int_equal(s.action, LARDER_LOADER_FETCH);
    assert_int_equal(larder_loader_report(l.loader, 20, 0), LARDER_OK);
    assert_int_equal(larder_loader_next(l.loader, 20, &s), LARDER_OK);
    assert_int_equal(larder_loader_report(l.loader, 1020, 1), LARDER_OK);
    assert_int_equal(larder_loader_next(l.loader, 1020, &s), LARDER_MISS);
    assert_int_equal(larder_loader_report(l.loader, 1020, 1), LARDER_E_STATE);
    assert_int_equal(larder_loader_next(l.loader, 1000, &s), LARDER_E_INVALID);
}

void bad_options_are_named(void**) {
    larder_context* context = nullptr;
    assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
    const uint64_t bytes[] = {10, 5, 0, 7};
    const double values[] = {2, 1, 3};
    larder_loader* l = nullptr;
    auto create = [&](auto change) {
        larder_loader_options o = LARDER_LOADER_OPTIONS_INIT;
        o.n_chunks = 1, o.n_levels = 2, o.level_bytes = bytes, o.bytes_per_s = 1000;
        change(o);
        const larder_status st = larder_loader_create(context, &o, &l);
        if (st == LARDER_OK) larder_loader_destroy(l);
        return st;
    };
    assert_int_equal(create([](larder_loader_options&) {}), LARDER_OK);
    assert_int_equal(create([](larder_loader_options& o) { o.n_chunks = 2; }), LARDER_E_INVALID);
    assert_int_equal(create([](larder_loader_options& o) { o.n_chunks = 0; }), LARDER_E_RANGE);
    assert_int_equal(create([](larder_loader_options& o) { o.n_levels = 9; }), LARDER_E_RANGE);
    assert_int_equal(create([](larder_loader_options& o) { o.level_bytes = nullptr; }), LARDER_E_INVALID);
    assert_int_equal(create([&](larder_loader_options& o) { o.values = values; }), LARDER_E_INVALID);
    assert_int_equal(create([](larder_loader_options& o) { o.bytes_per_s = 0; }), LARDER_E_RANGE);
    assert_int_equal(create([](larder_loader_options& o) { o.reserved0 = 1; }), LARDER_E_INVALID);
    larder_context_destroy(context);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_steady_link_is_used_well), cmocka_unit_test(random_links_never_stop_it),
        cmocka_unit_test(slack_is_carried_over),      cmocka_unit_test(what_failed_is_tried_otherwise),
        cmocka_unit_test(bad_options_are_named),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
