// Many threads on one small, always full store: what is read is right, and afterwards the books agree.
#include "support/store_fixture.h"

#include <atomic>
#include <thread>

using namespace larder;

namespace {

constexpr uint64_t n_keys = 300;
size_t size_of(uint64_t key) {
    return size_t(1 + mix64(key) % 30000);
}

// What is put with a finer quality replaces what is there, also while that is being moved.
std::vector<unsigned char> payload_of(uint64_t key, int quality) {
    return make_payload(key + n_keys * uint64_t(quality), size_of(key));
}

void work(larder_store* s, uint64_t seed, uint64_t n, uint64_t keys, std::atomic<uint64_t>* wrong,
          std::atomic<uint64_t>* hits) {
    Rng rng(seed);
    std::vector<unsigned char> bytes;
    std::vector<larder_key> pinned;
    for (uint64_t i = 0; i < n; ++i) {
        const uint64_t k = rng.below(keys);
        const larder_key key = make_key(k);
        switch (rng.below(16)) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
        case 5: {
            const int quality = rng.below(2) ? LARDER_QUALITY_APPROXIMATE : LARDER_QUALITY_EXACT;
            const larder_status status =
                put_one(s, key, make_meta(0, quality), payload_of(k, quality), rng.below(4) ? 0 : LARDER_PUT_NO_HOST);
            if (status < 0 && status != LARDER_E_NOSPACE) ++*wrong;
            break;
        }
        case 6:
            if (pinned.size() < 4 && larder_store_pin(s, &key, 1, nullptr) == LARDER_OK) pinned.push_back(key);
            break;
        case 7:
            if (!pinned.empty()) {
                if (larder_store_unpin(s, &pinned.back(), 1, nullptr) != LARDER_OK) ++*wrong;
                pinned.pop_back();
            }
            break;
        case 8:
            larder_store_evict(s, &key, 1, rng.below(2) ? LARDER_TIER_HOST : LARDER_TIER_FILE, nullptr);
            break;
        case 9:
            if (rng.below(64) == 0 && larder_store_flush(s, nullptr, 0, nullptr) < 0) ++*wrong;
            break;
        case 10: {
            larder_store_report report = LARDER_STORE_REPORT_INIT;
            if (rng.below(512) == 0 && larder_store_scrub(s, &report) != LARDER_OK) ++*wrong;
            break;
        }
        default: {
            const int quality = rng.below(4) ? LARDER_QUALITY_APPROXIMATE : LARDER_QUALITY_EXACT;
            const larder_status status = get_one(s, key, make_want(0, quality), bytes, 40000);
            if (status == LARDER_OK) {
                ++*hits;
                if (bytes != payload_of(k, LARDER_QUALITY_EXACT) &&
                    (quality == LARDER_QUALITY_EXACT || bytes != payload_of(k, quality)))
                    ++*wrong;
            } else if (status != LARDER_MISS && status != LARDER_RETRY) {
                ++*wrong;
            }
        }
        }
    }
    for (const larder_key& key : pinned)
        if (larder_store_unpin(s, &key, 1, nullptr) != LARDER_OK) ++*wrong;
}

// A thread may end while the file tier still writes what it put. The kernel then cancels some of that; the store must
// not.
void short_lived(void**) {
    StoreFixture fixture({.file_bytes = 16 * 65536 + 16384, .segment_bytes = 65536});
    larder_store* s = fixture.open();
    std::atomic<uint64_t> wrong{0};
    for (uint64_t round = 0; round < test_rounds(100); ++round) {
        std::vector<std::thread> threads;
        for (uint64_t t = 0; t < 4; ++t)
            threads.emplace_back([&, k = round * 8 + t * 2] {
                for (uint64_t i = k; i < k + 2; ++i)
                    if (put_one(s, make_key(i), make_meta(), make_payload(i, size_of(i))) != LARDER_OK) ++wrong;
            });
        for (std::thread& t : threads) t.join();
    }
    assert_int_equal(larder_store_flush(s, nullptr, 0, nullptr), LARDER_OK);
    assert_int_equal(wrong.load(), 0);
    larder_store_close(s);
}

void run(const StoreSetup& setup, uint64_t keys = n_keys) {
    const uint64_t seed = test_seed();
    StoreFixture fixture(setup);
    larder_store* s = fixture.open();
    std::atomic<uint64_t> wrong{0}, hits{0};
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 6; ++t) threads.emplace_back(work, s, seed + t, test_rounds(4000), keys, &wrong, &hits);
    for (std::thread& t : threads) t.join();
    assert_int_equal(wrong.load(), 0);
    assert_true(hits.load() > 0);
    const larder_status flushed = larder_store_flush(s, nullptr, 0, nullptr);
    assert_true(flushed == LARDER_OK || flushed == LARDER_PARTIAL);
    assert_int_equal(larder_store_verify(s), LARDER_OK);
    larder_store_info info = LARDER_STORE_INFO_INIT;
    larder_store_info_get(s, &info);
    assert_int_equal(info.n_pinned, 0);
    larder_store_close(s);
    s = fixture.open();
    assert_int_equal(larder_store_verify(s), LARDER_OK);
    larder_store_close(s);
}

void through(void**) {
    run({.host_bytes = 256 << 10, .file_bytes = 20 * 65536 + 16384, .segment_bytes = 65536, .reinsert_percent = 20});
}
void back(void**) {
    run({.host_bytes = 1 << 20,
         .file_bytes = 20 * 65536 + 16384,
         .segment_bytes = 65536,
         .write_policy = LARDER_WRITE_BACK,
         .n_workers = 1});
}
void file_only(void**) {
    run({.file_bytes = 16 * 65536 + 16384, .segment_bytes = 65536});
}

// Few keys in few segments, most of it kept: objects are replaced while they are being written again.
void kept(void**) {
    run({.host_bytes = 256 << 10, .file_bytes = 8 * 65536 + 16384, .segment_bytes = 65536, .reinsert_percent = 50}, 60);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(through), cmocka_unit_test(back), cmocka_unit_test(file_only),
                                cmocka_unit_test(kept), cmocka_unit_test(short_lived)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
