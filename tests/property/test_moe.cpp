// Routing analysis, splits and regrouping against programs that do the same the long way.
#include "support/cmocka.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "base/hash.h"
#include "larder/larder.h"
#include "support/seed.h"
#include "support/shared_data.h"

using larder::Rng;

namespace {

struct Context {
    larder_context* c = nullptr;
    Context() { assert_int_equal(larder_context_create(nullptr, &c), LARDER_OK); }
    ~Context() { assert_int_equal(larder_context_destroy(c), LARDER_OK); }
};

using Steps = std::vector<std::vector<uint32_t>>;  // of one layer: the experts of each token

// Routing in memory, in any type and order.
struct Routing {
    uint32_t n_experts, k;
    std::vector<Steps> layers;
    uint64_t sequence_tokens = 0;
    std::vector<unsigned char> bytes;

    uint64_t n_tokens() const { return layers[0].size(); }
    larder_moe_routing pack(larder_moe_type type, larder_moe_order order) {
        const uint32_t size = type == LARDER_MOE_I32 ? 4 : uint32_t(type);
        larder_moe_routing r = LARDER_MOE_ROUTING_INIT;
        r.type = type;
        r.order = order;
        r.n_layers = uint32_t(layers.size());
        r.n_experts = n_experts;
        r.k = k;
        r.n_tokens = n_tokens();
        r.n_bytes = r.n_tokens * r.n_layers * k * size;
        r.sequence_tokens = sequence_tokens;
        bytes.assign(r.n_bytes, 0);
        for (uint64_t l = 0; l < layers.size(); ++l)
            for (uint64_t t = 0; t < n_tokens(); ++t)
                for (uint32_t j = 0; j < k; ++j) {
                    const uint64_t row = order == LARDER_MOE_LAYERS_FIRST ? l * n_tokens() + t : t * layers.size() + l;
                    std::memcpy(&bytes[(row * k + j) * size], &layers[l][t][j], size);
                }
        r.ids = bytes.data();
        return r;
    }
    larder_moe_routing pack(Rng& rng) {
        return pack(larder_moe_type(1 + rng.below(3)), larder_moe_order(1 + rng.below(2)));
    }
};

// Sticky routing: an expert of the last token stays with some probability.
Routing random_routing(Rng& rng, uint32_t n_layers, uint32_t n_experts, uint32_t k, uint64_t n_tokens, double stay) {
    Routing r{n_experts, k, {}, 0, {}};
    for (uint32_t l = 0; l < n_layers; ++l) {
        Steps steps;
        std::vector<uint32_t> last;
        for (uint64_t t = 0; t < n_tokens; ++t) {
            std::vector<uint32_t> now;
            for (uint32_t e : last)
                if (double(rng.below(1000)) < 1000 * stay) now.push_back(e);
            while (now.size() < k) {
                const auto e = uint32_t(rng.below(n_experts));
                if (std::find(now.begin(), now.end(), e) == now.end()) now.push_back(e);
            }
            for (size_t i = k; i-- > 1;) std::swap(now[i], now[rng.below(i + 1)]);
            steps.push_back(last = now);
        }
        r.layers.push_back(std::move(steps));
    }
    return r;
}

// F1 of the best threshold, by counting each segment on its own and trying every threshold on every segment.
void naive_segments(const Routing& r, uint32_t first, uint32_t n, uint32_t m, double& srp, double& ratio) {
    const uint64_t text = r.sequence_tokens ? r.sequence_tokens : r.n_tokens();
    srp = ratio = 0;
    for (uint32_t a = 0; a <= m; ++a) {
        double hit = 0, held = 0, active = 0;
        for (uint32_t l = first; l < first + n; ++l)
            for (uint64_t begin = 0; begin < r.n_tokens(); begin += text)
                for (uint64_t p = begin; p + m <= std::min(begin + text, r.n_tokens()); ++p)
                    for (uint32_t e = 0; e < r.n_experts; ++e) {
                        uint32_t count = 0;
                        for (uint64_t t = p; t < p + m; ++t)
                            count += uint32_t(std::count(r.layers[l][t].begin(), r.layers[l][t].end(), e));
                        active += count;
                        if (count >= a) hit += count, held += m;
                    }
        const double f1 = 2 * hit / (held + active);
        if (f1 >= srp) srp = f1, ratio = held / active;
    }
}

// One cache of `slots` experts, simulated alone.
uint64_t naive_hits(const Steps& steps, uint32_t slots, larder_moe_keep keep, uint64_t lookahead) {
    std::set<uint32_t> cache;
    std::map<uint32_t, uint64_t> used, uses;
    uint64_t hits = 0;
    for (uint64_t t = 0; t < steps.size(); ++t) {
        const std::set<uint32_t> routed(steps[t].begin(), steps[t].end());
        for (uint32_t e : routed) hits += cache.count(e);
        for (size_t j = 0; j < steps[t].size(); ++j) used[steps[t][j]] = (t + 1) * 1000 - j, ++uses[steps[t][j]];
        auto worth = [&](uint32_t e) {
            double measure = 0;
            if (keep == LARDER_MOE_KEEP_FREQUENT) measure = double(uses[e]);
            for (uint64_t u = t + 1; u < steps.size(); ++u) {
                const bool there = std::count(steps[u].begin(), steps[u].end(), e) > 0;
                if (keep == LARDER_MOE_KEEP_COUNT_AHEAD && u <= t + lookahead) measure += there;
                if (keep == LARDER_MOE_KEEP_NEXT && there) {
                    measure = 1 / double(u - t);
                    break;
                }
            }
            return std::pair(measure, used[e]);
        };
        cache.insert(routed.begin(), routed.end());
        while (cache.size() > slots) {  // the experts of this token stay as long as others can go
            auto victim = cache.end();
            bool spared = true;
            for (auto i = cache.begin(); i != cache.end(); ++i) {
                const bool is_routed = routed.count(*i) > 0;
                if (victim != cache.end() &&
                    (is_routed > spared || (is_routed == spared && worth(*i) >= worth(*victim))))
                    continue;
                victim = i, spared = is_routed;
            }
            cache.erase(victim);
        }
    }
    return hits;
}

uint32_t below_pair(Rng& rng, uint32_t n_experts) {
    return 1 + uint32_t(rng.below(std::min<uint32_t>(n_experts, 6)));
}

void test_segments(void**) {
    Rng rng(test_seed());
    Context ctx;
    for (uint64_t round = 0; round < test_rounds(200); ++round) {
        const auto n_experts = uint32_t(1 + rng.below(12));
        const uint32_t n_layers = 1 + uint32_t(rng.below(3));
        Routing r = random_routing(rng, n_layers, n_experts, below_pair(rng, n_experts), 5 + rng.below(40),
                                   double(rng.below(10)) / 10);
        if (rng.below(2)) r.sequence_tokens = 4 + rng.below(r.n_tokens());
        const larder_moe_routing packed = r.pack(rng);
        const uint64_t longest = std::min(r.sequence_tokens ? r.sequence_tokens : r.n_tokens(), r.n_tokens());
        const uint32_t m = 1 + uint32_t(rng.below(longest)), first = uint32_t(rng.below(n_layers)),
                       n = 1 + uint32_t(rng.below(n_layers - first));
        larder_moe_segments s = LARDER_MOE_SEGMENTS_INIT;
        assert_int_equal(larder_moe_measure_segments(ctx.c, &packed, first, n, m, &s), LARDER_OK);
        double srp, ratio;
        naive_segments(r, first, n, m, srp, ratio);
        assert_true(std::fabs(s.srp - srp) < 1e-12);
        assert_true(std::fabs(s.size_ratio - ratio) < 1e-9);
    }
}

// The same two experts for every eight tokens: a set of two serves each aligned segment, and nothing else is as good.
void test_constant_segments(void**) {
    Context ctx;
    Routing r{8, 2, {Steps()}, 8, {}};
    for (uint32_t t = 0; t < 64; ++t) r.layers[0].push_back({t / 8, (t / 8 + 3) % 8});
    const larder_moe_routing packed = r.pack(LARDER_MOE_U8, LARDER_MOE_TOKENS_FIRST);
    larder_moe_segments s = LARDER_MOE_SEGMENTS_INIT;
    assert_int_equal(larder_moe_measure_segments(ctx.c, &packed, 0, 1, 8, &s), LARDER_OK);
    assert_true(s.srp == 1);
    assert_true(s.size_ratio == 1);
    assert_int_equal(s.threshold, 8);
    assert_int_equal(s.n_segments, 8);
}

void test_cache_curves(void**) {
    Rng rng(test_seed());
    Context ctx;
    for (uint64_t round = 0; round < test_rounds(200); ++round) {
        const auto n_experts = uint32_t(1 + rng.below(14));
        Routing r = random_routing(rng, 2, n_experts, below_pair(rng, n_experts), 1 + rng.below(60),
                                   double(rng.below(10)) / 10);
        const larder_moe_routing packed = r.pack(rng);
        const auto layer = uint32_t(rng.below(2));
        std::vector<std::vector<uint64_t>> all;
        for (larder_moe_keep keep = LARDER_MOE_KEEP_RECENT; keep <= LARDER_MOE_KEEP_NEXT; ++keep) {
            const uint64_t lookahead = keep == LARDER_MOE_KEEP_COUNT_AHEAD ? 1 + rng.below(80) : 0;
            std::vector<uint64_t> hits(n_experts + 1);
            assert_int_equal(larder_moe_measure_cache(ctx.c, &packed, layer, keep, lookahead, hits.data()), LARDER_OK);
            for (uint32_t c = 0; c <= n_experts; ++c)
                assert_int_equal(hits[c], naive_hits(r.layers[layer], c, keep, lookahead));
            std::set<uint32_t> different;
            for (auto& step : r.layers[layer]) different.insert(step.begin(), step.end());
            assert_int_equal(hits[n_experts], r.n_tokens() * r.k - different.size());  // all but the cold misses
            all.push_back(hits);
        }
        for (uint32_t c = r.k; c <= n_experts; ++c)  // nobody beats him who knows the future
            for (auto& hits : all) assert_true(hits[c] <= all.back()[c]);
    }
}

// Recorded routing: what is known of it from another program, and that looking ahead is worth more than looking back.
void test_recorded(void**) {
    const auto path = shared_data("data/traces/moe11m_heldout_24x1024.route.u8");
    if (!path) return;
    Context ctx;
    std::ifstream in(*path, std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(in)), {});
    larder_moe_routing r = LARDER_MOE_ROUTING_INIT;
    r.type = LARDER_MOE_U8;
    r.order = LARDER_MOE_LAYERS_FIRST;
    r.n_layers = 6;
    r.k = 2;
    r.n_tokens = 24 * 1024;
    r.n_bytes = bytes.size();
    r.ids = bytes.data();
    assert_int_equal(larder_moe_check(ctx.c, &r, &r.n_experts), LARDER_OK);
    assert_int_equal(r.n_experts, 8);
    uint64_t lru4 = 0, belady4 = 0;
    for (uint32_t layer = 0; layer < 6; ++layer) {
        uint64_t recent[9], ahead[9], next[9];
        assert_int_equal(larder_moe_measure_cache(ctx.c, &r, layer, LARDER_MOE_KEEP_RECENT, 0, recent), LARDER_OK);
        assert_int_equal(larder_moe_measure_cache(ctx.c, &r, layer, LARDER_MOE_KEEP_COUNT_AHEAD, 16, ahead), LARDER_OK);
        assert_int_equal(larder_moe_measure_cache(ctx.c, &r, layer, LARDER_MOE_KEEP_NEXT, 0, next), LARDER_OK);
        for (uint32_t c = 2; c <= 8; ++c) {
            assert_true(ahead[c] >= recent[c]);
            assert_true(next[c] >= ahead[c]);
        }
        lru4 += recent[4], belady4 += next[4];
    }
    std::vector<uint64_t> masks(r.n_tokens);
    std::vector<uint32_t> order(1024);
    larder_moe_regrouping g = LARDER_MOE_REGROUPING_INIT;
    assert_int_equal(larder_moe_masks(ctx.c, &r, 1, 1, masks.data()), LARDER_OK);
    assert_int_equal(larder_moe_regroup(ctx.c, masks.data(), 1, 1024, 16, order.data(), &g), LARDER_OK);
    print_message("experts touched over arrival order, recorded, batches of 16 of 1,024 tokens: %.3f\n",
                  double(g.n_touched) / double(g.n_arrival));
    assert_true(double(g.n_touched) <= 0.8 * double(g.n_arrival));
    const double n = 6.0 * 24 * 1024 * 2;
    assert_true(std::fabs(double(lru4) / n - 0.570) < 0.0006);
    assert_true(std::fabs(double(belady4) / n - 0.719) < 0.0006);
}

// Every allotment of slots, tried.
uint64_t naive_allotment(const std::vector<uint64_t>& hits, uint32_t n_layers, uint32_t n_experts, uint32_t k,
                         uint32_t layer, uint64_t left) {
    if (layer == n_layers) return 0;
    const uint64_t reserved = uint64_t(n_layers - layer - 1) * k;
    uint64_t best = 0;
    for (uint64_t c = k; c <= n_experts && c + reserved <= left; ++c)
        best = std::max(best, hits[layer * (n_experts + 1) + c] +
                                  naive_allotment(hits, n_layers, n_experts, k, layer + 1, left - c));
    return best;
}

struct Curves {
    larder_moe_advice_options o = LARDER_MOE_ADVICE_OPTIONS_INIT;
    std::vector<uint64_t> hits;

    explicit Curves(Rng& rng) {
        o.n_layers = 1 + uint32_t(rng.below(4));
        o.n_experts = 1 + uint32_t(rng.below(8));
        o.k = below_pair(rng, o.n_experts);
        o.n_tokens = 100;
        for (uint32_t l = 0; l < o.n_layers; ++l) {
            std::vector<uint64_t> h(o.n_experts + 1);
            for (auto& x : h) x = rng.below(o.n_tokens * o.k + 1);
            std::sort(h.begin(), h.end());
            hits.insert(hits.end(), h.begin(), h.end());
        }
    }
    uint64_t all() const { return uint64_t(o.n_layers) * o.n_experts; }
    uint64_t sum(const std::vector<uint32_t>& slots) const {
        uint64_t n = 0;
        for (uint32_t l = 0; l < o.n_layers; ++l) n += hits[l * (o.n_experts + 1) + slots[l]];
        return n;
    }
    uint64_t most(uint64_t total) const { return naive_allotment(hits, o.n_layers, o.n_experts, o.k, 0, total); }
    double slowdown(uint64_t n_hits) const {
        const double steps = double(o.n_tokens) * o.n_layers;
        return 1 + (steps * o.k - double(n_hits)) * double(o.load_ns) / (steps * double(o.step_ns));
    }
};

void test_advice(void**) {
    Rng rng(test_seed());
    Context ctx;
    for (uint64_t round = 0; round < test_rounds(300); ++round) {
        Curves c(rng);
        const bool given = rng.below(2);
        if (given) c.o.total_slots = c.o.n_layers * c.o.k + rng.below(c.all() - c.o.n_layers * c.o.k + 1);
        if (rng.below(2)) c.o.load_ns = 1 + rng.below(100), c.o.step_ns = 1 + rng.below(100);
        std::vector<uint32_t> slots(c.o.n_layers);
        larder_moe_advice advice = LARDER_MOE_ADVICE_INIT;
        assert_int_equal(larder_moe_advise(ctx.c, &c.o, c.hits.data(), slots.data(), &advice), LARDER_OK);
        for (uint32_t s : slots) assert_in_range(s, c.o.k, c.o.n_experts);
        assert_int_equal(std::accumulate(slots.begin(), slots.end(), uint64_t(0)), advice.total_slots);
        const uint64_t n_hits = c.sum(slots), least = uint64_t(c.o.n_layers) * c.o.k;
        assert_int_equal(n_hits, c.most(given ? c.o.total_slots : advice.total_slots));
        if (given) assert_true(advice.total_slots <= c.o.total_slots);
        const double hit_ratio = double(n_hits) / (double(c.o.n_tokens) * double(least));
        assert_true(std::fabs(advice.hit_ratio - hit_ratio) < 1e-12);
        const double held = double(advice.total_slots) / double(c.all());
        if (c.o.load_ns) {
            assert_true(std::fabs(advice.slowdown - c.slowdown(n_hits)) < 1e-9);
            assert_int_equal(advice.verdict,
                             c.slowdown(n_hits) <= 2 && held <= 0.9 ? LARDER_MOE_OFFLOAD : LARDER_MOE_KEEP_WHOLE);
            if (!given && advice.total_slots > least && advice.slowdown <= 2)
                assert_true(c.slowdown(c.most(advice.total_slots - 1)) > 2);
        } else {
            const double lift = held < 1 ? (hit_ratio - held) / (1 - held) : 0;
            assert_true(std::fabs(advice.lift - lift) < 1e-12);
            assert_int_equal(advice.verdict, lift >= 0.1 ? LARDER_MOE_OFFLOAD : LARDER_MOE_KEEP_WHOLE);
        }
    }
}

// A curve with one corner has its knee there; experts drawn without memory are not worth a cache, sticky ones are.
void test_verdicts(void**) {
    const uint64_t corner[9] = {0, 10, 20, 60, 100, 101, 102, 103, 104}, line[5] = {0, 10, 20, 30, 40};
    uint32_t slots;
    assert_int_equal(larder_moe_knee(corner, 8, 2, &slots), LARDER_OK);
    assert_int_equal(slots, 4);
    assert_int_equal(larder_moe_knee(line, 4, 1, &slots), LARDER_OK);
    assert_int_equal(slots, 4);
    Context ctx;
    Rng rng(test_seed());
    for (const bool sticky : {false, true}) {
        Routing r = random_routing(rng, 4, 16, 2, 3000, sticky ? 0.7 : 0);
        const larder_moe_routing packed = r.pack(rng);
        larder_moe_advice_options o = LARDER_MOE_ADVICE_OPTIONS_INIT;
        o.n_layers = 4, o.n_experts = 16, o.k = 2, o.n_tokens = 3000;
        std::vector<uint64_t> hits(4 * 17);
        for (uint32_t l = 0; l < 4; ++l)
            assert_int_equal(larder_moe_measure_cache(ctx.c, &packed, l, LARDER_MOE_KEEP_RECENT, 0, &hits[l * 17]),
                             LARDER_OK);
        uint32_t out[4];
        larder_moe_advice advice = LARDER_MOE_ADVICE_INIT;
        assert_int_equal(larder_moe_advise(ctx.c, &o, hits.data(), out, &advice), LARDER_OK);
        assert_int_equal(advice.verdict, sticky ? LARDER_MOE_OFFLOAD : LARDER_MOE_KEEP_WHOLE);
    }
}

struct Work {
    std::vector<uint64_t> in_place, device;
    uint64_t makespan(uint32_t division) const {
        uint64_t a = 0, b = 0;
        for (size_t i = 0; i < in_place.size(); ++i)
            (division >> i & 1 ? a : b) += (division >> i & 1 ? in_place : device)[i];
        return std::max(a, b);
    }
    uint64_t best() const {
        uint64_t least = UINT64_MAX;
        for (uint32_t d = 0; d < 1u << in_place.size(); ++d) {
            bool possible = true;
            for (size_t i = 0; i < in_place.size(); ++i) possible &= !(d >> i & 1) || in_place[i] != UINT64_MAX;
            if (possible) least = std::min(least, makespan(d));
        }
        return least;
    }
};

// Tokens times a price in place; a transfer or nothing on the device (Fiddler), or any times at all.
Work random_work(Rng& rng, size_t n, bool any_times) {
    Work w;
    const uint64_t classes[2] = {rng.below(100), rng.below(2) ? 0 : rng.below(100)};
    for (size_t i = 0; i < n; ++i) {
        w.in_place.push_back(rng.below(20) == 0 ? UINT64_MAX : 7 * rng.below(20));
        w.device.push_back(any_times ? rng.below(100) : classes[rng.below(2)]);
    }
    return w;
}

void test_split(void**) {
    Rng rng(test_seed());
    for (uint64_t round = 0; round < test_rounds(1500); ++round) {
        const bool any_times = rng.below(2);
        const size_t n = rng.below(round % 50 ? 13 : 17);
        const Work w = random_work(rng, n, any_times);
        std::vector<uint8_t> in_place(n);
        larder_moe_split s = LARDER_MOE_SPLIT_INIT;
        assert_int_equal(larder_moe_split_work(w.in_place.data(), w.device.data(), uint32_t(n), in_place.data(), &s),
                         LARDER_OK);
        uint64_t a = 0, b = 0;
        for (size_t i = 0; i < n; ++i) (in_place[i] ? a : b) += (in_place[i] ? w.in_place : w.device)[i];
        assert_int_equal(s.in_place_ns, a);
        assert_int_equal(s.device_ns, b);
        assert_int_equal(s.makespan_ns, std::max(a, b));
        const uint64_t best = w.best();
        assert_true(s.bound_ns <= best && best <= s.makespan_ns);
        if (s.exact || n <= 12 || !any_times) assert_int_equal(s.makespan_ns, best);
        if (n <= 12 || !any_times) assert_int_equal(s.exact, 1);
    }
}

// Many experts of any times: next to what no division can beat.
void test_split_many(void**) {
    Rng rng(test_seed());
    double mean = 0;
    const uint64_t rounds = test_rounds(200);
    for (uint64_t round = 0; round < rounds; ++round) {
        const size_t n = 40 + rng.below(200);
        Work w;
        for (size_t i = 0; i < n; ++i)
            w.in_place.push_back(1 + rng.below(1000)), w.device.push_back(1 + rng.below(1000));
        std::vector<uint8_t> in_place(n);
        larder_moe_split s = LARDER_MOE_SPLIT_INIT;
        assert_int_equal(larder_moe_split_work(w.in_place.data(), w.device.data(), uint32_t(n), in_place.data(), &s),
                         LARDER_OK);
        assert_true(s.bound_ns <= s.makespan_ns);
        mean += double(s.makespan_ns) / double(s.bound_ns) / double(rounds);
    }
    print_message("makespan over the bound, 40 to 239 experts, mean: %.5f\n", mean);
    assert_true(mean < 1.005);
}

uint64_t touched(const std::vector<uint64_t>& masks, uint32_t n_words, const std::vector<uint32_t>& order,
                 uint32_t batch) {
    uint64_t n = 0;
    for (size_t at = 0; at < order.size(); at += batch)
        for (uint32_t w = 0; w < n_words; ++w) {
            uint64_t all = 0;
            for (size_t i = at; i < std::min(order.size(), at + batch); ++i) all |= masks[order[i] * n_words + w];
            n += uint64_t(__builtin_popcountll(all));
        }
    return n;
}

std::vector<uint32_t> identity(size_t n) {
    std::vector<uint32_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    return order;
}

// Small enough to try every order; the masks are also checked, against the routing that they come from.
void test_regroup(void**) {
    Rng rng(test_seed());
    Context ctx;
    double over = 0;
    uint64_t rounds = test_rounds(100);
    for (uint64_t round = 0; round < rounds; ++round) {
        const uint32_t n_experts = 4 + uint32_t(rng.below(40)), n_layers = 1 + uint32_t(rng.below(3));
        const uint64_t item_tokens = 1 + rng.below(3);
        Routing r = random_routing(rng, n_layers, n_experts, 2, item_tokens * 7, 0.3);
        const larder_moe_routing packed = r.pack(rng);
        const uint32_t n_words = (n_layers * n_experts + 63) / 64, n_items = 7, batch = 2 + uint32_t(rng.below(3));
        std::vector<uint64_t> masks(n_items * n_words), want(n_items * n_words);
        assert_int_equal(larder_moe_masks(ctx.c, &packed, item_tokens, n_words, masks.data()), LARDER_OK);
        for (uint32_t l = 0; l < n_layers; ++l)
            for (uint64_t t = 0; t < r.n_tokens(); ++t)
                for (uint32_t e : r.layers[l][t])
                    want[t / item_tokens * n_words + (l * n_experts + e) / 64] |= uint64_t(1)
                                                                                  << (l * n_experts + e) % 64;
        assert_true(masks == want);
        std::vector<uint32_t> order(n_items), sorted;
        larder_moe_regrouping g = LARDER_MOE_REGROUPING_INIT;
        assert_int_equal(larder_moe_regroup(ctx.c, masks.data(), n_words, n_items, batch, order.data(), &g), LARDER_OK);
        sorted = order;
        std::sort(sorted.begin(), sorted.end());
        assert_true(sorted == identity(n_items));
        assert_int_equal(g.n_batches, (n_items + batch - 1) / batch);
        assert_int_equal(g.n_touched, touched(masks, n_words, order, batch));
        assert_int_equal(g.n_arrival, touched(masks, n_words, identity(n_items), batch));
        assert_true(g.n_touched <= g.n_arrival);
        uint64_t least = UINT64_MAX;
        do least = std::min(least, touched(masks, n_words, sorted, batch));
        while (std::next_permutation(sorted.begin(), sorted.end()));
        assert_true(g.n_touched >= least);
        over += double(g.n_touched) / double(least) / double(rounds);
    }
    print_message("experts touched over the least possible, 7 items: %.3f\n", over);
    assert_true(over < 1.1);
}

// Texts of eight topics, each with its own favourite experts, arriving mixed: batches of 64 tokens.
void test_regroup_topics(void**) {
    Rng rng(test_seed());
    Context ctx;
    const uint32_t n_layers = 4, n_experts = 64, k = 4, n_items = 1024;
    Routing r{n_experts, k, std::vector<Steps>(n_layers), 0, {}};
    for (uint32_t t = 0; t < n_items; ++t) {
        const auto topic = uint32_t(rng.below(8));
        for (uint32_t l = 0; l < n_layers; ++l) {
            std::vector<uint32_t> ids;
            while (ids.size() < k) {
                const bool own = rng.below(10) < 8;
                const auto e =
                    own ? (topic * 8 + l * 5 + uint32_t(rng.below(12))) % n_experts : uint32_t(rng.below(n_experts));
                if (std::find(ids.begin(), ids.end(), e) == ids.end()) ids.push_back(e);
            }
            r.layers[l].push_back(ids);
        }
    }
    const larder_moe_routing packed = r.pack(LARDER_MOE_I16, LARDER_MOE_TOKENS_FIRST);
    std::vector<uint64_t> masks(n_items * 4);
    assert_int_equal(larder_moe_masks(ctx.c, &packed, 1, 4, masks.data()), LARDER_OK);
    std::vector<uint32_t> order(n_items);
    larder_moe_regrouping g = LARDER_MOE_REGROUPING_INIT;
    assert_int_equal(larder_moe_regroup(ctx.c, masks.data(), 4, n_items, 64, order.data(), &g), LARDER_OK);
    print_message("experts touched over arrival order, 8 topics: %.3f\n", double(g.n_touched) / double(g.n_arrival));
    assert_true(double(g.n_touched) <= 0.8 * double(g.n_arrival));
}

void test_bad_routing(void**) {
    Context ctx;
    uint8_t ids[12] = {0, 1, 1, 2, 3, 0, 0, 1, 1, 2, 3, 0};
    larder_moe_routing good = LARDER_MOE_ROUTING_INIT;
    good.type = LARDER_MOE_U8, good.n_layers = 2, good.n_experts = 4, good.k = 2, good.n_tokens = 3;
    good.n_bytes = 12, good.ids = ids;
    assert_int_equal(larder_moe_check(ctx.c, &good, nullptr), LARDER_OK);
    auto is = [&](larder_status want, const char* field, auto change) {
        larder_moe_routing r = good;
        change(r);
        assert_int_equal(larder_moe_check(ctx.c, &r, nullptr), want);
        larder_error_info e = LARDER_ERROR_INFO_INIT;
        larder_last_error(&e);
        assert_string_equal(e.field, field);
    };
    is(LARDER_E_INVALID, "type", [](auto& r) { r.type = 4; });
    is(LARDER_E_INVALID, "order", [](auto& r) { r.order = 3; });
    is(LARDER_E_INVALID, "ids", [](auto& r) { r.ids = nullptr; });
    is(LARDER_E_INVALID, "n_bytes", [](auto& r) { r.n_bytes = 11; });
    is(LARDER_E_INVALID, "n_bytes", [](auto& r) { r.type = LARDER_MOE_I16; });
    is(LARDER_E_RANGE, "n_layers", [](auto& r) { r.n_layers = 0; });
    is(LARDER_E_RANGE, "n_tokens", [](auto& r) { r.n_tokens = uint64_t(1) << 60; });
    is(LARDER_E_RANGE, "k", [](auto& r) { r.k = 5; });
    is(LARDER_E_RANGE, "n_experts", [](auto& r) { r.n_experts = 65537; });
    is(LARDER_E_RANGE, "ids", [](auto& r) { r.n_experts = 3; });
    is(LARDER_E_INVALID, "struct_size", [](auto& r) { r.struct_size = 0; });
    ids[9] = 1;
    is(LARDER_E_INVALID, "ids", [](auto&) {});
    ids[9] = 2;
    int16_t negative[2] = {0, -1};
    is(LARDER_E_RANGE, "ids", [&](auto& r) {
        r.type = LARDER_MOE_I16, r.n_layers = r.n_tokens = 1, r.n_bytes = 4, r.ids = negative, r.n_experts = 0;
    });
    assert_int_equal(larder_moe_check(ctx.c, nullptr, nullptr), LARDER_E_INVALID);
    assert_int_equal(larder_moe_check(nullptr, &good, nullptr), LARDER_E_INVALID);
    uint64_t hits[5], masks[3];
    larder_moe_segments s = LARDER_MOE_SEGMENTS_INIT;
    assert_int_equal(larder_moe_measure_segments(ctx.c, &good, 1, 2, 1, &s), LARDER_E_RANGE);
    assert_int_equal(larder_moe_measure_segments(ctx.c, &good, 0, 2, 4, &s), LARDER_E_RANGE);
    assert_int_equal(larder_moe_measure_segments(ctx.c, &good, 0, 2, 3, nullptr), LARDER_E_INVALID);
    assert_int_equal(larder_moe_measure_cache(ctx.c, &good, 2, LARDER_MOE_KEEP_RECENT, 0, hits), LARDER_E_RANGE);
    assert_int_equal(larder_moe_measure_cache(ctx.c, &good, 1, 5, 0, hits), LARDER_E_INVALID);
    assert_int_equal(larder_moe_measure_cache(ctx.c, &good, 1, LARDER_MOE_KEEP_RECENT, 1, hits), LARDER_E_RANGE);
    assert_int_equal(larder_moe_measure_cache(ctx.c, &good, 1, LARDER_MOE_KEEP_COUNT_AHEAD, 0, hits), LARDER_E_RANGE);
    assert_int_equal(larder_moe_masks(ctx.c, &good, 0, 1, masks), LARDER_E_RANGE);
    assert_int_equal(larder_moe_masks(ctx.c, &good, 1, 2, masks), LARDER_E_INVALID);
}

void test_bad_plans(void**) {
    Context ctx;
    larder_moe_advice_options good = LARDER_MOE_ADVICE_OPTIONS_INIT;
    good.n_layers = 1, good.n_experts = 2, good.k = 1, good.n_tokens = 10;
    const uint64_t hits[3] = {0, 3, 8}, falling[3] = {0, 3, 2}, many[3] = {0, 3, 11};
    uint32_t slots, order[2];
    larder_moe_advice advice = LARDER_MOE_ADVICE_INIT;
    assert_int_equal(larder_moe_advise(ctx.c, &good, hits, &slots, &advice), LARDER_OK);
    assert_int_equal(larder_moe_advise(ctx.c, &good, falling, &slots, &advice), LARDER_E_INVALID);
    assert_int_equal(larder_moe_advise(ctx.c, &good, many, &slots, &advice), LARDER_E_RANGE);
    auto is = [&](larder_status want, auto change) {
        larder_moe_advice_options o = good;
        change(o);
        assert_int_equal(larder_moe_advise(ctx.c, &o, hits, &slots, &advice), want);
    };
    is(LARDER_E_RANGE, [](auto& o) { o.k = 3; });
    is(LARDER_E_RANGE, [](auto& o) { o.total_slots = 3; });
    is(LARDER_E_INVALID, [](auto& o) { o.load_ns = 3; });
    is(LARDER_E_RANGE, [](auto& o) { o.max_slowdown = 0.5; });
    is(LARDER_E_RANGE, [](auto& o) { o.min_lift = std::nan(""); });
    assert_int_equal(larder_moe_knee(hits, 2, 3, &slots), LARDER_E_RANGE);
    assert_int_equal(larder_moe_knee(nullptr, 2, 1, &slots), LARDER_E_INVALID);
    const uint64_t times[2] = {1, uint64_t(1) << 62};
    uint8_t in_place[2];
    larder_moe_split split = LARDER_MOE_SPLIT_INIT;
    assert_int_equal(larder_moe_split_work(times, times, 2, in_place, &split), LARDER_E_RANGE);
    assert_int_equal(larder_moe_split_work(times, times, 4097, in_place, &split), LARDER_E_RANGE);
    assert_int_equal(larder_moe_split_work(nullptr, times, 1, in_place, &split), LARDER_E_INVALID);
    assert_int_equal(larder_moe_split_work(nullptr, nullptr, 0, nullptr, &split), LARDER_OK);
    const uint64_t masks[2] = {1, 2};
    larder_moe_regrouping g = LARDER_MOE_REGROUPING_INIT;
    assert_int_equal(larder_moe_regroup(ctx.c, masks, 1, 2, 0, order, &g), LARDER_E_RANGE);
    assert_int_equal(larder_moe_regroup(ctx.c, masks, 0, 2, 1, order, &g), LARDER_E_RANGE);
    assert_int_equal(larder_moe_regroup(ctx.c, nullptr, 1, 2, 1, order, &g), LARDER_E_INVALID);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_segments),     cmocka_unit_test(test_constant_segments),
        cmocka_unit_test(test_cache_curves), cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_advice),       cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_split),        cmocka_unit_test(test_split_many),
        cmocka_unit_test(test_regroup),      cmocka_unit_test(test_regroup_topics),
        cmocka_unit_test(test_bad_routing),  cmocka_unit_test(test_bad_plans),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
