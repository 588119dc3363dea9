// The remote tier on Redis: the plug-in beside a bare exchange of the same bytes on a blocking socket, and beside
// hiredis; then a cluster of six, whole and with a node that sleeps. Servers are started here, on loopback.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#if LARDER_BENCH_HIREDIS
#include <hiredis/hiredis.h>
#endif

#include "base/hash.h"
#include "bench/bench.h"
#include "larder/larder.h"
#include "store/tiers/remote_plugin.h"
#include "tests/support/redis_server.h"

namespace {

using Bytes = std::vector<unsigned char>;

larder_key key_of(uint64_t i) {
    larder::Rng rng(i + 1);
    larder_key k;
    for (size_t at = 0; at < 32; at += 8) {
        const uint64_t v = rng.next();
        std::memcpy(k.bytes + at, &v, 8);
    }
    return k;
}

struct Tier {
    Tier(const std::string& nodes) {
        larder_context::create(nullptr, larder::posix_os(), &context);
        const larder_remote_setting_v1 settings[] = {{"nodes", nodes.c_str()}};
        auto r = larder::Remote::open(*context, LARDER_BENCH_REDIS_PLUGIN, settings);
        if (r.ok()) remote = std::move(*r);
    }
    ~Tier() {
        remote.reset();
        larder_context_destroy(context);
    }
    bool run(uint32_t op, uint64_t n, Bytes* value, uint64_t timeout_ns = 10000000000u) {
        larder_remote_piece_v1 piece{};
        if (value) piece = {value->data(), value->size()};
        larder_remote_item_v1 item{key_of(n), value ? &piece : nullptr, value ? 1u : 0u, 0, 0, 0};
        return remote->run(op, {&item, 1}, 0, timeout_ns) >= 0 && item.status == LARDER_OK;
    }
    larder_context* context = nullptr;
    larder::Owned<larder::Remote> remote;
};

// What any client must do at least: one write, one answer, straight from and into memory.
class Bare {
  public:
    explicit Bare(int port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in a{};
        a.sin_family = AF_INET;
        a.sin_port = htons(uint16_t(port));
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const int on = 1;
        ok_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0;
        ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    ~Bare() { ::close(fd_); }
    bool ok() const { return ok_; }
    bool set(const std::string& key, Bytes& value) {
        char head[160];
        const int n = std::snprintf(head, sizeof head, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%zu\r\n", key.size(),
                                    key.c_str(), value.size());
        iovec v[3] = {{head, size_t(n)}, {value.data(), value.size()}, {const_cast<char*>("\r\n"), 2}};
        for (iovec* at = v; at < v + 3;) {
            ssize_t done = ::writev(fd_, at, int(v + 3 - at));
            if (done <= 0) return false;
            while (at < v + 3 && size_t(done) >= at->iov_len) done -= ssize_t(at++->iov_len);
            if (at < v + 3) at->iov_base = static_cast<char*>(at->iov_base) + done, at->iov_len -= size_t(done);
        }
        char reply[5];
        return ::recv(fd_, reply, 5, MSG_WAITALL) == 5 && reply[0] == '+';
    }
    bool get(const std::string& key, Bytes& value) {
        char text[160];
        const int n = std::snprintf(text, sizeof text, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", key.size(), key.c_str());
        if (::send(fd_, text, size_t(n), MSG_NOSIGNAL) != n) return false;
        const size_t head = size_t(std::snprintf(text, sizeof text, "$%zu\r\n", value.size()));
        return ::recv(fd_, text, head, MSG_WAITALL) == ssize_t(head) &&
               ::recv(fd_, value.data(), value.size(), MSG_WAITALL) == ssize_t(value.size()) &&
               ::recv(fd_, text, 2, MSG_WAITALL) == 2;
    }

  private:
    int fd_;
    bool ok_;
};

#if LARDER_BENCH_HIREDIS
struct Hiredis {
    explicit Hiredis(int port) : c(redisConnect("127.0.0.1", port)) {}
    ~Hiredis() { redisFree(c); }
    bool set(const std::string& key, const Bytes& value) {
        auto* r =
            static_cast<redisReply*>(redisCommand(c, "SET %b %b", key.data(), key.size(), value.data(), value.size()));
        const bool good = r && r->type == REDIS_REPLY_STATUS;
        freeReplyObject(r);
        return good;
    }
    bool get(const std::string& key, Bytes& value) {
        auto* r = static_cast<redisReply*>(redisCommand(c, "GET %b", key.data(), key.size()));
        const bool good = r && r->type == REDIS_REPLY_STRING && size_t(r->len) == value.size();
        if (good) std::memcpy(value.data(), r->str, value.size());  // where the caller wants it
        freeReplyObject(r);
        return good;
    }
    redisContext* c;
};
#endif

// The same over a whole store: header, checksums both ways, no RAM tier in between.
class OverStore {
  public:
    explicit OverStore(const std::string& nodes) {
        larder_context_create(nullptr, &context_);
        const larder_remote_setting settings[] = {{"nodes", nodes.c_str()}};
        larder_remote_options r = LARDER_REMOTE_OPTIONS_INIT;
        r.plugin = LARDER_BENCH_REDIS_PLUGIN;
        r.settings = settings;
        r.n_settings = 1;
        r.get_timeout_ns = 10000000000u;
        larder_store_options o = LARDER_STORE_OPTIONS_INIT;
        o.host_bytes = 64 << 20;
        o.no_promote = 1;
        o.remote = &r;
        larder_store_open(context_, &o, &store_);
    }
    ~OverStore() {
        larder_store_close(store_);
        larder_context_destroy(context_);
    }
    bool put(uint64_t n, const Bytes& value) {
        larder_object_meta m = LARDER_OBJECT_META_INIT;
        larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
        item.key = key_of(n);
        item.meta = &m;
        item.data = value.data();
        item.n_bytes = value.size();
        larder_status status;
        return larder_store_put(store_, &item, sizeof item, 1, &status, nullptr, 0, nullptr) == LARDER_OK &&
               larder_store_remote_flush(store_, 10000000000u) == LARDER_OK &&
               larder_store_evict(store_, &item.key, 1, LARDER_TIER_HOST, nullptr) == LARDER_OK;
    }
    bool get(uint64_t n, Bytes& value) {
        larder_object_want want = LARDER_OBJECT_WANT_INIT;
        larder_store_get_item item = LARDER_STORE_GET_ITEM_INIT;
        item.key = key_of(n);
        item.want = &want;
        item.buffer = value.data();
        item.capacity = value.size();
        larder_store_get_result r{};
        larder_store_get(store_, &item, sizeof item, 1, &r, nullptr, 0, nullptr);
        return r.status == LARDER_OK && r.tier == LARDER_TIER_REMOTE;
    }

  private:
    larder_context* context_ = nullptr;
    larder_store* store_ = nullptr;
};

void exchanges(bench::Run& run) {
    RedisServer server;
    Tier tier(server.address());
    if (!tier.remote) return run.absent("redis-server", "the plug-in was not opened");
    Bare bare(server.port());
    OverStore store(server.address());
#if LARDER_BENCH_HIREDIS
    Hiredis hiredis(server.port());
#else
    run.absent("hiredis", "libhiredis-dev is not installed");
#endif
    constexpr uint64_t n_keys = 16;
    for (const size_t n_bytes : {size_t(256) << 10, size_t(512) << 10, size_t(1) << 20}) {
        Bytes value(n_bytes);
        larder::Rng rng(n_bytes);
        for (auto& b : value) b = uint8_t(rng.next());
        const uint64_t ops = run.size<uint64_t>(256 << 20, 48 << 20) / n_bytes;
        const auto name = [](uint64_t i) { return "bench:" + std::string(60, 'k') + std::to_string(i % n_keys); };
        bool good = true;
        const auto timed = [&](auto f) {
            return [&, f] {
                return bench::wall_seconds([&] {
                    for (uint64_t i = 0; i < ops; ++i) good &= f(i % n_keys);
                });
            };
        };
        using Candidates = std::vector<std::pair<std::string, std::function<double()>>>;
        for (uint64_t i = 0; i < n_keys; ++i) good &= store.put(1000 + i, value);
        Candidates puts{{"larder", timed([&](uint64_t i) { return tier.run(LARDER_REMOTE_PUT, i, &value); })},
                        {"bare exchange", timed([&](uint64_t i) { return bare.set(name(i), value); })}};
        Bytes back(n_bytes);
        Candidates gets{{"larder", timed([&](uint64_t i) { return tier.run(LARDER_REMOTE_GET, i, &back); })},
                        {"store", timed([&](uint64_t i) { return store.get(1000 + i, back); })},
                        {"bare exchange", timed([&](uint64_t i) { return bare.get(name(i), back); })}};
#if LARDER_BENCH_HIREDIS
        puts.push_back({"hiredis", timed([&](uint64_t i) { return hiredis.set(name(i), value); })});
        gets.push_back({"hiredis", timed([&](uint64_t i) { return hiredis.get(name(i), back); })});
#endif
        for (const bool put : {true, false}) {
            auto t = bench::interleave(2 * run.rounds() + 1, put ? puts : gets);
            const double gb = double(ops) * double(n_bytes) / 1e9;
            bench::Row row{.name = (put ? "put-" : "get-") + std::to_string(n_bytes >> 10) + "k",
                           .metric = "throughput",
                           .unit = "GB/s",
                           .larder = gb / t["larder"]};
            for (const char* peer : {"bare exchange", "hiredis"})
                if (t.count(peer)) row.peers[peer] = gb / t[peer];
            if (!good) row.note = "an exchange failed";
            run.row(row);
            if (put) continue;
            row.name = "store-get-" + std::to_string(n_bytes >> 10) + "k";
            row.larder = gb / t["store"];
            row.note = "header and checksums verified";
            run.row(row);
        }
        good &= back == value;
    }
}

void cluster(bench::Run& run) {
    RedisCluster nodes(6, 0);
    Tier tier(nodes.addresses());
    if (!tier.remote) return;
    std::vector<larder_remote_item_v1> items;
    for (uint64_t i = 0; i < 1000; ++i) items.push_back({key_of(i), nullptr, 0, 0, 0, 0});
    const auto ask = [&] { tier.remote->run(LARDER_REMOTE_EXISTS, items, 0, 10000000000u); };
    ask();
    const uint64_t before = tier.remote->counters().n_round_trips;
    const int n = run.size(200, 20);
    std::vector<double> took;
    for (int i = 0; i < n; ++i) took.push_back(bench::wall_seconds(ask));
    const double trips = double(tier.remote->counters().n_round_trips - before) / n / 6;
    run.row({.name = "exists-1000-over-6", .metric = "round trips", .unit = "per node", .larder = trips});
    run.row({.name = "exists-1000-over-6", .metric = "latency", .unit = "ms", .larder = bench::median(took) * 1e3});

    // Values all over the cluster; then a node sleeps, and each get has 20 ms.
    constexpr uint64_t deadline_ns = 20000000;
    Bytes value(32 << 10, 7);
    for (uint64_t i = 0; i < 60; ++i) tier.run(LARDER_REMOTE_PUT, i, &value);
    const auto sweep = [&](double seconds) {
        std::vector<double> t;
        const double begin = bench::now_s();
        for (uint64_t i = 0; bench::now_s() - begin < seconds; ++i)
            t.push_back(bench::wall_seconds([&] { tier.run(LARDER_REMOTE_GET, i % 60, &value, deadline_ns); }));
        return t;
    };
    const std::vector<double> awake = sweep(run.size(3.0, 0.5));
    nodes[2].pause();
    const double begin = bench::now_s();
    const uint64_t timeouts = tier.remote->counters().n_timeouts;
    const std::vector<double> asleep = sweep(run.size(10.0, 2.0));
    const double seconds = bench::now_s() - begin;
    const uint64_t n_timeouts = tier.remote->counters().n_timeouts - timeouts;
    nodes[2].resume();
    run.row({.name = "one-node-of-6-paused",
             .metric = "longest get over deadline",
             .unit = "ratio",
             .larder = *std::max_element(asleep.begin(), asleep.end()) * 1e9 / double(deadline_ns)});
    run.row({.name = "one-node-of-6-paused",
             .metric = "timeouts",
             .unit = "per s",
             .larder = std::max(0.0, double(n_timeouts) - 1) / seconds,
             .note = "after the first one"});
    run.row({.name = "one-node-of-6-paused",
             .metric = "p90 of a get",
             .unit = "ms",
             .larder = bench::percentile(asleep, 0.9) * 1e3,
             .peers = {{"all awake", bench::percentile(awake, 0.9) * 1e3}}});
}

}  // namespace

BENCH_SUITE(cluster, "the remote tier on Redis, one server and a cluster of six") {
    if (!have_redis_server()) return run.absent("redis-server", "it is not installed");
    exchanges(run);
    cluster(run);
}
