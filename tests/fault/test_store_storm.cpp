// Eight threads, every verb, a store that is always full, and a system that fails all the while: nothing wrong is ever
// read, nothing hangs, and at the end the books agree.
#include "support/store_fixture.h"

#include <atomic>
#include <thread>

#include "core/context.h"
#include "os/fault_os.h"

using namespace larder;

namespace {

constexpr uint64_t n_keys = 400, n_threads = 8;
size_t size_of(uint64_t key) {
    return size_t(1 + mix64(key) % 20000);
}

struct Storm {
    larder_context* context = nullptr;
    larder_store* store = nullptr;
    std::atomic<uint64_t> n_wrong{0}, n_hits{0}, n_failed{0};
    std::atomic<uint64_t> n_running{0};
};

void look(Storm& storm, uint64_t k, std::vector<unsigned char>& bytes) {
    const larder_status status = k % 3 ? get_one(storm.store, make_key(k), make_want(), bytes, 30000)
                                       : read_one(storm.store, make_key(k), make_want(), bytes);
    if (status == LARDER_OK) {
        ++storm.n_hits;
        if (bytes != make_payload(k, size_of(k))) ++storm.n_wrong;
    }
}

void manage(Storm& storm, Rng& rng, const larder_key& key, larder_queue* queue) {
    larder_store* s = storm.store;
    switch (rng.below(8)) {
    case 0:
        larder_store_hint(s, &key, 1, rng.below(1 << 20), nullptr);
        break;
    case 1:
        larder_store_hint_served(s, rng.below(1 << 10));
        break;
    case 2:
        larder_store_protect(s, &key, 1, uint32_t(rng.below(101)), rng.below(100000), nullptr);
        break;
    case 3: {
        const larder_key keys[] = {key, make_key(rng.below(n_keys)), make_key(rng.below(n_keys))};
        larder_status statuses[3];
        larder_job job = 0;
        if (larder_store_prefetch(s, keys, 3, rng.below(2) ? 0 : rng.below(1000000), statuses, queue, 0, &job) !=
            LARDER_PENDING)
            break;
        larder_completion done{};
        uint32_t n = 0;
        if (larder_queue_wait(queue, &done, sizeof done, 1, UINT64_MAX, &n) != LARDER_OK) ++storm.n_wrong;
        break;
    }
    case 4: {
        const uint64_t prefill = rng.below(1000000);
        const larder_object_want want = make_want();
        larder_load_step step;
        larder_load_plan plan = LARDER_LOAD_PLAN_INIT;
        if (larder_store_plan(s, &key, &prefill, 1, &want, 0, &step, &plan) < 0) ++storm.n_wrong;
        break;
    }
    case 5:
        if (larder_store_pin(s, &key, 1, nullptr) == LARDER_OK) larder_store_unpin(s, &key, 1, nullptr);
        break;
    case 6:
        larder_store_evict(s, &key, 1, rng.below(2) ? LARDER_TIER_HOST : LARDER_TIER_FILE, nullptr);
        break;
    default: {
        if (rng.below(200)) break;
        larder_object_filter filter = LARDER_OBJECT_FILTER_INIT;
        filter.set_mask = LARDER_FILTER_TENANT | LARDER_FILTER_LAYOUT;
        filter.layout = layout_key();
        larder_store_drop(s, &filter, nullptr);
    }
    }
}

void work(Storm& storm, uint64_t seed, uint64_t n) {
    Rng rng(seed);
    std::vector<unsigned char> bytes;
    larder_queue* queue = nullptr;
    if (larder_queue_create(storm.context, nullptr, &queue) < 0) ++storm.n_wrong;
    for (uint64_t i = 0; i < n && queue; ++i) {
        const uint64_t k = rng.below(n_keys);
        const larder_key key = make_key(k);
        const uint64_t verb = rng.below(16);
        if (verb < 6) {
            const std::vector<unsigned char> payload = make_payload(k, size_of(k));
            const larder_status put = rng.below(4) == 0 ? write_one(storm.store, key, make_meta(), payload)
                                                        : put_one(storm.store, key, make_meta(), payload,
                                                                  rng.below(4) ? 0 : LARDER_PUT_NO_HOST);
            if (put < 0 && put != LARDER_E_EXISTS) ++storm.n_failed;
        } else if (verb < 12) {
            look(storm, k, bytes);
        } else if (verb < 15) {
            manage(storm, rng, key, queue);
        } else if (rng.below(64) == 0) {
            larder_store_flush(storm.store, nullptr, 0, nullptr);
        }
    }
    larder_queue_destroy(queue);
    --storm.n_running;
}

void storm_of(uint32_t host_policy) {
    const uint64_t seed = test_seed();
    FaultOs os(posix_os());
    TempDir dir("/dev/shm");
    const StoreSetup setup{.host_bytes = 512 << 10,
                           .file_bytes = 16 * 65536 + 16384,
                           .segment_bytes = 65536,
                           .host_policy = host_policy,
                           .reinsert_percent = 20};
    Storm storm;
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    o.n_workers = 2;
    assert_int_equal(larder_context::create(&o, os, &storm.context), LARDER_OK);
    const larder_store_options options = setup.options(dir.path().c_str());
    assert_int_equal(larder_store_open(storm.context, &options, &storm.store), LARDER_OK);
    const uint64_t n = test_rounds(n_threads * 8000) / n_threads;
    storm.n_running = n_threads;
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < n_threads; ++t) threads.emplace_back(work, std::ref(storm), seed + t, n);
    // Reads fail often, now and then for a while; writes and syncs rarely, because a tier that failed four times stops
    // writing.
    const uint32_t reads = FaultPlan::bit(FaultClass::read) | FaultPlan::bit(FaultClass::ring_short) |
                           FaultPlan::bit(FaultClass::ring_submit) | FaultPlan::bit(FaultClass::ring_create),
                   writes = FaultPlan::bit(FaultClass::write) | FaultPlan::bit(FaultClass::sync) |
                            FaultPlan::bit(FaultClass::ring_complete);
    Rng rng(seed);
    for (uint64_t round = 0; storm.n_running.load(); ++round) {
        const bool writing = round % 64 == 63;
        os.arm({writing ? writes : reads, 1 + rng.below(50), !writing && rng.below(8) == 0, 0});
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    for (std::thread& t : threads) t.join();
    os.disarm();
    assert_int_equal(storm.n_wrong.load(), 0);
    assert_true(storm.n_hits.load() > 0);
    larder_store_flush(storm.store, nullptr, 0, nullptr);
    assert_int_equal(larder_store_verify(storm.store), LARDER_OK);
    std::vector<unsigned char> bytes;
    for (uint64_t k = 0; k < n_keys; ++k) look(storm, k, bytes);
    larder_store_close(storm.store);
    // And what comes back after it is right as well.
    assert_int_equal(larder_store_open(storm.context, &options, &storm.store), LARDER_OK);
    for (uint64_t k = 0; k < n_keys; ++k) look(storm, k, bytes);
    assert_int_equal(larder_store_verify(storm.store), LARDER_OK);
    larder_store_close(storm.store);
    assert_int_equal(storm.n_wrong.load(), 0);
    print_message("%llu operations, %llu hits, %llu puts refused\n", (unsigned long long)(n * n_threads),
                  (unsigned long long)storm.n_hits.load(), (unsigned long long)storm.n_failed.load());
    assert_int_equal(larder_context_destroy(storm.context), LARDER_OK);
    assert_int_equal(os.n_live(), 0);
}

void lru(void**) {
    storm_of(LARDER_POLICY_LRU);
}
void automatic(void**) {
    storm_of(LARDER_POLICY_AUTO);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(lru), cmocka_unit_test(automatic)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
