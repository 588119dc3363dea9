// Replay: counts against a naive simulator on random traces, and against known counts on a public trace.
#include "support/cmocka.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <list>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/hash.h"
#include "larder/replay.h"
#include "support/seed.h"
#include "support/shared_data.h"

using namespace larder;

namespace {

struct Trace {
    std::vector<uint64_t> blocks, ends;
    larder_replay_trace view() const {
        larder_replay_trace t = LARDER_REPLAY_TRACE_INIT;
        t.blocks = blocks.data();
        t.ends = ends.data();
        t.n_requests = ends.size();
        return t;
    }
};

struct Counts {
    uint64_t hits = 0, prefix = 0;
};

larder_replay_options through(larder_policy policy, uint64_t capacity, uint64_t lookahead = 0) {
    larder_replay_options o = LARDER_REPLAY_OPTIONS_INIT;
    o.policy = policy;
    o.capacity_blocks = capacity;
    o.lookahead_requests = lookahead;
    return o;
}

Counts replay(larder_context* c, const Trace& t, larder_policy policy, uint64_t capacity, uint64_t lookahead = 0) {
    const larder_replay_trace view = t.view();
    const larder_replay_options o = through(policy, capacity, lookahead);
    larder_replay_result r = LARDER_REPLAY_RESULT_INIT;
    assert_int_equal(larder_replay_run(c, &view, &o, &r), LARDER_OK);
    assert_int_equal(r.n_references, t.blocks.size());
    return {r.n_hits, r.n_prefix_hits};
}

// The definition, slowly: the order of eviction is found by looking at everything that is held.
Counts naive(const Trace& t, larder_policy policy, uint64_t capacity) {
    std::map<uint64_t, std::pair<uint64_t, uint64_t>> held;  // block: rank, least goes first; ties by id
    std::map<uint64_t, uint64_t> uses;
    uint64_t clock = 0;
    Counts out;
    for (size_t r = 0; r < t.ends.size(); ++r) {
        std::vector<uint64_t> ids(t.blocks.begin() + long(r ? t.ends[r - 1] : 0), t.blocks.begin() + long(t.ends[r]));
        bool leading = true;
        for (uint64_t id : ids) {
            const bool hit = held.count(id);
            leading = leading && hit;
            out.hits += hit;
            out.prefix += leading;
        }
        if (policy == LARDER_POLICY_LRU_TAIL) std::reverse(ids.begin(), ids.end());
        for (uint64_t id : ids) {
            std::pair<uint64_t, uint64_t> rank{++clock, 0};
            if (policy == LARDER_POLICY_FIFO && held.count(id)) continue;
            if (policy == LARDER_POLICY_LFU) rank = {++uses[id], r};
            if (policy == LARDER_POLICY_BELADY) {
                uint64_t next = UINT64_MAX;
                for (size_t later = r + 1; later < t.ends.size() && next == UINT64_MAX; ++later)
                    for (uint64_t i = t.ends[later - 1]; i < t.ends[later]; ++i)
                        if (t.blocks[i] == id) next = later;
                rank = {UINT64_MAX - next, 0};
            }
            held[id] = rank;
        }
        while (held.size() > capacity) {
            auto victim = held.begin();
            for (auto it = held.begin(); it != held.end(); ++it)
                if (it->second < victim->second) victim = it;
            held.erase(victim);
        }
    }
    return out;
}

Trace random_trace(Rng& rng, size_t n_requests, uint64_t n_blocks) {
    Trace t;
    for (size_t r = 0; r < n_requests; ++r) {
        const uint64_t n = rng.below(8), first = rng.below(n_blocks);
        // Repeats inside a request, and ids far apart, are legal.
        for (uint64_t i = 0; i < n; ++i)
            t.blocks.push_back(mix64((rng.below(4) ? first + i : rng.below(n_blocks)) % n_blocks));
        t.ends.push_back(t.blocks.size());
    }
    return t;
}

const larder_policy all[] = {LARDER_POLICY_LRU, LARDER_POLICY_LRU_TAIL, LARDER_POLICY_FIFO, LARDER_POLICY_LFU,
                             LARDER_POLICY_BELADY};

struct Fixture {
    Fixture() { assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK); }
    ~Fixture() { larder_context_destroy(context); }
    larder_context* context = nullptr;
};

void random_traces(void**) {
    Fixture f;
    Rng rng(test_seed());
    for (uint64_t round = 0; round < test_rounds(150); ++round) {
        const Trace t = random_trace(rng, 60, 5 + rng.below(60));
        const uint64_t capacity = 1 + rng.below(40);
        for (larder_policy p : all) {
            const Counts expected = naive(t, p, capacity), got = replay(f.context, t, p, capacity);
            assert_int_equal(got.hits, expected.hits);
            assert_int_equal(got.prefix, expected.prefix);
        }
    }
}

// The oracle of a queue, slowly: what one of the next `window` requests asks for is kept before all else, what is
// needed last goes first, the rest is LRU.
Counts queue_oracle(const Trace& t, uint64_t window, uint64_t capacity) {
    std::map<uint64_t, uint64_t> held;  // block: last use
    uint64_t clock = 0;
    Counts out;
    for (uint64_t r = 0; r < t.ends.size(); ++r) {
        bool leading = true;
        for (uint64_t i = r ? t.ends[r - 1] : 0; i < t.ends[r]; ++i) {
            leading = leading && held.count(t.blocks[i]);
            out.hits += held.count(t.blocks[i]);
            out.prefix += leading;
        }
        for (uint64_t i = r ? t.ends[r - 1] : 0; i < t.ends[r]; ++i) held[t.blocks[i]] = ++clock;
        const auto rank = [&](const std::pair<const uint64_t, uint64_t>& block) {
            for (uint64_t later = r + 1; later <= r + window && later < t.ends.size(); ++later)
                for (uint64_t i = t.ends[later - 1]; i < t.ends[later]; ++i)
                    if (t.blocks[i] == block.first) return std::pair(UINT64_MAX - later, block.first);
            return std::pair(block.second, uint64_t(0));
        };
        while (held.size() > capacity)
            held.erase(std::min_element(held.begin(), held.end(), [&](auto& a, auto& b) { return rank(a) < rank(b); }));
    }
    return out;
}

void known_queue(void**) {
    Fixture f;
    Rng rng(test_seed());
    for (uint64_t round = 0; round < test_rounds(60); ++round) {
        Trace t;
        const uint64_t n_blocks = 5 + rng.below(40);
        for (uint64_t r = 0; r < 150; ++r) {
            t.blocks.push_back(mix64(rng.below(n_blocks)));
            t.ends.push_back(t.blocks.size());
        }
        for (uint64_t window : {1, 4, 16, 200}) {
            const uint64_t capacity = 1 + rng.below(20);
            const Counts expected = queue_oracle(t, window, capacity),
                         got = replay(f.context, t, LARDER_POLICY_LRU, capacity, window);
            assert_int_equal(got.hits, expected.hits);
            assert_int_equal(got.prefix, expected.prefix);
        }
        // All of the future known: nothing does better, whatever the row.
        const uint64_t capacity = 1 + rng.below(20);
        const Counts best = replay(f.context, t, LARDER_POLICY_BELADY, capacity);
        for (larder_policy p : {LARDER_POLICY_LRU, LARDER_POLICY_ARC, LARDER_POLICY_AUTO, LARDER_POLICY_HYBRID})
            assert_int_equal(replay(f.context, t, p, capacity, 1000).hits, best.hits);
    }
}

// "hash_ids": [1, 2, 3] of each line, in order of time.
Trace read_mooncake(const std::string& path) {
    std::ifstream in(path);
    std::vector<std::pair<double, std::vector<uint64_t>>> rows;
    for (std::string line; std::getline(in, line);) {
        const size_t time = line.find("\"timestamp\":"), at = line.find("\"hash_ids\":");
        if (time == std::string::npos || at == std::string::npos) continue;
        std::vector<uint64_t> ids;
        const char* p = line.c_str() + line.find('[', at) + 1;
        for (char* end; *p != ']'; p = end + (*end == ',')) ids.push_back(std::strtoull(p, &end, 10));
        rows.emplace_back(std::strtod(line.c_str() + time + 12, nullptr), std::move(ids));
    }
    std::stable_sort(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.first < b.first; });
    Trace t;
    for (auto& [when, ids] : rows) {
        t.blocks.insert(t.blocks.end(), ids.begin(), ids.end());
        t.ends.push_back(t.blocks.size());
    }
    return t;
}

void public_trace(void**) {
    const auto path = shared_data("data/traces/mooncake_conversation_trace.jsonl");
    if (!path) skip();
    Fixture f;
    const Trace t = read_mooncake(*path);
    const struct {
        larder_policy policy;
        uint64_t capacity;
        Counts counts;
    } known[] = {
        {LARDER_POLICY_LRU, 1000, {12845, 12831}},       {LARDER_POLICY_LRU_TAIL, 1000, {12847, 12847}},
        {LARDER_POLICY_FIFO, 1000, {12573, 12509}},      {LARDER_POLICY_LFU, 1000, {23738, 23401}},
        {LARDER_POLICY_BELADY, 1000, {55019, 51685}},    {LARDER_POLICY_LRU, 5000, {32209, 31840}},
        {LARDER_POLICY_LRU_TAIL, 5000, {32260, 32260}},  {LARDER_POLICY_FIFO, 5000, {30955, 30371}},
        {LARDER_POLICY_LFU, 5000, {41085, 41014}},       {LARDER_POLICY_BELADY, 5000, {98448, 97864}},
        {LARDER_POLICY_LRU, 20000, {83034, 82939}},      {LARDER_POLICY_LRU_TAIL, 20000, {83035, 83035}},
        {LARDER_POLICY_FIFO, 20000, {76714, 74037}},     {LARDER_POLICY_LFU, 20000, {71866, 71786}},
        {LARDER_POLICY_BELADY, 20000, {105710, 105710}},
    };
    // What a queue of requests gives: LRU with it is the oracle, and `auto` comes near it.
    const struct {
        uint64_t window, capacity;
        double oracle;
    } queues[] = {{256, 5000, .2087}, {1024, 10000, .3154}, {1024, 20000, .3422}};
    for (auto& q : queues) {
        const double n = double(t.blocks.size()),
                     lru = double(replay(f.context, t, LARDER_POLICY_LRU, q.capacity).hits) / n;
        const double got = double(replay(f.context, t, LARDER_POLICY_LRU, q.capacity, q.window).hits) / n,
                     chosen = double(replay(f.context, t, LARDER_POLICY_AUTO, q.capacity, q.window).hits) / n;
        assert_true(got - lru >= 0.95 * (q.oracle - lru));
        assert_true(chosen - lru >= 0.95 * (q.oracle - lru));
    }
    for (auto& k : known) {
        const Counts got = replay(f.context, t, k.policy, k.capacity);
        assert_int_equal(got.hits, k.counts.hits);
        assert_int_equal(got.prefix, k.counts.prefix);
    }
}

void statuses(void**) {
    Fixture f;
    const uint64_t blocks[] = {1, 2, 3}, ends[] = {2, 3}, falling[] = {3, 2};
    larder_replay_trace t = LARDER_REPLAY_TRACE_INIT;
    larder_replay_result r = LARDER_REPLAY_RESULT_INIT;
    t.blocks = blocks;
    t.ends = ends;
    t.n_requests = 2;
    const larder_replay_options lru = through(LARDER_POLICY_LRU, 1), none = through(LARDER_POLICY_LRU, 0),
                                unknown = through(999, 1);
    assert_int_equal(larder_replay_run(f.context, &t, &none, &r), LARDER_E_RANGE);
    assert_int_equal(larder_replay_run(f.context, &t, &unknown, &r), LARDER_E_NOT_FOUND);
    assert_int_equal(larder_replay_run(f.context, nullptr, &lru, &r), LARDER_E_INVALID);
    assert_int_equal(larder_replay_run(f.context, &t, nullptr, &r), LARDER_E_INVALID);
    t.ends = falling;
    assert_int_equal(larder_replay_run(f.context, &t, &lru, &r), LARDER_E_INVALID);
    const uint64_t huge[] = {2, UINT64_MAX};
    t.ends = huge;
    assert_int_equal(larder_replay_run(f.context, &t, &lru, &r), LARDER_E_RANGE);
    t.ends = ends;
    t.blocks = nullptr;
    assert_int_equal(larder_replay_run(f.context, &t, &lru, &r), LARDER_E_INVALID);
    t.n_requests = 0;
    assert_int_equal(larder_replay_run(f.context, &t, &lru, &r), LARDER_OK);
    assert_int_equal(r.n_references, 0);

    larder_policy_info info = LARDER_POLICY_INFO_INIT;
    std::set<std::string> names;
    uint32_t n = 0;
    for (; larder_policy_get(n, &info) == LARDER_OK; ++n) names.insert(info.name);
    assert_int_equal(names.size(), n);
    assert_true(n >= std::size(all));
    assert_int_equal(larder_policy_get(n, &info), LARDER_E_NOT_FOUND);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(random_traces), cmocka_unit_test(known_queue),
                                cmocka_unit_test(public_trace), cmocka_unit_test(statuses)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
