// Eight threads on one expert cache: what is held has the right bytes and stays, whatever the others load, evict and
// fail to load.
#include "support/cmocka.h"

#include <array>
#include <atomic>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "base/hash.h"
#include "larder/larder.h"
#include "support/seed.h"

using larder::mix64;
using larder::Rng;

namespace {

constexpr uint32_t n_layers = 3, n_experts = 24, n_threads = 8, bad_expert = 5;
constexpr uint64_t n_bytes = 12000;

unsigned char byte_of(uint32_t layer, uint32_t e, uint64_t at) {
    return (unsigned char)(mix64(layer * 100 + e) >> at % 8 * 8);
}

larder_status load(void* ctx, uint32_t layer, uint32_t e, uint64_t offset, void* dst, uint64_t n) {
    auto& n_loads = *static_cast<std::atomic<uint64_t>*>(ctx);
    if (e == bad_expert && n_loads.fetch_add(1) % 2) return LARDER_E_IO;
    for (uint64_t i = 0; i < n; ++i) static_cast<unsigned char*>(dst)[i] = byte_of(layer, e, offset + i);
    return LARDER_OK;
}

struct Counts {
    std::atomic<uint64_t> wrong{0}, held{0}, busy{0}, failed{0};
};

bool right(uint32_t layer, uint32_t e, const larder_expert_view& v) {
    const auto* p = reinterpret_cast<const unsigned char*>(v.address);
    for (uint64_t i = 0; i < n_bytes; i += 97)
        if (p[i] != byte_of(layer, e, i)) return false;
    return p[n_bytes - 1] == byte_of(layer, e, n_bytes - 1);
}

void work(larder_context* context, larder_expert_cache* cache, uint64_t seed, uint64_t n, Counts& counts) {
    Rng r(seed);
    larder_queue* queue = nullptr;
    if (larder_queue_create(context, nullptr, &queue) != LARDER_OK) ++counts.wrong;
    for (uint64_t i = 0; i < n; ++i) {
        const uint32_t layer = uint32_t(r.below(n_layers));
        std::set<uint32_t> set;
        while (set.size() < 1 + r.below(4)) set.insert(uint32_t(r.below(2) ? r.below(8) : r.below(n_experts)));
        const std::vector<uint32_t> ids(set.begin(), set.end());
        if (r.below(3) == 0) {
            const uint32_t likely[2] = {uint32_t(r.below(n_experts)), uint32_t(r.below(8))};
            const float p[2] = {1, float(1 + r.below(100)) / 100};
            if (larder_expert_hint(cache, uint32_t(r.below(n_layers)), likely, p, 2, uint32_t(r.below(3)),
                                   r.below(1000000)) != LARDER_OK)
                ++counts.wrong;
        }
        std::array<larder_expert_view, 8> v{};
        larder_expert_lease lease = 0;
        larder_job job = 0;
        const bool by_job = r.below(2);
        larder_status s = larder_expert_acquire(cache, layer, ids.data(), uint32_t(ids.size()), v.data(), sizeof v[0],
                                                by_job ? queue : nullptr, i, &job, &lease);
        if (s == LARDER_PENDING && r.below(4) == 0) {
            // Ended at once: others may take the slots while the job is on its way.
            if (larder_expert_release(cache, lease) != LARDER_OK) ++counts.wrong;
            lease = 0;
        }
        if (s == LARDER_PENDING) {
            larder_completion c{};
            uint32_t n_done = 0;
            if (larder_queue_wait(queue, &c, sizeof c, 1, UINT64_MAX, &n_done) != LARDER_OK || c.user_data != i)
                ++counts.wrong;
            s = c.status;
        }
        if (s < 0) {
            if (s != LARDER_E_BUSY) ++counts.wrong;
            ++counts.busy;
            continue;
        }
        if (!lease) continue;
        for (size_t k = 0; k < ids.size(); ++k) {
            if (v[k].status == LARDER_OK) {
                ++counts.held;
                if (!right(layer, ids[k], v[k])) ++counts.wrong;
            } else {
                ++counts.failed;
                if (ids[k] != bad_expert || v[k].status != LARDER_E_IO || s != LARDER_PARTIAL) ++counts.wrong;
            }
        }
        if (larder_expert_release(cache, lease) != LARDER_OK) ++counts.wrong;
    }
    larder_queue_destroy(queue);
}

void threads(uint32_t n_workers, uint32_t n_slots) {
    larder_context_options co = LARDER_CONTEXT_OPTIONS_INIT;
    co.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    co.n_workers = n_workers;
    larder_context* context = nullptr;
    assert_int_equal(larder_context_create(&co, &context), LARDER_OK);
    std::atomic<uint64_t> n_loads{0};
    larder_expert_precision p = LARDER_EXPERT_PRECISION_INIT;
    p.source = LARDER_EXPERT_SOURCE_CALLBACK;
    p.load = {load, &n_loads, nullptr};
    p.n_bytes = n_bytes;
    p.layer_slots = n_slots;
    larder_expert_options o = LARDER_EXPERT_OPTIONS_INIT;
    o.n_layers = n_layers;
    o.n_experts = n_experts;
    o.n_precisions = 1;
    o.precisions = &p;
    o.precision_stride = sizeof p;
    o.chunk_bytes = 4096;
    o.max_leases = n_threads;
    larder_expert_cache* cache = nullptr;
    assert_int_equal(larder_expert_create(context, &o, &cache), LARDER_OK);
    Counts counts;
    std::vector<std::thread> pool;
    for (uint64_t t = 0; t < n_threads; ++t)
        pool.emplace_back([&, seed = test_seed() + t] { work(context, cache, seed, test_rounds(600), counts); });
    for (std::thread& t : pool) t.join();
    assert_int_equal(counts.wrong, 0);
    assert_true(counts.held > 0 && counts.failed > 0);
    assert_int_equal(larder_expert_verify(cache), LARDER_OK);
    larder_expert_state state = LARDER_EXPERT_STATE_INIT;
    assert_int_equal(larder_expert_query(cache, &state), LARDER_OK);
    assert_int_equal(state.n_leases, 0);
    larder_expert_destroy(cache);
    assert_int_equal(larder_context_destroy(context), LARDER_OK);
}

void with_workers(void**) {
    threads(2, 12);
}
void crowded(void**) {
    threads(2, 5);
}
void without_workers(void**) {
    threads(0, 12);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(with_workers),
        cmocka_unit_test(crowded),
        cmocka_unit_test(without_workers),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
