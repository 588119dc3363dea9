// Runs any plug-in for a remote tier through what larder/plugin/remote_v1.h promises:
//
//     larder-remote-conformance PLUGIN.so [name=value ...]
//
// Keys are random, so that a remote in use is not disturbed, and are removed again. One line for each check; the exit
// status is 0 when all hold.
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "larder/plugin/remote_v1.h"

namespace {

using Bytes = std::vector<unsigned char>;
constexpr uint64_t second = 1000000000;
constexpr uint64_t long_time = 20 * second;

// The host's side: memory that is counted and can be made scarce.
struct Host {
    Host() : table{sizeof table, 0, this, alloc, free_memory, note_failure, now, no_log} {}

    static void* alloc(void* ctx, uint64_t n, uint64_t align) {
        Host& h = *static_cast<Host*>(ctx);
        if (h.fail_after.load() >= 0 && h.fail_after.fetch_sub(1) <= 0) return nullptr;
        void* p = std::aligned_alloc(align, (n + align - 1) / align * align);
        if (p) h.live += int64_t(n);
        return p;
    }
    static void free_memory(void* ctx, void* p, uint64_t n, uint64_t) {
        if (p) static_cast<Host*>(ctx)->live -= int64_t(n);
        std::free(p);
    }
    static void note_failure(void* ctx, larder_status status, int32_t, const char* message) {
        Host& h = *static_cast<Host*>(ctx);
        const std::lock_guard lock(h.mutex);
        h.status = status;
        h.message = message;
    }
    static uint64_t now(void*) {
        return uint64_t(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
    }
    static void no_log(void*, int32_t, const char*) {}

    larder_remote_host_v1 table;
    std::atomic<int64_t> live{0}, fail_after{-1};
    std::mutex mutex;
    larder_status status = 0;
    std::string message;
};

struct Value {
    larder_key key;
    Bytes bytes;
};

std::mt19937_64 seeds;
std::mutex seeds_mutex;

uint64_t random_number() {
    const std::lock_guard lock(seeds_mutex);
    return seeds();
}

Value random_value(size_t n) {
    Value v{{}, Bytes(n)};
    std::mt19937_64 rng(random_number());
    for (auto& b : v.key.bytes) b = uint8_t(rng());
    for (auto& b : v.bytes) b = uint8_t(rng());
    return v;
}

class Suite {
  public:
    Suite(const larder_remote_table_v1& table, std::vector<larder_remote_setting_v1> settings)
        : t(table), settings_(std::move(settings)) {}
    int run();

  private:
    void check(bool holds, const char* what) {
        const std::lock_guard lock(mutex_);
        std::printf("%-6s %s\n", holds ? "ok" : "FAILED", what);
        if (!holds && !host.message.empty()) std::printf("       last failure told: %s\n", host.message.c_str());
        n_failed_ += !holds;
    }
    bool open() { return t.open(&host.table, settings_.data(), uint32_t(settings_.size()), &r) == LARDER_OK; }

    // One batch from beginning to end; false when it could not be run.
    bool batch(uint32_t op, std::vector<larder_remote_item_v1>& items, uint64_t timeout_ns = long_time) {
        const larder_remote_batch_v1 b{sizeof b, op, items.data(), uint32_t(items.size()), 0};
        void* q = nullptr;
        if (t.prepare(r, &b, &q) != LARDER_OK) return false;
        larder_status s = t.post(r, q, timeout_ns);
        if (s == LARDER_OK)
            while ((s = t.check(r, q, second)) == LARDER_PENDING) {
            }
        t.release(r, q);
        return s == LARDER_OK;
    }
    larder_status one(uint32_t op, const larder_key& key, std::vector<larder_remote_piece_v1> pieces = {},
                      uint64_t offset = 0, uint64_t* out_size = nullptr) {
        std::vector<larder_remote_item_v1> items{
            {key, pieces.empty() ? nullptr : pieces.data(), uint32_t(pieces.size()), 99, offset, 0}};
        if (!batch(op, items)) return LARDER_E_INTERNAL;
        if (out_size) *out_size = items[0].n_bytes;
        return items[0].status;
    }
    larder_status put(Value& v) { return one(LARDER_REMOTE_PUT, v.key, {{v.bytes.data(), v.bytes.size()}}); }
    // What is there, whole; nothing where it is a miss.
    std::optional<Bytes> get(const larder_key& key, size_t capacity, larder_status* out_status = nullptr) {
        Bytes b(capacity);
        uint64_t size = 0;
        const larder_status s = one(LARDER_REMOTE_GET, key, {{b.data(), b.size()}}, 0, &size);
        if (out_status) *out_status = s;
        if (s != LARDER_OK) return std::nullopt;
        b.resize(std::min<uint64_t>(size, capacity));
        return b;
    }

    void sizes();
    void parts_of_values();
    void batches();
    void replacing();
    void requests();
    void times();
    void limits();
    void threads();
    void scarce_memory();

    const larder_remote_table_v1& t;
    std::vector<larder_remote_setting_v1> settings_;
    Host host;
    void* r = nullptr;
    larder_remote_caps_v1 caps_{};
    std::mutex mutex_;
    int n_failed_ = 0;
};

void Suite::sizes() {
    bool same = true, sized = true, gone = true, there = true;
    for (uint64_t n : {1ul, 15ul, 16ul, 17ul, 4096ul, 65535ul, 65536ul, 262144ul, 262145ul, 1048576ul, 5000001ul}) {
        if (n > caps_.max_value_bytes) continue;
        Value v = random_value(n);
        same &= one(LARDER_REMOTE_EXISTS, v.key) == LARDER_MISS && put(v) == LARDER_OK;
        there &= one(LARDER_REMOTE_EXISTS, v.key) == LARDER_OK;
        const auto exact = get(v.key, n), roomy = get(v.key, n + 300000);
        same &= exact == v.bytes;
        sized &= roomy == v.bytes;
        gone &= one(LARDER_REMOTE_REMOVE, v.key) == LARDER_OK && one(LARDER_REMOTE_EXISTS, v.key) == LARDER_MISS &&
                !get(v.key, n);
    }
    check(same, "values of 1 byte to 5 MB come back as they were put");
    check(sized, "a larger buffer is filled as far as the value goes, and the size is told");
    check(there, "a value that was put exists");
    check(gone, "a removed value is a miss");
}

void Suite::parts_of_values() {
    bool holds = true;
    const uint64_t n = std::min<uint64_t>(caps_.max_value_bytes, 3000000);
    Value v = random_value(n);
    holds &= put(v) == LARDER_OK;
    for (int i = 0; i < 60; ++i) {
        const uint64_t offset = i == 0 ? 0 : i == 1 ? n - 1 : random_number() % n;
        // Several pieces, some of a few bytes, together perhaps longer than what is left.
        Bytes room(1 + random_number() % (i % 3 ? 200000 : n));
        std::vector<larder_remote_piece_v1> pieces;
        for (uint64_t at = 0; at < room.size();) {
            const uint64_t k = std::min<uint64_t>(room.size() - at, 1 + random_number() % (i % 2 ? 100000 : 1000000));
            pieces.push_back({room.data() + at, k});
            at += k;
        }
        uint64_t size = 0;
        holds &= one(LARDER_REMOTE_GET, v.key, pieces, offset, &size) == LARDER_OK && size == n;
        const uint64_t filled = std::min<uint64_t>(room.size(), n - offset);
        holds &= std::equal(room.begin(), room.begin() + int64_t(filled), v.bytes.begin() + int64_t(offset));
    }
    check(holds, "any part of a value can be read, into many pieces");
    Bytes room(100);
    uint64_t size = 0;
    const larder_status s = one(LARDER_REMOTE_GET, v.key, {{room.data(), room.size()}}, n + 5, &size);
    check(s == LARDER_OK ? size == n : s == LARDER_MISS, "a part behind the end reads nothing");
    // A value gathered from pieces.
    std::vector<larder_remote_piece_v1> pieces;
    for (uint64_t at = 0; at < n; at += 10007)
        pieces.push_back({v.bytes.data() + at, std::min<uint64_t>(10007, n - at)});
    const Value other = random_value(1);
    holds = one(LARDER_REMOTE_PUT, other.key, pieces) == LARDER_OK && get(other.key, n) == v.bytes;
    check(holds, "a value can be put from many pieces");
    one(LARDER_REMOTE_REMOVE, v.key);
    one(LARDER_REMOTE_REMOVE, other.key);
}

void Suite::batches() {
    const size_t n = std::min<size_t>(caps_.max_items, 600);
    std::vector<Value> values;
    std::vector<larder_remote_piece_v1> pieces(n);
    std::vector<larder_remote_item_v1> items(n);
    for (size_t i = 0; i < n; ++i) values.push_back(random_value(i % 50 == 0 ? 700000 : 1 + random_number() % 5000));
    auto fill = [&](bool with_pieces) {
        for (size_t i = 0; i < n; ++i) {
            pieces[i] = {values[i].bytes.data(), values[i].bytes.size()};
            items[i] = {values[i].key, with_pieces ? &pieces[i] : nullptr, with_pieces ? 1u : 0u, 99, 0, 0};
        }
    };
    auto all = [&](auto f) {
        for (size_t i = 0; i < n; ++i)
            if (!f(i)) return false;
        return true;
    };
    fill(true);
    bool holds = batch(LARDER_REMOTE_PUT, items) && all([&](size_t i) { return items[i].status == LARDER_OK; });
    check(holds, "a batch of puts, large and small");
    for (size_t i = 0; i < n; i += 3) one(LARDER_REMOTE_REMOVE, values[i].key);
    fill(false);
    holds = batch(LARDER_REMOTE_EXISTS, items) &&
            all([&](size_t i) { return items[i].status == (i % 3 ? LARDER_OK : LARDER_MISS); });
    check(holds, "a batch of questions, a third of them misses");
    const std::vector<Value> before = values;
    for (Value& v : values) std::fill(v.bytes.begin(), v.bytes.end(), 0xee);
    fill(true);
    holds = batch(LARDER_REMOTE_GET, items) && all([&](size_t i) {
                return i % 3 == 0 ? items[i].status == LARDER_MISS
                                  : items[i].status == LARDER_OK && values[i].bytes == before[i].bytes &&
                                        items[i].n_bytes == before[i].bytes.size();
            });
    check(holds, "a batch of gets, a third of them misses");
    fill(false);
    holds = batch(LARDER_REMOTE_REMOVE, items) && all([&](size_t i) {
                return items[i].status == LARDER_OK || (i % 3 == 0 && items[i].status == LARDER_MISS);
            });
    fill(false);
    holds &= batch(LARDER_REMOTE_EXISTS, items) && all([&](size_t i) { return items[i].status == LARDER_MISS; });
    check(holds, "a batch of removals");
}

void Suite::replacing() {
    bool holds = true;
    Value v = random_value(10);
    for (uint64_t n : {900000ul, 20ul, 2500000ul, 1ul, 700000ul}) {
        v.bytes = random_value(std::min<uint64_t>(n, caps_.max_value_bytes)).bytes;
        holds &= put(v) == LARDER_OK && get(v.key, 3000000) == v.bytes;
    }
    one(LARDER_REMOTE_REMOVE, v.key);
    check(holds, "a value is replaced by a longer or shorter one");
}

void Suite::requests() {
    Value v = random_value(300000);
    Bytes room(v.bytes.size(), 0);
    larder_remote_piece_v1 from{v.bytes.data(), v.bytes.size()}, to{room.data(), room.size()};
    larder_remote_item_v1 put_item{v.key, &from, 1, 99, 0, 0}, get_item{v.key, &to, 1, 99, 0, 0};
    const larder_remote_batch_v1 puts{sizeof puts, LARDER_REMOTE_PUT, &put_item, 1, 60000},
        gets{sizeof gets, LARDER_REMOTE_GET, &get_item, 1, 0};
    void *p = nullptr, *g = nullptr;
    bool holds = t.prepare(r, &puts, &p) == LARDER_OK && t.prepare(r, &gets, &g) == LARDER_OK;
    check(holds && t.check(r, g, 0) == LARDER_E_STATE, "a request that was not posted cannot be checked");
    auto finish = [&](void* q) {
        larder_status s;
        while ((s = t.check(r, q, second / 100)) == LARDER_PENDING) {
        }
        return s == LARDER_OK;
    };
    for (int i = 0; i < 3 && holds; ++i) {
        holds &= t.post(r, p, long_time) == LARDER_OK && finish(p) && put_item.status == LARDER_OK;
        std::fill(room.begin(), room.end(), 0);
        holds &= t.post(r, g, long_time) == LARDER_OK && finish(g) && get_item.status == LARDER_OK && room == v.bytes;
        v.bytes[size_t(i)] ^= 1;
    }
    check(holds, "what was prepared once is posted many times");
    if (g) t.release(r, g);
    if (p) t.release(r, p);
    // Given up at every possible moment; then the memory is the caller's again.
    bool untouched = true;
    for (int i = 0; i < 40; ++i) {
        if (t.prepare(r, &gets, &g) != LARDER_OK || t.post(r, g, long_time) != LARDER_OK) {
            untouched = false;
            break;
        }
        for (int k = 0; k < i / 4; ++k) t.check(r, g, k % 2 ? 0 : 20000);
        t.release(r, g);
        std::fill(room.begin(), room.end(), uint8_t(i));
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        untouched &= std::all_of(room.begin(), room.end(), [&](uint8_t b) { return b == uint8_t(i); });
    }
    check(untouched, "a released request does not touch the memory any more");
    v.bytes[2] ^= 1;  // as it was put last
    check(get(v.key, v.bytes.size()) == v.bytes, "given-up requests leave the value as it is");
    one(LARDER_REMOTE_REMOVE, v.key);
}

void Suite::times() {
    bool holds = true;
    Value v = random_value(400000);
    put(v);
    for (const uint64_t timeout : {uint64_t(0), uint64_t(1), uint64_t(100000), uint64_t(3000000)}) {
        Bytes room(v.bytes.size());
        larder_remote_piece_v1 to{room.data(), room.size()};
        std::vector<larder_remote_item_v1> items{{v.key, &to, 1, 99, 0, 0}};
        const uint64_t begin = Host::now(nullptr);
        holds &= batch(LARDER_REMOTE_GET, items, timeout);
        // Generous: the machine may be busy.
        holds &= Host::now(nullptr) - begin < timeout + 2 * second;
        const larder_status s = items[0].status;
        holds &= s == LARDER_E_TIMEOUT || s == LARDER_E_PEER_DEAD || (s == LARDER_OK && room == v.bytes);
    }
    check(holds, "a time that is too short ends the request, and gives right bytes or none");
    check(get(v.key, v.bytes.size()) == v.bytes, "and the next request is as good as any");
    one(LARDER_REMOTE_REMOVE, v.key);
}

void Suite::limits() {
    larder_remote_counters_v1 c{};
    c.struct_size = sizeof c;
    t.counters(r, &c);
    check(c.health == LARDER_OK && c.n_nodes >= 1 && c.n_nodes_down == 0, "the counters say that it is well");
    uint64_t region = 0;
    Bytes memory(1 << 20);
    const bool holds = t.register_memory(r, memory.data(), memory.size(), &region) == LARDER_OK;
    if (holds) t.unregister_memory(r, region);
    check(holds, "memory can be registered");
    if (caps_.max_value_bytes > (64u << 20)) return;
    Value v = random_value(caps_.max_value_bytes + 1);
    check(put(v) == LARDER_E_RANGE, "a value that is too large is refused");
    v.bytes.pop_back();
    check(put(v) == LARDER_OK && get(v.key, v.bytes.size()) == v.bytes, "the largest value is taken");
    one(LARDER_REMOTE_REMOVE, v.key);
}

void Suite::threads() {
    std::atomic<bool> holds{true};
    std::vector<std::thread> all;
    for (int id = 0; id < 4; ++id)
        all.emplace_back([&] {
            std::vector<Value> mine;
            for (int i = 0; i < 6; ++i) mine.push_back(random_value(1 + random_number() % 400000));
            std::vector<bool> there(mine.size());
            for (int step = 0; step < 60; ++step) {
                const size_t k = random_number() % mine.size();
                switch (random_number() % 4) {
                case 0:
                    mine[k].bytes = random_value(1 + random_number() % 400000).bytes;
                    there[k] = put(mine[k]) == LARDER_OK;
                    if (!there[k]) holds = false;
                    break;
                case 1:
                    if (one(LARDER_REMOTE_REMOVE, mine[k].key) != (there[k] ? LARDER_OK : LARDER_MISS)) holds = false;
                    there[k] = false;
                    break;
                default:
                    const auto found = get(mine[k].key, 400000);
                    if (found.has_value() != there[k] || (found && *found != mine[k].bytes)) holds = false;
                }
            }
            for (const Value& v : mine) one(LARDER_REMOTE_REMOVE, v.key);
        });
    for (std::thread& thread : all) thread.join();
    check(holds, "four threads at once, each against its own memory");
}

void Suite::scarce_memory() {
    Value v = random_value(600000);
    bool holds = put(v) == LARDER_OK;
    int n_starved = 0;
    for (int64_t n = 0; n < 200; ++n) {
        Bytes room(v.bytes.size());
        larder_remote_piece_v1 to{room.data(), room.size()};
        std::vector<larder_remote_item_v1> items{{v.key, &to, 1, 99, 0, 0}};
        host.fail_after = n;
        const bool ran = batch(LARDER_REMOTE_GET, items);
        const bool met = host.fail_after.exchange(-1) < 0;
        n_starved += met;
        if (ran && items[0].status == LARDER_OK) holds &= room == v.bytes;
        if (ran && items[0].status != LARDER_OK) holds &= items[0].status == LARDER_E_NOMEM && met;
        if (!ran) holds &= met && host.status == LARDER_E_NOMEM;
        if (!met) break;
    }
    check(holds, "without memory a request fails with LARDER_E_NOMEM or is right");
    one(LARDER_REMOTE_REMOVE, v.key);
    t.close(r);
    r = nullptr;
    check(host.live == 0, "close gives all memory back");
    holds = true;
    for (int64_t n = 0; n < 200; ++n) {
        host.fail_after = n;
        const bool opened = open();
        const bool met = host.fail_after.exchange(-1) < 0;
        if (opened) t.close(r);
        holds &= opened || (met && host.status == LARDER_E_NOMEM);
        holds &= host.live == 0;
        if (!met) break;
    }
    check(holds, "open without memory fails with LARDER_E_NOMEM, and leaks nothing");
    std::vector<larder_remote_setting_v1> odd = settings_;
    odd.push_back({"no-such-setting", "1"});
    const larder_status s = t.open(&host.table, odd.data(), uint32_t(odd.size()), &r);
    check(s == LARDER_E_INVALID && host.status == s && !host.message.empty(), "a setting that is not known is refused");
    if (s == LARDER_OK) t.close(r);
}

int Suite::run() {
    if (!open()) {
        std::printf("FAILED open: %s (%s)\n", larder_status_name(host.status), host.message.c_str());
        return 1;
    }
    caps_.struct_size = sizeof caps_;
    t.caps(r, &caps_);
    check(caps_.max_items >= 1 && caps_.max_value_bytes >= 65536, "it says what it can do");
    sizes();
    parts_of_values();
    batches();
    replacing();
    requests();
    times();
    limits();
    threads();
    scarce_memory();
    std::printf("%s: %d check(s) failed\n", t.name, n_failed_);
    return n_failed_ != 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s PLUGIN.so [name=value ...]\n", argv[0]);
        return 2;
    }
    seeds.seed(std::random_device()());
    void* h = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    const auto entry =
        h ? reinterpret_cast<larder_remote_plugin_v1_fn>(dlsym(h, LARDER_REMOTE_PLUGIN_V1_SYMBOL)) : nullptr;
    if (!entry) {
        std::printf("FAILED %s is not a plug-in: %s\n", argv[1], h ? "it has no entry" : dlerror());
        return 1;
    }
    const larder_remote_table_v1* t = entry();
    if (!t || t->version != 1 || t->struct_size < sizeof *t || t->score() <= 0) {
        std::printf("FAILED the table is of another version, too short, or of no use here\n");
        return 1;
    }
    std::vector<std::string> names, values;
    for (int i = 2; i < argc; ++i) {
        const std::string a = argv[i];
        const size_t at = a.find('=');
        names.push_back(a.substr(0, at));
        values.push_back(at == std::string::npos ? "" : a.substr(at + 1));
    }
    std::vector<larder_remote_setting_v1> settings;
    for (size_t i = 0; i < names.size(); ++i) settings.push_back({names[i].c_str(), values[i].c_str()});
    return Suite(*t, std::move(settings)).run();
}
