// The translation cache against the table itself and against a plain simulation of its lines.
#include "support/cmocka.h"

#include <list>
#include <map>
#include <vector>

#include "base/hash.h"
#include "larder/larder.h"
#include "support/seed.h"

using larder::Rng;

namespace {

struct Table {
    std::map<uint64_t, int64_t> values;
    std::map<uint64_t, uint32_t> cost;  // of a cluster, 0 when absent
    uint64_t n_walks = 0, n_drops = 0;
};

uint32_t walk(void* ctx, uint64_t first_key, int64_t* out) {
    Table& t = *static_cast<Table*>(ctx);
    assert_int_equal(first_key % 8, 0);
    ++t.n_walks;
    for (uint64_t i = 0; i < 8; ++i) {
        const auto it = t.values.find(first_key + i);
        out[i] = it == t.values.end() ? LARDER_TRANSLATION_NONE : it->second;
    }
    const auto c = t.cost.find(first_key / 8);
    return c == t.cost.end() ? 0 : c->second;
}

void drop(void* ctx) {
    ++static_cast<Table*>(ctx)->n_drops;
}

// One set of four lines, as the specification of SRRIP has it.
struct Model {
    struct Line {
        uint64_t cluster;
        int distance;
        bool used;
    };
    std::vector<Line> lines{4, Line{0, 3, false}};
    uint64_t n_hits = 0;
    bool look(uint64_t cluster, bool costly) {
        for (Line& l : lines)
            if (l.used && l.cluster == cluster) return l.distance = 0, ++n_hits, true;
        if (!costly) return false;
        for (;;) {
            for (Line& l : lines)
                if (l.distance == 3) return l = {cluster, 2, true}, false;
            for (Line& l : lines) ++l.distance;
        }
    }
    void forget(uint64_t cluster) {
        for (Line& l : lines)
            if (l.used && l.cluster == cluster) l = {0, 3, false};
    }
};

larder_translation* make(larder_context* c, Table& table, uint32_t n_lines, uint32_t min_cost) {
    larder_translation_options o = LARDER_TRANSLATION_OPTIONS_INIT;
    o.n_lines = n_lines;
    o.min_walk_cost = min_cost;
    o.walk = {walk, &table, drop};
    larder_translation* t = nullptr;
    assert_int_equal(larder_translation_create(c, &o, &t), LARDER_OK);
    return t;
}

void against_the_model(void**) {
    larder_context* c = nullptr;
    assert_int_equal(larder_context_create(nullptr, &c), LARDER_OK);
    Table table;
    Rng rng(test_seed());
    for (uint64_t k = 0; k < 400; ++k)
        if (rng.below(5)) table.values[k] = int64_t(rng.below(1000000));
    for (uint64_t k = 0; k < 50; ++k) table.cost[k] = uint32_t(rng.below(6));
    larder_translation* t = make(c, table, 4, 3);
    Model model;
    for (uint64_t i = 0; i < test_rounds(50000); ++i) {
        const uint64_t key = rng.below(4) ? rng.below(64) : rng.below(400);
        if (rng.below(10) == 0) {  // the table changes and the cache is told
            const uint64_t n = rng.below(30);
            for (uint64_t k = key; k < key + n; ++k) table.values[k] = int64_t(rng.below(1000000));
            assert_int_equal(larder_translation_drop(t, key, n), LARDER_OK);
            if (n && (key + n - 1) / 8 - key / 8 >= 4)
                model.lines.assign(4, {0, 3, false});
            else if (n)
                for (uint64_t cl = key / 8; cl <= (key + n - 1) / 8; ++cl) model.forget(cl);
        }
        int64_t got = 0;
        const uint64_t before = table.n_walks;
        assert_int_equal(larder_translation_lookup(t, &key, 1, &got), LARDER_OK);
        const auto want = table.values.find(key);
        assert_true(got == (want == table.values.end() ? LARDER_TRANSLATION_NONE : want->second));
        const bool hit = model.look(key / 8, table.cost.count(key / 8) && table.cost[key / 8] >= 3);
        assert_int_equal(table.n_walks - before, hit ? 0 : 1);
    }
    larder_translation_state s = LARDER_TRANSLATION_STATE_INIT;
    assert_int_equal(larder_translation_query(t, &s), LARDER_OK);
    assert_int_equal(s.n_walks, table.n_walks);
    assert_int_equal(s.n_hits, model.n_hits);
    larder_translation_destroy(t);
    assert_int_equal(table.n_drops, 1);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

void batches(void**) {
    larder_context* c = nullptr;
    assert_int_equal(larder_context_create(nullptr, &c), LARDER_OK);
    Table table;
    for (uint64_t k = 0; k < 100000; ++k) table.values[k] = int64_t(k * 3);
    for (uint64_t k = 0; k < 12500; ++k) table.cost[k] = 9;
    larder_translation* t = make(c, table, 0, 0);
    Rng rng(test_seed());
    std::vector<uint64_t> keys(1000);
    std::vector<int64_t> got(1000);
    for (int round = 0; round < 20; ++round) {
        for (uint64_t& k : keys) k = rng.below(100000);
        assert_int_equal(larder_translation_lookup(t, keys.data(), 1000, got.data()), LARDER_OK);
        for (size_t i = 0; i < 1000; ++i) assert_int_equal(got[i], keys[i] * 3);
    }
    keys[7] = uint64_t(1) << 63;
    assert_int_equal(larder_translation_lookup(t, keys.data(), 1000, got.data()), LARDER_E_RANGE);
    assert_int_equal(larder_translation_lookup(t, nullptr, 1, got.data()), LARDER_E_INVALID);
    larder_translation_destroy(t);
    larder_translation_options o = LARDER_TRANSLATION_OPTIONS_INIT;
    assert_int_equal(larder_translation_create(c, &o, &t), LARDER_E_INVALID);
    o.walk.fn = walk;
    o.n_lines = 100;
    assert_int_equal(larder_translation_create(c, &o, &t), LARDER_E_RANGE);
    assert_null(t);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(against_the_model),
        cmocka_unit_test(batches),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
