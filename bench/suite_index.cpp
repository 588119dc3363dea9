// The index beside other ordered maps (bench/index_driver.h), with 1 and 2 threads; and the prefix index.
#include <span>

#include "bench/bench.h"
#include "bench/index_driver.h"
#include "bench/index_java.h"
#include "bench/index_maps.h"
#include "bench/index_prefix.h"

namespace {

using namespace bench;

struct Candidate {
    std::string name;
    std::function<void(const Setting&, size_t, Figures&)> round;
    Figures figures;
};

template <class Map> Candidate candidate() {
    return {Map::name, one_round<Map>, {}};
}

void report(bench::Run& run, std::vector<Candidate>& all) {
    for (auto& [name, values] : all[0].figures) {
        const bool latency = name.starts_with("p99"), memory = name == "bytes-per-key";
        Row row{.name = name,
                .metric = latency  ? "latency"
                          : memory ? "memory"
                                   : "throughput",
                .unit = latency  ? "ns"
                        : memory ? "B"
                                 : "Mop/CPU-s"};
        row.larder = bench::median(values);
        for (size_t i = 1; i < all.size(); ++i) {
            auto it = all[i].figures.find(name);
            const double figure = it == all[i].figures.end() ? 0 : bench::median(it->second);
            if (figure > 0) row.peers[all[i].name] = figure;
        }
        // A batch has no counterpart in the peers: their single look-ups are what it replaces.
        if (name.starts_with("C-in-16s")) {
            const std::string single = "C" + name.substr(8);
            row.peers["larder, one by one"] = bench::median(all[0].figures[single]);
            for (size_t i = 1; i < all.size(); ++i)
                if (!row.peers.count(all[i].name)) row.peers[all[i].name] = bench::median(all[i].figures[single]);
        }
        run.row(row);
    }
    const double chase = run.pointer_chase_ns();
    const double get_ns = 1e3 / bench::median(all[0].figures["C-uniform-1t"]);
    run.row({.name = "get", .metric = "time", .unit = "ns", .larder = get_ns, .peers = {{"pointer chase", chase}}});
    run.row({.name = "get-in-16s",
             .metric = "time",
             .unit = "ns",
             .larder = 1e3 / bench::median(all[0].figures["C-in-16s-uniform-1t"]),
             .peers = {{"pointer chase", chase}}});
}

// Orders that could make a structure thin, deep or contended, against random order: keys a second of CPU time.
void order_rows(Run& run, uint64_t n) {
    const std::pair<const char*, std::function<uint64_t(uint64_t)>> orders[] = {
        {"random", [](uint64_t i) { return key_of(i); }},
        {"ascending", [](uint64_t i) { return i; }},
        {"descending", [n](uint64_t i) { return n - i; }},
        {"bit-reversed", [](uint64_t i) { return uint64_t(__builtin_bswap64(i) >> 4); }},
        {"inwards", [](uint64_t i) { return i & 1 ? UINT64_MAX - i : i; }},
        {"one-hot-node", [](uint64_t i) { return i % 32; }},
    };
    std::map<std::string, std::vector<double>> seen;
    for (int round = 0; round < 3; ++round)
        for (auto& [name, key] : orders) {
            LarderMap<true> m(n);
            seen[name].push_back(per_cpu_second(2, n / 2, [&](size_t t) {
                for (uint64_t i = t; i < n; i += 2) m.put(key(i), i);
            }));
        }
    const double random = median(seen["random"]);
    for (auto& [name, figures] : seen)
        if (name != "random")
            run.row({.name = "load-" + name + "-2t",
                     .metric = "throughput",
                     .unit = "Mop/CPU-s",
                     .larder = median(figures),
                     .peers = {{"larder, random order", random}}});
}

// What a second thread brings, by the wall clock; means something on an idle machine with two cores.
void scaling_rows(Run& run, const Setting& s) {
    LarderMap<true> m(s.n_keys);
    for (uint64_t i = 0; i < s.n_keys; ++i) m.put(key_of(i), i);
    uint64_t next_new = s.n_keys;
    for (const Mix& mix : mixes) {
        if (std::string_view(mix.name) != "C" && std::string_view(mix.name) != "A") continue;
        std::vector<double> ratios;
        for (int round = 0; round < 5; ++round) {
            double seconds[2];
            for (size_t n_threads : {1, 2}) {
                Rng r(uint64_t(round) + 1);
                std::vector<std::vector<Op>> ops(n_threads);
                for (auto& o : ops) o = make_ops(s, mix, false, next_new, r);
                std::vector<std::vector<double>> ns(n_threads);
                seconds[n_threads - 1] = wall_seconds(
                    [&] { per_cpu_second(n_threads, s.n_ops, [&](size_t t) { run_ops(m, ops[t], ns[t]); }); });
            }
            ratios.push_back(2 * seconds[0] / seconds[1]);
        }
        run.row({.name = std::string(mix.name) + "-scaling",
                 .metric = "throughput of 2 threads against 1, wall clock",
                 .unit = "x",
                 .larder = median(ratios)});
    }
}

}  // namespace

BENCH_SUITE(index, "ordered map (YCSB mixes) and prefix index") {
    const Setting s{run.size<uint64_t>(10'000'000, 1'000'000), run.size<uint64_t>(2'000'000, 300'000), nullptr};
    const Zipf zipf(s.n_keys);
    Setting setting = s;
    setting.zipf = &zipf;
    std::vector<Candidate> all{candidate<bench::LarderMap<true>>(), candidate<bench::LarderMap<false>>(),
                               candidate<bench::StdMap>()};
#if LARDER_BENCH_TBB
    all.push_back(candidate<bench::TbbMap>());
#else
    run.absent("tbb::concurrent_map", "libtbb-dev is not installed");
#endif
#if LARDER_BENCH_ABSL
    all.push_back(candidate<bench::AbslMap>());
#else
    run.absent("absl::btree_map+shared_mutex", "libabsl-dev is not installed");
#endif
#if LARDER_BENCH_CDS
    all.push_back(candidate<bench::CdsMap>());
#else
    run.absent("libcds SkipListMap", "libcds-dev is not installed");
#endif
    const auto measure = [&](std::span<Candidate> some) {
        for (int round = 0; round < 3; ++round)
            for (size_t n_threads : {1, 2})
                for (Candidate& c : some) c.round(setting, n_threads, c.figures);
    };
    measure(all);
    order_rows(run, setting.n_keys);
    scaling_rows(run, setting);
    bench::prefix_rows(run);
    // Last, so that its collector's threads and its heap disturb none of the others.
    if (java_is_there()) {
        all.push_back({"java ConcurrentSkipListMap", java_round, {}});
        measure(std::span(all).last(1));
    } else {
        run.absent("java ConcurrentSkipListMap", "no JDK is installed");
    }
    report(run, all);
}
