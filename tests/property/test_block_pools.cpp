// Free lists, block references and table trees against plain containers, and with real threads.
#include "support/cmocka.h"

#include <algorithm>
#include <set>
#include <thread>
#include <vector>

#include "base/hash.h"
#include "memory/block_table.h"
#include "memory/slab_pool.h"
#include "support/seed.h"

using namespace larder;

namespace {

void slot_pool_against_a_set(void**) {
    Rng rng(test_seed());
    for (uint32_t n : {1u, 63u, 64u, 129u, 1000u}) {
        SlotPool pool(Allocator(), 5, 5 + n, 4);
        std::vector<uint32_t> held;
        std::set<uint32_t> is_held;
        for (uint64_t i = 0; i < test_rounds(200000); ++i) {
            const auto k = uint32_t(rng.below(rng.below(4) ? 4 : 200));
            if (rng.below(2)) {
                std::vector<uint32_t> out(k);
                const bool got = pool.take(out);
                assert_int_equal(got, held.size() + k <= n);
                if (!got) continue;
                for (uint32_t s : out) {
                    assert_in_range(s, 5, 4 + n);
                    assert_true(is_held.insert(s).second);
                    held.push_back(s);
                }
            } else {
                std::vector<uint32_t> back;
                while (back.size() < k && !held.empty()) {
                    std::swap(held[rng.below(held.size())], held.back());
                    back.push_back(held.back());
                    is_held.erase(held.back());
                    held.pop_back();
                }
                pool.give(back);
            }
            assert_int_equal(pool.n_free(), n - held.size());
        }
        std::set<uint32_t> free;
        pool.for_each_free([&](uint32_t s) { assert_true(free.insert(s).second && !is_held.count(s)); });
        assert_int_equal(free.size() + held.size(), n);
    }
}

// Last freed, first given, and a new pool gives neighbours.
void slot_pool_order(void**) {
    SlotPool pool(Allocator(), 0, 1000, 1);
    std::vector<uint32_t> a(300);
    assert_true(pool.take(a));
    for (uint32_t i = 0; i < 300; ++i) assert_int_equal(a[i], i);
    uint32_t back[] = {7, 100, 42}, again[3];
    pool.give(back);
    assert_true(pool.take(again));
    assert_int_equal(again[0], 42);
    assert_int_equal(again[2], 7);
}

void slot_pool_with_threads(void**) {
    constexpr uint32_t n = 700;
    SlotPool pool(Allocator(), 0, n, 2);
    std::vector<larder::atomic<uint32_t>> owner(n);
    larder::atomic<uint32_t> n_broken{0};
    auto body = [&](uint32_t me) {
        Rng rng(test_seed() + me);
        std::vector<uint32_t> held;
        for (uint64_t i = 0; i < test_rounds(60000); ++i) {
            uint32_t out[130];
            const auto k = uint32_t(1 + rng.below(rng.below(8) ? 5 : 130));
            if (held.size() < 220 && pool.take({out, k})) {
                for (uint32_t j = 0; j < k; ++j) {
                    if (owner[out[j]].exchange(me, relaxed) != 0) n_broken.fetch_add(1, relaxed);
                    held.push_back(out[j]);
                }
            } else {
                const size_t give = std::min<size_t>(held.size(), k);
                for (size_t j = 0; j < give; ++j) {
                    out[j] = held[held.size() - 1 - j];
                    if (owner[out[j]].exchange(0, relaxed) != me) n_broken.fetch_add(1, relaxed);
                }
                held.resize(held.size() - give);
                pool.give({out, give});
            }
        }
        for (uint32_t s : held) owner[s].store(0, relaxed);
        pool.give(held);
    };
    std::vector<std::thread> threads;
    for (uint32_t t = 1; t <= 4; ++t) threads.emplace_back(body, t);
    for (auto& t : threads) t.join();
    assert_int_equal(n_broken.load(relaxed), 0);
    assert_int_equal(pool.n_free(), n);
    std::set<uint32_t> free;
    pool.for_each_free([&](uint32_t s) { assert_true(free.insert(s).second); });
    assert_int_equal(free.size(), n);
}

void generations_end_in_retirement(void**) {
    BlockPool pool(Allocator(), 100, 4, 0xfffffffe, 1, 5);
    std::set<larder_block> ids;
    for (int i = 0; i < 15; ++i) {
        uint32_t b;
        assert_true(pool.alloc({&b, 1}));
        assert_true(ids.insert(pool.id(b)).second);  // never the same id twice
        const auto last = pool.drop(b);
        assert_true(last != BlockPool::Last::no);
        if (last == BlockPool::Last::yes) pool.recycle({&b, 1});
    }
    assert_int_equal(pool.n_retired(), 3);
    uint32_t b;
    assert_false(pool.alloc({&b, 1}));
    for (larder_block id : ids) assert_false(pool.live(Id::index(id) - 100, Id::generation(id)));
    assert_int_equal(pool.n_used(), 0);
}

// Whoever got a reference has the block for itself until it gives it back, however the last owner and newcomers race.
void references_race_with_the_last_unref(void**) {
    BlockPool pool(Allocator(), 0, 3, 1, 2);
    larder::atomic<uint64_t> published{0};
    larder::atomic<uint32_t> stop{0}, n_broken{0}, n_caught{0};
    std::vector<larder::atomic<uint64_t>> content(3);
    std::thread reader([&] {
        while (!stop.load(acquire)) {
            const larder_block id = published.load(acquire);
            if (!id) continue;
            const uint32_t b = Id::index(id);
            if (pool.try_ref(b, Id::generation(id)) < 0) continue;
            if (content[b].load(relaxed) != id) n_broken.fetch_add(1, relaxed);
            if (pool.unref(b)) pool.recycle({&b, 1});
            n_caught.fetch_add(1, relaxed);
        }
    });
    // On a machine with one CPU the other thread needs time to run at all.
    for (uint64_t i = 0; i < test_rounds(100000) || (n_caught.load(relaxed) < 100 && i < 100000000); ++i) {
        uint32_t b;
        if (!pool.alloc({&b, 1})) continue;
        const larder_block id = pool.id(b);
        content[b].store(id, relaxed);
        pool.ref(b);  // the publication's own: from here on the id may be known
        assert_false(pool.unref(b));
        published.store(id, release);
        for (uint64_t k = 0; k < i % 64; ++k) cpu_relax();
        auto last = BlockPool::Last::no;
        assert_int_equal(pool.try_unref(b, Id::generation(id), last), LARDER_OK);
        if (last == BlockPool::Last::yes) pool.recycle({&b, 1});
    }
    stop.store(1, release);
    reader.join();
    print_message("%u references caught\n", n_caught.load(relaxed));
    assert_int_equal(n_broken.load(relaxed), 0);
    assert_int_equal(pool.n_used(), 0);
}

// Trees against vectors, with lengths that reach four levels of nodes.
void tables_against_vectors(void**) {
    Rng rng(test_seed() + 7);
    BlockPool pool(Allocator(), 0, 1 << 16, 1, 2);
    BlockTables tables(Allocator(), 30000, 2);
    struct Table {
        TableRoot root;
        std::vector<uint32_t> model;
    };
    std::vector<Table> all;
    uint32_t blocks[1 << 9];
    assert_true(pool.alloc({blocks, 1 << 9}));  // held throughout: what is tested here is the trees
    for (uint64_t i = 0; i < test_rounds(6000); ++i) {
        Recycler r(pool, nullptr, nullptr);
        const uint64_t what = rng.below(20);
        if (all.empty() || (what == 0 && all.size() < 8)) {
            all.push_back({});
            continue;
        }
        Table& t = all[rng.below(all.size())];
        if (what < 8) {
            std::vector<uint32_t> more(rng.below(16) ? 1 + rng.below(100) : 4000);
            for (uint32_t& b : more) b = rng.below(50) ? blocks[rng.below(1 << 9)] : 0;
            for (uint32_t b : more)
                if (b) pool.ref(b);
            if (tables.append(t.root, r, more))
                t.model.insert(t.model.end(), more.begin(), more.end());
            else
                for (uint32_t b : more) r.unref(b);
        } else if (what < 12) {
            const uint64_t n = t.model.size() - rng.below(rng.below(4) ? std::min<uint64_t>(t.model.size(), 150) + 1
                                                                       : t.model.size() + 1);
            if (tables.truncate(t.root, r, n)) t.model.resize(n);
        } else if (what < 15 && all.size() < 8) {
            Table copy{tables.share(t.root), t.model};
            all.push_back(copy);
        } else if (what < 17 && !t.model.empty()) {
            const uint64_t at = rng.below(t.model.size());
            if (uint32_t* e = tables.writable(t.root, r, at)) {
                assert_int_equal(*e, t.model[at]);
                r.unref(*e);
                *e = t.model[at] = blocks[rng.below(1 << 9)];
                pool.ref(*e);
            }
        } else if (what == 17) {
            tables.release(t.root, r);
            std::swap(t, all.back());
            all.pop_back();
        } else {
            assert_int_equal(t.root.n_blocks, t.model.size());
            std::vector<uint32_t> got;
            tables.for_range(t.root, 0, t.root.n_blocks,
                             [&](std::span<const uint32_t> s) { got.insert(got.end(), s.begin(), s.end()); });
            assert_true(got == t.model);
            if (!got.empty()) assert_int_equal(tables.get(t.root, got.size() / 2), got[got.size() / 2]);
        }
    }
    {
        Recycler r(pool, nullptr, nullptr);
        for (Table& t : all) tables.release(t.root, r);
    }
    assert_int_equal(tables.slots().n_free(), 30000);
    for (uint32_t b : blocks) assert_int_equal(pool.refs(b), 1);
}

void slabs_stay_within_the_budget(void**) {
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    larder_context* c = nullptr;
    assert_int_equal(larder_context::create(&o, posix_os(), &c), LARDER_OK);
    {
        constexpr uint64_t slab = SlabPool::slab_bytes;
        SlabPool pool(*c, 6 * slab + 5);
        Rng rng(test_seed() + 9);
        struct Run {
            std::byte* p;
            size_t n;
        };
        std::vector<Run> runs;
        uint64_t held = 0;
        for (uint64_t i = 0; i < test_rounds(3000); ++i) {
            if (rng.below(2)) {
                const size_t n = rng.below(5);
                auto p = pool.take_run(n, i % 2);
                if (n == 0) {
                    assert_int_equal(p.status(), LARDER_E_INVALID);
                } else if (held + n <= 6) {
                    assert_int_equal(p.status(), LARDER_OK);
                    assert_int_equal(reinterpret_cast<uintptr_t>(*p) % slab, 0);
                    if (i % 2) assert_int_equal(int((*p)[n * slab - 1]) | int((*p)[0]), 0);
                    (*p)[0] = (*p)[n * slab - 1] = std::byte{0x55};
                    runs.push_back({*p, n});
                    held += n;
                } else {
                    assert_int_equal(p.status(), LARDER_E_NOSPACE);
                }
            } else if (!runs.empty()) {
                std::swap(runs[rng.below(runs.size())], runs.back());
                assert_int_equal(int(runs.back().p[0]), 0x55);
                pool.give_back(runs.back().p, runs.back().n);
                held -= runs.back().n;
                runs.pop_back();
            }
            if (rng.below(50) == 0) pool.trim(rng.below(4) * slab);
            assert_int_equal(pool.held_bytes() - pool.idle_bytes(), held * slab);
            assert_true(pool.held_bytes() <= 6 * slab);
            assert_int_equal(c->stats.get(Stat::slab_bytes), pool.held_bytes());
        }
        assert_int_equal(pool.take_run(7, false).status(), LARDER_E_NOSPACE);
        for (Run& r : runs) pool.give_back(r.p, r.n);
    }
    assert_int_equal(c->stats.get(Stat::slab_bytes), 0);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(slot_pool_against_a_set),
        cmocka_unit_test(slot_pool_order),
        cmocka_unit_test(slot_pool_with_threads),
        cmocka_unit_test(generations_end_in_retirement),
        cmocka_unit_test(references_race_with_the_last_unref),
        cmocka_unit_test(tables_against_vectors),
        cmocka_unit_test(slabs_stay_within_the_budget),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
