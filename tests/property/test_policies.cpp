// The policies with a memory of what went, against their definitions done slowly on plain lists: exact counts on random
// traces.
#include "support/cmocka.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <tuple>
#include <vector>

#include "base/hash.h"
#include "larder/replay.h"
#include "store/policy/auto_policy.h"
#include "support/seed.h"

namespace {

using namespace larder;
using Ids = std::vector<uint64_t>;

bool has(const Ids& ids, uint64_t id) {
    return std::count(ids.begin(), ids.end(), id) != 0;
}
bool drop(Ids& ids, uint64_t id) {
    return std::erase(ids, id) != 0;
}
uint64_t pop(Ids& ids) {
    const uint64_t id = ids.front();
    ids.erase(ids.begin());
    return id;
}
void cut(Ids& ids, size_t n) {
    while (ids.size() > n) pop(ids);
}

// One reference to something held or not, and the choice of what goes.
struct Model {
    virtual ~Model() = default;
    virtual void refer(uint64_t id, uint64_t request, bool held, bool last) = 0;
    virtual uint64_t evict() = 0;
    // Another chose that it goes; or it goes without a trace.
    virtual void lose(uint64_t id) = 0;
    virtual void forget(uint64_t id) { lose(id); }
};

struct TwoQ : Model {
    Ids in, out, main;
    void refer(uint64_t id, uint64_t, bool held, bool) override {
        if (!held)
            (drop(out, id) ? main : in).push_back(id);
        else if (drop(main, id))
            main.push_back(id);
    }
    uint64_t evict() override {
        const size_t n = in.size() + main.size();
        if (!main.empty() && in.size() <= n / 4) return pop(main);
        out.push_back(in.front());
        cut(out, n / 2);
        return pop(in);
    }
    void lose(uint64_t) override {}  // not asked for
};

struct Arc : Model {
    Ids t1, t2, b1, b2;
    size_t p = 0, c = 0;
    void refer(uint64_t id, uint64_t, bool, bool) override {
        if (drop(t1, id) || drop(t2, id)) return t2.push_back(id);
        if (has(b1, id)) {
            p = std::min(c, p + std::max<size_t>(1, b2.size() / b1.size()));
            drop(b1, id);
            return t2.push_back(id);
        }
        if (has(b2, id)) {
            const size_t step = std::max<size_t>(1, b1.size() / b2.size());
            p = p > step ? p - step : 0;
            drop(b2, id);
            return t2.push_back(id);
        }
        t1.push_back(id);
    }
    uint64_t evict() override {
        const uint64_t victim = t2.empty() || (!t1.empty() && t1.size() > p) ? t1.front() : t2.front();
        lose(victim);
        return victim;
    }
    void lose(uint64_t victim) override {
        if (drop(t1, victim)) b1.push_back(victim);
        if (drop(t2, victim)) b2.push_back(victim);
        c = t1.size() + t2.size();
        while (!b1.empty() && t1.size() + b1.size() > c) pop(b1);
        while (!b2.empty() && b1.size() + b2.size() > c) pop(b2);
    }
    void forget(uint64_t id) override { drop(t1, id), drop(t2, id); }
};

struct S3Fifo : Model {
    Ids small, main, ghost;
    std::map<uint64_t, int> freq;
    void refer(uint64_t id, uint64_t, bool held, bool) override {
        if (held) {
            if (freq[id] < 3) ++freq[id];
            return;
        }
        freq[id] = 0;
        (drop(ghost, id) ? main : small).push_back(id);
    }
    uint64_t evict() override {
        const size_t n = small.size() + main.size();
        size_t target = n / 10;
        if (!target) target = 1;
        while (true) {
            if (main.empty() || small.size() >= target) {
                const uint64_t id = pop(small);
                if (freq[id] >= 2) {
                    freq[id] = 0;
                    main.push_back(id);
                } else {
                    ghost.push_back(id);
                    cut(ghost, n - target);
                    return id;
                }
            } else {
                const uint64_t id = pop(main);
                if (freq[id]-- == 0) return id;
                main.push_back(id);
            }
        }
    }
    void lose(uint64_t id) override {
        const size_t n = small.size() + main.size();
        if (drop(main, id)) return;
        drop(small, id);
        ghost.push_back(id);
        cut(ghost, n - std::max<size_t>(n / 10, 1));
    }
    void forget(uint64_t id) override { drop(small, id), drop(main, id); }
};

struct Lru2 : Model {
    std::map<uint64_t, Ids> times;  // of requests, for ever
    std::set<uint64_t> held_ids;
    void refer(uint64_t id, uint64_t request, bool, bool) override {
        held_ids.insert(id);
        Ids& t = times[id];
        if (t.empty() || t.back() != request) t.push_back(request);
    }
    uint64_t evict() override {
        auto key = [&](uint64_t id) {
            const Ids& t = times[id];
            return std::tuple(t.size() > 1 ? int64_t(t[t.size() - 2]) : -1, t.back(), id);
        };
        const uint64_t victim = *std::min_element(held_ids.begin(), held_ids.end(),
                                                  [&](uint64_t a, uint64_t b) { return key(a) < key(b); });
        held_ids.erase(victim);
        return victim;
    }
    void lose(uint64_t id) override { held_ids.erase(id); }
};

struct Lfu : Model {
    std::map<uint64_t, std::pair<uint64_t, uint64_t>> uses;  // and the last request, for ever
    std::set<uint64_t> held_ids;
    void refer(uint64_t id, uint64_t request, bool, bool) override {
        held_ids.insert(id);
        uses[id] = {uses[id].first + 1, request};
    }
    uint64_t evict() override {
        const uint64_t victim = *std::min_element(held_ids.begin(), held_ids.end(), [&](uint64_t a, uint64_t b) {
            return std::pair(uses[a], a) < std::pair(uses[b], b);
        });
        held_ids.erase(victim);
        return victim;
    }
    void lose(uint64_t id) override { held_ids.erase(id); }
};

struct LruLeaf : Model {
    Ids order, leaves;
    void refer(uint64_t id, uint64_t, bool held, bool last) override {
        lose(id);
        (last && !held ? leaves : order).push_back(id);
    }
    uint64_t evict() override { return pop(leaves.empty() ? order : leaves); }
    void lose(uint64_t id) override { drop(order, id), drop(leaves, id); }
};

struct Gdsf : Model {
    struct Entry {
        uint64_t uses = 0, base = 0, request = 0;
    };
    std::map<uint64_t, Entry> entries;
    uint64_t age = 0;
    void refer(uint64_t id, uint64_t request, bool, bool) override {
        Entry& e = entries[id];
        e = {e.uses + 1, age, request};
    }
    uint64_t evict() override {
        auto key = [](auto& e) { return std::tuple(e.second.base + e.second.uses, e.second.request, e.first); };
        auto victim =
            std::min_element(entries.begin(), entries.end(), [&](auto& a, auto& b) { return key(a) < key(b); });
        age = victim->second.base + victim->second.uses;
        const uint64_t id = victim->first;
        entries.erase(victim);
        return id;
    }
    void lose(uint64_t id) override { entries.erase(id); }
};

std::unique_ptr<Model> make_model(larder_policy p);

struct Auto : Model {
    struct Side {
        std::unique_ptr<Model> real, shadow;
        std::set<uint64_t> in_shadow;
        uint64_t score = 0;
    };
    std::vector<Side> sides;
    size_t limit, leader = 0, n_held = 0, recent = 0, every = 1;
    bool evicted = false;
    explicit Auto(size_t shadow_limit) : limit(shadow_limit) {
        for (larder_policy p : {LARDER_POLICY_LRU_LEAF, LARDER_POLICY_ARC, LARDER_POLICY_S3_FIFO, LARDER_POLICY_LFU,
                                LARDER_POLICY_LRU_2, LARDER_POLICY_GDSF})
            sides.push_back({make_model(p), make_model(p), {}, 0});
    }
    void refer(uint64_t id, uint64_t request, bool held, bool last) override {
        if (++recent > 2 * n_held) {
            recent = 0;
            for (Side& s : sides) s.score /= 2;
        }
        if (!held) ++n_held;
        for (Side& s : sides) {
            s.real->refer(id, request, held, last);
            if (mix64(id) % every) continue;
            const bool hit = !s.in_shadow.insert(id).second;
            s.shadow->refer(id, request, hit, last);
            s.score += hit;
        }
        const auto too_large = [&](const Side& s) { return s.in_shadow.size() > (evicted ? 2 * limit : limit); };
        while (std::any_of(sides.begin(), sides.end(), too_large)) {
            every *= 2;
            for (Side& s : sides)
                for (uint64_t i : std::set<uint64_t>(s.in_shadow))
                    if (mix64(i) % every) s.shadow->forget(i), s.in_shadow.erase(i);
        }
    }
    uint64_t evict() override {
        evicted = true;
        size_t best = leader;
        for (size_t i = 0; i < sides.size(); ++i)
            if (sides[i].score > sides[best].score) best = i;
        if (100 * sides[best].score > 101 * sides[leader].score) leader = best;
        const uint64_t victim = sides[leader].real->evict();
        --n_held;
        for (size_t i = 0; i < sides.size(); ++i) {
            if (i != leader) sides[i].real->lose(victim);
            while (sides[i].in_shadow.size() > n_held / every) sides[i].in_shadow.erase(sides[i].shadow->evict());
        }
        return victim;
    }
    void lose(uint64_t) override {}  // nobody asks it to
};

std::unique_ptr<Model> make_model(larder_policy p) {
    switch (p) {
    case LARDER_POLICY_2Q:
        return std::make_unique<TwoQ>();
    case LARDER_POLICY_ARC:
        return std::make_unique<Arc>();
    case LARDER_POLICY_S3_FIFO:
        return std::make_unique<S3Fifo>();
    case LARDER_POLICY_LRU_2:
        return std::make_unique<Lru2>();
    case LARDER_POLICY_LFU:
        return std::make_unique<Lfu>();
    case LARDER_POLICY_LRU_LEAF:
        return std::make_unique<LruLeaf>();
    case LARDER_POLICY_AUTO:
        return std::make_unique<Auto>(4096);
    default:
        return std::make_unique<Gdsf>();
    }
}
const larder_policy modelled[] = {LARDER_POLICY_S3_FIFO, LARDER_POLICY_ARC, LARDER_POLICY_LRU_2,    LARDER_POLICY_GDSF,
                                  LARDER_POLICY_2Q,      LARDER_POLICY_LFU, LARDER_POLICY_LRU_LEAF, LARDER_POLICY_AUTO};

struct Trace {
    Ids blocks, ends;
};

Trace random_trace(Rng& rng, size_t n_requests, uint64_t n_blocks) {
    Trace t;
    for (size_t r = 0; r < n_requests; ++r) {
        // Empty requests and repeats inside one are legal; a hot part makes frequency count.
        const uint64_t n = rng.below(8), range = rng.below(3) ? n_blocks : 1 + n_blocks / 6, first = rng.below(range);
        for (uint64_t i = 0; i < n; ++i)
            t.blocks.push_back(mix64((rng.below(4) ? first + i : rng.below(n_blocks)) % n_blocks));
        t.ends.push_back(t.blocks.size());
    }
    return t;
}

struct Counts {
    uint64_t hits = 0, prefix = 0, evictions = 0;
    bool operator==(const Counts&) const = default;
};

Counts naive(const Trace& t, larder_policy p, uint64_t capacity) {
    const auto model = make_model(p);
    std::set<uint64_t> held;
    Counts out;
    for (size_t r = 0; r < t.ends.size(); ++r) {
        const uint64_t begin = r ? t.ends[r - 1] : 0;
        bool leading = true;
        for (uint64_t i = begin; i < t.ends[r]; ++i) {
            const bool hit = held.count(t.blocks[i]);
            leading = leading && hit;
            out.hits += hit, out.prefix += leading;
        }
        const bool backwards = p == LARDER_POLICY_LRU_LEAF || p == LARDER_POLICY_AUTO;
        for (uint64_t k = 0; k < t.ends[r] - begin; ++k) {
            const uint64_t i = backwards ? t.ends[r] - 1 - k : begin + k;
            model->refer(t.blocks[i], r, !held.insert(t.blocks[i]).second, i + 1 == t.ends[r] && i != begin);
        }
        for (; held.size() > capacity; ++out.evictions) assert_true(held.erase(model->evict()));
    }
    return out;
}

struct Fixture {
    Fixture() { assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK); }
    ~Fixture() { larder_context_destroy(context); }
    larder_context* context = nullptr;
};

Counts replay(larder_context* c, const Trace& t, larder_policy p, uint64_t capacity) {
    larder_replay_trace view = LARDER_REPLAY_TRACE_INIT;
    view.blocks = t.blocks.data();
    view.ends = t.ends.data();
    view.n_requests = t.ends.size();
    larder_replay_options o = LARDER_REPLAY_OPTIONS_INIT;
    o.policy = p;
    o.capacity_blocks = capacity;
    larder_replay_result r = LARDER_REPLAY_RESULT_INIT;
    assert_int_equal(larder_replay_run(c, &view, &o, &r), LARDER_OK);
    return {r.n_hits, r.n_prefix_hits, r.n_evictions};
}

void against_models(void**) {
    Fixture f;
    Rng rng(test_seed());
    for (uint64_t round = 0; round < test_rounds(150); ++round) {
        const Trace t = random_trace(rng, 150, 5 + rng.below(120));
        const uint64_t capacity = 1 + rng.below(60);
        for (larder_policy p : modelled) {
            const Counts got = replay(f.context, t, p, capacity), expected = naive(t, p, capacity);
            if (!(got == expected))
                std::printf("policy %u, capacity %llu, round %llu\n", p, (unsigned long long)capacity,
                            (unsigned long long)round);
            assert_true(got == expected);
        }
    }
}

// The sampled kind of auto, victim by victim.
void sampled_shadows(void**) {
    Rng rng(test_seed());
    for (uint64_t round = 0; round < test_rounds(40); ++round) {
        const uint64_t n_blocks = 50 + rng.below(150), capacity = 20 + rng.below(n_blocks / 2),
                       limit = 4 + rng.below(30);
        AutoPolicy policy(Allocator(), limit);
        Auto model(limit);
        policy.reserve(n_blocks);
        std::set<uint64_t> held;
        for (uint64_t step = 0; step < 2000; ++step) {
            const uint64_t block = rng.below(rng.below(2) ? n_blocks : n_blocks / 8), id = mix64(block);
            const Reference ref{id, step / 4, UINT64_MAX, 1, step % 4 == 0};
            const bool hit = !held.insert(block).second;
            hit ? policy.touch(uint32_t(block), ref) : policy.admit(uint32_t(block), ref);
            model.refer(id, ref.now, hit, ref.last);
            while (held.size() > capacity) {
                const uint32_t victim = policy.evict();
                assert_int_equal(mix64(victim), model.evict());
                assert_int_equal(held.erase(victim), 1);
            }
        }
        // And what leaves for another reason is out of every order.
        while (held.size() > capacity / 2) {
            policy.remove(uint32_t(*held.begin()));
            held.erase(held.begin());
        }
        while (!held.empty()) assert_int_equal(held.erase(policy.evict()), 1);
        assert_int_equal(policy.evict(), Policy::no_victim);
    }
}

void extremes(void**) {
    Fixture f;
    const Trace traces[] = {
        {{}, {}},
        {{}, {0, 0, 0}},
        {{5}, {1}},
        {{5, 5, 5, 5}, {2, 2, 4}},
        {{1, 2, 3, 1, 2, 3, 1, 2, 3}, {3, 6, 9}},
        {{1, 2, 1, 2, 1, 2, 1, 2}, {1, 2, 3, 4, 5, 6, 7, 8}},
    };
    for (const Trace& t : traces)
        for (larder_policy p : modelled)
            for (uint64_t capacity : {uint64_t(1), uint64_t(2), uint64_t(3), UINT64_MAX})
                assert_true(replay(f.context, t, p, capacity) == naive(t, p, capacity));
}

// Whatever the policy: it evicts only what is held, and a cache that holds everything misses each block once.
void every_row(void**) {
    Fixture f;
    Rng rng(test_seed());
    const Trace t = random_trace(rng, 400, 200);
    larder_policy_info info = LARDER_POLICY_INFO_INIT;
    for (uint32_t i = 0; larder_policy_get(i, &info) == LARDER_OK; ++i) {
        const Counts all = replay(f.context, t, info.policy, UINT64_MAX);
        assert_true(all == replay(f.context, t, LARDER_POLICY_LRU, UINT64_MAX));
        assert_int_equal(all.evictions, 0);
        for (uint64_t capacity : {1, 2, 7, 50, 150}) {
            const Counts got = replay(f.context, t, info.policy, capacity);
            assert_true(got == replay(f.context, t, info.policy, capacity));
            assert_true(got.hits <= all.hits && got.prefix <= got.hits);
        }
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(against_models), cmocka_unit_test(sampled_shadows),
                                cmocka_unit_test(extremes), cmocka_unit_test(every_row)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
