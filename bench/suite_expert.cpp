// The expert cache: how long a resident acquire takes beside what an engine would write (a map and a list under one
// mutex), what the policies hit on recorded routing, and what hints save on a simulated link.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "bench/bench.h"
#include "core/context.h"
#include "larder/larder.h"
#include "os/sim_os.h"

using larder::Rng;

namespace {

void must(larder_status s, const char* what) {
    if (s >= 0) return;
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    larder_last_error(&e);
    std::fprintf(stderr, "%s: %s\n", what, e.message);
    std::exit(2);
}

struct Cache {
    larder_expert_cache* c = nullptr;
    std::vector<unsigned char> weights;
    Cache(larder_context* context, uint32_t n_layers, uint32_t n_experts, uint32_t slots, uint64_t n_bytes,
          larder_expert_policy policy, larder_device* device = nullptr, uint64_t chunk_bytes = 0) {
        // All experts are the same bytes: the figures are of the cache, not of the memory behind it.
        weights.resize(n_bytes, 1);
        larder_expert_precision p = LARDER_EXPERT_PRECISION_INIT;
        p.source = LARDER_EXPERT_SOURCE_CALLBACK;
        p.load.fn = [](void*, uint32_t, uint32_t, uint64_t, void* dst, uint64_t n) -> larder_status {
            std::memset(dst, 1, n);
            return LARDER_OK;
        };
        p.n_bytes = n_bytes;
        p.layer_slots = slots;
        larder_expert_options o = LARDER_EXPERT_OPTIONS_INIT;
        o.n_layers = n_layers, o.n_experts = n_experts, o.n_precisions = 1, o.precisions = &p;
        o.precision_stride = sizeof p, o.policy = policy, o.device = device, o.chunk_bytes = chunk_bytes;
        o.n_channels = device ? 1 : 2;
        must(larder_expert_create(context, &o, &c), "expert cache");
    }
    ~Cache() { larder_expert_destroy(c); }
};

// What one writes first: an LRU list and a map, one mutex for all layers; it holds nothing and hands out no leases.
struct ListAndMap {
    std::mutex mutex;
    std::list<std::pair<uint64_t, void*>> order;
    std::unordered_map<uint64_t, std::list<std::pair<uint64_t, void*>>::iterator> at;
    void* get(uint32_t layer, uint32_t e) {
        const uint64_t key = uint64_t(layer) << 32 | e;
        const auto i = at.find(key);
        if (i != at.end()) {
            order.splice(order.end(), order, i->second);
            return i->second->second;
        }
        at[key] = order.insert(order.end(), {key, this});
        return this;
    }
};

void resident(bench::Run& run) {
    constexpr uint32_t n_layers = 32, n_experts = 64, k = 8;
    larder_context* context = nullptr;
    must(larder_context_create(nullptr, &context), "context");
    {
        Cache cache(context, n_layers, n_experts, n_experts, 256, LARDER_EXPERT_AUTO);
        ListAndMap peer;
        Rng r(1);
        std::vector<uint32_t> ids;
        for (size_t i = 0; i < 4096; ++i) {
            uint32_t some[n_experts];
            for (uint32_t e = 0; e < n_experts; ++e) some[e] = e;
            for (uint32_t j = 0; j < k; ++j) std::swap(some[j], some[j + r.below(n_experts - j)]);
            ids.insert(ids.end(), some, some + k);
        }
        const uint32_t n = run.size(2000000u, 400000u);
        larder_expert_view v[k];
        const auto ours = [&](bool timed) {
            return bench::cpu_seconds([&] {
                for (uint32_t i = 0; i < (timed ? n : 8192); ++i) {
                    larder_expert_lease lease = 0;
                    must(larder_expert_acquire(cache.c, i % n_layers, &ids[i % 4096 * k], k, v, sizeof v[0], nullptr, 0,
                                               nullptr, &lease),
                         "acquire");
                    must(larder_expert_release(cache.c, lease), "release");
                }
            });
        };
        ours(false);
        auto t = bench::interleave(
            run.rounds(), {{"larder", [&] { return ours(true); }},
                           {"release",
                            [&] {  // a lease of one expert: what a pair costs besides its experts
                                return bench::cpu_seconds([&] {
                                    for (uint32_t i = 0; i < n; ++i) {
                                        larder_expert_lease lease = 0;
                                        must(larder_expert_acquire(cache.c, i % n_layers, &ids[i % 4096 * k], 1, v,
                                                                   sizeof v[0], nullptr, 0, nullptr, &lease),
                                             "acquire");
                                        must(larder_expert_release(cache.c, lease), "release");
                                    }
                                });
                            }},
                           {"list and map", [&] {
                                return bench::cpu_seconds([&] {
                                    for (uint32_t i = 0; i < n; ++i) {
                                        std::lock_guard lock(peer.mutex);
                                        for (uint32_t j = 0; j < k; ++j)
                                            bench::keep(peer.get(i % n_layers, ids[i % 4096 * k + j]));
                                    }
                                });
                            }}});
        run.row({.name = "resident-8-of-64",
                 .metric = "acquire and release",
                 .unit = "ns",
                 .larder = t["larder"] / n * 1e9,
                 .peers = {{"list and map", t["list and map"] / n * 1e9}},
                 .note = "one thread; of one expert " + std::to_string(int(t["release"] / n * 1e9)) + " ns"});
    }
    larder_context_destroy(context);
}

struct Routes {
    std::string name;
    uint32_t n_layers, n_experts, k;
    uint64_t n_tokens;
    std::vector<uint8_t> ids;  // [layer][token][k]
    larder_moe_routing routing() const {
        larder_moe_routing d = LARDER_MOE_ROUTING_INIT;
        d.type = LARDER_MOE_U8, d.order = LARDER_MOE_LAYERS_FIRST;
        d.n_layers = n_layers, d.n_experts = n_experts, d.k = k, d.n_tokens = n_tokens;
        d.n_bytes = ids.size(), d.ids = ids.data();
        return d;
    }
    const uint8_t* at(uint32_t layer, uint64_t token) const { return &ids[(layer * n_tokens + token) * k]; }
};

// Made: each token has a topic that lasts and a word that follows from the last one; both pull towards experts.
Routes made(const char* name, uint32_t n_experts, uint32_t k, uint32_t topic_tokens, double topic_pull, uint64_t n) {
    Routes t{name, 4, n_experts, k, n, {}};
    constexpr uint32_t n_topics = 8, n_words = 200;
    for (uint32_t l = 0; l < t.n_layers; ++l) {
        Rng r(100 + l);
        const auto pull = [&] { return r.unit() + r.unit() + r.unit() + r.unit() - 2; };  // about normal
        std::vector<double> topics(n_topics * n_experts), words(n_words * n_experts);
        for (double& x : topics) x = topic_pull * pull();
        for (double& x : words) x = pull();
        uint32_t topic = 0, word = 0;
        std::vector<std::pair<double, uint8_t>> order(n_experts);
        for (uint64_t i = 0; i < n; ++i) {
            if (i % topic_tokens == 0) topic = uint32_t(r.below(n_topics));
            word = r.below(5) ? uint32_t(larder::mix64(word * 5 + r.below(5)) % n_words) : uint32_t(r.below(n_words));
            for (uint32_t e = 0; e < n_experts; ++e)
                order[e] = {-(topics[topic * n_experts + e] + words[word * n_experts + e] + pull() / 2), uint8_t(e)};
            std::partial_sort(order.begin(), order.begin() + k, order.end());
            for (uint32_t j = 0; j < k; ++j) t.ids.push_back(order[j].second);
        }
    }
    return t;
}

std::vector<Routes> all_routes(bench::Run& run) {
    std::vector<Routes> out;
    const char* shared = std::getenv("LARDER_SHARED_DIR");
    std::ifstream f(std::string(shared ? shared : "") + "/data/traces/moe11m_heldout_24x1024.route.u8",
                    std::ios::binary);
    Routes t{"moe11m", 6, 8, 2, 24576, {}};
    t.ids.assign(std::istreambuf_iterator<char>(f), {});
    if (t.ids.size() == 6 * 24576 * 2)
        out.push_back(t);
    else
        run.absent("recorded routing", "LARDER_SHARED_DIR does not have it");
    const uint64_t n = run.size<uint64_t>(12000, 4000);
    out.push_back(made("made-long-topics", 64, 8, 500, 1.5, n));
    out.push_back(made("made-no-topics", 64, 8, 500, 0.3, n));
    out.push_back(made("made-short-topics", 64, 8, 50, 2, n));
    return out;
}

double hit_ratio(larder_context* c, const Routes& t, uint32_t slots, larder_expert_policy policy) {
    const larder_moe_routing d = t.routing();
    larder_expert_replay_options o = LARDER_EXPERT_REPLAY_OPTIONS_INIT;
    o.policy = policy, o.layer_slots = slots;
    larder_expert_replay_result r = LARDER_EXPERT_REPLAY_RESULT_INIT;
    must(larder_expert_replay(c, &d, &o, nullptr, &r), "replay");
    return double(r.n_hits) / double(r.n_references);
}

void policies(bench::Run& run, const std::vector<Routes>& routes) {
    larder_context* c = nullptr;
    must(larder_context_create(nullptr, &c), "context");
    double gap = 0, worst = 1;
    uint32_t n = 0;
    for (const Routes& t : routes)
        for (uint32_t times : {2u, 3u}) {
            const uint32_t slots = times * t.k;
            std::map<std::string, double> peers;
            larder_expert_policy_info info = LARDER_EXPERT_POLICY_INFO_INIT;
            for (uint32_t i = 0; larder_expert_policy_get(i, &info) == LARDER_OK; ++i)
                if (info.policy != LARDER_EXPERT_AUTO) peers[info.name] = 100 * hit_ratio(c, t, slots, info.policy);
            const double ours = 100 * hit_ratio(c, t, slots, LARDER_EXPERT_AUTO);
            const double closed = (ours - peers["lru"]) / (peers["belady"] - peers["lru"]);
            worst = std::min(worst, ours - std::max(peers["lru"], peers["lfu"]));
            gap += closed, ++n;
            char note[64];
            std::snprintf(note, sizeof note, "closes %.3f of the gap from lru to belady", closed);
            run.row({.name = t.name + "-" + std::to_string(slots) + "-slots",
                     .metric = "hit ratio of auto",
                     .unit = "%",
                     .larder = ours,
                     .peers = peers,
                     .note = note});
        }
    run.row({.name = "all-routes",
             .metric = "auto over the better of lru and lfu, worst",
             .unit = "points",
             .larder = worst});
    run.row(
        {.name = "all-routes", .metric = "gap from lru to belady closed, mean", .unit = "share", .larder = gap / n});
    larder_context_destroy(c);
}

// One engine on a simulated clock: it acquires a layer, computes for 0.6 of an expert's load, and goes on. Loads cross
// a link of 25 GB/s, also while it computes.
struct Engine {
    enum class Hints { none, next_layer, wrong };
    double exposed_s = 0;
    larder_expert_state state = LARDER_EXPERT_STATE_INIT;

    Engine(const Routes& t, uint32_t slots, larder_expert_policy policy, Hints hints, double right, uint64_t n_tokens) {
        constexpr uint64_t n_bytes = 1 << 20;
        constexpr uint64_t load_ns = n_bytes * 1000000000ull / 25000000000ull;
        larder::SimOs os;
        larder_context_options co = LARDER_CONTEXT_OPTIONS_INIT;
        co.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        larder_context* context = nullptr;
        must(larder_context::create(&co, os, &context), "context");
        larder_device_options d = LARDER_DEVICE_OPTIONS_INIT;
        d.name = "sim";
        d.sim_latency_ns = 500;
        larder_device* device = nullptr;
        must(larder_device_open(context, &d, &device), "device");
        {
            Cache cache(context, t.n_layers, t.n_experts, slots, n_bytes, policy, device, 128 << 10);
            Rng r(9);
            std::vector<uint32_t> ids(t.k), guess(t.k);
            std::vector<larder_expert_view> v(t.k);
            for (uint64_t token = 0; token < std::min(n_tokens, t.n_tokens); ++token)
                for (uint32_t l = 0; l < t.n_layers; ++l) {
                    std::copy_n(t.at(l, token), t.k, ids.begin());
                    larder_expert_lease lease = 0;
                    const uint64_t asked = os.now_ns();
                    must(larder_expert_acquire(cache.c, l, ids.data(), t.k, v.data(), sizeof v[0], nullptr, 0, nullptr,
                                               &lease),
                         "acquire");
                    exposed_s += double(os.now_ns() - asked) * 1e-9;
                    const uint32_t next = (l + 1) % t.n_layers;
                    const uint64_t next_token = token + (next == 0);
                    if (hints != Hints::none && next_token < t.n_tokens) {
                        guess_next(t, next, next_token, hints, right, r, guess);
                        must(larder_expert_hint(cache.c, next, guess.data(), nullptr, t.k, 0, load_ns * 6 / 10),
                             "hint");
                    }
                    const uint64_t end = os.now_ns() + load_ns * 6 / 10;
                    while (os.now_ns() < end) {
                        const uint64_t before = os.now_ns();
                        larder_context_progress(context, 1);
                        if (os.now_ns() == before) os.advance_ns(end - before);
                    }
                    must(larder_expert_release(cache.c, lease), "release");
                }
            must(larder_expert_query(cache.c, &state), "query");
        }
        larder_device_close(device);
        larder_context_destroy(context);
    }
    static void guess_next(const Routes& t, uint32_t layer, uint64_t token, Hints hints, double right, Rng& r,
                           std::vector<uint32_t>& out) {
        const uint8_t* truth = t.at(layer, token);
        for (uint32_t j = 0; j < t.k; ++j) {
            out[j] = truth[j];
            if (hints == Hints::next_layer && r.unit() < right) continue;
            while (std::find(truth, truth + t.k, out[j]) != truth + t.k) out[j] = uint32_t(r.below(t.n_experts));
        }
    }
    // What the engine had to ask for that nobody had begun to load.
    double misses() const { return double(state.n_acquired - state.n_hits); }
};

void hinted(bench::Run& run, const std::vector<Routes>& routes) {
    const uint64_t n_tokens = run.size<uint64_t>(1500, 400);
    for (const Routes& t : routes) {
        if (t.name == "made-no-topics" || t.name == "made-short-topics") continue;
        const uint32_t slots = 3 * t.k;
        using Hints = Engine::Hints;
        const Engine lru(t, slots, LARDER_EXPERT_LRU, Hints::none, 0, n_tokens);
        const Engine without(t, slots, LARDER_EXPERT_AUTO, Hints::none, 0, n_tokens);
        const Engine with(t, slots, LARDER_EXPERT_AUTO, Hints::next_layer, 0.9, n_tokens);
        const Engine wrong(t, slots, LARDER_EXPERT_AUTO, Hints::wrong, 0, n_tokens);
        const std::string name = t.name + "-" + std::to_string(slots) + "-slots";
        run.row({.name = name,
                 .metric = "demand misses with hints of 90 %",
                 .unit = "count",
                 .larder = with.misses(),
                 .peers = {{"lru", lru.misses()}, {"auto without hints", without.misses()}}});
        run.row({.name = name,
                 .metric = "bytes moved with hints of 90 %",
                 .unit = "MB",
                 .larder = double(with.state.loaded_bytes) / 1e6,
                 .peers = {{"lru", double(lru.state.loaded_bytes) / 1e6},
                           {"auto without hints", double(without.state.loaded_bytes) / 1e6}}});
        run.row({.name = name,
                 .metric = "exposed load time with hints of 90 %",
                 .unit = "ms",
                 .larder = with.exposed_s * 1e3,
                 .peers = {{"auto without hints", without.exposed_s * 1e3}, {"lru", lru.exposed_s * 1e3}}});
        run.row({.name = name,
                 .metric = "exposed load time with wrong hints",
                 .unit = "ms",
                 .larder = wrong.exposed_s * 1e3,
                 .peers = {{"auto without hints", without.exposed_s * 1e3}}});
    }
}

}  // namespace

BENCH_SUITE(expert, "expert cache: resident acquire, hit ratios, hints on a simulated link") {
    resident(run);
    const auto routes = all_routes(run);
    policies(run, routes);
    hinted(run, routes);
}
