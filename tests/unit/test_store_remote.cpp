// A store with a remote tier: what goes there, what comes back, what is not believed, and how long anybody waits.
#include "support/cmocka.h"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "larder/larder.h"
#include "support/fault_allocator.h"
#include "support/redis_server.h"
#include "support/remote_bed.h"
#include "support/temp_dir.h"

namespace {

constexpr uint64_t ms = 1000000;
using Bytes = std::vector<unsigned char>;

// A store over a remote in a directory, or any other.
class Store {
  public:
    struct Options {
        uint64_t host_bytes = 8 << 20;
        const char* directory = nullptr;
        uint64_t get_timeout_ns = 5000 * ms;
        uint64_t n_events = 0;
        uint32_t no_promote = 0;
    };
    Store(const std::string& plugin, std::vector<larder_remote_setting> settings, const Options& o)
        : settings_(std::move(settings)) {
        assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
        larder_remote_options r = LARDER_REMOTE_OPTIONS_INIT;
        const std::string file = built_library(plugin.c_str());
        r.plugin = file.c_str();
        r.settings = settings_.data();
        r.n_settings = uint32_t(settings_.size());
        r.get_timeout_ns = o.get_timeout_ns;
        larder_store_options s = LARDER_STORE_OPTIONS_INIT;
        s.host_bytes = o.host_bytes;
        s.directory = o.directory;
        if (o.directory) s.file_bytes = 64 << 20;
        s.n_events = o.n_events;
        s.no_promote = o.no_promote;
        s.remote = &r;
        assert_int_equal(larder_store_open(context, &s, &store), LARDER_OK);
    }
    ~Store() {
        if (store) assert_int_equal(larder_store_verify(store), LARDER_OK);
        larder_store_close(store);
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
    static Bytes value(uint64_t n, size_t n_bytes) { return RemoteBed::value(n, n_bytes); }

    larder_status put(uint64_t n, size_t n_bytes, uint32_t flags = 0) {
        const Bytes v = value(n, n_bytes);
        larder_object_meta m = LARDER_OBJECT_META_INIT;
        m.layout.bytes[0] = 7;
        m.tenant = 3;
        m.n_tokens = 16;
        m.codec = 5;
        m.user_flags = uint32_t(n);
        m.quality = quality;
        larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
        item.key = RemoteBed::key(n);
        item.meta = &m;
        item.data = v.data();
        item.n_bytes = v.size();
        item.flags = flags;
        larder_status status = LARDER_E_INTERNAL;
        larder_store_put(store, &item, sizeof item, 1, &status, nullptr, 0, nullptr);
        return status;
    }
    larder_store_get_result get(uint64_t n, size_t n_bytes, uint64_t offset = 0, uint64_t part = 0, size_t room = 0) {
        Bytes out(room ? room : n_bytes);
        larder_store_get_item item = LARDER_STORE_GET_ITEM_INIT;
        item.key = RemoteBed::key(n);
        item.want = &want;
        item.buffer = out.data();
        item.capacity = out.size();
        item.offset = offset;
        item.n_bytes = part;
        larder_store_get_result r{};
        assert_int_equal(larder_store_get(store, &item, sizeof item, 1, &r, nullptr, 0, nullptr), LARDER_OK);
        if (r.status == LARDER_OK) {
            const Bytes v = value(n, n_bytes);
            assert_int_equal(r.n_bytes, part ? part : n_bytes - offset);
            assert_memory_equal(out.data(), v.data() + offset, r.n_bytes);
        }
        return r;
    }
    void flush() { assert_int_equal(larder_store_remote_flush(store, 20000 * ms), LARDER_OK); }
    larder_remote_info info() {
        larder_remote_info i = LARDER_REMOTE_INFO_INIT;
        assert_int_equal(larder_store_remote_info(store, &i), LARDER_OK);
        return i;
    }
    larder_object_info lookup(uint64_t n, uint64_t timeout_ns = 5000 * ms) {
        larder_object_info i = LARDER_OBJECT_INFO_INIT;
        const larder_key k = RemoteBed::key(n);
        assert_int_equal(larder_store_lookup_within(store, &k, 1, &want, timeout_ns, &i, sizeof i), LARDER_OK);
        return i;
    }
    larder_status evict(uint64_t n, uint32_t tiers) {
        const larder_key k = RemoteBed::key(n);
        larder_status s;
        larder_store_evict(store, &k, 1, tiers, &s);
        return s;
    }

    larder_context* context = nullptr;
    larder_store* store = nullptr;
    larder_object_want want{sizeof want, 3, {{7}}, 0, 0};
    larder_quality quality = LARDER_QUALITY_EXACT;

  private:
    std::vector<larder_remote_setting> settings_;
};

Store in_directory(const TempDir& dir, const Store::Options& o = {}) {
    return Store("liblarder-directory.so", {{"directory", dir.path().c_str()}}, o);
}

void one_store_finds_what_another_put(void**) {
    TempDir dir;
    Store a = in_directory(dir), b = in_directory(dir);
    for (uint64_t n = 1; n <= 20; ++n) assert_int_equal(a.put(n, n * 9000), LARDER_OK);
    a.flush();
    assert_int_equal(a.info().n_put, 20);
    for (uint64_t n = 1; n <= 20; ++n) {
        const larder_object_info there = b.lookup(n);
        assert_int_equal(there.status, LARDER_OK);
        assert_int_equal(there.tiers, LARDER_TIER_REMOTE);
        assert_int_equal(there.n_bytes, n * 9000);
        assert_int_equal(there.meta.codec, 5);
        assert_int_equal(there.meta.user_flags, n);
        assert_int_equal(b.lookup(n, 0).status, LARDER_MISS);
        assert_int_equal(b.get(n, n * 9000).tier, LARDER_TIER_REMOTE);
        assert_int_equal(b.get(n, n * 9000).tier, LARDER_TIER_HOST);
        assert_int_equal(b.lookup(n, 0).status, LARDER_OK);
    }
    assert_int_equal(b.info().n_put, 0);
    assert_int_equal(b.get(99, 100).status, LARDER_MISS);
    larder_stats s{};
    s.struct_size = sizeof s;
    larder_context_stats(b.context, &s);
    assert_int_equal(s.store_hits_remote, 20);
    assert_int_equal(s.store_gets, s.store_hits_host + s.store_hits_file + s.store_hits_remote + s.store_misses);
}

void what_is_wanted_is_asked_of_the_remote_too(void**) {
    TempDir dir;
    Store a = in_directory(dir);
    a.quality = LARDER_QUALITY_EXACT + 40;
    assert_int_equal(a.put(1, 100000), LARDER_OK);
    a.flush();
    Store b = in_directory(dir, {.no_promote = 1});
    assert_int_equal(b.get(1, 100000).status, LARDER_MISS);
    assert_int_equal(b.lookup(1).status, LARDER_MISS);
    b.want.min_quality = 255;
    const larder_store_get_result small = b.get(1, 100000, 0, 0, 5000);
    assert_int_equal(small.status, LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(small.n_bytes, 100000);
    assert_int_equal(b.get(1, 100000, 0, 0, 300000).status, LARDER_OK);
    assert_int_equal(b.get(1, 100000, 70000, 0).status, LARDER_OK);
    assert_int_equal(b.get(1, 100000, 65000, 2000).status, LARDER_OK);
    assert_int_equal(b.get(1, 100000, 99999, 2).status, LARDER_E_RANGE);
    assert_int_equal(b.get(1, 100000, 100000, 0).status, LARDER_E_RANGE);
    assert_int_equal(b.get(1, 100000, 0, 6000, 5000).status, LARDER_E_BUFFER_TOO_SMALL);
    b.want.tenant = 4;
    assert_int_equal(b.get(1, 100000).status, LARDER_E_IDENTITY);
    assert_int_equal(b.lookup(1).status, LARDER_E_IDENTITY);
    b.want.tenant = 3;
    b.want.layout.bytes[0] = 8;
    assert_int_equal(b.get(1, 100000).status, LARDER_E_IDENTITY);
}

void what_ram_gave_up_comes_back(void**) {
    TempDir dir, files;
    for (const bool with_file : {false, true}) {
        Store s = in_directory(dir, {.host_bytes = 1 << 20, .directory = with_file ? files.path().c_str() : nullptr});
        for (uint64_t n = 100; n < 140; ++n) {
            assert_int_equal(s.put(n, 60000), LARDER_OK);
            s.flush();
        }
        uint32_t from_remote = 0, from_file = 0;
        for (uint64_t n = 100; n < 140; ++n) {
            const auto r = s.get(n, 60000);
            assert_int_equal(r.status, LARDER_OK);
            from_remote += r.tier == LARDER_TIER_REMOTE;
            from_file += r.tier == LARDER_TIER_FILE;
        }
        assert_true(with_file ? from_remote == 0 && from_file > 0 : from_remote > 0);
    }
}

void removing_reaches_the_remote(void**) {
    TempDir dir;
    Store a = in_directory(dir), b = in_directory(dir);
    assert_int_equal(a.put(1, 1000), LARDER_OK);
    assert_int_equal(a.put(2, 1000, LARDER_PUT_NO_REMOTE), LARDER_OK);
    a.flush();
    assert_int_equal(b.lookup(2).status, LARDER_MISS);
    assert_int_equal(b.evict(1, LARDER_TIER_HOST), LARDER_MISS);
    assert_int_equal(b.evict(1, LARDER_TIER_REMOTE), LARDER_OK);
    assert_int_equal(b.evict(1, LARDER_TIER_REMOTE), LARDER_MISS);
    assert_int_equal(b.get(1, 1000).status, LARDER_MISS);
    assert_int_equal(a.get(1, 1000).status, LARDER_OK);
}

void prefetching_brings_it_into_ram(void**) {
    TempDir dir;
    {
        Store a = in_directory(dir);
        for (uint64_t n = 0; n < 100; ++n) assert_int_equal(a.put(n, 30000), LARDER_OK);
        a.flush();
    }
    Store b = in_directory(dir);
    std::vector<larder_key> keys;
    for (uint64_t n = 0; n < 101; ++n) keys.push_back(RemoteBed::key(n));
    std::vector<larder_status> statuses(keys.size(), LARDER_E_INTERNAL);
    larder_queue* q = nullptr;
    assert_int_equal(larder_queue_create(b.context, nullptr, &q), LARDER_OK);
    larder_job job = 0;
    assert_int_equal(larder_store_prefetch(b.store, keys.data(), uint32_t(keys.size()), 0, statuses.data(), q, 0, &job),
                     LARDER_PENDING);
    assert_int_equal(larder_job_wait(q, job, UINT64_MAX), LARDER_OK);
    for (uint64_t n = 0; n < 100; ++n) assert_int_equal(statuses[n], LARDER_OK);
    assert_int_equal(statuses[100], LARDER_MISS);
    for (uint64_t n = 0; n < 100; ++n) assert_int_equal(b.get(n, 30000).tier, LARDER_TIER_HOST);
    larder_queue_destroy(q);
}

// Every byte of a small value, and bytes all over a larger one; cut short, made longer, and exchanged for another's.
void nothing_wrong_is_believed(void**) {
    TempDir dir;
    {
        Store a = in_directory(dir);
        assert_int_equal(a.put(1, 40), LARDER_OK);
        assert_int_equal(a.put(2, 200000), LARDER_OK);
        assert_int_equal(a.put(3, 200000), LARDER_OK);
        a.flush();
    }
    const auto path = [&](uint64_t n) { return dir.path(RemoteBed::name(n).substr(7)); };
    const auto read = [](const std::string& p) {
        std::ifstream f(p, std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(f), {});
    };
    const auto write = [](const std::string& p, const std::string& s) {
        std::ofstream(p, std::ios::binary | std::ios::trunc) << s;
    };
    const std::string small = read(path(1)), large = read(path(2)), other = read(path(3));
    assert_int_equal(small.size(), 16 + 128 + 40);
    Store b = in_directory(dir, {.n_events = 64, .no_promote = 1});
    uint64_t cursor = 0, n_corrupt = 0;
    const auto expect_miss = [&](uint64_t n, size_t n_bytes) {
        assert_int_equal(b.get(n, n_bytes).status, LARDER_MISS);
        assert_int_equal(b.info().n_corrupt, ++n_corrupt);
        larder_event e{};
        uint64_t n_events = 0;
        assert_int_equal(larder_store_events_read(b.store, &cursor, &e, sizeof e, 1, &n_events), LARDER_OK);
        assert_int_equal(n_events, 1);
        assert_int_equal(e.kind, LARDER_EVENT_REMOVED);
        assert_int_equal(e.cause, LARDER_ABSENT_CORRUPT);
        assert_int_equal(e.places_before, LARDER_TIER_REMOTE);
        const larder_key k = RemoteBed::key(n);
        assert_memory_equal(&e.key, &k, sizeof k);
        larder_store_explanation why = LARDER_STORE_EXPLANATION_INIT;
        assert_int_equal(larder_store_explain(b.store, &k, &why), LARDER_OK);
        assert_int_equal(why.why, LARDER_ABSENT_CORRUPT);
        assert_int_equal(why.tier, LARDER_TIER_REMOTE);
    };
    for (size_t at = 0; at < small.size(); ++at)
        for (const int bit : {1, 128}) {
            std::string s = small;
            s[at] = char(s[at] ^ bit);
            write(path(1), s);
            expect_miss(1, 40);
        }
    write(path(1), small);
    assert_int_equal(b.get(1, 40).status, LARDER_OK);
    for (size_t at = 150; at < large.size(); at += 9973) {
        std::string s = large;
        s[at] = char(s[at] ^ 4);
        write(path(2), s);
        expect_miss(2, 200000);
    }
    // Whole, and of the right form, but another's.
    write(path(2), other);
    expect_miss(2, 200000);
    write(path(1), large);
    expect_miss(1, 40);
    write(path(2), large.substr(0, large.size() - 1));
    expect_miss(2, 200000);
    write(path(2), "");
    expect_miss(2, 200000);
    write(path(2), large);
    assert_int_equal(b.get(2, 200000).status, LARDER_OK);
}

void a_dead_or_sleeping_server_costs_no_more_than_the_time_given(void**) {
    if (!have_redis_server()) return;
    RedisServer server;
    const std::string where = server.address();
    Store s("liblarder-redis.so", {{"nodes", where.c_str()}, {"backoff_ms", "20"}}, {.get_timeout_ns = 60 * ms});
    assert_int_equal(s.put(1, 300000), LARDER_OK);
    s.flush();
    assert_int_equal(s.info().n_put, 1);
    assert_int_equal(s.evict(1, LARDER_TIER_HOST), LARDER_OK);
    assert_int_equal(s.get(1, 300000).tier, LARDER_TIER_REMOTE);
    server.pause();
    // Local hits and puts go on as ever; misses wait once.
    const auto now = [] { return std::chrono::steady_clock::now(); };
    const auto begin = now();
    uint32_t n_waits = 0;
    for (uint64_t n = 10; now() - begin < std::chrono::milliseconds(900); ++n) {
        assert_int_equal(s.put(n, 20000), LARDER_OK);
        assert_int_equal(s.get(n, 20000).tier, LARDER_TIER_HOST);
        const auto at = now();
        assert_int_equal(s.get(n + 1000000, 20000).status, LARDER_MISS);
        n_waits += now() - at > std::chrono::milliseconds(30);
    }
    // A busy machine may make a call look like a wait.
    assert_in_range(n_waits, 1, 5);
    assert_true(s.info().n_unanswered > 0);
    server.resume();
    s.evict(1, LARDER_TIER_HOST);  // unless it has gone already
    for (int i = 0; i < 500 && s.get(1, 300000).status != LARDER_OK; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    assert_int_equal(s.get(1, 300000).status, LARDER_OK);
    server.kill();
    assert_int_equal(s.put(5, 1000), LARDER_OK);
    s.flush();
    assert_int_equal(s.get(77, 1000).status, LARDER_MISS);
}

void options_are_checked(void**) {
    Store::Options o;
    larder_context* c = nullptr;
    assert_int_equal(larder_context_create(nullptr, &c), LARDER_OK);
    larder_store* store = nullptr;
    larder_remote_options r = LARDER_REMOTE_OPTIONS_INIT;
    larder_store_options s = LARDER_STORE_OPTIONS_INIT;
    s.host_bytes = 1 << 20;
    s.remote = &r;
    assert_int_equal(larder_store_open(c, &s, &store), LARDER_E_INVALID);
    r.plugin = "no-such-plug-in";
    assert_int_equal(larder_store_open(c, &s, &store), LARDER_E_NOT_FOUND);
    r.max_queued = 1 << 30;
    assert_int_equal(larder_store_open(c, &s, &store), LARDER_E_RANGE);
    s.remote = nullptr;
    assert_int_equal(larder_store_open(c, &s, &store), LARDER_OK);
    larder_remote_info i = LARDER_REMOTE_INFO_INIT;
    assert_int_equal(larder_store_remote_info(store, &i), LARDER_E_STATE);
    assert_int_equal(larder_store_remote_flush(store, 0), LARDER_E_STATE);
    larder_store_close(store);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(one_store_finds_what_another_put),
        cmocka_unit_test(what_is_wanted_is_asked_of_the_remote_too),
        cmocka_unit_test(what_ram_gave_up_comes_back),
        cmocka_unit_test(removing_reaches_the_remote),
        cmocka_unit_test(prefetching_brings_it_into_ram),
        cmocka_unit_test(nothing_wrong_is_believed),
        cmocka_unit_test(a_dead_or_sleeping_server_costs_no_more_than_the_time_given),
        cmocka_unit_test(options_are_checked),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
