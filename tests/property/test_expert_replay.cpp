// Replays of routing traces: every policy against a naive model of it, orders of axes and widths of ids against each
// other, and what the oracles promise.
#include "support/cmocka.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/hash.h"
#include "larder/larder.h"
#include "support/seed.h"
#include "support/shared_data.h"

using larder::Rng;

namespace {

using Step = std::vector<uint32_t>;

struct Trace {
    uint32_t n_layers, n_experts, top_k;
    uint64_t n_tokens;
    std::vector<uint16_t> ids;  // [layer][token][top_k]
    uint64_t sequence_tokens;
    Step step(uint32_t layer, uint64_t token) const {
        const auto at = ids.begin() + ptrdiff_t((layer * n_tokens + token) * top_k);
        return Step(at, at + top_k);
    }
};

// Topics that come and go, so that recency, frequency and succession all matter.
Trace random_trace(Rng& r, uint64_t n_tokens) {
    Trace t{1 + uint32_t(r.below(3)), 4 + uint32_t(r.below(28)), 1, n_tokens, {}, 1 + r.below(300)};
    t.top_k = 1 + uint32_t(r.below(std::min(t.n_experts / 2, 6u)));
    const uint32_t span = 1 + uint32_t(r.below(t.n_experts));
    for (uint32_t l = 0; l < t.n_layers; ++l) {
        uint64_t topic = 0;
        for (uint64_t token = 0; token < n_tokens; ++token) {
            if (r.below(20) == 0) topic = r.below(t.n_experts);
            std::set<uint16_t> step;
            while (step.size() < t.top_k)
                step.insert(uint16_t(r.below(3) ? (topic + r.below(span)) % t.n_experts : r.below(t.n_experts)));
            std::vector<uint16_t> order(step.begin(), step.end());
            std::rotate(order.begin(), order.begin() + ptrdiff_t(r.below(order.size())), order.end());
            t.ids.insert(t.ids.end(), order.begin(), order.end());
        }
    }
    return t;
}

// A policy in words: what an expert is worth, from nothing but the whole past and future of its layer.
struct Past {
    const std::vector<Step>& steps;  // of the layer, future included
    size_t now;                      // steps[0] to steps[now] have happened
    size_t first;                    // of the present sequence
    uint64_t lookahead;
};
using Worth = std::function<double(const Past&, uint32_t e)>;

bool in(const Step& s, uint32_t e) {
    return std::find(s.begin(), s.end(), e) != s.end();
}
size_t count(const Past& p, uint32_t e, size_t from, size_t to) {
    size_t n = 0;
    for (size_t i = from; i < std::min(to, p.steps.size()); ++i) n += in(p.steps[i], e);
    return n;
}
size_t last_use(const Past& p, uint32_t e) {  // from 1; 0: never
    for (size_t i = p.now + 1; i-- > 0;)
        if (in(p.steps[i], e)) return i + 1;
    return 0;
}
double lru(const Past& p, uint32_t e) {
    return double(last_use(p, e));
}
double lfu(const Past& p, uint32_t e) {
    return double(count(p, e, 0, p.now + 1));
}
double hobbit(const Past& p, uint32_t e) {
    const double t = double(p.now + 1 - p.first);
    const size_t last = last_use(p, e), n = count(p, e, p.first, p.now + 1);
    return ((last > p.first ? double(last - p.first) : 0) / t + double(n) / t + double(n) / t + 1) / 4;
}
double moe_infinity(const Past& p, uint32_t e) {
    return double(count(p, e, p.first, p.now + 1));
}
double belady(const Past& p, uint32_t e) {
    for (size_t i = p.now + 1; i < p.steps.size(); ++i)
        if (in(p.steps[i], e)) return -double(i);
    return -1e300;
}
double future_count(const Past& p, uint32_t e) {
    return double(count(p, e, p.now + 1, p.now + 1 + p.lookahead));
}

// Expected use, computed in double precision and by the book.
class NaiveForecast {
  public:
    explicit NaiveForecast(size_t n)
        : rate_(5, std::vector<double>(n)), after_(n, std::vector<double>(n)), before_(n) {}
    double worth(const Past& p, uint32_t e) {
        while (n_ <= p.now) learn(p.steps[n_++]);
        double y = 0;
        for (size_t f = 0; f < 7; ++f) y += weight_[f] * moments_.back().x[e][f];
        return y;
    }

  private:
    struct Moment {
        std::vector<std::vector<double>> x;
        std::vector<double> came;
    };
    void learn(const Step& s) {
        const size_t n = before_.size();
        for (size_t back = 1; back <= std::min<size_t>(moments_.size(), 10); ++back)
            for (uint32_t e : s) moments_[moments_.size() - back].came[e] += std::pow(0.5, double(back));
        if (moments_.size() >= 10) {
            const Moment& m = moments_[moments_.size() - 10];
            for (size_t e = 0; e < n; ++e) {
                double y = 0, norm = 1e-3;
                for (size_t f = 0; f < 7; ++f) y += weight_[f] * m.x[e][f], norm += m.x[e][f] * m.x[e][f];
                for (size_t f = 0; f < 7; ++f) weight_[f] += 0.01 * (m.came[e] - y) / norm * m.x[e][f];
            }
        }
        for (uint32_t i : last_) {
            if (++before_[i] > 500) {
                before_[i] = std::floor(before_[i] / 2);
                for (double& a : after_[i]) a = std::floor(a / 2);
            }
            for (uint32_t e : s) ++after_[i][e];
        }
        last_ = s;
        static constexpr double fade[] = {0.5, 0.8, 0.95, 0.99, 0.997};
        Moment m{std::vector<std::vector<double>>(n, std::vector<double>(7)), std::vector<double>(n)};
        for (size_t r = 0; r < 5; ++r)
            for (size_t e = 0; e < n; ++e) {
                rate_[r][e] = rate_[r][e] * fade[r] + (in(s, uint32_t(e)) ? 1 - fade[r] : 0);
                m.x[e][r] = rate_[r][e];
            }
        for (size_t e = 0; e < n; ++e) {
            for (uint32_t i : s) m.x[e][5] += (after_[i][e] + 4 * rate_[3][e]) / (before_[i] + 4) / double(s.size());
            m.x[e][6] = 1;
        }
        moments_.push_back(m);
    }
    std::vector<std::vector<double>> rate_, after_;
    std::vector<double> before_;
    double weight_[7] = {0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1};
    std::vector<Moment> moments_;
    Step last_;
    size_t n_ = 0;
};

uint64_t naive_hits(const Trace& t, uint32_t layer, uint32_t slots, uint64_t lookahead, const Worth& worth) {
    std::vector<Step> steps;
    for (uint64_t i = 0; i < t.n_tokens; ++i) steps.push_back(t.step(layer, i));
    std::set<uint32_t> cache;
    uint64_t hits = 0;
    size_t first = 0;
    for (size_t now = 0; now < steps.size(); ++now) {
        if (now % t.sequence_tokens == 0) first = now;
        const Step& s = steps[now];
        for (uint32_t e : s) hits += cache.count(e);
        cache.insert(s.begin(), s.end());
        const Past past{steps, now, first, lookahead};
        while (cache.size() > slots) {
            uint32_t victim = UINT32_MAX;
            std::pair<double, size_t> least;
            for (uint32_t e : cache) {
                if (in(s, e)) continue;
                const std::pair<double, size_t> rank{worth(past, e), last_use(past, e)};
                if (victim == UINT32_MAX || rank < least) victim = e, least = rank;
            }
            cache.erase(victim);
        }
    }
    return hits;
}

larder_context* context;

int set_up(void**) {
    return larder_context_create(nullptr, &context) == LARDER_OK ? 0 : 1;
}
int tear_down(void**) {
    return larder_context_destroy(context) == LARDER_OK ? 0 : 1;
}

larder_moe_routing describe(const Trace& t) {
    larder_moe_routing d = LARDER_MOE_ROUTING_INIT;
    d.type = LARDER_MOE_I16, d.order = LARDER_MOE_LAYERS_FIRST;
    d.n_layers = t.n_layers, d.n_experts = t.n_experts, d.k = t.top_k, d.n_tokens = t.n_tokens;
    d.ids = t.ids.data(), d.n_bytes = 2 * t.ids.size();
    d.sequence_tokens = t.sequence_tokens;
    return d;
}

std::vector<uint64_t> replay(const larder_moe_routing& d, larder_expert_policy policy, uint32_t slots,
                             uint64_t lookahead = 0) {
    larder_expert_replay_options o = LARDER_EXPERT_REPLAY_OPTIONS_INIT;
    o.policy = policy, o.layer_slots = slots, o.lookahead_tokens = lookahead;
    larder_expert_replay_result r = LARDER_EXPERT_REPLAY_RESULT_INIT;
    std::vector<uint64_t> hits(d.n_layers);
    assert_int_equal(larder_expert_replay(context, &d, &o, hits.data(), &r), LARDER_OK);
    uint64_t sum = 0;
    for (uint64_t h : hits) sum += h;
    assert_int_equal(sum, r.n_hits);
    assert_int_equal(r.n_references, d.n_tokens * d.n_layers * d.k);
    return hits;
}

uint64_t total(const std::vector<uint64_t>& v) {
    uint64_t sum = 0;
    for (uint64_t x : v) sum += x;
    return sum;
}

void against_naive(void**) {
    Rng r(test_seed());
    const std::map<larder_expert_policy, Worth> plain = {
        {LARDER_EXPERT_LRU, lru},       {LARDER_EXPERT_LFU, lfu},
        {LARDER_EXPERT_HOBBIT, hobbit}, {LARDER_EXPERT_MOE_INFINITY, moe_infinity},
        {LARDER_EXPERT_BELADY, belady}, {LARDER_EXPERT_FUTURE_COUNT, future_count}};
    for (uint64_t round = 0; round < test_rounds(8); ++round) {
        const Trace t = random_trace(r, 100 + r.below(200));
        const larder_moe_routing d = describe(t);
        const uint32_t slots = t.top_k + uint32_t(r.below(t.n_experts - t.top_k + 1));
        const uint64_t lookahead = 1 + r.below(40);
        for (const auto& [policy, worth] : plain) {
            const auto hits = replay(d, policy, slots, policy == LARDER_EXPERT_FUTURE_COUNT ? lookahead : 0);
            for (uint32_t l = 0; l < t.n_layers; ++l)
                assert_int_equal(hits[l], naive_hits(t, l, slots, lookahead, worth));
        }
    }
}

// The regression is in single precision, so a near tie may fall the other way: the hits agree, not every choice.
void forecast_against_naive(void**) {
    Rng r(test_seed() + 1);
    uint64_t ours = 0, theirs = 0, n = 0;
    for (uint64_t round = 0; round < test_rounds(4); ++round) {
        const Trace t = random_trace(r, 1500);
        const uint32_t slots = std::min(t.n_experts, 2 * t.top_k);
        const auto hits = replay(describe(t), LARDER_EXPERT_AUTO, slots);
        for (uint32_t l = 0; l < t.n_layers; ++l) {
            NaiveForecast forecast(t.n_experts);
            const uint64_t naive =
                naive_hits(t, l, slots, 0, [&](const Past& p, uint32_t e) { return forecast.worth(p, e); });
            assert_true(std::llabs(int64_t(hits[l]) - int64_t(naive)) <= int64_t(2 + t.n_tokens * t.top_k / 200));
            ours += hits[l], theirs += naive, n += t.n_tokens * t.top_k;
        }
    }
    assert_true(std::llabs(int64_t(ours) - int64_t(theirs)) <= int64_t(8 + n / 1000));
}

void forms_of_a_trace(void**) {
    Rng r(test_seed() + 2);
    for (uint64_t round = 0; round < test_rounds(10); ++round) {
        const Trace t = random_trace(r, 300);
        larder_moe_routing d = describe(t);
        const uint32_t slots = t.top_k + uint32_t(r.below(t.n_experts - t.top_k + 1));
        const auto expected = replay(d, LARDER_EXPERT_AUTO, slots);
        std::vector<uint8_t> bytes(t.ids.begin(), t.ids.end());
        d.ids = bytes.data(), d.type = LARDER_MOE_U8, d.n_bytes = bytes.size();
        assert_true(replay(d, LARDER_EXPERT_AUTO, slots) == expected);
        std::vector<uint16_t> by_token;
        for (uint64_t i = 0; i < t.n_tokens; ++i)
            for (uint32_t l = 0; l < t.n_layers; ++l)
                for (uint32_t e : t.step(l, i)) by_token.push_back(uint16_t(e));
        d.ids = by_token.data(), d.type = LARDER_MOE_I16, d.order = LARDER_MOE_TOKENS_FIRST;
        d.n_bytes = 2 * by_token.size();
        assert_true(replay(d, LARDER_EXPERT_AUTO, slots) == expected);
    }
}

// The best that can be, by the stack algorithm of the analysis.
uint64_t stack_hits(const larder_moe_routing& d, uint32_t slots) {
    uint64_t sum = 0;
    std::vector<uint64_t> hits(d.n_experts + 1);
    for (uint32_t l = 0; l < d.n_layers; ++l) {
        assert_int_equal(larder_moe_measure_cache(context, &d, l, LARDER_MOE_KEEP_NEXT, 0, hits.data()), LARDER_OK);
        sum += hits[slots];
    }
    return sum;
}

void oracles_bound(void**) {
    Rng r(test_seed() + 3);
    for (uint64_t round = 0; round < test_rounds(6); ++round) {
        const Trace t = random_trace(r, 2000);
        const larder_moe_routing d = describe(t);
        uint64_t previous = 0;
        for (uint32_t slots = t.top_k; slots <= t.n_experts; slots += 1 + slots / 3) {
            const uint64_t best = total(replay(d, LARDER_EXPERT_BELADY, slots));
            for (larder_expert_policy p : {LARDER_EXPERT_LRU, LARDER_EXPERT_LFU, LARDER_EXPERT_HOBBIT,
                                           LARDER_EXPERT_MOE_INFINITY, LARDER_EXPERT_AUTO})
                assert_true(total(replay(d, p, slots)) <= best);
            assert_true(total(replay(d, LARDER_EXPERT_FUTURE_COUNT, slots, 1 + r.below(50))) <= best);
            assert_true(best >= previous);
            assert_int_equal(best, stack_hits(d, slots));
            previous = best;
        }
        // With room for all, only first uses miss, whatever the policy.
        std::set<std::pair<uint32_t, uint16_t>> different;
        for (size_t i = 0; i < t.ids.size(); ++i) different.insert({uint32_t(i / (t.n_tokens * t.top_k)), t.ids[i]});
        assert_int_equal(total(replay(d, LARDER_EXPERT_AUTO, t.n_experts)), t.ids.size() - different.size());
    }
}

// The figures that the policy is there for, on the routes of a small trained model.
void real_routes(void**) {
    const auto path = shared_data("data/traces/moe11m_heldout_24x1024.route.u8");
    if (!path) return;
    std::vector<uint8_t> ids(6 * 24576 * 2);
    FILE* f = std::fopen(path->c_str(), "rb");
    assert_non_null(f);
    assert_int_equal(std::fread(ids.data(), 1, ids.size(), f), ids.size());
    std::fclose(f);
    larder_moe_routing d = LARDER_MOE_ROUTING_INIT;
    d.type = LARDER_MOE_U8, d.order = LARDER_MOE_LAYERS_FIRST;
    d.n_layers = 6, d.n_experts = 8, d.k = 2, d.n_tokens = 24576, d.ids = ids.data(), d.n_bytes = ids.size();
    for (uint32_t slots : {4u, 6u}) {
        const double lru_hits = double(total(replay(d, LARDER_EXPERT_LRU, slots)));
        const double lfu_hits = double(total(replay(d, LARDER_EXPERT_LFU, slots)));
        const double best = double(total(replay(d, LARDER_EXPERT_BELADY, slots)));
        const double ours = double(total(replay(d, LARDER_EXPERT_AUTO, slots)));
        const double n = 6 * 24576 * 2;
        if (slots == 4) {  // as an independent program found them
            assert_true(std::fabs(lru_hits / n - 0.570) < 0.001);
            assert_true(std::fabs(lfu_hits / n - 0.583) < 0.001);
            assert_true(std::fabs(best / n - 0.719) < 0.001);
        }
        assert_true(ours >= std::max(lru_hits, lfu_hits) - 0.002 * n);
        assert_true((ours - lru_hits) / (best - lru_hits) >= 0.25);
    }
}

larder_status refused(const larder_moe_routing& d, const larder_expert_replay_options& o) {
    larder_expert_replay_result r = LARDER_EXPERT_REPLAY_RESULT_INIT;
    return larder_expert_replay(context, &d, &o, nullptr, &r);
}

void bad_traces(void**) {
    const uint8_t ids[] = {0, 1, 2, 3, 1, 1};
    larder_moe_routing good = LARDER_MOE_ROUTING_INIT;
    good.type = LARDER_MOE_U8, good.order = LARDER_MOE_LAYERS_FIRST;
    good.n_layers = 1, good.n_experts = 4, good.k = 2, good.n_tokens = 2, good.ids = ids, good.n_bytes = 4;
    larder_expert_replay_options o = LARDER_EXPERT_REPLAY_OPTIONS_INIT;
    o.layer_slots = 2;
    assert_int_equal(refused(good, o), LARDER_OK);
    const auto with = [&](auto change) {
        larder_moe_routing d = good;
        larder_expert_replay_options p = o;
        change(d, p);
        return refused(d, p);
    };
    assert_int_equal(with([](auto& d, auto&) { d.n_tokens = 3, d.n_bytes = 6; }), LARDER_E_INVALID);  // 1 twice
    assert_int_equal(with([](auto& d, auto&) { d.n_experts = 3; }), LARDER_E_RANGE);                  // 3 is none
    assert_int_equal(with([](auto& d, auto&) { d.n_layers = 0; }), LARDER_E_RANGE);
    assert_int_equal(with([](auto& d, auto&) { d.k = 5; }), LARDER_E_RANGE);
    assert_int_equal(with([](auto& d, auto&) { d.ids = nullptr; }), LARDER_E_INVALID);
    assert_int_equal(with([](auto&, auto& p) { p.layer_slots = 1; }), LARDER_E_RANGE);
    assert_int_equal(with([](auto&, auto& p) { p.layer_slots = 5; }), LARDER_E_RANGE);
    assert_int_equal(with([](auto&, auto& p) { p.policy = 99; }), LARDER_E_NOT_FOUND);
    assert_int_equal(with([](auto&, auto& p) { p.lookahead_tokens = 3; }), LARDER_E_INVALID);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(against_naive),    cmocka_unit_test(forecast_against_naive),
        cmocka_unit_test(forms_of_a_trace), cmocka_unit_test(oracles_bound),
        cmocka_unit_test(real_routes),      cmocka_unit_test(bad_traces),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
