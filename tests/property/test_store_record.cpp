// Recorded traffic: whatever was asked of a store, doing the policy's work again gives the same victims; the requests
// that come out are those that went in; and a damaged record is told from a sound one.
#include "base/bytes.h"
#include "support/store_fixture.h"

#include <fstream>
#include <thread>

namespace {

using namespace larder;

constexpr uint64_t n_keys = 300;

struct Bed {
    explicit Bed(uint32_t policy, uint32_t n_workers) : dir("/dev/shm"), record(dir.path("record")) {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        o.n_workers = n_workers;
        assert_int_equal(larder_context_create(&o, &context), LARDER_OK);
        larder_store_options s = StoreSetup{.host_bytes = 300 << 10,
                                            .file_bytes = 16 * (64 << 10) + 16384,
                                            .segment_bytes = 64 << 10,
                                            .host_policy = policy}
                                     .options(path.c_str());
        s.record_path = record.c_str();
        assert_int_equal(larder_store_open(context, &s, &store), LARDER_OK);
    }
    ~Bed() {
        close();
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
    void close() {
        larder_store_close(store);
        store = nullptr;
    }
    TempDir dir;
    const std::string path = dir.path("store"), record;
    larder_context* context = nullptr;
    larder_store* store = nullptr;
};

void act(larder_store* s, Rng& rng, uint64_t* request) {
    const uint64_t k = rng.below(n_keys) * rng.below(2) + rng.below(n_keys / 4);
    const larder_key key = make_key(k);
    const auto payload = make_payload(k, 1 + k * 131 % 20000);
    std::vector<unsigned char> bytes;
    switch (rng.below(16)) {
    case 0:
        larder_store_hint(s, &key, 1, *request + rng.below(20), nullptr);
        break;
    case 1:
        larder_store_hint_served(s, (*request)++);
        break;
    case 2:
        larder_store_protect(s, &key, 1, uint32_t(rng.below(101)), rng.below(2) ? 0 : rng.below(1000000), nullptr);
        break;
    case 3:
        larder_store_pin(s, &key, 1, nullptr);
        larder_store_unpin(s, &key, 1, nullptr);
        break;
    case 4:
        larder_store_evict(s, &key, 1, LARDER_TIER_HOST, nullptr);
        break;
    case 5:
        larder_store_offload(s, &key, 1, nullptr, nullptr, 0, nullptr);
        break;
    case 6:
        read_one(s, key, make_want(), bytes);
        break;
    default:
        if (get_one(s, key, make_want(), bytes, 30000) != LARDER_OK) {
            larder_object_meta meta = make_meta();
            meta.n_tokens = uint32_t(k % 3);
            meta.parent = make_key(k ? k - 1 : 0);
            put_one(s, key, meta, payload);
        }
    }
}

larder_record_report check(larder_context* c, const std::string& path, larder_status expected = LARDER_OK) {
    larder_record_report r = LARDER_RECORD_REPORT_INIT;
    assert_int_equal(larder_replay_record(c, path.c_str(), nullptr, nullptr, &r), expected);
    return r;
}

void every_policy(void**) {
    larder_policy_info info = LARDER_POLICY_INFO_INIT;
    for (uint32_t i = 0; larder_policy_get(i, &info) == LARDER_OK; ++i) {
        if (!info.online) continue;
        Bed bed(info.policy, 0);
        Rng rng(test_seed() + i);
        uint64_t request = 0;
        const uint64_t n = test_rounds(3000);
        for (uint64_t k = 0; k < n; ++k) act(bed.store, rng, &request);
        bed.close();
        const larder_record_report r = check(bed.context, bed.record);
        assert_int_equal(r.policy, info.policy);
        assert_int_equal(r.n_differences, 0);
        if (n >= 1000) assert_true(r.n_evictions > 50 && r.n_hits > 50);
    }
}

void from_many_threads(void**) {
    Bed bed(LARDER_POLICY_AUTO, 2);
    const uint64_t seed = test_seed(), n = test_rounds(8000) / 4;
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            Rng rng(seed + t);
            uint64_t request = 0;
            for (uint64_t k = 0; k < n; ++k) act(bed.store, rng, &request);
        });
    for (std::thread& t : threads) t.join();
    bed.close();
    assert_true(check(bed.context, bed.record).n_evictions > 50);
}

// The requests come out as they went in: hits, and misses that were put.
void requests(void**) {
    Bed bed(LARDER_POLICY_LRU, 0);
    Rng rng(test_seed());
    std::vector<std::vector<uint64_t>> asked;
    for (int i = 0; i < 300; ++i) {
        std::vector<larder_store_get_item> items(1 + rng.below(12), LARDER_STORE_GET_ITEM_INIT);
        std::vector<larder_store_get_result> results(items.size());
        std::vector<std::vector<unsigned char>> buffers(items.size(), std::vector<unsigned char>(2000));
        const larder_object_want want = make_want();
        asked.emplace_back();
        for (size_t j = 0; j < items.size(); ++j) {
            items[j].key = make_key(rng.below(200));
            items[j].want = &want;
            items[j].buffer = buffers[j].data();
            items[j].capacity = 2000;
            asked.back().push_back(load_le<uint64_t>(items[j].key.bytes));
        }
        larder_store_get(bed.store, items.data(), sizeof items[0], uint32_t(items.size()), results.data(), nullptr, 0,
                         nullptr);
        for (size_t j = 0; j < items.size(); ++j)
            if (results[j].status == LARDER_MISS) put_one(bed.store, items[j].key, make_meta(), make_payload(j, 2000));
    }
    bed.close();
    std::vector<std::vector<uint64_t>> seen;
    const auto take = [](void* ctx, const larder_recorded_request* r) -> int32_t {
        static_cast<std::vector<std::vector<uint64_t>>*>(ctx)->emplace_back(r->blocks, r->blocks + r->n_blocks);
        return 0;
    };
    larder_record_report r = LARDER_RECORD_REPORT_INIT;
    assert_int_equal(larder_replay_record(bed.context, bed.record.c_str(), take, &seen, &r), LARDER_OK);
    assert_int_equal(seen.size(), asked.size());
    for (size_t i = 0; i < seen.size(); ++i) {
        // A key that a request names twice, and misses twice, is put once more than it was missed.
        assert_true(seen[i].size() >= asked[i].size());
        seen[i].resize(asked[i].size());
        assert_true(seen[i] == asked[i]);
    }
}

std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}
void write_file(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

void damaged(void**) {
    Bed bed(LARDER_POLICY_ARC, 0);
    Rng rng(test_seed());
    uint64_t request = 0;
    for (int k = 0; k < 2000; ++k) act(bed.store, rng, &request);
    bed.close();
    const std::string good = read_file(bed.record);
    const uint64_t n_operations = check(bed.context, bed.record).n_operations;
    // Torn anywhere, it is told and what is before it is replayed.
    for (int i = 0; i < 50; ++i) {
        write_file(bed.record, good.substr(0, 64 + 1 + rng.below(good.size() - 65)));
        const larder_record_report r = check(bed.context, bed.record, LARDER_PARTIAL);
        assert_int_equal(r.torn, 1);
        assert_true(r.n_operations < n_operations);
    }
    // A flipped bit never replays as a sound record.
    for (int i = 0; i < 200; ++i) {
        std::string bad = good;
        bad[rng.below(bad.size())] ^= char(1 << rng.below(8));
        write_file(bed.record, bad);
        larder_record_report r = LARDER_RECORD_REPORT_INIT;
        const larder_status status = larder_replay_record(bed.context, bed.record.c_str(), nullptr, nullptr, &r);
        assert_true(status == LARDER_PARTIAL || status == LARDER_E_CORRUPT || status == LARDER_E_FORMAT ||
                    status == LARDER_E_VERSION);
    }
    write_file(bed.record, "something else");
    check(bed.context, bed.record, LARDER_E_FORMAT);
    check(bed.context, bed.record + ".none", LARDER_E_NOT_FOUND);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(every_policy), cmocka_unit_test(from_many_threads),
                                cmocka_unit_test(requests), cmocka_unit_test(damaged)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
