// A picture of a store kept from its events, against the store itself; and the counters against what they count.
#include <atomic>
#include <map>
#include <thread>

#include "larder/stats.h"
#include "support/store_fixture.h"

namespace {

using namespace larder;

constexpr uint64_t n_keys = 120;
constexpr uint64_t max_object = 24000;

// What a reader of events believes.
class Picture {
  public:
    explicit Picture(larder_store* store) : store_(store) {}

    // All there is to read; takes a snapshot when it had fallen behind.
    void catch_up() {
        larder_event events[32];
        for (uint64_t n = 1; n;) {
            const uint64_t before = cursor_;
            const larder_status status =
                larder_store_events_read(store_, &cursor_, events, sizeof events[0], std::size(events), &n);
            if (status == LARDER_E_STALE) {
                assert_int_equal(cursor_, before);
                resync();
                n = 1;
                continue;
            }
            assert_int_equal(status, LARDER_OK);
            for (uint64_t i = 0; i < n; ++i) {
                assert_int_equal(events[i].sequence, before + i + 1);
                apply(events[i]);
            }
        }
    }
    void resync() {
        ++n_resyncs;
        held_.clear();
        exact_from_ = UINT64_MAX;
        larder_event events[20];
        uint64_t position = 0, n = 0;
        for (larder_status status = LARDER_PARTIAL; status == LARDER_PARTIAL;) {
            status = larder_store_events_snapshot(store_, &position, &cursor_, events, sizeof events[0],
                                                  std::size(events), &n);
            assert_true(status == LARDER_OK || status == LARDER_PARTIAL);
            for (uint64_t i = 0; i < n; ++i) {
                assert_int_equal(events[i].sequence, 0);
                held_[to_string(events[i].key)] = events[i];
            }
        }
    }
    void compare() {
        std::map<std::string, larder_object_info> there;
        const auto see = [](void* ctx, const larder_object_info* info) -> int32_t {
            if (info->tiers)
                (*static_cast<std::map<std::string, larder_object_info>*>(ctx))[to_string(info->key)] = *info;
            return 0;
        };
        assert_int_equal(larder_store_scan(store_, see, &there), LARDER_OK);
        assert_int_equal(there.size(), held_.size());
        for (const auto& [name, info] : there) {
            assert_true(held_.count(name));
            const larder_event& e = held_.at(name);
            assert_int_equal(e.places, info.tiers);
            assert_int_equal(e.n_bytes, info.n_bytes);
            assert_int_equal(e.n_tokens, info.meta.n_tokens);
            assert_memory_equal(&e.parent, &info.meta.parent, sizeof e.parent);
        }
        exact_from_ = cursor_;
        ++n_compared;
    }
    uint64_t n_resyncs = 0, n_compared = 0;

  private:
    void apply(const larder_event& e) {
        const auto it = held_.find(to_string(e.key));
        // From a picture that is known to be right, each event fits to what was before it.
        if (e.sequence > exact_from_) assert_int_equal(it == held_.end() ? 0 : it->second.places, e.places_before);
        assert_true(e.places != e.places_before);
        assert_int_equal(e.kind, !e.places_before ? LARDER_EVENT_PUBLISHED
                                 : !e.places      ? LARDER_EVENT_REMOVED
                                                  : LARDER_EVENT_PLACED);
        assert_true(!(e.places_before & ~e.places) == (e.cause == LARDER_ABSENT_NOT));
        if (e.places)
            held_[to_string(e.key)] = e;
        else if (it != held_.end())
            held_.erase(it);
    }
    larder_store* store_;
    uint64_t cursor_ = 0, exact_from_ = 0;
    std::map<std::string, larder_event> held_;
};

struct Bed {
    Bed(const StoreSetup& s, uint64_t events) : dir("/dev/shm"), setup(s), n_events(events) {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        o.n_workers = setup.n_workers;
        assert_int_equal(larder_context_create(&o, &context), LARDER_OK);
        open();
    }
    ~Bed() {
        larder_store_close(store);
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
    void open() {
        const std::string path = dir.path("store");
        larder_store_options o = setup.options(path.c_str());
        o.n_events = n_events;
        assert_int_equal(larder_store_open(context, &o, &store), LARDER_OK);
    }
    void reopen() {
        larder_store_close(store);
        open();
    }

    TempDir dir;
    const StoreSetup setup;
    const uint64_t n_events;
    larder_context* context = nullptr;
    larder_store* store = nullptr;
};

void act(larder_store* s, Rng& rng) {
    const uint64_t k = rng.below(n_keys);
    const larder_key key = make_key(k);
    const uint32_t tenant = uint32_t(k % 3);
    std::vector<unsigned char> bytes;
    larder_status status;
    switch (rng.below(20)) {
    case 0:
        larder_store_evict(s, &key, 1, uint32_t(2 + 2 * rng.below(3)) & 6, &status);
        break;
    case 1:
        larder_store_offload(s, &key, 1, &status, nullptr, 0, nullptr);
        break;
    case 2:
        larder_store_onboard(s, &key, 1, &status, nullptr, 0, nullptr);
        break;
    case 3:
        larder_store_move(s, &key, 1, LARDER_TIER_HOST, 0, &status, nullptr, 0, nullptr);
        break;
    case 4:
        if (rng.below(100) == 0) larder_store_drop_tenant(s, tenant, nullptr);
        break;
    case 5:
        if (rng.below(20) == 0) larder_store_set_quota(s, tenant, rng.below(2) ? 0 : 100000, rng.below(2) ? 0 : 200000);
        break;
    case 6:
    case 7:
    case 8:
    case 9:
        get_one(s, key, make_want(tenant, rng.below(2) ? 255 : 1), bytes, max_object);
        break;
    case 10:
        read_one(s, key, make_want(tenant, 255), bytes);
        break;
    case 11:
        get_one(s, key, make_want(tenant + 1), bytes, max_object);  // of another tenant
        break;
    case 12:
    case 13:
        write_one(s, key, make_meta(tenant), make_payload(k, 1 + k * 97 % max_object));
        break;
    default:
        put_one(s, key, make_meta(tenant, 1 + int(rng.below(3))), make_payload(k, 1 + k * 97 % max_object),
                rng.below(4) ? 0 : LARDER_PUT_NO_HOST);
    }
}

larder_stats stats_of(larder_context* c) {
    larder_stats s{};
    s.struct_size = sizeof s;
    assert_int_equal(larder_context_stats(c, &s), LARDER_OK);
    return s;
}

// What came less what went is what is there; every get has one answer.
void check_counters(const Bed& bed, uint64_t n_recovered) {
    const larder_stats s = stats_of(bed.context);
    larder_store_info info = LARDER_STORE_INFO_INIT;
    assert_int_equal(larder_store_info_get(bed.store, &info), LARDER_OK);
    assert_int_equal(s.store_host_added - s.store_host_evicted - s.store_host_over_quota - s.store_host_removed -
                         s.store_host_replaced - s.store_host_lost,
                     info.n_host_objects);
    assert_int_equal(n_recovered + s.store_file_added - s.store_file_evicted - s.store_file_over_quota -
                         s.store_file_removed - s.store_file_replaced - s.store_file_lost,
                     info.n_file_objects);
    assert_int_equal(s.store_gets, s.store_hits_host + s.store_hits_file + s.store_misses + s.store_gets_retry +
                                       s.store_gets_identity + s.store_gets_failed);
    assert_int_equal(s.store_misses, s.store_misses_absent + s.store_misses_coarse + s.store_misses_damaged);
    assert_int_equal(s.store_dirty_bytes, info.host_dirty_bytes);
    assert_int_equal(s.store_pinned, info.n_pinned);
    assert_int_equal(s.store_leases + s.store_reservations, info.n_leases + info.n_reserved);
}

const StoreSetup both_tiers{.host_bytes = 400 << 10,
                            .file_bytes = 16 * (64 << 10) + 16384,
                            .segment_bytes = 64 << 10,
                            .max_object = max_object,
                            .reinsert_percent = 20};

// One thread: compared every few steps, now and then after falling behind.
void followed(void**) {
    StoreSetup setup = both_tiers;
    setup.n_workers = 0;
    Bed bed(setup, 128);
    Picture picture(bed.store);
    Rng rng(test_seed());
    const uint64_t n = test_rounds(20000);
    for (uint64_t i = 0; i < n; ++i) {
        act(bed.store, rng);
        if (rng.below(20) == 0 && i / 1000 % 2 == 0) picture.catch_up();
        if (rng.below(200)) continue;
        picture.catch_up();
        picture.compare();
    }
    picture.catch_up();
    picture.compare();
    check_counters(bed, 0);
    if (n >= 5000) assert_true(picture.n_resyncs > 0 && picture.n_compared > 10);
    // Opened anew, a snapshot says what there is.
    bed.reopen();
    Picture again(bed.store);
    again.resync();
    again.compare();
    act(bed.store, rng);
    again.catch_up();
    again.compare();
}

// Several threads write, one follows.
void followed_from_aside(void**) {
    Bed bed(both_tiers, 512);
    Picture picture(bed.store);
    const uint64_t seed = test_seed(), n = test_rounds(16000) / 4;
    std::atomic<uint32_t> n_running{4};
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            Rng rng(seed + t);
            for (uint64_t i = 0; i < n; ++i) act(bed.store, rng);
            --n_running;
        });
    Rng rng(seed + 9);
    while (n_running.load()) {
        picture.catch_up();
        if (rng.below(50) == 0) picture.resync();
    }
    for (std::thread& t : threads) t.join();
    larder_store_flush(bed.store, nullptr, 0, nullptr);
    picture.catch_up();
    picture.compare();
    assert_int_equal(larder_store_verify(bed.store), LARDER_OK);
    check_counters(bed, 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(followed), cmocka_unit_test(followed_from_aside)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
