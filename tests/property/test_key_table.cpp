// The table of chain keys under hashes that crowd a few buckets of one shard: long probes, graves, rebuilds, tables
// that serve again, and readers that come across all of it.
#include <atomic>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "index/key_table.h"
#include "support/cmocka.h"
#include "support/seed.h"

using namespace larder;

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

// Of the 2^16 keys that a table of this size is made for a shard holds 4,096. The top bits choose the shard, the lowest
// the bucket; words keep 36 bits.
constexpr uint64_t max_keys = 1 << 16;

struct Element {
    uint64_t hash, key;
};

struct World {
    SlabPool slabs{*context, uint64_t(1) << 40};
    KeyTable table{*context, slabs, max_keys};
    std::vector<Element> elements{{0, 0}};  // by slot; slot 0 is nobody's

    auto is(uint64_t key) const {
        return [this, key](uint32_t slot) { return elements[slot].key == key; };
    }
};

void against_a_map(void**) {
    Rng r(test_seed());
    for (const uint64_t n_buckets : {1, 3, 40, 512}) {
        World w;
        // So many elements may be there at once that the shard never overflows, and different keys share all 36 bits.
        constexpr uint32_t n_slots = 3000;
        for (uint64_t key = 1; key <= n_slots; ++key) {
            const uint64_t in_shard = r.below(n_buckets) | r.below(4) << 20;
            w.elements.push_back({(key % 50 ? uint64_t(0) : r.below(16) << 60) | in_shard, key});
        }
        std::set<uint32_t> there;
        uint32_t target = n_slots;  // how many to keep: waves, so that graves fill tables and tables empty again
        for (uint64_t i = 0; i < test_rounds(60'000); ++i) {
            if (i % 4000 == 0) target = uint32_t(r.below(n_slots));
            const auto slot = uint32_t(1 + r.below(n_slots));
            const Element e = w.elements[slot];
            const bool known = there.count(slot);
            if (r.below(10) < (there.size() < target ? 7 : 3)) {
                const larder_status s = w.table.insert(e.hash, slot, w.is(e.key));
                assert_int_equal(s, known ? LARDER_E_EXISTS : LARDER_OK);
                there.insert(slot);
            } else {
                w.table.remove(e.hash, slot);
                there.erase(slot);
            }
            const auto other = uint32_t(1 + r.below(n_slots));
            const uint32_t found = w.table.find(w.elements[other].hash, w.is(w.elements[other].key));
            assert_int_equal(found, there.count(other) ? other : 0);
            if (i % 5000) continue;
            assert_int_equal(w.table.count(), there.size());
            for (uint32_t j = 1; j <= n_slots; ++j)
                assert_int_equal(w.table.find(w.elements[j].hash, w.is(w.elements[j].key)), there.count(j) ? j : 0);
        }
    }
}

// Half of the keys stay, the other half comes and goes and takes the shard through rebuilds: a reader finds each that
// stays, always, and never anything under a key that was not there.
void readers_find_what_stays(void**) {
    World w;
    constexpr uint32_t n_slots = 1200;
    for (uint64_t key = 1; key <= n_slots; ++key) w.elements.push_back({key % 24 | (key % 7) << 20, key});
    const auto stays = [](uint32_t slot) { return slot % 2 == 0; };
    for (uint32_t slot = 2; slot <= n_slots; slot += 2)
        assert_int_equal(w.table.insert(w.elements[slot].hash, slot, w.is(slot)), LARDER_OK);
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> n_bad{0}, n_looks{0};
    const uint64_t seed = test_seed();
    std::thread reader([&] {
        Rng r(seed);
        while (!stop) {
            const auto slot = uint32_t(1 + r.below(n_slots));
            const uint32_t found = w.table.find(w.elements[slot].hash, w.is(slot));
            n_bad += stays(slot) ? found != slot : found && found != slot;
            n_bad += w.table.find(w.elements[slot].hash, w.is(n_slots + 1)) != 0;
            ++n_looks;
        }
    });
    std::vector<std::thread> writers;
    for (uint32_t t = 0; t < 2; ++t)
        writers.emplace_back([&, t] {
            for (uint64_t wave = 0; wave < test_rounds(60); ++wave) {
                for (uint32_t slot = 1 + 2 * t; slot <= n_slots; slot += 4)
                    n_bad += w.table.insert(w.elements[slot].hash, slot, w.is(slot)) != LARDER_OK;
                for (uint32_t slot = 1 + 2 * t; slot <= n_slots; slot += 4) w.table.remove(w.elements[slot].hash, slot);
            }
        });
    for (auto& t : writers) t.join();
    while (!n_looks) std::this_thread::yield();
    stop = true;
    reader.join();
    assert_int_equal(n_bad.load(), 0);
    assert_int_equal(w.table.count(), n_slots / 2);
}

// A shard that is full says so, and has room again when a key goes.
void a_full_shard(void**) {
    World w;
    uint32_t slot = 1;
    larder_status s = LARDER_OK;
    for (;; ++slot) {
        w.elements.push_back({mix64(slot) >> 8, slot});
        if ((s = w.table.insert(w.elements[slot].hash, slot, w.is(slot))) < 0) break;
    }
    assert_int_equal(s, LARDER_E_NOSPACE);
    assert_true(slot > max_keys / 16);
    for (uint32_t i = 1; i < slot; ++i) assert_int_equal(w.table.find(w.elements[i].hash, w.is(i)), i);
    for (uint32_t i = 1; i < slot; ++i) w.table.remove(w.elements[i].hash, i);
    assert_int_equal(w.table.insert(w.elements[slot].hash, slot, w.is(slot)), LARDER_OK);
    assert_int_equal(w.table.count(), 1);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(against_a_map), cmocka_unit_test(readers_find_what_stays),
                                cmocka_unit_test(a_full_shard)};
    return cmocka_run_group_tests_name("key_table", tests, set_up, tear_down);
}
