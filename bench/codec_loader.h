// Loading under a deadline over a simulated link: the controller beside CacheGen's rule and beside always taking the
// base or everything. Bandwidth is drawn anew, 0.1 to 10 Gbit/s, for every 100 ms, as in the paper's traces.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/hash.h"
#include "bench/bench.h"
#include "larder/loader.h"

namespace loader_bench {

constexpr uint32_t n_levels = 3;
constexpr uint64_t piece_ns = 100'000'000, request_ns = 1'000'000, recompute_ns = 200'000'000;
constexpr double mean_bytes_per_ns = 5.05 / 8;

struct Trace {
    std::vector<double> bytes_per_ns;
    double at(uint64_t now) const { return bytes_per_ns[std::min<size_t>(now / piece_ns, bytes_per_ns.size() - 1)]; }
    // When a read of n bytes that begins now is over.
    uint64_t transfer(uint64_t now, uint64_t n) const {
        double left = double(n);
        now += request_ns;
        for (;;) {
            const uint64_t end = (now / piece_ns + 1) * piece_ns;
            const double can = at(now) * double(end - now);
            if (can >= left) return now + uint64_t(left / at(now)) + 1;
            left -= can;
            now = end;
        }
    }
};

struct Outcome {
    double hits = 0, level = 0;  // sums over the traces; level 1 to 3, recomputed counts as 3
};

// Chunks of 1500 tokens of an 8-billion-parameter model: 2.25 bits a value, then one bit for each level.
struct Work {
    uint32_t n_chunks;
    uint64_t deadline;
    std::vector<uint64_t> bytes;
    uint64_t upto(uint32_t levels) const {
        uint64_t n = 0;
        for (uint32_t l = 0; l < levels; ++l) n += bytes[l];
        return n;
    }
};

inline void ours(const Work& w, const Trace& t, larder_context* context, Outcome& out) {
    std::vector<uint64_t> recompute(w.n_chunks, recompute_ns);
    larder_loader_options o = LARDER_LOADER_OPTIONS_INIT;
    o.n_chunks = w.n_chunks, o.n_levels = n_levels, o.level_bytes = w.bytes.data(), o.recompute_ns = recompute.data();
    o.deadline_ns = w.deadline, o.request_ns = request_ns;
    o.bytes_per_s = uint64_t(mean_bytes_per_ns * 1e9);  // the rule beside it begins with the same
    larder_loader* loader = nullptr;
    if (larder_loader_create(context, &o, &loader)) return;
    larder_loader_step s = LARDER_LOADER_STEP_INIT;
    for (uint64_t now = 0; larder_loader_next(loader, now, &s) == LARDER_OK;) {
        const uint64_t done = s.action == LARDER_LOADER_FETCH ? t.transfer(now, s.n_bytes) : now + recompute_ns;
        // A refinement that comes too late is not used.
        larder_loader_info i = LARDER_LOADER_INFO_INIT;
        (void)larder_loader_inspect(loader, &i);
        if (i.usable_ns && done > w.deadline) break;
        now = done;
        (void)larder_loader_report(loader, now, 1);
    }
    larder_loader_info i = LARDER_LOADER_INFO_INIT;
    (void)larder_loader_inspect(loader, &i);
    out.hits += i.usable_ns <= w.deadline;
    out.level += i.value / w.n_chunks;
    larder_loader_destroy(loader);
}

// The artifact's rule: the best level whose time, by the throughput last seen, is within the chunk's share; else
// compute.
inline void cachegen(const Work& w, const Trace& t, Outcome& out) {
    uint64_t now = 0;
    double bandwidth = mean_bytes_per_ns, level = 0;
    for (uint32_t c = 0; c < w.n_chunks; ++c) {
        uint32_t levels = n_levels;
        while (levels && double(w.upto(levels)) / bandwidth >= double(w.deadline) / w.n_chunks) --levels;
        if (!levels) {
            now += recompute_ns;
            level += n_levels;
            continue;
        }
        const uint64_t done = t.transfer(now, w.upto(levels));
        bandwidth = double(w.upto(levels)) / double(done - now);
        now = done;
        level += levels;
    }
    out.hits += now <= w.deadline;
    out.level += level / w.n_chunks;
}

inline void fixed(const Work& w, const Trace& t, uint32_t levels, Outcome& out) {
    uint64_t now = 0;
    for (uint32_t c = 0; c < w.n_chunks; ++c) now = t.transfer(now, w.upto(levels));
    out.hits += now <= w.deadline;
    out.level += levels;
}

inline void run_all(bench::Run& run, larder_context* context) {
    const int n = run.size(2000, 400);
    for (const uint64_t ms : {1000u, 1500u, 2500u}) {
        const uint64_t values = uint64_t(1500) * 65536;
        Work w{10, ms * 1'000'000, {}};
        for (uint32_t c = 0; c < w.n_chunks; ++c) {
            const uint64_t levels[n_levels] = {values * 9 / 32, values / 8, values / 8};
            w.bytes.insert(w.bytes.end(), levels, levels + n_levels);
        }
        larder::Rng r(7 + ms);
        Outcome mine, rule, base, all;
        for (int i = 0; i < n; ++i) {
            Trace t;
            for (int k = 0; k < 600; ++k) t.bytes_per_ns.push_back((0.1 + 9.9 * r.unit()) / 8);
            ours(w, t, context, mine);
            cachegen(w, t, rule);
            fixed(w, t, 1, base);
            fixed(w, t, n_levels, all);
        }
        const std::string name = "loader-" + std::to_string(ms) + "ms";
        auto row = [&](const char* metric, double Outcome::*f, const char* unit) {
            run.row({.name = name,
                     .metric = metric,
                     .unit = unit,
                     .larder = mine.*f / n,
                     .peers = {{"cachegen-rule", rule.*f / n}, {"base-only", base.*f / n}, {"all-levels", all.*f / n}},
                     .note = "simulated link"});
        };
        row("deadlines kept", &Outcome::hits, "share");
        row("mean level", &Outcome::level, "of 3");
    }
}

}  // namespace loader_bench
