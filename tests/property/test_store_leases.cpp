// Leases against a naive model: what is reserved, committed, given up, held and released at random, beside puts, gets
// and drops. What is held keeps its bytes; what was not committed was never there; nothing is left when all have ended.
#include <map>

#include "support/store_fixture.h"

namespace {

using namespace larder;

constexpr uint64_t n_keys = 60;
constexpr uint64_t max_object = 60000;

// The payload of a key; its first bytes, when less of it was committed.
std::vector<unsigned char> bytes_of(uint64_t k) {
    return make_payload(k, 1 + Rng(k + 7).below(max_object));
}

class Driver {
  public:
    Driver(uint64_t seed, const StoreSetup& setup) : rng_(seed), fixture_(setup), setup_(setup) {
        store_ = fixture_.open();
    }
    ~Driver() { larder_store_close(store_); }

    void step() {
        switch (rng_.below(16)) {
        case 0:
        case 1:
        case 2:
        case 3:
            return reserve();
        case 4:
        case 5:
            return commit();
        case 6:
            return abort();
        case 7:
        case 8:
        case 9:
            return acquire();
        case 10:
        case 11:
            return release();
        case 12:
            return get();
        case 13:
            return put();
        case 14:
            return look();
        default:
            if (rng_.below(200) == 0) drop();
            if (rng_.below(100) == 0) assert_int_equal(larder_store_verify(store_), LARDER_OK);
        }
    }
    void finish() {
        while (!writers_.empty()) abort();
        while (!readers_.empty()) release();
        assert_int_equal(larder_store_drop_tenant(store_, 0, nullptr), LARDER_OK);
        assert_int_equal(larder_store_verify(store_), LARDER_OK);
        larder_store_info info = LARDER_STORE_INFO_INIT;
        assert_int_equal(larder_store_info_get(store_, &info), LARDER_OK);
        assert_int_equal(info.host_used_bytes, 0);
        assert_int_equal(info.n_objects, 0);
        assert_int_equal(info.n_leases + info.n_reserved, 0);
        assert_true(n_committed_ > 0 && n_acquired_ > 0);
    }

  private:
    struct Reader {
        uint64_t key, n_bytes;
        larder_lease lease;
    };
    uint64_t random_key() { return rng_.below(n_keys); }
    template <class F> void each_piece(larder_lease lease, F f) {
        std::vector<larder_piece> pieces(64);
        uint32_t n = 0;
        assert_int_equal(larder_store_view(store_, lease, pieces.data(), 64, &n), LARDER_OK);
        for (uint32_t i = 0; i < n; ++i) f(pieces[i]);
    }
    void reserve() {
        const uint64_t k = random_key();
        const auto bytes = bytes_of(k);
        const larder_object_meta meta = make_meta();
        larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
        item.key = make_key(k);
        item.meta = &meta;
        item.n_bytes = bytes.size();
        larder_lease lease = 0;
        larder_status status = 0;
        larder_store_reserve(store_, &item, sizeof item, 1, 0, &lease, &status);
        if (writers_.count(k)) return assert_int_equal(status, LARDER_RETRY);
        if (status == LARDER_E_EXISTS) return assert_true(there_.count(k));
        if (status == LARDER_E_NOSPACE) return assert_true(!writers_.empty() || !readers_.empty());
        assert_int_equal(status, LARDER_OK);
        there_.erase(k);
        writers_[k] = lease;
        const unsigned char* from = bytes.data();
        each_piece(lease, [&](const larder_piece& p) {
            std::memcpy(p.data, from, p.n_bytes);
            from += p.n_bytes;
        });
    }
    void commit() {
        std::vector<uint64_t> keys, sizes;
        std::vector<larder_lease> leases;
        const size_t n = std::min<size_t>(writers_.size(), 1 + rng_.below(4));
        for (auto& [k, lease] : writers_) {
            if (keys.size() == n) break;
            keys.push_back(k);
            leases.push_back(lease);
            const uint64_t size = bytes_of(k).size();
            sizes.push_back(rng_.below(2) ? size : 1 + rng_.below(size));
        }
        const bool shorter = rng_.below(2);
        if (!n) return;
        assert_int_equal(larder_store_commit(store_, leases.data(), uint32_t(n), shorter ? sizes.data() : nullptr),
                         LARDER_OK);
        for (size_t i = 0; i < n; ++i) {
            writers_.erase(keys[i]);
            there_[keys[i]] = shorter ? sizes[i] : bytes_of(keys[i]).size();
            ++n_committed_;
        }
    }
    void abort() {
        if (writers_.empty()) return;
        const auto it = std::next(writers_.begin(), long(rng_.below(writers_.size())));
        assert_int_equal(larder_store_abort(store_, &it->second, 1), LARDER_OK);
        assert_int_equal(larder_store_abort(store_, &it->second, 1), LARDER_E_STALE);
        assert_int_equal(look_up(store_, make_key(it->first)).status, LARDER_MISS);
        writers_.erase(it);
    }
    void acquire() {
        const uint64_t k = random_key();
        const larder_key key = make_key(k);
        const larder_object_want want = make_want();
        larder_lease lease = 0;
        larder_status status = 0;
        larder_store_acquire(store_, &key, 1, &want, rng_.below(2) ? LARDER_ACQUIRE_UNVERIFIED : 0, 0, &lease, &status);
        if (writers_.count(k)) return assert_int_equal(status, LARDER_RETRY);
        if (status == LARDER_MISS) return;
        if (status == LARDER_E_NOSPACE) return assert_true(setup_.file_bytes != 0);
        assert_int_equal(status, LARDER_OK);
        assert_true(there_.count(k));
        readers_.push_back({k, there_[k], lease});
        ++n_acquired_;
        if (rng_.below(4) == 0) check(readers_.back());
    }
    void check(const Reader& r) {
        const auto bytes = bytes_of(r.key);
        uint64_t at = 0;
        each_piece(r.lease, [&](const larder_piece& p) {
            assert_memory_equal(p.data, bytes.data() + at, p.n_bytes);
            at += p.n_bytes;
        });
        assert_int_equal(at, r.n_bytes);
    }
    void release() {
        if (readers_.empty()) return;
        const size_t i = rng_.below(readers_.size());
        check(readers_[i]);
        assert_int_equal(larder_store_release(store_, &readers_[i].lease, 1, nullptr, 0), LARDER_OK);
        assert_int_equal(larder_store_release(store_, &readers_[i].lease, 1, nullptr, 0), LARDER_E_STALE);
        readers_[i] = readers_.back();
        readers_.pop_back();
        // Leases must not take all the room for long.
        if (readers_.size() > 3) release();
    }
    void get() {
        const uint64_t k = random_key();
        std::vector<unsigned char> out;
        const larder_status status = get_one(store_, make_key(k), make_want(), out);
        if (writers_.count(k)) return assert_int_equal(status, LARDER_RETRY);
        if (status == LARDER_MISS) return;
        assert_int_equal(status, LARDER_OK);
        assert_int_equal(out.size(), there_.at(k));
        assert_memory_equal(out.data(), bytes_of(k).data(), out.size());
    }
    void put() {
        const uint64_t k = random_key();
        const auto bytes = bytes_of(k);
        const bool was_there = look_up(store_, make_key(k)).status == LARDER_OK;
        const larder_status status = put_one(store_, make_key(k), make_meta(), bytes);
        if (writers_.count(k)) return assert_int_equal(status, LARDER_RETRY);
        if (status != LARDER_OK) return assert_int_equal(status, LARDER_E_NOSPACE);
        // Whether what was seen was still there when it was put shows in its size.
        const uint64_t size = look_up(store_, make_key(k)).n_bytes;
        if (!was_there || size == bytes.size()) there_[k] = bytes.size();
    }
    void look() {
        const uint64_t k = random_key();
        const larder_object_info info = look_up(store_, make_key(k));
        uint32_t held = 0;
        for (const Reader& r : readers_) held += r.key == k;
        if (writers_.count(k)) return assert_int_equal(info.status, LARDER_PENDING);
        if (info.status == LARDER_MISS) return;
        assert_true(there_.count(k));
        assert_int_equal(info.n_bytes, there_[k]);
        assert_true(info.n_leases <= held);  // the others hold what was dropped meanwhile
    }
    void drop() {
        while (!writers_.empty()) abort();
        assert_int_equal(larder_store_drop_tenant(store_, 0, nullptr), LARDER_OK);
        there_.clear();
        for (const Reader& r : readers_) check(r);
    }

    Rng rng_;
    StoreFixture fixture_;
    const StoreSetup setup_;
    larder_store* store_ = nullptr;
    std::map<uint64_t, uint64_t> there_;  // committed or put, unless evicted: and how many bytes
    std::map<uint64_t, larder_lease> writers_;
    std::vector<Reader> readers_;
    uint64_t n_committed_ = 0, n_acquired_ = 0;
};

void drive(const StoreSetup& setup) {
    Driver d(test_seed(), setup);
    const uint64_t n = test_rounds(30000);
    for (uint64_t i = 0; i < n; ++i) d.step();
    d.finish();
}

void in_ram(void**) {
    drive({.host_bytes = 700 << 10, .max_object = max_object});
}
void over_a_file(void**) {
    drive({.host_bytes = 500 << 10,
           .file_bytes = 24 * (128 << 10) + 16384,
           .segment_bytes = 128 << 10,
           .max_object = max_object});
}
void written_back(void**) {
    drive({.host_bytes = 600 << 10,
           .file_bytes = 24 * (128 << 10) + 16384,
           .segment_bytes = 128 << 10,
           .max_object = max_object,
           .write_policy = LARDER_WRITE_BACK,
           .n_workers = 0});
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(in_ram), cmocka_unit_test(over_a_file),
                                cmocka_unit_test(written_back)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
