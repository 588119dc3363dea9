// Prefetching, load-or-recompute plans, dropping by layout and flags.
#include "support/cmocka.h"

#include <vector>

#include "base/hash.h"
#include "larder/larder.h"
#include "store/load_plan.h"
#include "support/seed.h"
#include "support/temp_dir.h"

namespace {

using namespace larder;

constexpr uint32_t object_bytes = 16384;

larder_key key_of(uint64_t i) {
    larder_key k;
    for (int b = 0; b < 32; ++b) k.bytes[b] = uint8_t((i + 1) * 0x9e3779b97f4a7c15u >> (b % 8 * 8));
    return k;
}

struct Fixture {
    Fixture() {
        assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
        assert_int_equal(larder_queue_create(context, nullptr, &queue), LARDER_OK);
    }
    ~Fixture() {
        larder_store_close(store);
        larder_queue_destroy(queue);
        larder_context_destroy(context);
    }
    void open(uint64_t host_bytes) {
        larder_store_options o = LARDER_STORE_OPTIONS_INIT;
        o.directory = dir.path().c_str();
        o.host_bytes = host_bytes;
        o.file_bytes = 32 * 262144 + 65536;
        o.segment_bytes = 262144;
        assert_int_equal(larder_store_open(context, &o, &store), LARDER_OK);
    }
    void put(uint64_t i, uint8_t layout = 0, uint32_t user_flags = 0, uint32_t tenant = 0) {
        const std::vector<unsigned char> bytes(object_bytes, uint8_t(i));
        larder_object_meta meta = LARDER_OBJECT_META_INIT;
        meta.layout.bytes[0] = layout;
        meta.user_flags = user_flags;
        meta.tenant = tenant;
        larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
        item.key = key_of(i);
        item.meta = &meta;
        item.data = bytes.data();
        item.n_bytes = bytes.size();
        assert_int_equal(larder_store_put(store, &item, sizeof item, 1, nullptr, nullptr, 0, nullptr), LARDER_OK);
    }
    uint32_t tiers(uint64_t i) {
        const larder_key k = key_of(i);
        larder_object_info info = LARDER_OBJECT_INFO_INIT;
        assert_int_equal(larder_store_lookup(store, &k, 1, nullptr, &info, sizeof info), LARDER_OK);
        return info.status == LARDER_OK ? info.tiers : 0;
    }
    std::vector<larder_status> prefetch(const std::vector<larder_key>& keys, uint64_t deadline_ns = 0) {
        std::vector<larder_status> statuses(keys.size(), LARDER_E_INTERNAL);
        larder_job job = 0;
        assert_int_equal(larder_store_prefetch(store, keys.data(), uint32_t(keys.size()), deadline_ns, statuses.data(),
                                               queue, 7, &job),
                         LARDER_PENDING);
        larder_completion done{};
        uint32_t n = 0;
        assert_int_equal(larder_queue_wait(queue, &done, sizeof done, 1, UINT64_MAX, &n), LARDER_OK);
        assert_int_equal(n, 1);
        assert_int_equal(done.job, job);
        bool failed = false;
        for (larder_status s : statuses) failed = failed || s < 0;
        assert_int_equal(done.status, failed ? LARDER_PARTIAL : LARDER_OK);
        return statuses;
    }
    TempDir dir;
    larder_context* context = nullptr;
    larder_queue* queue = nullptr;
    larder_store* store = nullptr;
};

std::vector<larder_key> keys_of(uint64_t from, uint64_t to) {
    std::vector<larder_key> keys;
    for (uint64_t i = from; i < to; ++i) keys.push_back(key_of(i));
    return keys;
}

// From a cold start: what was put comes into RAM, in turns, and is right.
void prefetching(void**) {
    Fixture f;
    const uint64_t n = 400;
    f.open(4 << 20);
    for (uint64_t i = 0; i < n; ++i) f.put(i);
    assert_int_equal(larder_store_flush(f.store, nullptr, 0, nullptr), LARDER_OK);
    larder_store_close(f.store);
    f.open(4 << 20);
    for (uint64_t i = 0; i < n; ++i) assert_int_equal(f.tiers(i), LARDER_TIER_FILE);

    std::vector<larder_key> keys = keys_of(0, 200);
    keys.push_back(key_of(9999));
    keys.push_back(key_of(3));
    const auto statuses = f.prefetch(keys);
    for (uint64_t i = 0; i < 200; ++i) {
        assert_int_equal(statuses[i], LARDER_OK);
        assert_int_equal(f.tiers(i), LARDER_TIER_FILE | LARDER_TIER_HOST);
    }
    assert_int_equal(statuses[200], LARDER_MISS);
    assert_int_equal(statuses[201], LARDER_OK);
    assert_int_equal(larder_store_verify(f.store), LARDER_OK);

    // Late is not at all.
    for (larder_status s : f.prefetch(keys_of(300, 310), 1)) assert_int_equal(s, LARDER_E_TIMEOUT);
    assert_int_equal(f.tiers(305), LARDER_TIER_FILE);

    // What is pinned in RAM makes no room.
    const auto pinned = keys_of(0, (4 << 20) / object_bytes);
    const uint32_t n_pinned = uint32_t(pinned.size());
    for (larder_status s : f.prefetch(pinned)) assert_int_equal(s, LARDER_OK);
    assert_int_equal(larder_store_pin(f.store, pinned.data(), n_pinned, nullptr), LARDER_OK);
    for (larder_status s : f.prefetch(keys_of(n_pinned, n))) assert_int_equal(s, LARDER_E_NOSPACE);
    assert_int_equal(larder_store_unpin(f.store, pinned.data(), n_pinned, nullptr), LARDER_OK);

    std::vector<unsigned char> bytes(object_bytes);
    larder_object_want want = LARDER_OBJECT_WANT_INIT;
    for (uint64_t i = 0; i < n; ++i) {
        larder_store_get_item item = LARDER_STORE_GET_ITEM_INIT;
        larder_store_get_result r{};
        item.key = key_of(i);
        item.want = &want;
        item.buffer = bytes.data();
        item.capacity = bytes.size();
        assert_int_equal(larder_store_get(f.store, &item, sizeof item, 1, &r, nullptr, 0, nullptr), LARDER_OK);
        assert_int_equal(r.status, LARDER_OK);
        assert_true(bytes == std::vector<unsigned char>(object_bytes, uint8_t(i)));
    }
    assert_int_equal(larder_store_verify(f.store), LARDER_OK);

    larder_status status;
    assert_int_equal(larder_store_prefetch(f.store, keys.data(), 0, 0, &status, f.queue, 0, nullptr), LARDER_E_RANGE);
    assert_int_equal(larder_store_prefetch(f.store, keys.data(), 1, 0, nullptr, f.queue, 0, nullptr), LARDER_E_INVALID);
}

// The split against all splits, tried.
void best_split(void**) {
    Rng rng(test_seed());
    for (uint64_t round = 0; round < test_rounds(2000); ++round) {
        std::vector<BlockCost> blocks(rng.below(12));
        for (BlockCost& b : blocks) {
            b.compute_ns = rng.below(100);
            b.load_ns = rng.below(8) ? rng.below(100) : BlockCost::no_load;
        }
        const uint64_t wait = rng.below(50);
        LoadPlan best{0, UINT64_MAX};
        for (size_t k = 0; k <= blocks.size(); ++k) {
            uint64_t total = k ? wait : 0;
            bool can = true;
            for (size_t i = 0; i < blocks.size(); ++i) {
                can = can && (i >= k || blocks[i].load_ns != BlockCost::no_load);
                total += i < k ? blocks[i].load_ns : blocks[i].compute_ns;
            }
            if (can && total <= best.total_ns) best = {k, total};
        }
        const LoadPlan got = plan_load(blocks, wait);
        assert_int_equal(got.n_load, best.n_load);
        assert_int_equal(got.total_ns, best.total_ns);
    }
}

void plans(void**) {
    Fixture f;
    f.open(4 << 20);
    for (uint64_t i = 0; i < 8; ++i) f.put(i);
    const auto keys = keys_of(0, 10);  // the last two are not there
    larder_object_want want = LARDER_OBJECT_WANT_INIT;
    larder_load_step steps[10];
    larder_load_plan plan = LARDER_LOAD_PLAN_INIT;
    const auto ask = [&](uint64_t prefill_ns, uint64_t deadline_ns) {
        const std::vector<uint64_t> prefill(10, prefill_ns);
        return larder_store_plan(f.store, keys.data(), prefill.data(), 10, &want, deadline_ns, steps, &plan);
    };
    assert_int_equal(ask(1000000000, 0), LARDER_OK);
    assert_int_equal(plan.n_load, 8);
    for (int i = 0; i < 10; ++i) {
        assert_int_equal(steps[i].action, i < 8 ? LARDER_STEP_LOAD : LARDER_STEP_RECOMPUTE);
        assert_int_equal(steps[i].tier, i < 8 ? LARDER_TIER_HOST : 0);
        assert_true(i == 0 || steps[i].ready_ns > steps[i - 1].ready_ns);
    }
    assert_int_equal(steps[9].ready_ns, plan.total_ns);
    assert_int_equal(ask(1000000000, 1), LARDER_PARTIAL);
    // Nothing is faster than an engine that takes no time.
    assert_int_equal(ask(0, 1), LARDER_OK);
    assert_int_equal(plan.n_load, 0);
    assert_int_equal(plan.total_ns, 0);
    // What is refused cannot be loaded.
    want.layout.bytes[0] = 1;
    assert_int_equal(ask(1000000000, 0), LARDER_OK);
    assert_int_equal(plan.n_load, 0);
    want.min_quality = 300;
    assert_int_equal(ask(1, 0), LARDER_E_RANGE);
    assert_int_equal(larder_store_plan(f.store, keys.data(), nullptr, 10, &want, 0, steps, &plan), LARDER_E_INVALID);
}

void dropping(void**) {
    Fixture f;
    f.open(4 << 20);
    for (uint64_t i = 0; i < 60; ++i) f.put(i, uint8_t(i % 2), uint32_t(i % 3 << 8 | 1), uint32_t(i % 5));
    assert_int_equal(larder_store_flush(f.store, nullptr, 0, nullptr), LARDER_OK);
    larder_object_filter filter = LARDER_OBJECT_FILTER_INIT;
    uint64_t n = 99;
    assert_int_equal(larder_store_drop(f.store, &filter, &n), LARDER_E_INVALID);
    filter.flags_value = 1;
    filter.set_mask = LARDER_FILTER_LAYOUT;
    assert_int_equal(larder_store_drop(f.store, &filter, &n), LARDER_E_INVALID);
    // An epoch of one model.
    filter.layout.bytes[0] = 1;
    filter.flags_mask = 0xff00;
    filter.flags_value = 2 << 8;
    const larder_key pinned = key_of(5);
    assert_int_equal(larder_store_pin(f.store, &pinned, 1, nullptr), LARDER_OK);
    assert_int_equal(larder_store_drop(f.store, &filter, &n), LARDER_OK);
    assert_int_equal(n, 10);
    // A tenant's share of a model.
    larder_object_filter other = LARDER_OBJECT_FILTER_INIT;
    other.set_mask = LARDER_FILTER_LAYOUT | LARDER_FILTER_TENANT;
    other.tenant = 4;
    assert_int_equal(larder_store_drop(f.store, &other, &n), LARDER_OK);
    assert_int_equal(n, 6);
    const auto gone = [](uint64_t i) { return (i % 2 == 1 && i % 3 == 2) || (i % 2 == 0 && i % 5 == 4); };
    for (int restart = 0; restart < 2; ++restart) {
        for (uint64_t i = 0; i < 60; ++i) assert_int_equal(f.tiers(i) == 0, gone(i));
        assert_int_equal(larder_store_verify(f.store), LARDER_OK);
        if (restart) break;
        larder_store_explanation why = LARDER_STORE_EXPLANATION_INIT;
        assert_int_equal(larder_store_explain(f.store, &pinned, &why), LARDER_OK);
        assert_int_equal(why.why, LARDER_ABSENT_DROPPED);
        assert_int_equal(larder_store_flush(f.store, nullptr, 0, nullptr), LARDER_OK);
        larder_store_close(f.store);
        f.open(4 << 20);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(prefetching), cmocka_unit_test(best_split), cmocka_unit_test(plans),
                                cmocka_unit_test(dropping)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
