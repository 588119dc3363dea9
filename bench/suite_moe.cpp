// Mixtures of experts: analysis of routing, splits between host and device, regrouping of tokens.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <numeric>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "bench/bench.h"
#include "larder/larder.h"

using larder::Rng;

namespace {

void must(larder_status s, const char* what) {
    if (s >= 0) return;
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    larder_last_error(&e);
    std::fprintf(stderr, "%s: %s\n", what, e.message);
    std::exit(2);
}

struct Context {
    larder_context* c = nullptr;
    Context() { must(larder_context_create(nullptr, &c), "context"); }
    ~Context() { larder_context_destroy(c); }
};

// Half of a token's experts are those of the token before it.
struct Trace {
    uint32_t n_layers, n_experts, k;
    uint64_t n_tokens;
    std::vector<int16_t> ids;  // [token][layer][k]

    Trace(uint32_t layers, uint32_t experts, uint32_t top, uint64_t tokens)
        : n_layers(layers), n_experts(experts), k(top), n_tokens(tokens), ids(tokens * layers * top) {
        Rng rng(7);
        std::vector<uint64_t> stamp(experts, 0);
        for (uint64_t row = 0; row < tokens * layers; ++row) {
            int16_t *now = &ids[row * k], *last = row >= layers ? now - uint64_t(layers) * k : nullptr;
            uint32_t n = 0;
            auto add = [&](uint64_t e) {
                if (stamp[e] != row + 1) stamp[e] = row + 1, now[n++] = int16_t(e);
            };
            for (uint32_t j = 0; last && j < k; ++j)
                if (rng.below(2)) add(uint64_t(last[j]));
            while (n < k) add(rng.below(experts));
        }
    }
    larder_moe_routing routing() const {
        larder_moe_routing r = LARDER_MOE_ROUTING_INIT;
        r.type = LARDER_MOE_I16;
        r.n_layers = n_layers, r.n_experts = n_experts, r.k = k, r.n_tokens = n_tokens;
        r.n_bytes = ids.size() * 2;
        r.ids = ids.data();
        return r;
    }
};

// What the stack replaces: one LRU cache for each number of slots, a list and a hash map.
uint64_t simulate_each_size(const Trace& t, uint64_t n_tokens) {
    uint64_t hits = 0;
    for (uint32_t slots = t.k; slots <= t.n_experts; ++slots) {
        std::list<int16_t> order;
        std::unordered_map<int16_t, std::list<int16_t>::iterator> at;
        for (uint64_t i = 0; i < n_tokens; ++i)
            for (uint32_t j = 0; j < t.k; ++j) {
                const int16_t e = t.ids[i * t.n_layers * t.k + j];
                if (auto found = at.find(e); found != at.end()) {
                    ++hits;
                    order.splice(order.begin(), order, found->second);
                    continue;
                }
                if (order.size() == slots) at.erase(order.back()), order.pop_back();
                order.push_front(e);
                at[e] = order.begin();
            }
    }
    return hits;
}

void analysis(bench::Run& run) {
    Context ctx;
    const Trace t(32, 64, 8, 100000);
    const larder_moe_routing r = t.routing();
    std::vector<uint64_t> hits(65);
    const double n = double(t.ids.size());
    auto curves = [&](larder_moe_keep keep, uint64_t lookahead) {
        return bench::cpu_seconds([&] {
            for (uint32_t l = 0; l < t.n_layers; ++l)
                must(larder_moe_measure_cache(ctx.c, &r, l, keep, lookahead, hits.data()), "cache");
            bench::keep(hits);
        });
    };
    auto s = bench::interleave(
        run.quick() ? 1 : 3,
        {{"srp",
          [&] {
              return bench::cpu_seconds([&] {
                  larder_moe_segments out = LARDER_MOE_SEGMENTS_INIT;
                  must(larder_moe_measure_segments(ctx.c, &r, 0, t.n_layers, 64, &out), "srp");
                  bench::keep(out);
              });
          }},
         {"sch", [&] { return curves(LARDER_MOE_KEEP_COUNT_AHEAD, 64); }},
         {"lru", [&] { return curves(LARDER_MOE_KEEP_RECENT, 0); }},
         {"each size", [&] { return bench::cpu_seconds([&] { bench::keep(simulate_each_size(t, 5000)); }); }}});
    run.row({.name = "srp-sch",
             .metric = "time, one core",
             .unit = "s",
             .larder = s["srp"] + s["sch"],
             .note = "100,000 tokens, 32 layers, 64 experts, top 8: SRP " + std::to_string(s["srp"]).substr(0, 4) +
                     " s, SCH " + std::to_string(s["sch"]).substr(0, 4) + " s"});
    run.row({.name = "lru-curve",
             .metric = "time per number",
             .unit = "ns",
             .larder = s["lru"] / n * 1e9,
             .peers = {{"a list and a map per size", s["each size"] / (5000.0 * t.k) * 1e9}}});
}

struct Costs {
    std::vector<uint64_t> in_place, device;
};

// A batch that routes 1 to 15 tokens to each expert, half of them resident: 7 us a token in place, 70 us a transfer and
// 2 us on the device (the proportions of Fiddler's defaults).
Costs draw_costs(Rng& rng, uint32_t n) {
    Costs c;
    for (uint32_t i = 0; i < n; ++i) {
        c.in_place.push_back(7000 * (1 + rng.below(15)));
        c.device.push_back(rng.below(2) ? 2000 : 72000);
    }
    return c;
}

// All 2^n divisions; the least of `value`(sum in place, sum on the device) gives the makespan.
template <class F> uint64_t enumerate(const Costs& c, F value) {
    uint64_t least = UINT64_MAX, makespan = 0;
    for (uint32_t d = 0; d < 1u << c.device.size(); ++d) {
        uint64_t a = 0, b = 0;
        for (size_t i = 0; i < c.device.size(); ++i) (d >> i & 1 ? a : b) += (d >> i & 1 ? c.in_place : c.device)[i];
        if (value(a, b) < least) least = value(a, b), makespan = std::max(a, b);
    }
    return makespan;
}

void splits(bench::Run& run) {
    Rng rng(3);
    double ours = 0, best = 0, sum_rule = 0, seconds = 0, enumeration = 0;
    uint64_t n_equal = 0, n_cases = run.size<uint64_t>(2000, 400);
    for (uint64_t i = 0; i < n_cases; ++i) {
        const Costs c = draw_costs(rng, 8);
        uint8_t in_place[8];
        larder_moe_split s = LARDER_MOE_SPLIT_INIT;
        seconds += bench::cpu_seconds([&] {
            for (int again = 0; again < 100; ++again)
                must(larder_moe_split_work(c.in_place.data(), c.device.data(), 8, in_place, &s), "split");
        });
        uint64_t least = 0;
        enumeration +=
            bench::cpu_seconds([&] { least = enumerate(c, [](uint64_t a, uint64_t b) { return std::max(a, b); }); });
        ours += double(s.makespan_ns), best += double(least);
        n_equal += s.makespan_ns == least;
        sum_rule += double(enumerate(c, [](uint64_t a, uint64_t b) { return a + b; }));
    }
    run.row({.name = "split-8",
             .metric = "makespan over the least",
             .unit = "x",
             .larder = ours / best,
             .peers = {{"enumerate the sum (Fiddler)", sum_rule / best}},
             .note = std::to_string(n_equal) + " of " + std::to_string(n_cases) + " equal"});
    run.row({.name = "split-8",
             .metric = "time of a split",
             .unit = "ns",
             .larder = seconds / double(n_cases) / 100 * 1e9,
             .peers = {{"enumeration", enumeration / double(n_cases) * 1e9}}});
}

// Tokens of eight topics in random order: eight of ten experts are of the topic's dozen.
Trace topic_trace() {
    Trace t(4, 64, 4, 1024);
    Rng rng(5);
    for (uint64_t i = 0; i < t.n_tokens; ++i) {
        const uint64_t topic = rng.below(8);
        for (uint32_t l = 0; l < t.n_layers; ++l) {
            int16_t* row = &t.ids[(i * t.n_layers + l) * t.k];
            for (uint32_t n = 0; n < t.k;) {
                const auto e = int16_t(rng.below(10) < 8 ? (topic * 8 + l * 5 + rng.below(12)) % 64 : rng.below(64));
                if (std::find(row, row + n, e) == row + n) row[n++] = e;
            }
        }
    }
    return t;
}

uint64_t touched(const std::vector<uint64_t>& masks, uint32_t n_words, const std::vector<uint32_t>& order) {
    uint64_t n = 0;
    for (size_t at = 0; at < order.size(); at += 64)
        for (uint32_t w = 0; w < n_words; ++w) {
            uint64_t all = 0;
            for (size_t i = at; i < std::min(order.size(), at + 64); ++i) all |= masks[order[i] * n_words + w];
            n += uint64_t(__builtin_popcountll(all));
        }
    return n;
}

void regrouping(bench::Run& run) {
    Context ctx;
    const Trace t = topic_trace();
    const larder_moe_routing r = t.routing();
    const uint32_t n = uint32_t(t.n_tokens);
    std::vector<uint64_t> masks(n * 4);
    must(larder_moe_masks(ctx.c, &r, 1, 4, masks.data()), "masks");
    std::vector<uint32_t> order(n), sorted(n);
    larder_moe_regrouping g = LARDER_MOE_REGROUPING_INIT;
    const double seconds = bench::cpu_seconds(
        [&] { must(larder_moe_regroup(ctx.c, masks.data(), 4, n, 64, order.data(), &g), "regroup"); });
    std::iota(sorted.begin(), sorted.end(), 0);
    std::stable_sort(sorted.begin(), sorted.end(), [&](uint32_t x, uint32_t y) {
        return t.ids[uint64_t(x) * t.n_layers * t.k] < t.ids[uint64_t(y) * t.n_layers * t.k];
    });
    char note[64];
    std::snprintf(note, sizeof note, "%u tokens in %.1f ms", n, seconds * 1e3);
    run.row({.name = "regroup-topics",
             .metric = "experts touched over arrival",
             .unit = "x",
             .larder = double(g.n_touched) / double(g.n_arrival),
             .peers = {{"sorted by first expert", double(touched(masks, 4, sorted)) / double(g.n_arrival)}},
             .note = note});
}

// A thousand adapters of ranks 8 to 128: what a pool padded to the largest rank would waste, and what an acquire costs.
void adapters(bench::Run& run) {
    Context ctx;
    larder_cells_options co = LARDER_CELLS_OPTIONS_INIT;
    co.n_cells = 1000 * 4 * 128;
    larder_cells* cells = nullptr;
    must(larder_cells_create(ctx.c, &co, &cells), "cells");
    larder_lora_options lo = LARDER_LORA_OPTIONS_INIT;
    lo.cells = cells;
    lo.load.fn = [](void*, const larder_lora_request*) -> larder_status { return LARDER_OK; };
    larder_lora* lora = nullptr;
    must(larder_lora_create(ctx.c, &lo, &lora), "adapters");
    Rng rng(11);
    uint64_t needed = 0;
    std::vector<larder_lora_adapter> ids(1000);
    std::vector<larder_status> statuses(1000);
    for (auto& id : ids) {
        const auto rank = uint32_t(8 + rng.below(121));
        needed += 4 * rank;
        must(larder_lora_register(lora, rank, 1, 0, &id), "register");
    }
    must(larder_lora_acquire(lora, ids.data(), 1000, statuses.data()), "acquire");
    larder_cells_state pool = LARDER_CELLS_STATE_INIT;
    must(larder_cells_query(cells, &pool), "query");
    const int rounds = run.size(1000, 200);
    std::unordered_map<uint64_t, uint32_t> map;
    for (uint64_t id : ids) map[id] = 0;
    auto t = bench::interleave(run.rounds(), {{"larder",
                                               [&] {
                                                   return bench::cpu_seconds([&] {
                                                       for (int i = 0; i < rounds; ++i) {
                                                           larder_lora_acquire(lora, ids.data(), 1000, statuses.data());
                                                           larder_lora_release(lora, ids.data(), 1000);
                                                       }
                                                   });
                                               }},
                                              {"map", [&] {
                                                   return bench::cpu_seconds([&] {
                                                       for (int i = 0; i < rounds; ++i) {
                                                           for (uint64_t id : ids) ++map[id];
                                                           for (uint64_t id : ids) --map[id];
                                                       }
                                                       bench::keep(map);
                                                   });
                                               }}});
    run.row({.name = "adapters-1000",
             .metric = "cells wasted",
             .unit = "cells",
             .larder = double(pool.n_used - needed),
             .peers = {{"padded to the largest", double(1000 * 4 * 128 - needed)}}});
    run.row({.name = "adapters-1000",
             .metric = "acquire, release",
             .unit = "ns",
             .larder = t["larder"] / rounds / 1000 * 1e9,
             .peers = {{"counts in a hash map, no lock", t["map"] / rounds / 1000 * 1e9}}});
    larder_lora_destroy(lora);
    larder_cells_destroy(cells);
}

}  // namespace

BENCH_SUITE(moe, "mixtures of experts and adapters: analysis, splits, regrouping, adapter cache") {
    analysis(run);
    splits(run);
    regrouping(run);
    adapters(run);
}
