// One life of one ordered map, for the index suite: load, then the YCSB mixes (A with insertions of new keys as in the
// B-skiplist paper, A' with updates), uniform and zipf 0.99, 8-byte random keys and 8-byte values. Throughput is
// operations per CPU second of the threads, so that a busy machine or a sleeping lock does not distort it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/hash.h"
#include "bench/bench.h"

namespace bench {

using larder::mix64;
using larder::Rng;

inline uint64_t key_of(uint64_t i) {
    return mix64(i + 1) >> 2;
}

// Gray et al., "Quickly Generating Billion-Record Synthetic Databases", SIGMOD 1994.
class Zipf {
  public:
    explicit Zipf(uint64_t n) : n_(n) {
        for (uint64_t i = 1; i <= n; ++i) zeta_ += std::pow(1.0 / double(i), theta);
        eta_ = (1 - std::pow(2.0 / double(n), 1 - theta)) / (1 - (1 + std::pow(0.5, theta)) / zeta_);
    }
    uint64_t next(Rng& r) const {
        const double u = r.unit(), uz = u * zeta_;
        if (uz < 1) return 0;
        if (uz < 1 + std::pow(0.5, theta)) return 1;
        return std::min(n_ - 1, uint64_t(double(n_) * std::pow(eta_ * u - eta_ + 1, 1 / (1 - theta))));
    }

  private:
    static constexpr double theta = 0.99;
    uint64_t n_;
    double zeta_ = 0, eta_ = 0;
};

struct Op {
    uint64_t key;
    uint32_t kind;  // 0 get, 1 put, 2 scan
    uint32_t n;
};

struct Mix {
    const char* name;
    uint32_t percent_put, percent_scan;
    bool puts_are_new;
};
inline constexpr Mix mixes[] = {
    {"C", 0, 0, false}, {"B", 5, 0, true}, {"A", 50, 0, true}, {"A'", 50, 0, false}, {"E", 5, 95, true}};

struct Setting {
    uint64_t n_keys, n_ops;
    const Zipf* zipf;
};

// What one structure did: figures by row name, one per round.
using Figures = std::map<std::string, std::vector<double>>;

// Run f(thread) on n threads at once; operations per CPU second, summed over the threads.
inline double per_cpu_second(size_t n_threads, uint64_t ops_each, const std::function<void(size_t)>& f) {
    std::vector<std::thread> threads;
    std::vector<double> seconds(n_threads);
    std::atomic<size_t> ready{0};
    for (size_t t = 0; t < n_threads; ++t)
        threads.emplace_back([&, t] {
            ready.fetch_add(1);
            while (ready.load() < n_threads) std::this_thread::yield();
            seconds[t] = cpu_seconds([&] { f(t); });
        });
    double sum = 0;
    for (auto& t : threads) t.join();
    for (double s : seconds) sum += double(ops_each) / s;
    return sum / 1e6;
}

template <class Map> void run_one(Map& m, const Op& o, uint64_t& sum) {
    uint64_t v = 0;
    if (o.kind == 0)
        m.get(o.key, v), sum += v;
    else if (o.kind == 1)
        m.put(o.key, o.key);
    else
        sum += m.scan(o.key, o.n);
}

// Each sixteenth operation is timed on its own.
template <class Map> void run_ops(Map& m, const std::vector<Op>& ops, std::vector<double>& ns) {
    uint64_t sum = 0;
    for (size_t i = 0; i < ops.size(); ++i) {
        if (i % 16) {
            run_one(m, ops[i], sum);
            continue;
        }
        const double begin = now_s();
        run_one(m, ops[i], sum);
        ns.push_back((now_s() - begin) * 1e9);
    }
    keep(sum);
}

inline std::vector<Op> make_ops(const Setting& s, const Mix& mix, bool zipf, uint64_t& next_new, Rng& r) {
    std::vector<Op> ops(s.n_ops);
    for (Op& o : ops) {
        const uint64_t id = zipf ? mix64(s.zipf->next(r)) % s.n_keys : r.below(s.n_keys);
        const uint64_t p = r.below(100);
        o.kind = p < mix.percent_put ? 1 : p < mix.percent_put + mix.percent_scan ? 2 : 0;
        o.key = o.kind == 1 && mix.puts_are_new ? key_of(next_new++) : key_of(id);
        o.n = uint32_t(1 + r.below(100));
    }
    return ops;
}

template <class Map>
void measure_batches(Map& m, const Setting& s, size_t n_threads, bool zipf, Figures& out, const std::string& name) {
    std::vector<std::vector<uint64_t>> keys(n_threads);
    Rng r(7);
    for (auto& k : keys) {
        k.resize(s.n_ops / 16 * 16);
        for (auto& x : k) x = key_of(zipf ? mix64(s.zipf->next(r)) % s.n_keys : r.below(s.n_keys));
    }
    out[name].push_back(per_cpu_second(n_threads, keys[0].size(), [&](size_t t) {
        uint64_t v[16];
        for (size_t i = 0; i < keys[t].size(); i += 16) m.get_many(keys[t].data() + i, 16, v);
        keep(v);
    }));
}

// One life of one structure: load, then every mix.
template <class Map> void one_round(const Setting& s, size_t n_threads, Figures& out) {
    Map m(s.n_keys);
    const std::string suffix = "-" + std::to_string(n_threads) + "t";
    out["load" + suffix].push_back(per_cpu_second(n_threads, s.n_keys / n_threads, [&](size_t t) {
        for (uint64_t i = s.n_keys * t / n_threads; i < s.n_keys * (t + 1) / n_threads; ++i) m.put(key_of(i), i);
    }));
    if (n_threads == 1) out["bytes-per-key"].push_back(m.bytes() / double(s.n_keys));
    uint64_t next_new = s.n_keys;
    Rng r(42);
    for (const Mix& mix : mixes)
        for (bool zipf : {false, true}) {
            Setting scaled = s;
            if (mix.percent_scan) scaled.n_ops /= 4;
            std::vector<std::vector<Op>> ops(n_threads);
            for (auto& o : ops) o = make_ops(scaled, mix, zipf, next_new, r);
            std::vector<std::vector<double>> ns(n_threads);
            const std::string name = std::string(mix.name) + (zipf ? "-zipf" : "-uniform");
            out[name + suffix].push_back(
                per_cpu_second(n_threads, scaled.n_ops, [&](size_t t) { run_ops(m, ops[t], ns[t]); }));
            for (size_t t = 1; t < n_threads; ++t) ns[0].insert(ns[0].end(), ns[t].begin(), ns[t].end());
            if (!zipf) out["p99 " + name + suffix].push_back(percentile(ns[0], 0.99));
            if constexpr (Map::has_batches)
                if (!mix.percent_put)
                    measure_batches(m, s, n_threads, zipf, out,
                                    "C-in-16s" + std::string(zipf ? "-zipf" : "-uniform") + suffix);
        }
}

}  // namespace bench
