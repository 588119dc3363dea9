// The store against a naive model: a map of what was put. The store may forget, under pressure only; it must never be
// wrong.
#include <map>
#include <string>
#include <vector>

#include "support/store_fixture.h"

using namespace larder;

namespace {

// What was put under one key. Bytes and facts follow from key and quality, as with content keys.
struct Known {
    larder_object_meta meta;
    uint64_t seed;
    uint64_t n_bytes;
    uint32_t pins = 0;
    uint32_t versions = 0;  // a bit for each quality put since the key was last removed: what a restart may bring back
};

// Drives one store through random operations and compares each answer with the model.
class Driver {
  public:
    Driver(uint64_t seed, const StoreSetup& setup) : rng_(seed), setup_(setup), fixture_(setup) { open(); }
    ~Driver() { larder_store_close(store_); }

    void step() {
        switch (rng_.below(32)) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
        case 5:
        case 6:
        case 7:
        case 8:
        case 9:
            return put();
        case 10:
        case 11:
        case 12:
        case 13:
        case 14:
        case 15:
        case 16:
        case 17:
        case 18:
        case 19:
            return get();
        case 20:
        case 21:
            return lookup();
        case 22:
            return evict();
        case 23:
            return pin();
        case 24:
        case 25:
            return unpin();
        case 26:
            return get_many();
        case 27:
            if (rng_.below(64) == 0) flush();
            return;
        case 28:
            if (rng_.below(512) == 0) reopen();
            return;
        case 29:
            if (rng_.below(512) == 0) drop_tenant();
            return;
        case 30:
            if (rng_.below(512) == 0) scrub();
            return;
        default:
            if (rng_.below(128) == 0) assert_int_equal(larder_store_verify(store_), LARDER_OK);
            return;
        }
    }
    void finish() {
        assert_int_equal(larder_store_verify(store_), LARDER_OK);
        flush();
        // Most reads should find something: a store that always misses would pass everything else.
        assert_true(n_hits_ > 0);
    }

  private:
    static constexpr uint64_t n_keys = 400;
    larder_key random_key() { return make_key(rng_.below(n_keys)); }
    uint32_t tenant_of(const larder_key& k) { return k.bytes[0] % 3; }

    void open() { store_ = fixture_.open(); }
    Known version(const larder_key& key, int quality) {
        uint64_t first;
        std::memcpy(&first, key.bytes, 8);
        Rng rng(first + uint64_t(quality));
        Known k{};
        k.meta = make_meta(tenant_of(key), quality);
        k.meta.parent = make_key(rng.below(n_keys));
        k.meta.n_tokens = uint32_t(rng.below(1000));
        k.meta.user_flags = uint32_t(rng.next());
        k.meta.codec = uint32_t(rng.below(65536));
        k.seed = rng.next();
        k.n_bytes = 1 + (rng.below(4) ? rng.below(3000) : rng.below(setup_.max_object));
        k.versions = 1u << quality;
        return k;
    }
    void put() {
        const larder_key key = random_key();
        auto it = model_.find(to_string(key));
        Known k = version(key, 1 + int(rng_.below(3)));
        if (it != model_.end()) k.versions |= it->second.versions;
        uint32_t flags = 0;
        if (setup_.file_bytes && setup_.host_bytes && rng_.below(8) == 0) flags |= LARDER_PUT_NO_HOST;
        const auto bytes = make_payload(k.seed, k.n_bytes);
        const larder_status status = put_one(store_, key, k.meta, bytes, flags);
        assert_true(status == LARDER_OK || status == LARDER_E_NOSPACE);
        if (status != LARDER_OK) return;
        if (it != model_.end()) k.pins = it->second.pins;
        // An object of the same or finer quality that was there already stays. Whether it still was, a worker may have
        // had a say in.
        const larder_object_info info = lookup_now(key);
        if (info.status == LARDER_OK) {
            assert_true(info.meta.quality <= k.meta.quality);
            assert_true(k.versions >> info.meta.quality & 1);
            const uint32_t versions = k.versions, pins = k.pins;
            k = version(key, info.meta.quality);
            k.versions = versions;
            k.pins = pins;
        }
        model_[to_string(key)] = k;
    }
    void check_result(const Known& k, const larder_store_get_result& r, uint64_t offset, uint64_t n,
                      const std::vector<unsigned char>& buffer) {
        ++n_hits_;
        assert_int_equal(r.n_bytes, n);
        const auto expected = make_payload(k.seed, k.n_bytes);
        assert_memory_equal(buffer.data(), expected.data() + offset, n);
    }
    void get() {
        const larder_key key = random_key();
        const auto it = model_.find(to_string(key));
        larder_object_want want = make_want(tenant_of(key), 1 + int(rng_.below(3)));
        std::vector<unsigned char> buffer(setup_.max_object + 1);
        larder_store_get_item item = LARDER_STORE_GET_ITEM_INIT;
        item.key = key;
        item.want = &want;
        item.buffer = buffer.data();
        item.capacity = buffer.size();
        uint64_t n = 0;
        if (it != model_.end()) {
            n = it->second.n_bytes;
            if (rng_.below(3) == 0) {
                item.offset = rng_.below(n);
                item.n_bytes = n = 1 + rng_.below(n - item.offset);
            }
        }
        larder_store_get_result r;
        assert_int_equal(larder_store_get(store_, &item, sizeof item, 1, &r, nullptr, 0, nullptr), LARDER_OK);
        if (it == model_.end()) {
            assert_int_equal(r.status, LARDER_MISS);
        } else if (it->second.meta.quality > want.min_quality) {
            assert_int_equal(r.status, LARDER_MISS);
        } else if (r.status == LARDER_OK) {
            check_result(it->second, r, item.offset, n, buffer);
        } else {
            assert_int_equal(r.status, LARDER_MISS);
            assert_int_equal(it->second.pins, 0);  // pinned objects stay
        }
    }
    void get_many() {
        constexpr size_t n = 24;
        std::vector<std::vector<unsigned char>> buffers(n, std::vector<unsigned char>(setup_.max_object));
        std::vector<larder_store_get_item> items(n, LARDER_STORE_GET_ITEM_INIT);
        std::vector<larder_object_want> wants(n);
        std::vector<larder_store_get_result> results(n);
        for (size_t i = 0; i < n; ++i) {
            items[i].key = random_key();
            wants[i] = make_want(tenant_of(items[i].key), 255);
            items[i].want = &wants[i];
            items[i].buffer = buffers[i].data();
            items[i].capacity = buffers[i].size();
        }
        assert_int_equal(
            larder_store_get(store_, items.data(), sizeof items[0], n, results.data(), nullptr, 0, nullptr), LARDER_OK);
        for (size_t i = 0; i < n; ++i) {
            const auto it = model_.find(to_string(items[i].key));
            if (results[i].status == LARDER_OK) {
                assert_true(it != model_.end());
                check_result(it->second, results[i], 0, it->second.n_bytes, buffers[i]);
            } else {
                assert_int_equal(results[i].status, LARDER_MISS);
            }
        }
    }
    larder_object_info lookup_now(const larder_key& key) {
        larder_object_info info = LARDER_OBJECT_INFO_INIT;
        assert_int_equal(larder_store_lookup(store_, &key, 1, nullptr, &info, sizeof info), LARDER_OK);
        return info;
    }
    void lookup() {
        const larder_key key = random_key();
        const larder_object_info info = lookup_now(key);
        const auto it = model_.find(to_string(key));
        if (info.status == LARDER_MISS) {
            assert_true(it == model_.end() || it->second.pins == 0);
            return;
        }
        assert_true(it != model_.end());
        const larder_object_meta& m = it->second.meta;
        assert_int_equal(info.n_bytes, it->second.n_bytes);
        assert_int_equal(info.n_pins, it->second.pins);
        assert_memory_equal(&info.meta, &m, sizeof m);
    }
    void evict() {
        const larder_key key = random_key();
        const uint32_t tiers = rng_.below(2)   ? LARDER_TIER_HOST | LARDER_TIER_FILE
                               : rng_.below(2) ? LARDER_TIER_HOST
                                               : LARDER_TIER_FILE;
        larder_status status;
        larder_store_evict(store_, &key, 1, tiers, &status);
        const auto it = model_.find(to_string(key));
        if (it == model_.end()) {
            assert_true(status == LARDER_MISS || status == LARDER_E_NOSPACE);
            return;
        }
        if (it->second.pins) {
            assert_int_equal(status, LARDER_E_BUSY);
            return;
        }
        assert_true(status == LARDER_OK || status == LARDER_MISS || status == LARDER_E_BUSY ||
                    status == LARDER_E_NOSPACE);
        const bool for_good = tiers & LARDER_TIER_FILE || !setup_.file_bytes;
        if (for_good && status != LARDER_E_NOSPACE && lookup_now(key).status == LARDER_MISS) model_.erase(it);
    }
    void pin() {
        const larder_key key = random_key();
        const auto it = model_.find(to_string(key));
        larder_status status;
        larder_store_pin(store_, &key, 1, &status);
        if (it == model_.end()) {
            assert_int_equal(status, LARDER_MISS);
        } else if (status == LARDER_OK) {
            ++it->second.pins;
        } else {
            assert_int_equal(status, LARDER_MISS);
            assert_int_equal(it->second.pins, 0);
        }
    }
    void unpin() {
        for (auto& [name, k] : model_)
            if (k.pins) {
                larder_status status;
                const larder_key key = from_string(name);
                larder_store_unpin(store_, &key, 1, &status);
                assert_int_equal(status, LARDER_OK);
                --k.pins;
                return;
            }
    }
    void flush() {
        const larder_status status = larder_store_flush(store_, nullptr, 0, nullptr);
        assert_true(setup_.file_bytes ? status == LARDER_OK || status == LARDER_PARTIAL : status == LARDER_E_STATE);
    }
    void reopen() {
        larder_store_close(store_);
        for (auto it = model_.begin(); it != model_.end();) {
            it->second.pins = 0;
            // Without a file everything is gone.
            it = setup_.file_bytes ? std::next(it) : model_.erase(it);
        }
        open();
        assert_int_equal(larder_store_verify(store_), LARDER_OK);
        // What was removed stays away; what was evicted may be back, in any version put since.
        for (uint64_t i = 0; i < n_keys; ++i) {
            const larder_key key = make_key(i);
            const larder_object_info info = lookup_now(key);
            const auto it = model_.find(to_string(key));
            if (info.status == LARDER_MISS) continue;
            assert_true(it != model_.end());
            assert_true(it->second.versions >> info.meta.quality & 1);
            Known k = version(key, info.meta.quality);
            assert_memory_equal(&info.meta, &k.meta, sizeof k.meta);
            k.versions = it->second.versions;
            it->second = k;
        }
    }
    void drop_tenant() {
        const uint32_t tenant = uint32_t(rng_.below(3));
        const larder_status status = larder_store_drop_tenant(store_, tenant, nullptr);
        if (status == LARDER_E_NOSPACE) {  // gone for now, but not recorded
            for (auto& [name, k] : model_)
                if (k.meta.tenant == tenant) k.pins = 0;
            return;
        }
        assert_int_equal(status, LARDER_OK);
        for (auto it = model_.begin(); it != model_.end();)
            it = it->second.meta.tenant == tenant ? model_.erase(it) : std::next(it);
    }
    void scrub() {
        larder_store_report report = LARDER_STORE_REPORT_INIT;
        assert_int_equal(larder_store_scrub(store_, &report), LARDER_OK);
        assert_int_equal(report.n_corrupt, 0);
    }

    Rng rng_;
    const StoreSetup setup_;
    StoreFixture fixture_;
    larder_store* store_ = nullptr;
    std::map<std::string, Known> model_;
    uint64_t n_hits_ = 0;
};

void drive(const StoreSetup& setup, uint64_t rounds = 200000) {
    const uint64_t seed = test_seed();
    const uint64_t n = test_rounds(rounds);
    Driver d(seed, setup);
    for (uint64_t i = 0; i < n; ++i) d.step();
    d.finish();
}

void host_only(void**) {
    drive({.host_bytes = 512 << 10, .max_object = 40000});
}
void file_only(void**) {
    drive({.file_bytes = 16 * (64 << 10) + 16384, .segment_bytes = 64 << 10, .max_object = 40000});
}
void both(void**) {
    drive({.host_bytes = 256 << 10,
           .file_bytes = 24 * (64 << 10) + 16384,
           .segment_bytes = 64 << 10,
           .max_object = 40000});
}
void write_back(void**) {
    drive({.host_bytes = 512 << 10,
           .file_bytes = 8 * (256 << 10) + 16384,
           .segment_bytes = 256 << 10,
           .max_object = 150000,
           .write_policy = LARDER_WRITE_BACK,
           .n_workers = 0});
}
void reinsertion(void**) {
    drive({.host_bytes = 64 << 10,
           .file_bytes = 12 * (64 << 10) + 16384,
           .segment_bytes = 64 << 10,
           .max_object = 20000,
           .file_policy = LARDER_POLICY_FIFO,
           .reinsert_percent = 40});
}
void host_policies(void**) {
    larder_policy_info info = LARDER_POLICY_INFO_INIT;
    for (uint32_t i = 0; larder_policy_get(i, &info) == LARDER_OK; ++i)
        if (info.online)
            drive({.host_bytes = 128 << 10,
                   .file_bytes = 12 * (64 << 10) + 16384,
                   .segment_bytes = 64 << 10,
                   .max_object = 20000,
                   .host_policy = info.policy},
                  8000);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(host_only),   cmocka_unit_test(file_only),
                                cmocka_unit_test(both),        cmocka_unit_test(write_back),
                                cmocka_unit_test(reinsertion), cmocka_unit_test(host_policies)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
