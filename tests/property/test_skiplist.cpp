// The B-skiplist against std::map: random operations over all widths, and the key patterns that its ancestor could not
// bear.
#include "support/cmocka.h"

#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <vector>

#include "index/skiplist.h"
#include "support/seed.h"

using namespace larder;
using bskip::Key;
using bskip::Value;

namespace {

larder_context* context;

int set_up(void**) {
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    return larder_context::create(&o, posix_os(), &context);
}
int tear_down(void**) {
    return larder_context_destroy(context);
}

template <uint32_t KW, uint32_t VW> struct Pair {
    SlabPool slabs{*context, uint64_t(1) << 40};
    bskip::Skiplist<KW, VW> list{*context, slabs};
    std::map<Key<KW>, Value<VW>> model;
    Pair() { assert_int_equal(list.init(), LARDER_OK); }

    void check() {
        if (list.verify(context->alloc) < 0) print_error("%s\n", last_error().message);
        assert_int_equal(list.verify(context->alloc), LARDER_OK);
        assert_int_equal(list.count(), model.size());
    }
    // Everything, upwards and downwards, in pieces.
    void compare() {
        std::vector<Key<KW>> k(37);
        std::vector<Value<VW>> v(37);
        auto it = model.begin();
        const Key<KW>* from = nullptr;
        Key<KW> last;
        while (size_t n = list.scan_up(from, true, 37, k.data(), v.data())) {
            for (size_t i = 0; i < n; ++i, ++it)
                assert_true(it != model.end() && it->first == k[i] && it->second == v[i]);
            last = k[n - 1];
            from = &last;
        }
        assert_true(it == model.end());
        from = nullptr;
        auto rit = model.rbegin();
        while (size_t n = list.scan_down(from, true, 37, k.data(), v.data())) {
            for (size_t i = 0; i < n; ++i, ++rit)
                assert_true(rit != model.rend() && rit->first == k[i] && rit->second == v[i]);
            last = k[n - 1];
            from = &last;
        }
        assert_true(rit == model.rend());
    }
};

template <uint32_t W> Key<W> random_key(Rng& r, uint64_t space) {
    Key<W> k;
    for (auto& w : k.w) w = r.below(4) ? r.below(3) : r.below(space);  // many equal heads
    if (W == 1) k.w[0] = r.below(space);
    if (!r.below(64)) k.w.fill(r.below(2) ? UINT64_MAX : 0);  // the ends of the order are ordinary keys
    return k;
}
template <uint32_t W> Value<W> random_value(Rng& r) {
    Value<W> v;
    for (auto& w : v.w) w = r.below(3);
    return v;
}

template <uint32_t KW, uint32_t VW> void one_operation(Pair<KW, VW>& p, Rng& r, uint64_t space, uint32_t removes) {
    const Key<KW> k = random_key<KW>(r, space);
    const Value<VW> v = random_value<VW>(r);
    Value<VW> got{};
    auto it = p.model.find(k);
    const bool there = it != p.model.end();
    switch (r.below(removes ? 10 : 5)) {
    case 0:
        assert_int_equal(p.list.get(k, got), there);
        if (there) assert_true(got == it->second);
        break;
    case 1:
        assert_int_equal(p.list.put(k, v), LARDER_OK);
        p.model[k] = v;
        break;
    case 2:
        assert_int_equal(p.list.insert(k, v, &got), there ? LARDER_E_EXISTS : LARDER_OK);
        if (there)
            assert_true(got == it->second);
        else
            p.model[k] = v;
        break;
    case 3: {
        Value<VW> expected = random_value<VW>(r);
        const bool same = there && it->second == expected;
        assert_int_equal(p.list.swap(k, expected, v), !there ? LARDER_MISS : same ? LARDER_OK : LARDER_E_STATE);
        if (same)
            it->second = v;
        else if (there)
            assert_true(expected == it->second);
        break;
    }
    case 4: {
        const bool up = r.below(2), strict = r.below(2);
        Key<KW> kk;
        const size_t n = up ? p.list.scan_up(&k, strict, 1, &kk, &got) : p.list.scan_down(&k, strict, 1, &kk, &got);
        auto at = strict == up ? p.model.upper_bound(k) : p.model.lower_bound(k);
        if (up ? at == p.model.end() : at == p.model.begin()) return assert_int_equal(n, 0);
        if (!up) --at;
        assert_int_equal(n, 1);
        assert_true(kk == at->first && got == at->second);
        break;
    }
    case 5:
        assert_int_equal(p.list.remove_if(k, v), there && it->second == v);
        if (there && it->second == v) p.model.erase(it);
        break;
    default:
        if (r.below(5) >= removes) break;
        assert_int_equal(p.list.remove(k, &got), there);
        if (!there) break;
        assert_true(got == it->second);
        p.model.erase(it);
    }
}

// Grow, churn, shrink; small key spaces meet equal keys often, large ones split often.
template <uint32_t KW, uint32_t VW> void against_map(void**) {
    Rng r(test_seed());
    const uint64_t n_ops = test_rounds(KW == 1 && VW == 1 ? 1'000'000 : 200'000);
    Pair<KW, VW> p;
    for (uint64_t i = 0; i < n_ops; ++i) {
        const uint64_t phase = i * 8 / n_ops;
        one_operation(p, r, phase & 1 ? 2000 : 60'000, phase < 2 ? 0 : phase < 5 ? 2 : 5);
        if (i % (n_ops / 16) == 0) p.check();
    }
    p.check();
    p.compare();
    // Down to nothing: nodes come back, and a new life begins in them.
    for (auto& [k, v] : p.model) assert_true(p.list.remove(k, nullptr));
    p.model.clear();
    p.check();
    const bskip::Totals t = p.list.totals();
    assert_true(t.n_nodes <= t.n_levels + 2u);
    for (int i = 0; i < 5000; ++i) one_operation(p, r, 60'000, 0);
    p.check();
    p.compare();
}

void batches_match_single_calls(void**) {
    Rng r(test_seed());
    Pair<2, 2> p;
    for (int i = 0; i < 20'000; ++i) one_operation(p, r, 50'000, 1);
    for (int round = 0; round < 2000; ++round) {
        const size_t n = r.below(70);
        std::vector<Key<2>> k(n);
        std::vector<Value<2>> v(n);
        auto found = std::make_unique<bool[]>(n + 1);
        for (auto& x : k) x = random_key<2>(r, 50'000);
        size_t n_there = 0;
        for (auto& x : k) n_there += p.model.count(x);
        assert_int_equal(p.list.get_many(k.data(), n, v.data(), found.get()), n_there);
        for (size_t i = 0; i < n; ++i) {
            auto it = p.model.find(k[i]);
            assert_int_equal(found[i], it != p.model.end());
            assert_true(v[i] == (found[i] ? it->second : Value<2>{}));
        }
        p.list.warm(k.data(), n);
    }
}

// Orders and patterns of keys, each as dense and as deep as random ones: a coin that depends on the key would build
// lists of one node or nodes of one key.
uint64_t bit_reversed(uint64_t i) {
    uint64_t r = 0;
    for (int b = 0; b < 32; ++b) r |= (i >> b & 1) << (31 - b);
    return r;
}

void key_patterns(void**) {
    const uint64_t n = 200'000;
    const std::pair<const char*, std::function<uint64_t(uint64_t)>> patterns[] = {
        {"random", [](uint64_t i) { return mix64(i + 1); }},
        {"odd", [](uint64_t i) { return 2 * (mix64(i + 1) >> 2) + 1; }},
        {"multiples of 64", [](uint64_t i) { return 64 * i; }},
        {"multiples of 4096, shuffled", [](uint64_t i) { return 4096 * (i * 7919 % n); }},
        {"ascending", [](uint64_t i) { return i; }},
        {"descending", [](uint64_t i) { return n - i; }},
        {"bit-reversed", bit_reversed},
        {"inwards", [](uint64_t i) { return i & 1 ? UINT64_MAX - i : i; }},
    };
    uint64_t random_nodes = 0;
    for (auto& [name, key] : patterns) {
        SlabPool slabs(*context, uint64_t(1) << 40);
        bskip::Skiplist<1, 1> list(*context, slabs);
        assert_int_equal(list.init(), LARDER_OK);
        for (uint64_t i = 0; i < n; ++i) assert_int_equal(list.put({key(i)}, {i}), LARDER_OK);
        assert_int_equal(list.verify(context->alloc), LARDER_OK);
        assert_int_equal(list.count(), n);
        const bskip::Totals t = list.totals();
        if (!random_nodes) random_nodes = t.n_nodes;
        print_message("%s: %.1f bytes a key, %u levels\n", name, 1024.0 * double(t.n_nodes) / double(n), t.n_levels);
        assert_in_range(t.n_nodes, 1, random_nodes * 3 / 2);
        assert_in_range(t.n_levels, 3, 4);
        // Upserts change nothing but values.
        for (uint64_t i = 0; i < n; ++i) assert_int_equal(list.put({key(i)}, {i + 1}), LARDER_OK);
        assert_int_equal(list.totals().n_nodes, t.n_nodes);
        bskip::Value<1> v;
        for (uint64_t i = 0; i < n; i += 97) assert_true(list.get({key(i)}, v) && v.w[0] == i + 1);
        for (uint64_t i = 0; i < n; ++i) assert_true(list.remove({key(i)}, nullptr));
        assert_int_equal(list.verify(context->alloc), LARDER_OK);
        assert_int_equal(list.count(), 0);
    }
}

void sorted_build(void**) {
    for (uint64_t n : {0u, 1u, 51u, 52u, 53u, 5000u, 300'000u}) {
        SlabPool slabs(*context, uint64_t(1) << 40);
        bskip::Skiplist<1, 1> list(*context, slabs);
        assert_int_equal(list.init(), LARDER_OK);
        bskip::Skiplist<1, 1>::Builder b(list);
        for (uint64_t i = 0; i < n; ++i) assert_int_equal(b.append({i * 3}, {i}), LARDER_OK);
        if (n) assert_int_equal(b.append({(n - 1) * 3}, {0}), LARDER_E_INVALID);
        assert_int_equal(list.verify(context->alloc), LARDER_OK);
        assert_int_equal(list.count(), n);
        bskip::Value<1> v;
        for (uint64_t i = 0; i < n; ++i) {
            assert_true(list.get({i * 3}, v) && v.w[0] == i);
            assert_false(list.get({i * 3 + 1}, v));
        }
        for (uint64_t i = 0; i < n; i += 2) assert_int_equal(list.put({i * 3 + 1}, {i}), LARDER_OK);
        for (uint64_t i = 0; i < n; ++i) assert_true(list.remove({i * 3}, nullptr));
        assert_int_equal(list.verify(context->alloc), LARDER_OK);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test((against_map<1, 1>)), cmocka_unit_test((against_map<2, 1>)),
        cmocka_unit_test((against_map<4, 1>)), cmocka_unit_test((against_map<1, 4>)),
        cmocka_unit_test((against_map<4, 4>)), cmocka_unit_test(batches_match_single_calls),
        cmocka_unit_test(key_patterns),        cmocka_unit_test(sorted_build),
    };
    return cmocka_run_group_tests_name("skiplist", tests, set_up, tear_down);
}
