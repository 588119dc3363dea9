// The file tier under power cuts: after any subset of the unsynced writes, torn or not, the store opens, what was
// flushed is there, and nothing else than what was put is ever read.
#include "support/sim_store.h"

#include <map>

using namespace larder;

namespace {

struct Written {
    std::map<uint64_t, std::pair<uint64_t, size_t>> put;  // key number: seed and size of its payload
    std::map<uint64_t, bool> flushed;
};

// Opens what a cut left and holds it against what is known.
void check_after(const SimFs& fs, const PowerCut& cut, const Written& w) {
    SimFs after = fs;
    after.power_cut(cut);
    SimOs os(3, std::move(after));
    SimStore s(os);
    assert_int_equal(s.open(), LARDER_OK);
    std::vector<unsigned char> bytes;
    for (auto& [key, what] : w.put) {
        const larder_status status = get_one(s.get(), make_key(key), make_want(), bytes, 60000);
        if (status == LARDER_OK)
            assert_true(bytes == make_payload(what.first, what.second));
        else
            assert_int_equal(status, LARDER_MISS);
        if (w.flushed.count(key)) assert_int_equal(status, LARDER_OK);
    }
    assert_int_equal(larder_store_verify(s.get()), LARDER_OK);
}

uint64_t check_cuts(const SimFs& fs, const Written& w, uint64_t budget, uint64_t seed) {
    PowerCuts cuts(fs, budget, seed);
    PowerCut cut;
    uint64_t n = 0;
    for (; cuts.next(cut); ++n) check_after(fs, cut, w);
    return n;
}

void put_number(SimStore& s, Written& w, uint64_t key, size_t n_bytes) {
    assert_int_equal(put_one(s.get(), make_key(key), make_meta(), make_payload(key, n_bytes)), LARDER_OK);
    w.put[key] = {key, n_bytes};
}

// Without eviction, so that what was flushed must be there whatever happens.
void cuts_at_every_change(void**) {
    SimOs os(test_seed());
    Written w;
    uint64_t n = 0, at = 0;
    Rng rng(test_seed());
    const uint64_t budget = test_rounds(256);
    {
        SimStore s(os);
        assert_int_equal(s.open(), LARDER_OK);
        // The moments in between, seen from inside: before each change of the disk.
        os.on_change([&](const SimFs& fs) { n += check_cuts(fs, w, budget, ++at); });
        for (uint64_t key = 0; key < 12; ++key) {
            put_number(s, w, key, 1 + rng.below(9000));
            if (key % 4 == 3) {
                const auto sure = w.put;
                assert_int_equal(larder_store_flush(s.get(), nullptr, 0, nullptr), LARDER_OK);
                for (auto& [k, unused] : sure) w.flushed[k] = true;
                n += check_cuts(os.fs(), w, 256, key);
            }
        }
        os.on_change({});
        n += check_cuts(os.fs(), w, 256, 99);
    }
    // Closed: everything was flushed.
    for (auto& [key, unused] : w.put) w.flushed[key] = true;
    n += check_cuts(os.fs(), w, 256, 100);
    print_message("%llu power cuts\n", (unsigned long long)n);
    assert_true(n > 40);
}

// With segments used again and again: nothing wrong may come out of what an earlier use left behind.
void cuts_with_reuse(void**) {
    SimOs os(test_seed());
    Written w;
    Rng rng(test_seed() + 1);
    uint64_t n = 0;
    SimStore s(os);
    assert_int_equal(s.open(), LARDER_OK);
    for (uint64_t key = 0; key < 120; ++key) {
        put_number(s, w, key, 1 + rng.below(12000));
        if (rng.below(16) == 0) assert_int_equal(larder_store_flush(s.get(), nullptr, 0, nullptr), LARDER_OK);
        if (key % 8 == 0) n += check_cuts(os.fs(), w, test_rounds(64), key);
    }
    assert_true(n >= test_rounds(40));
}

// A removal that was flushed holds, although the record itself is still in the file.
void removals_hold(void**) {
    SimOs os(test_seed());
    Written w;
    SimStore s(os);
    assert_int_equal(s.open(), LARDER_OK);
    for (uint64_t key = 0; key < 6; ++key) put_number(s, w, key, 3000);
    larder_object_meta other = make_meta(7);
    assert_int_equal(put_one(s.get(), make_key(50), other, make_payload(50, 500)), LARDER_OK);
    assert_int_equal(larder_store_flush(s.get(), nullptr, 0, nullptr), LARDER_OK);
    const larder_key gone = make_key(2);
    assert_int_equal(larder_store_evict(s.get(), &gone, 1, LARDER_TIER_FILE | LARDER_TIER_HOST, nullptr), LARDER_OK);
    uint64_t n_dropped = 0;
    assert_int_equal(larder_store_drop_tenant(s.get(), 7, &n_dropped), LARDER_OK);
    assert_int_equal(n_dropped, 1);
    assert_int_equal(larder_store_flush(s.get(), nullptr, 0, nullptr), LARDER_OK);
    SimFs fs = os.fs();
    fs.power_cut(PowerCut::all_lost());
    SimOs again(5, std::move(fs));
    SimStore t(again);
    assert_int_equal(t.open(), LARDER_OK);
    assert_int_equal(look_up(t.get(), gone).status, LARDER_MISS);
    assert_int_equal(look_up(t.get(), make_key(50)).status, LARDER_MISS);
    assert_int_equal(look_up(t.get(), make_key(3)).status, LARDER_OK);
    // A key may be put again after its removal, and stays.
    assert_int_equal(put_one(t.get(), gone, make_meta(), make_payload(2, 3000)), LARDER_OK);
    t.close();
    assert_int_equal(t.open(), LARDER_OK);
    assert_int_equal(look_up(t.get(), gone).status, LARDER_OK);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(cuts_at_every_change), cmocka_unit_test(cuts_with_reuse),
                                cmocka_unit_test(removals_hold)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
