// Small helpers for tests of the store: keys, payloads and metas made from numbers, and stores opened with few words.
#pragma once

#include "support/cmocka.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/hash.h"
#include "larder/store.h"
#include "support/seed.h"
#include "support/temp_dir.h"

struct StoreSetup {
    uint64_t host_bytes = 0;
    uint64_t file_bytes = 0;
    uint64_t segment_bytes = 0;
    uint64_t max_object = 0;
    larder_write_policy write_policy = 0;
    uint32_t host_policy = 0;
    uint32_t file_policy = 0;
    uint32_t reinsert_percent = 0;
    uint32_t n_workers = 2;

    larder_store_options options(const char* directory) const {
        larder_store_options o = LARDER_STORE_OPTIONS_INIT;
        if (file_bytes) {
            o.directory = directory;
            o.file_bytes = file_bytes;
            o.segment_bytes = segment_bytes;
        }
        o.host_bytes = host_bytes;
        o.write_policy = write_policy;
        o.host_policy = host_policy;
        o.file_policy = file_policy;
        o.reinsert_percent = reinsert_percent;
        return o;
    }
};

inline larder_key make_key(uint64_t i) {
    larder_key k;
    larder::Rng rng(i * 2 + 1);
    for (size_t at = 0; at < 32; at += 8) {
        const uint64_t v = rng.next();
        std::memcpy(k.bytes + at, &v, 8);
    }
    return k;
}

inline std::string to_string(const larder_key& k) {
    return std::string(reinterpret_cast<const char*>(k.bytes), 32);
}
inline larder_key from_string(const std::string& s) {
    larder_key k;
    std::memcpy(k.bytes, s.data(), 32);
    return k;
}

// The same bytes for the same numbers.
inline std::vector<unsigned char> make_payload(uint64_t seed, size_t n_bytes) {
    std::vector<unsigned char> out(n_bytes);
    larder::Rng rng(seed);
    size_t i = 0;
    for (; i + 8 <= n_bytes; i += 8) {
        const uint64_t v = rng.next();
        std::memcpy(&out[i], &v, 8);
    }
    for (; i < n_bytes; ++i) out[i] = static_cast<unsigned char>(rng.next());
    return out;
}

inline larder_key layout_key() {
    return make_key(0x4c61796f7574);
}

inline larder_object_meta make_meta(uint32_t tenant = 0, int quality = LARDER_QUALITY_EXACT) {
    larder_object_meta m = LARDER_OBJECT_META_INIT;
    m.tenant = tenant;
    m.layout = layout_key();
    m.quality = quality;
    return m;
}

inline larder_object_want make_want(uint32_t tenant = 0, int quality = LARDER_QUALITY_EXACT) {
    larder_object_want w = LARDER_OBJECT_WANT_INIT;
    w.tenant = tenant;
    w.layout = layout_key();
    w.min_quality = quality;
    return w;
}

inline larder_status put_one(larder_store* s, const larder_key& key, const larder_object_meta& meta,
                             const std::vector<unsigned char>& bytes, uint32_t flags = 0) {
    larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
    item.flags = flags;
    item.key = key;
    item.meta = &meta;
    item.data = bytes.data();
    item.n_bytes = bytes.size();
    larder_status status = 0;
    larder_store_put(s, &item, sizeof item, 1, &status, nullptr, 0, nullptr);
    return status;
}

// The whole object. The buffer is cut to what came.
inline larder_status get_one(larder_store* s, const larder_key& key, const larder_object_want& want,
                             std::vector<unsigned char>& out, size_t capacity = 1 << 20, uint32_t* tier = nullptr) {
    out.assign(capacity, 0);
    larder_store_get_item item = LARDER_STORE_GET_ITEM_INIT;
    item.key = key;
    item.want = &want;
    item.buffer = out.data();
    item.capacity = capacity;
    larder_store_get_result r{};
    const larder_status called = larder_store_get(s, &item, sizeof item, 1, &r, nullptr, 0, nullptr);
    if (tier) *tier = r.tier;
    out.resize(r.status == LARDER_OK ? r.n_bytes : 0);
    return called == LARDER_OK ? r.status : called;
}

// Written in place: reserved, filled, committed.
inline larder_status write_one(larder_store* s, const larder_key& key, const larder_object_meta& meta,
                               const std::vector<unsigned char>& bytes) {
    larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
    item.key = key;
    item.meta = &meta;
    item.n_bytes = bytes.size();
    larder_lease lease = 0;
    larder_status status = 0;
    larder_store_reserve(s, &item, sizeof item, 1, 0, &lease, &status);
    if (status != LARDER_OK) return status;
    std::vector<larder_piece> pieces(64);
    uint32_t n = 0;
    assert_int_equal(larder_store_view(s, lease, pieces.data(), 64, &n), LARDER_OK);
    const unsigned char* from = bytes.data();
    for (uint32_t i = 0; i < n; ++i) {
        std::memcpy(pieces[i].data, from, pieces[i].n_bytes);
        from += pieces[i].n_bytes;
    }
    status = larder_store_commit(s, &lease, 1, nullptr);
    if (status < 0) larder_store_abort(s, &lease, 1);
    return status;
}

// Read in place: held, copied, released.
inline larder_status read_one(larder_store* s, const larder_key& key, const larder_object_want& want,
                              std::vector<unsigned char>& out) {
    larder_lease lease = 0;
    larder_status status = 0;
    out.clear();
    const larder_status all = larder_store_acquire(s, &key, 1, &want, 0, 0, &lease, &status);
    if (all < 0) return all;
    if (status != LARDER_OK) return status;
    std::vector<larder_piece> pieces(64);
    uint32_t n = 0;
    assert_int_equal(larder_store_view(s, lease, pieces.data(), 64, &n), LARDER_OK);
    for (uint32_t i = 0; i < n; ++i) {
        const auto* p = static_cast<const unsigned char*>(pieces[i].data);
        out.insert(out.end(), p, p + pieces[i].n_bytes);
    }
    assert_int_equal(larder_store_release(s, &lease, 1, nullptr, 0), LARDER_OK);
    return status;
}

inline larder_object_info look_up(larder_store* s, const larder_key& key) {
    larder_object_info info = LARDER_OBJECT_INFO_INIT;
    assert_int_equal(larder_store_lookup(s, &key, 1, nullptr, &info, sizeof info), LARDER_OK);
    return info;
}

// A context and a directory in memory that outlive any number of openings.
class StoreFixture {
  public:
    explicit StoreFixture(const StoreSetup& setup) : setup_(setup), dir_("/dev/shm") {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        o.n_workers = setup.n_workers;
        assert_int_equal(larder_context_create(&o, &context_), LARDER_OK);
    }
    ~StoreFixture() { larder_context_destroy(context_); }

    larder_store* open() {
        larder_store* s = nullptr;
        const std::string path = dir_.path("store");
        const larder_store_options o = setup_.options(path.c_str());
        const larder_status status = larder_store_open(context_, &o, &s);
        if (status != LARDER_OK) {
            larder_error_info e = LARDER_ERROR_INFO_INIT;
            larder_last_error(&e);
            print_error("open: %s (%s)\n", e.message, e.field);
        }
        assert_int_equal(status, LARDER_OK);
        return s;
    }
    larder_context* context() { return context_; }
    std::string directory() const { return dir_.path("store"); }

  private:
    const StoreSetup setup_;
    TempDir dir_;
    larder_context* context_ = nullptr;
};
