// The store beside fio on the same disk (equal bytes, in turn), the host tier beside memcpy, opening beside reading the
// footers, replay beside a list and a map.
//
// The disk is that of $TMPDIR, or /tmp.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <list>
#include <memory>
#include <numeric>
#include <string>
#include <unordered_map>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "bench/bench.h"
#include "larder/larder.h"

namespace {

constexpr uint64_t segment_bytes = 64 << 20;

std::string work_dir() {
    const char* tmp = std::getenv("TMPDIR");
    return std::string(tmp && *tmp ? tmp : "/tmp") + "/larder-bench-store-" + std::to_string(getpid());
}

larder_key key_of(uint64_t i) {
    larder::Rng rng(i);
    larder_key k;
    for (size_t at = 0; at < 32; at += 8) {
        const uint64_t v = rng.next();
        std::memcpy(k.bytes + at, &v, 8);
    }
    return k;
}

struct Context {
    explicit Context(uint32_t depth) {
        larder_context_create(nullptr, &c);
        larder_context_set_u64(c, LARDER_PARAM_IO_DEPTH, depth);
    }
    ~Context() { larder_context_destroy(c); }
    larder_context* c = nullptr;
};

struct Store {
    Store(Context& c, const larder_store_options& o) { status = larder_store_open(c.c, &o, &s); }
    ~Store() { larder_store_close(s); }
    larder_store* s = nullptr;
    larder_status status;
};

larder_store_options file_options(const std::string& dir, uint64_t n_bytes) {
    larder_store_options o = LARDER_STORE_OPTIONS_INIT;
    o.directory = dir.c_str();
    // A sixteenth more for what is not payload, and the segment in reserve.
    o.file_bytes = n_bytes + n_bytes / 16 + 6 * segment_bytes;
    o.segment_bytes = segment_bytes;
    o.no_promote = 1;
    return o;
}

// Bytes per second by fio, or 0 when it is not there or failed.
double fio(const std::string& file, const char* rw, uint64_t block, uint32_t depth, uint64_t n_bytes) {
    const bool write = std::strstr(rw, "write");
    char command[1024];
    std::snprintf(command, sizeof command,
                  "fio --name=b --filename=%s --rw=%s --bs=%llu --iodepth=%u --ioengine=io_uring --direct=1 "
                  "--size=%llu %s --output-format=json 2>/dev/null",
                  file.c_str(), rw, (unsigned long long)block, depth, (unsigned long long)n_bytes,
                  write ? "--end_fsync=1" : "");
    std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command, "r"), pclose);
    if (!pipe) return 0;
    std::string text;
    for (std::array<char, 4096> part; size_t n = std::fread(part.data(), 1, part.size(), pipe.get());)
        text.append(part.data(), n);
    const auto json = nlohmann::json::parse(text.substr(std::min(text.find('{'), text.size())), nullptr, false);
    if (json.is_discarded() || !json.contains("jobs")) return 0;
    return json["jobs"][0][write ? "write" : "read"]["bw_bytes"].get<double>();
}

double put_all(larder_store* s, uint64_t n_bytes, uint64_t object, const std::vector<char>& data, uint32_t flags) {
    larder_object_meta meta = LARDER_OBJECT_META_INIT;
    const double start = bench::now_s();
    for (uint64_t i = 0; i < n_bytes / object; ++i) {
        larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
        item.key = key_of(i);
        item.meta = &meta;
        item.data = data.data() + i * 64 % (data.size() - object + 1);
        item.n_bytes = object;
        item.flags = flags;
        larder_store_put(s, &item, sizeof item, 1, nullptr, nullptr, 0, nullptr);
    }
    if (!(flags & LARDER_PUT_NO_FILE)) larder_store_flush(s, nullptr, 0, nullptr);
    return double(n_bytes) / (bench::now_s() - start);
}

// Every object once, in random order, in batches.
double get_all(larder_store* s, uint64_t n_bytes, uint64_t object, uint64_t* out_missing) {
    constexpr size_t batch = 128;
    std::vector<uint64_t> order(n_bytes / object);
    std::iota(order.begin(), order.end(), 0);
    larder::Rng rng(7);
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
    larder_object_want want = LARDER_OBJECT_WANT_INIT;
    std::vector<char> out(batch * object);
    std::memset(out.data(), 1, out.size());
    std::vector<larder_store_get_item> items(batch, LARDER_STORE_GET_ITEM_INIT);
    std::vector<larder_store_get_result> results(batch);
    const double start = bench::now_s();
    for (size_t at = 0; at < order.size(); at += batch) {
        const size_t n = std::min(batch, order.size() - at);
        for (size_t i = 0; i < n; ++i) {
            items[i].key = key_of(order[at + i]);
            items[i].want = &want;
            items[i].buffer = out.data() + i * object;
            items[i].capacity = object;
        }
        larder_store_get(s, items.data(), sizeof items[0], uint32_t(n), results.data(), nullptr, 0, nullptr);
        for (size_t i = 0; i < n; ++i) *out_missing += results[i].status != LARDER_OK;
    }
    return double(n_bytes) / (bench::now_s() - start);
}

std::vector<char> random_bytes(uint64_t n) {
    std::vector<char> data(n);
    larder::Rng rng(3);
    for (size_t i = 0; i + 8 <= n; i += 8) {
        const uint64_t v = rng.next();
        std::memcpy(&data[i], &v, 8);
    }
    return data;
}

struct TempTree {
    explicit TempTree(std::string p) : path(std::move(p)) { std::filesystem::create_directories(path); }
    ~TempTree() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    std::string path;
};

std::string size_name(uint64_t n) {
    return n >> 20 ? std::to_string(n >> 20) + "M" : std::to_string(n >> 10) + "K";
}

void file_tier(bench::Run& run) {
    const uint64_t n_bytes = run.size<uint64_t>(2ull << 30, 512ull << 20);
    const auto data = random_bytes(64 << 20);
    bool have_fio = true;
    for (const uint64_t object : {16ull << 10, 64ull << 10, 256ull << 10, 1ull << 20, 4ull << 20}) {
        TempTree tree(work_dir());
        Context c(16);
        const larder_store_options o = file_options(tree.path, n_bytes);
        const std::string fio_file = tree.path + "/fio.data";
        double amplification = 0;
        auto put =
            bench::interleave(run.rounds(), {{"larder",
                                              [&] {
                                                  std::filesystem::remove(tree.path + "/store.larder");
                                                  Store s(c, o);
                                                  const double speed = put_all(s.s, n_bytes, object, data, 0);
                                                  larder_store_info info = LARDER_STORE_INFO_INIT;
                                                  larder_store_info_get(s.s, &info);
                                                  amplification = double(info.written_bytes) / double(info.put_bytes);
                                                  return speed;
                                              }},
                                             {"fio", [&] {
                                                  std::filesystem::remove(fio_file);
                                                  return have_fio ? fio(fio_file, "write", object, 16, n_bytes) : 0.0;
                                              }}});
        have_fio = put["fio"] > 0;
        auto peers = [&](double v) {
            return have_fio ? std::map<std::string, double>{{"fio", v / 1e9}} : std::map<std::string, double>{};
        };
        run.row({.name = "file-put-" + size_name(object),
                 .metric = "throughput",
                 .unit = "GB/s",
                 .larder = put["larder"] / 1e9,
                 .peers = peers(put["fio"])});
        run.row({.name = "file-put-" + size_name(object),
                 .metric = "write amplification",
                 .unit = "x",
                 .larder = amplification});
        Store s(c, o);
        uint64_t missing = 0;
        auto get = bench::interleave(
            run.rounds(), {{"larder", [&] { return get_all(s.s, n_bytes, object, &missing); }},
                           {"fio", [&] { return have_fio ? fio(fio_file, "randread", object, 16, n_bytes) : 0.0; }}});
        run.row({.name = "file-get-" + size_name(object),
                 .metric = "throughput",
                 .unit = "GB/s",
                 .larder = get["larder"] / 1e9,
                 .peers = peers(get["fio"]),
                 .note = missing ? std::to_string(missing) + " objects missing" : "checksums verified"});
    }
    if (!have_fio) run.absent("fio", "fio is not installed or has no io_uring engine");
}

void host_tier(bench::Run& run) {
    const uint64_t n_bytes = run.size<uint64_t>(1ull << 30, 256ull << 20);
    const auto data = random_bytes(64 << 20);
    for (const uint64_t object : {64ull << 10, 1ull << 20}) {
        Context c(16);
        larder_store_options o = LARDER_STORE_OPTIONS_INIT;
        o.host_bytes = n_bytes + (16 << 20);
        Store s(c, o);
        put_all(s.s, n_bytes, object, data, LARDER_PUT_NO_FILE);
        std::vector<char> from(n_bytes), to(128 * object);
        std::memset(from.data(), 1, n_bytes);
        std::memset(to.data(), 1, to.size());
        uint64_t missing = 0;
        auto copy = [&] {
            larder::Rng rng(7);
            const double start = bench::now_s();
            for (uint64_t i = 0; i < n_bytes / object; ++i)
                std::memcpy(to.data() + i % 128 * object, from.data() + rng.below(n_bytes / object) * object, object);
            bench::keep(to[0]);
            return double(n_bytes) / (bench::now_s() - start);
        };
        auto t = bench::interleave(
            run.rounds(), {{"larder", [&] { return get_all(s.s, n_bytes, object, &missing); }}, {"memcpy", copy}});
        run.row({.name = "host-get-" + size_name(object),
                 .metric = "throughput",
                 .unit = "GB/s",
                 .larder = t["larder"] / 1e9,
                 .peers = {{"memcpy", t["memcpy"] / 1e9}},
                 .note = missing ? "objects missing" : "checksums verified"});
    }
}

void opening(bench::Run& run) {
    const uint64_t n_bytes = run.size<uint64_t>(4ull << 30, 1ull << 30), object = 256 << 10;
    const auto data = random_bytes(64 << 20);
    TempTree tree(work_dir());
    Context c(16);
    const larder_store_options o = file_options(tree.path, n_bytes);
    {
        Store s(c, o);
        put_all(s.s, n_bytes, object, data, 0);
    }
    uint64_t read_bytes = 0, n_segments = 0;
    auto open_it = [&] {
        Store s(c, o);
        larder_store_info info = LARDER_STORE_INFO_INIT;
        larder_store_info_get(s.s, &info);
        read_bytes = info.recovery_read_bytes;
        n_segments = info.n_segments;
        return double(info.recovery_ns) / 1e6;
    };
    // The same reads, and nothing done with them.
    auto read_footers = [&] {
        const double start = bench::now_s();
        const int fd = ::open((tree.path + "/store.larder").c_str(), O_RDONLY | O_DIRECT);
        void* buffer = std::aligned_alloc(4096, 64 << 10);
        const auto end = std::filesystem::file_size(tree.path + "/store.larder");
        for (uint64_t at = 16384; at + segment_bytes <= end; at += segment_bytes)
            if (::pread(fd, buffer, 64 << 10, off_t(at + segment_bytes - (64 << 10))) < 0) break;
        std::free(buffer);
        ::close(fd);
        return (bench::now_s() - start) * 1e3;
    };
    open_it();
    auto t = bench::interleave(run.rounds(), {{"larder", open_it}, {"footers", read_footers}});
    run.row({.name = "open",
             .metric = "time",
             .unit = "ms",
             .larder = t["larder"],
             .peers = {{"reading the footers", t["footers"]}},
             .note = std::to_string(n_segments) + " segments, " + std::to_string(read_bytes >> 10) + " KiB read"});
}

void replays(bench::Run& run) {
    Context c(16);
    const size_t n = run.size<size_t>(20000000, 3000000);
    std::vector<uint64_t> blocks(n), ends;
    larder::Rng rng(5);
    for (size_t i = 0; i < n; ++i) {
        const double u = rng.unit();
        blocks[i] = larder::mix64(uint64_t(u * u * u * double(n) / 4));
        if (i % 24 == 23) ends.push_back(i + 1);
    }
    if (ends.empty() || ends.back() != n) ends.push_back(n);
    larder_replay_trace trace = LARDER_REPLAY_TRACE_INIT;
    trace.blocks = blocks.data();
    trace.ends = ends.data();
    trace.n_requests = ends.size();
    const size_t capacity = n / 50;
    auto ours = [&](larder_policy p) {
        larder_replay_result r = LARDER_REPLAY_RESULT_INIT;
        const double start = bench::now_s();
        larder_replay_options o = LARDER_REPLAY_OPTIONS_INIT;
        o.policy = p;
        o.capacity_blocks = capacity;
        larder_replay_run(c.c, &trace, &o, &r);
        return double(n) / (bench::now_s() - start);
    };
    auto list_and_map = [&] {
        std::list<uint64_t> order;
        std::unordered_map<uint64_t, std::list<uint64_t>::iterator> at;
        uint64_t hits = 0;
        const double start = bench::now_s();
        for (uint64_t b : blocks) {
            const auto it = at.find(b);
            if (it != at.end()) {
                ++hits;
                order.splice(order.end(), order, it->second);
                continue;
            }
            at[b] = order.insert(order.end(), b);
            if (at.size() > capacity) {
                at.erase(order.front());
                order.pop_front();
            }
        }
        bench::keep(hits);
        return double(n) / (bench::now_s() - start);
    };
    auto t = bench::interleave(run.rounds(), {{"lru", [&] { return ours(LARDER_POLICY_LRU); }},
                                              {"fifo", [&] { return ours(LARDER_POLICY_FIFO); }},
                                              {"belady", [&] { return ours(LARDER_POLICY_BELADY); }},
                                              {"std", list_and_map}});
    for (const char* name : {"lru", "fifo", "belady"}) {
        std::map<std::string, double> peers;
        if (!std::strcmp(name, "lru")) peers["std::list and unordered_map"] = t["std"] / 1e6;
        run.row({.name = std::string("replay-") + name,
                 .metric = "rate",
                 .unit = "M references/s",
                 .larder = t[name] / 1e6,
                 .peers = peers});
    }
}

}  // namespace

BENCH_SUITE(store, "host and file tier, opening, replay") {
    replays(run);
    host_tier(run);
    opening(run);
    file_tier(run);
}
