// Hints: right ones are there in time, wrong ones soon cost nothing, none of them changes what an acquire returns, and
// what is waited for goes before what is foreseen.
#include "support/cmocka.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "larder/larder.h"
#include "support/seed.h"

using larder::Rng;

namespace {

constexpr uint32_t n_layers = 4, n_experts = 32, k = 4;
constexpr uint64_t n_bytes = 16384, chunk = 4096;

struct Bed {
    larder_context* context = nullptr;
    larder_expert_cache* cache = nullptr;
    std::vector<std::pair<uint32_t, uint32_t>> log;  // layer and expert of each chunk

    explicit Bed(uint32_t n_slots) {
        larder_context_options co = LARDER_CONTEXT_OPTIONS_INIT;
        co.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        assert_int_equal(larder_context_create(&co, &context), LARDER_OK);
        larder_expert_precision p = LARDER_EXPERT_PRECISION_INIT;
        p.source = LARDER_EXPERT_SOURCE_CALLBACK;
        p.load = {load, this, nullptr};
        p.n_bytes = n_bytes;
        p.layer_slots = n_slots;
        larder_expert_options o = LARDER_EXPERT_OPTIONS_INIT;
        o.n_layers = n_layers, o.n_experts = n_experts, o.n_precisions = 1, o.precisions = &p;
        o.precision_stride = sizeof p, o.chunk_bytes = chunk, o.n_channels = 1;
        assert_int_equal(larder_expert_create(context, &o, &cache), LARDER_OK);
    }
    ~Bed() {
        larder_expert_destroy(cache);
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
    static larder_status load(void* ctx, uint32_t layer, uint32_t e, uint64_t, void* dst, uint64_t n) {
        static_cast<Bed*>(ctx)->log.push_back({layer, e});
        std::memset(dst, int(layer * n_experts + e), n);
        return LARDER_OK;
    }
    void progress(uint32_t n) {
        for (uint32_t i = 0; i < n; ++i) assert_true(larder_context_progress(context, 1) >= 0);
    }
    void acquire(uint32_t layer, const std::vector<uint32_t>& ids) {
        std::vector<larder_expert_view> v(ids.size());
        larder_expert_lease lease = 0;
        assert_int_equal(larder_expert_acquire(cache, layer, ids.data(), uint32_t(ids.size()), v.data(), sizeof v[0],
                                               nullptr, 0, nullptr, &lease),
                         LARDER_OK);
        for (size_t i = 0; i < ids.size(); ++i) {
            const auto* p = reinterpret_cast<const unsigned char*>(v[i].address);
            for (uint64_t at = 0; at < n_bytes; at += 511)
                assert_int_equal(p[at], (unsigned char)(layer * n_experts + ids[i]));
        }
        assert_int_equal(larder_expert_release(cache, lease), LARDER_OK);
        assert_int_equal(larder_expert_verify(cache), LARDER_OK);
    }
    larder_status hint(uint32_t layer, const std::vector<uint32_t>& ids, uint32_t source = 0, uint64_t deadline = 0) {
        return larder_expert_hint(cache, layer, ids.data(), nullptr, uint32_t(ids.size()), source, deadline);
    }
    larder_expert_state state() {
        larder_expert_state s = LARDER_EXPERT_STATE_INIT;
        assert_int_equal(larder_expert_query(cache, &s), LARDER_OK);
        return s;
    }
};

// Topics, so that a cache without hints is of some use.
std::vector<std::vector<uint32_t>> routes(Rng& r, uint32_t n_tokens) {
    std::vector<std::vector<uint32_t>> out;
    uint32_t topic = 0;
    for (uint32_t t = 0; t < n_tokens * n_layers; ++t) {
        if (r.below(60) == 0) topic = uint32_t(r.below(n_experts));
        std::vector<uint32_t> ids;
        while (ids.size() < k) {
            const uint32_t e = uint32_t(r.below(8) ? topic + r.below(9) : r.next()) % n_experts;
            if (std::find(ids.begin(), ids.end(), e) == ids.end()) ids.push_back(e);
        }
        out.push_back(ids);
    }
    return out;
}

enum class Hints { none, right, wrong };

larder_expert_state run(const std::vector<std::vector<uint32_t>>& steps, Hints hints) {
    Bed bed(2 * k);
    for (size_t i = 0; i < steps.size(); ++i) {
        std::vector<uint32_t> ids = steps[i];
        if (hints == Hints::wrong)
            for (uint32_t& e : ids)
                while (std::find(steps[i].begin(), steps[i].end(), e) != steps[i].end()) e = (e + 7) % n_experts;
        if (hints != Hints::none) {
            assert_int_equal(bed.hint(uint32_t(i % n_layers), ids), LARDER_OK);
            bed.progress(20);
        }
        bed.acquire(uint32_t(i % n_layers), steps[i]);
    }
    return bed.state();
}

void right_and_wrong(void**) {
    Rng r(test_seed());
    const auto steps = routes(r, uint32_t(test_rounds(300)));
    const larder_expert_state none = run(steps, Hints::none), right = run(steps, Hints::right),
                              wrong = run(steps, Hints::wrong);
    assert_int_equal(right.n_hits, right.n_acquired);
    assert_int_equal(right.n_late, 0);
    assert_true(none.n_hits < none.n_acquired);
    assert_true(double(wrong.loaded_bytes) <= 1.05 * double(none.loaded_bytes));
    assert_true(double(wrong.n_acquired - wrong.n_hits) <= 1.05 * double(none.n_acquired - none.n_hits));
}

// One source that is always wrong does not speak for the other.
void each_source_by_itself(void**) {
    Bed bed(2 * k);
    for (uint32_t t = 0; t < 60; ++t) {
        const uint32_t base = t % 4 * k;
        const std::vector<uint32_t> ids = {base, base + 1, base + 2, base + 3};
        assert_int_equal(bed.hint(0, {(base + 16) % n_experts, (base + 17) % n_experts}, 3), LARDER_OK);
        assert_int_equal(bed.hint(0, ids, 1), LARDER_OK);
        bed.progress(40);
        bed.acquire(0, ids);
    }
    const larder_expert_state s = bed.state();
    assert_int_equal(s.n_hits, s.n_acquired);
    // After its first few the wrong source loads nothing: what is loaded is what is asked for.
    assert_true(s.n_loads <= s.n_acquired + 24);
}

void demand_goes_first(void**) {
    Bed bed(2 * k);
    assert_int_equal(bed.hint(1, {1, 2, 3}, 0, 1000000000), LARDER_OK);
    assert_int_equal(bed.hint(2, {9}, 0, 1000), LARDER_OK);
    bed.progress(1);
    assert_int_equal(bed.log.size(), 1);
    assert_true(bed.log[0] == std::pair(2u, 9u));  // the earlier deadline
    bed.acquire(0, {5, 6});
    // Not one chunk of what is only foreseen came between.
    assert_int_equal(bed.log.size(), 1 + 2 * n_bytes / chunk);
    for (size_t i = 1; i < bed.log.size(); ++i) assert_int_equal(bed.log[i].first, 0);
    // What was foreseen and is now waited for goes first too, from where it was.
    const size_t before = bed.log.size();
    bed.acquire(1, {3});
    assert_int_equal(bed.log.size() - before, n_bytes / chunk);
    for (size_t i = before; i < bed.log.size(); ++i) assert_true(bed.log[i] == std::pair(1u, 3u));
    assert_int_equal(bed.state().n_late, 1);
    bed.progress(100);
    assert_int_equal(bed.state().n_loads, 6);
}

void bad_hints(void**) {
    Bed bed(2 * k);
    const uint32_t ids[] = {1, n_experts};
    const float p[] = {0.5f, 0}, high[] = {1.5f};
    assert_int_equal(larder_expert_hint(bed.cache, n_layers, ids, nullptr, 1, 0, 0), LARDER_E_RANGE);
    assert_int_equal(larder_expert_hint(bed.cache, 0, ids, nullptr, 2, 0, 0), LARDER_E_RANGE);
    assert_int_equal(larder_expert_hint(bed.cache, 0, ids, high, 1, 0, 0), LARDER_E_RANGE);
    assert_int_equal(larder_expert_hint(bed.cache, 0, ids, nullptr, 1, 8, 0), LARDER_E_RANGE);
    assert_int_equal(larder_expert_hint(bed.cache, 0, nullptr, nullptr, 1, 0, 0), LARDER_E_INVALID);
    const uint32_t two[] = {1, 2};
    assert_int_equal(larder_expert_hint(bed.cache, 0, two, p, 2, 0, 0), LARDER_E_RANGE);
    assert_int_equal(bed.state().n_foreseen, 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(right_and_wrong),
        cmocka_unit_test(each_source_by_itself),
        cmocka_unit_test(demand_goes_first),
        cmocka_unit_test(bad_hints),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
