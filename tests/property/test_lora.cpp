// The cache of adapters against a naive model, in one pool with KV: who is there, who goes, and that cells are nobody
// else's.
#include "support/cmocka.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "base/atomic.h"
#include "base/hash.h"
#include "larder/larder.h"
#include "support/seed.h"

using larder::Rng;

namespace {

enum Presence { absent, loading, there, failed };

struct Model {  // one adapter
    uint32_t n_cells = 0, n_holders = 0;
    Presence presence = absent;
    larder_status failure = LARDER_OK;
    bool next = false, idle = false;
    uint64_t idle_since = 0;
};

constexpr uint32_t n_pool = 400, n_transient = 60, max_rank = 24;

struct Bed {
    Rng rng{test_seed()};
    larder_context* context = nullptr;
    larder_cells* cells = nullptr;
    larder_lora* lora = nullptr;
    std::map<uint64_t, Model> adapters;
    std::vector<uint64_t> next;
    std::vector<int32_t> kv;
    uint64_t clock = 0, n_evictions = 0;
    bool only_good = false;
    std::vector<std::pair<uint64_t, larder_status>> calls;  // of the load, to be matched by the model

    Bed() {
        assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
        larder_cells_options c = LARDER_CELLS_OPTIONS_INIT;
        c.n_cells = n_pool;
        c.cell_bytes = 16;
        c.n_transient = n_transient;
        assert_int_equal(larder_cells_create(context, &c, &cells), LARDER_OK);
        larder_lora_options o = LARDER_LORA_OPTIONS_INIT;
        o.cells = cells;
        o.max_rank = max_rank;
        o.load.fn = load;
        o.load.ctx = this;
        assert_int_equal(larder_lora_create(context, &o, &lora), LARDER_OK);
    }
    ~Bed() {
        larder_lora_destroy(lora);
        larder_cells_state s = LARDER_CELLS_STATE_INIT;
        larder_cells_query(cells, &s);
        assert_int_equal(s.n_used, kv.size());
        larder_cells_destroy(cells);
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
    void stamp(int32_t cell, uint64_t value) {
        for (uint32_t plane = 0; plane < 2; ++plane) {
            void* p = nullptr;
            assert_int_equal(larder_cells_address(cells, plane, 0, cell, &p), LARDER_OK);
            std::memcpy(p, &value, sizeof value);
        }
    }
    void expect_stamp(int32_t cell, uint64_t value) {
        for (uint32_t plane = 0; plane < 2; ++plane) {
            void* p = nullptr;
            assert_int_equal(larder_cells_address(cells, plane, 0, cell, &p), LARDER_OK);
            assert_memory_equal(p, &value, sizeof value);
        }
    }
    static larder_status load(void* ctx, const larder_lora_request* r) {
        Bed& bed = *static_cast<Bed*>(ctx);
        assert_int_equal(r->n_cells, 4 * r->rank);
        assert_int_equal(r->user_data, 7 * r->rank);
        for (uint32_t i = 0; i < r->n_cells; ++i) bed.stamp(r->cells[i], r->adapter);
        const uint64_t dice = bed.only_good ? 9 : bed.rng.below(10);
        const larder_status s = dice == 0 ? LARDER_E_IO : dice < 3 ? LARDER_PENDING : LARDER_OK;
        bed.calls.emplace_back(r->adapter, s);
        return s;
    }

    uint32_t resident_cells() const {
        uint32_t n = 0;
        for (auto& [id, a] : adapters) n += a.presence == absent ? 0 : a.n_cells;
        return n;
    }
    uint32_t free_cells() const { return n_pool - uint32_t(kv.size()) - resident_cells(); }
    uint32_t idle_cells() const {
        uint32_t n = 0;
        for (auto& [id, a] : adapters) n += a.idle ? a.n_cells : 0;
        return n;
    }
    void settle(Model& a) {
        const bool idle = a.presence == there && !a.n_holders && !a.next;
        if (idle && !a.idle) a.idle_since = ++clock;
        a.idle = idle;
        if (a.presence == failed && !a.n_holders) a.presence = absent;
    }
    bool room(uint32_t n) {
        if (n > free_cells() + idle_cells()) return false;
        while (n > free_cells()) {
            Model* victim = nullptr;
            for (auto& [id, a] : adapters)
                if (a.idle && (!victim || a.idle_since < victim->idle_since)) victim = &a;
            victim->presence = absent, victim->idle = false, ++n_evictions;
        }
        return true;
    }
    // What the call that was just made must have said of this adapter.
    larder_status bring(uint64_t id, size_t& n_calls) {
        const auto found = adapters.find(id);
        if (found == adapters.end()) return LARDER_E_STALE;
        Model& a = found->second;
        if (a.presence == there) return LARDER_OK;
        if (a.presence == loading) return LARDER_PENDING;
        if (a.presence == failed) return a.failure;
        if (!room(a.n_cells)) return LARDER_E_NOSPACE;
        assert_true(n_calls < calls.size());
        assert_int_equal(calls[n_calls].first, id);
        const larder_status s = calls[n_calls++].second;
        a.presence = s == LARDER_OK ? there : s == LARDER_PENDING ? loading : absent;
        settle(a);
        return s;
    }
    std::vector<uint64_t> some() {
        std::vector<uint64_t> ids;
        for (uint64_t n = rng.below(6); ids.size() < n && !adapters.empty();)
            ids.push_back(std::next(adapters.begin(), int64_t(rng.below(adapters.size())))->first);
        if (rng.below(20) == 0) ids.push_back(12345);
        return ids;
    }
};

void add(Bed& bed) {
    if (bed.adapters.size() >= 30) return;
    const uint32_t rank = 1 + uint32_t(bed.rng.below(max_rank));
    uint64_t id;
    assert_int_equal(larder_lora_register(bed.lora, rank, 0.5f * float(rank), 7 * rank, &id), LARDER_OK);
    bed.adapters[id].n_cells = 4 * rank;
}

void remove(Bed& bed) {
    if (bed.adapters.empty() || bed.rng.below(4)) return;
    const auto a = std::next(bed.adapters.begin(), int64_t(bed.rng.below(bed.adapters.size())));
    const bool busy = a->second.n_holders || a->second.presence == loading;
    assert_int_equal(larder_lora_unregister(bed.lora, a->first), busy ? LARDER_E_BUSY : LARDER_OK);
    if (busy) return;
    assert_int_equal(larder_lora_unregister(bed.lora, a->first), LARDER_E_STALE);
    bed.adapters.erase(a);
}

void bring(Bed& bed, bool acquire) {
    const std::vector<uint64_t> ids = bed.some();
    std::vector<larder_status> got(ids.size());
    bed.calls.clear();
    const larder_status s =
        (acquire ? larder_lora_acquire : larder_lora_prefetch)(bed.lora, ids.data(), uint32_t(ids.size()), got.data());
    if (!acquire) {
        for (uint64_t id : bed.next)
            if (bed.adapters.count(id)) bed.adapters[id].next = false, bed.settle(bed.adapters[id]);
        for (uint64_t id : ids)
            if (bed.adapters.count(id)) bed.adapters[id].next = true, bed.settle(bed.adapters[id]);
        bed.next.clear();
        for (uint64_t id : ids)
            if (std::find(bed.next.begin(), bed.next.end(), id) == bed.next.end()) bed.next.push_back(id);
    }
    size_t n_calls = 0;
    bool all = true, pending = false;
    for (size_t i = 0; i < ids.size(); ++i) {
        const larder_status want = bed.bring(ids[i], n_calls);
        assert_int_equal(got[i], want);
        all &= want >= 0, pending |= want == LARDER_PENDING;
        if (acquire && want >= 0) ++bed.adapters[ids[i]].n_holders, bed.settle(bed.adapters[ids[i]]);
    }
    assert_int_equal(n_calls, bed.calls.size());
    assert_int_equal(s, !all ? LARDER_PARTIAL : pending && acquire ? LARDER_PENDING : LARDER_OK);
}

void release(Bed& bed) {
    const std::vector<uint64_t> ids = bed.some();
    std::map<uint64_t, uint32_t> times;
    larder_status want = LARDER_OK;
    for (uint64_t id : ids) {
        if (want < 0) break;
        if (!bed.adapters.count(id))
            want = LARDER_E_STALE;
        else if (++times[id] > bed.adapters[id].n_holders)
            want = LARDER_E_STATE;
    }
    assert_int_equal(larder_lora_release(bed.lora, ids.data(), uint32_t(ids.size())), want);
    if (want < 0) return;
    for (uint64_t id : ids) --bed.adapters[id].n_holders;
    for (uint64_t id : ids) bed.settle(bed.adapters[id]);
}

void end_a_load(Bed& bed) {
    for (auto& [id, a] : bed.adapters) {
        if (bed.rng.below(3)) continue;
        const larder_status result = bed.rng.below(4) ? LARDER_OK : LARDER_E_CORRUPT;
        assert_int_equal(larder_lora_loaded(bed.lora, id, result), a.presence == loading ? LARDER_OK : LARDER_E_STATE);
        if (a.presence != loading) continue;
        a.presence = result < 0 ? failed : there;
        a.failure = result;
        bed.settle(a);
    }
}

void grow_and_shrink_kv(Bed& bed) {
    int32_t some[40];
    const auto n = uint32_t(bed.rng.below(40));
    if (bed.rng.below(2)) {
        const bool fits = bed.room(n);
        assert_int_equal(larder_lora_make_room(bed.lora, n), fits ? LARDER_OK : LARDER_E_NOSPACE);
        if (!fits) return;
        assert_int_equal(larder_cells_alloc(bed.cells, LARDER_CELLS_ANY, n, some), LARDER_OK);
        for (uint32_t i = 0; i < n; ++i) bed.stamp(some[i], 1), bed.kv.push_back(some[i]);
    } else if (bed.kv.size() >= n) {
        assert_int_equal(larder_cells_free(bed.cells, bed.kv.data() + bed.kv.size() - n, n), LARDER_OK);
        bed.kv.resize(bed.kv.size() - n);
    }
}

// The activations' cells are taken back: whatever lies there moves, and the tables follow.
void take_transient(Bed& bed) {
    for (auto& [id, a] : bed.adapters)
        if (a.presence == loading) return;
    larder_cells_move moves[n_transient];
    uint32_t n_moves;
    int32_t first;
    if (larder_cells_transient_begin(bed.cells, 1 + uint32_t(bed.rng.below(n_transient)), moves, n_transient, &n_moves,
                                     &first) < 0)
        return;
    assert_int_equal(larder_lora_move(bed.lora, moves, n_moves), LARDER_OK);
    for (int32_t& cell : bed.kv)
        for (uint32_t i = 0; i < n_moves; ++i)
            if (moves[i].src == cell) {
                cell = moves[i].dst;
                break;
            }
    for (uint32_t i = 0; i < n_moves; ++i) bed.stamp(moves[i].src, 99);
    assert_int_equal(larder_cells_transient_end(bed.cells), LARDER_OK);
}

void check(Bed& bed) {
    larder_lora_state s = LARDER_LORA_STATE_INIT;
    assert_int_equal(larder_lora_query(bed.lora, &s), LARDER_OK);
    larder_cells_state pool = LARDER_CELLS_STATE_INIT;
    assert_int_equal(larder_cells_query(bed.cells, &pool), LARDER_OK);
    assert_int_equal(s.n_cells, bed.resident_cells());
    assert_int_equal(s.n_free_cells, bed.idle_cells());
    assert_int_equal(s.n_evictions, bed.n_evictions);
    assert_int_equal(pool.n_used, bed.kv.size() + bed.resident_cells());  // not one cell is wasted
    std::vector<uint64_t> held;
    uint64_t n_next = 0;
    size_t n_failed = 0;
    bool pends = false;
    for (auto& [id, a] : bed.adapters) {
        if (a.next && a.presence == absent) n_next += a.n_cells;
        if (!a.n_holders) continue;
        if (a.presence == failed) {
            ++n_failed;
            continue;
        }
        held.push_back(id);
        pends |= a.presence == loading;
    }
    assert_int_equal(s.n_next_cells, n_next);
    assert_int_equal(s.n_acquired, held.size() + n_failed);
    std::vector<int32_t> cells(n_pool);
    std::vector<uint32_t> starts(held.size() + 1);
    std::vector<float> scalings(held.size());
    assert_int_equal(larder_lora_tables(bed.lora, held.data(), uint32_t(held.size()), cells.data(), n_pool,
                                        starts.data(), scalings.data()),
                     pends ? LARDER_PENDING : LARDER_OK);
    std::set<int32_t> taken(bed.kv.begin(), bed.kv.end());
    for (size_t i = 0; i < held.size(); ++i) {
        assert_int_equal(starts[i + 1] - starts[i], bed.adapters[held[i]].n_cells);
        assert_true(scalings[i] == 0.125f * float(bed.adapters[held[i]].n_cells));
        for (uint32_t c = starts[i]; c < starts[i + 1]; ++c) {
            assert_true(taken.insert(cells[c]).second);
            bed.expect_stamp(cells[c], held[i]);
        }
    }
    for (int32_t cell : bed.kv) bed.expect_stamp(cell, 1);
}

void test_against_model(void**) {
    for (uint64_t round = 0; round < test_rounds(60); ++round) {
        Bed bed;
        bed.rng = Rng(test_seed() + round);
        for (int step = 0; step < 1200; ++step) {
            switch (bed.rng.below(12)) {
            case 0:
                add(bed);
                break;
            case 1:
                remove(bed);
                break;
            case 2:
            case 3:
                bring(bed, false);
                break;
            case 4:
            case 5:
                bring(bed, true);
                break;
            case 6:
            case 7:
            case 8:
                release(bed);
                break;
            case 9:
                end_a_load(bed);
                break;
            case 10:
                grow_and_shrink_kv(bed);
                break;
            default:
                take_transient(bed);
            }
            if (step % 8 == 0) check(bed);
        }
        for (auto& [id, a] : bed.adapters)
            if (a.presence == loading) assert_int_equal(larder_lora_loaded(bed.lora, id, LARDER_OK), LARDER_OK);
    }
}

// A thousand adapters of ranks 8 to 128 take their ranks times four cells, and nothing besides.
void test_nothing_wasted(void**) {
    larder_context* context = nullptr;
    larder_cells* cells = nullptr;
    larder_lora* lora = nullptr;
    assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
    larder_cells_options c = LARDER_CELLS_OPTIONS_INIT;
    c.n_cells = 1000 * 4 * 128;
    assert_int_equal(larder_cells_create(context, &c, &cells), LARDER_OK);
    larder_lora_options o = LARDER_LORA_OPTIONS_INIT;
    o.cells = cells;
    o.load.fn = [](void*, const larder_lora_request*) -> larder_status { return LARDER_OK; };
    assert_int_equal(larder_lora_create(context, &o, &lora), LARDER_OK);
    Rng rng(test_seed());
    uint64_t n_cells = 0;
    std::vector<uint64_t> ids(1000);
    std::vector<larder_status> statuses(1000);
    for (uint64_t& id : ids) {
        const uint32_t rank = 8 + uint32_t(rng.below(121));
        n_cells += 4 * rank;
        assert_int_equal(larder_lora_register(lora, rank, 1, 0, &id), LARDER_OK);
    }
    assert_int_equal(larder_lora_acquire(lora, ids.data(), 1000, statuses.data()), LARDER_OK);
    larder_cells_state pool = LARDER_CELLS_STATE_INIT;
    larder_cells_query(cells, &pool);
    assert_int_equal(pool.n_used, n_cells);
    larder_lora_destroy(lora);
    larder_cells_destroy(cells);
    assert_int_equal(larder_context_destroy(context), LARDER_OK);
}

void test_bad_input(void**) {
    Bed bed;
    bed.only_good = true;
    uint64_t id, other;
    assert_int_equal(larder_lora_register(bed.lora, 0, 1, 0, &id), LARDER_E_RANGE);
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    larder_last_error(&e);
    assert_string_equal(e.field, "rank");
    assert_int_equal(larder_lora_register(bed.lora, max_rank + 1, 1, 0, &id), LARDER_E_RANGE);
    assert_int_equal(larder_lora_register(bed.lora, 1, std::nanf(""), 0, &id), LARDER_E_RANGE);
    assert_int_equal(larder_lora_register(bed.lora, 1, 1, 0, nullptr), LARDER_E_INVALID);
    assert_int_equal(larder_lora_register(bed.lora, 20, 1, 140, &id), LARDER_OK);
    assert_int_equal(larder_lora_register(bed.lora, 24, 1, 168, &other), LARDER_OK);
    larder_status s;
    uint32_t starts[2];
    int32_t cells[80];
    assert_int_equal(larder_lora_tables(bed.lora, &id, 1, cells, 80, starts, nullptr), LARDER_E_STATE);
    assert_int_equal(larder_lora_release(bed.lora, &id, 1), LARDER_E_STATE);
    assert_int_equal(larder_lora_loaded(bed.lora, id, LARDER_OK), LARDER_E_STATE);
    assert_int_equal(larder_lora_loaded(bed.lora, id, LARDER_PENDING), LARDER_E_INVALID);
    assert_int_equal(larder_lora_acquire(bed.lora, &id, 1, &s), LARDER_OK);
    assert_int_equal(larder_lora_tables(bed.lora, &id, 1, cells, 79, starts, nullptr), LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(starts[1], 80);
    assert_int_equal(larder_lora_unregister(bed.lora, id), LARDER_E_BUSY);
    // More than fits beside what is held: both numbers are said, and it does not wait.
    bed.kv.resize(300);
    assert_int_equal(larder_cells_alloc(bed.cells, LARDER_CELLS_ANY, 300, bed.kv.data()), LARDER_OK);
    assert_int_equal(larder_lora_acquire(bed.lora, &other, 1, &s), LARDER_PARTIAL);
    assert_int_equal(s, LARDER_E_NOSPACE);
    larder_last_error(&e);
    assert_non_null(std::strstr(e.message, "takes 96 cells; 20 are free"));
    assert_int_equal(larder_lora_make_room(bed.lora, 21), LARDER_E_NOSPACE);
    assert_int_equal(larder_lora_release(bed.lora, &id, 1), LARDER_OK);
    assert_int_equal(larder_lora_release(bed.lora, &id, 1), LARDER_E_STATE);
    larder_lora_options o = LARDER_LORA_OPTIONS_INIT;
    larder_lora* none = nullptr;
    assert_int_equal(larder_lora_create(bed.context, &o, &none), LARDER_E_INVALID);
    o.cells = bed.cells;
    assert_int_equal(larder_lora_create(bed.context, &o, &none), LARDER_E_INVALID);
    o.load.fn = Bed::load;
    o.max_rank = 65537;
    assert_int_equal(larder_lora_create(bed.context, &o, &none), LARDER_E_RANGE);
    assert_null(none);
}

// Eight threads take and give back, loads end on other threads, KV grows and shrinks beside them.
struct Crowd {
    larder_context* context = nullptr;
    larder_cells* cells = nullptr;
    larder_lora* lora = nullptr;
    std::vector<uint64_t> ids = std::vector<uint64_t>(24);
    std::mutex mutex;
    std::vector<uint64_t> pending;
    larder::atomic<uint64_t> n_acquired{0};

    static larder_status load(void* ctx, const larder_lora_request* r) {
        Crowd& crowd = *static_cast<Crowd*>(ctx);
        for (uint32_t i = 0; i < r->n_cells; ++i) {
            void* p = nullptr;
            larder_cells_address(crowd.cells, 0, 0, r->cells[i], &p);
            std::memcpy(p, &r->adapter, sizeof r->adapter);
        }
        if (r->adapter % 3) return LARDER_OK;
        std::lock_guard lock(crowd.mutex);
        crowd.pending.push_back(r->adapter);
        return LARDER_PENDING;
    }
    void end_loads() {
        std::vector<uint64_t> ended;
        {
            std::lock_guard lock(mutex);
            ended.swap(pending);
        }
        for (uint64_t id : ended) larder_lora_loaded(lora, id, LARDER_OK);
    }
    void work(uint64_t seed) {
        Rng rng(seed);
        const uint64_t rounds = test_rounds(400);
        for (uint64_t i = 0; i < rounds; ++i) {
            const uint64_t pair[2] = {ids[rng.below(ids.size())], ids[rng.below(ids.size())]};
            larder_status s[2];
            if (rng.below(4) == 0) larder_lora_prefetch(lora, pair, 2, s);
            larder_lora_acquire(lora, pair, 2, s);
            end_loads();
            for (int j = 0; j < 2; ++j) {
                if (s[j] < 0) continue;
                n_acquired.fetch_add(1, larder::relaxed);
                int32_t list[64];
                uint32_t starts[2];
                if (larder_lora_tables(lora, &pair[j], 1, list, 64, starts, nullptr) == LARDER_OK)
                    for (uint32_t c = 0; c < starts[1]; ++c) {
                        void* p = nullptr;
                        larder_cells_address(cells, 0, 0, list[c], &p);
                        assert_memory_equal(p, &pair[j], sizeof pair[j]);
                    }
                assert_int_equal(larder_lora_release(lora, &pair[j], 1), LARDER_OK);
            }
            int32_t kv[8];
            if (larder_lora_make_room(lora, 8) == LARDER_OK &&
                larder_cells_alloc(cells, LARDER_CELLS_ANY, 8, kv) == LARDER_OK)
                larder_cells_free(cells, kv, 8);
        }
    }
};

void test_threads(void**) {
    Crowd crowd;
    assert_int_equal(larder_context_create(nullptr, &crowd.context), LARDER_OK);
    larder_cells_options c = LARDER_CELLS_OPTIONS_INIT;
    c.n_cells = 600;
    c.cell_bytes = 16;
    assert_int_equal(larder_cells_create(crowd.context, &c, &crowd.cells), LARDER_OK);
    larder_lora_options o = LARDER_LORA_OPTIONS_INIT;
    o.cells = crowd.cells;
    o.load.fn = Crowd::load;
    o.load.ctx = &crowd;
    assert_int_equal(larder_lora_create(crowd.context, &o, &crowd.lora), LARDER_OK);
    for (size_t i = 0; i < crowd.ids.size(); ++i)
        assert_int_equal(larder_lora_register(crowd.lora, 4 + uint32_t(i % 12), 1, 0, &crowd.ids[i]), LARDER_OK);
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 8; ++t) threads.emplace_back([&crowd, t] { crowd.work(test_seed() + t); });
    for (auto& t : threads) t.join();
    crowd.end_loads();
    assert_true(crowd.n_acquired.load(larder::relaxed) > 0);
    larder_lora_state s = LARDER_LORA_STATE_INIT;
    larder_lora_query(crowd.lora, &s);
    assert_int_equal(s.n_acquired, 0);
    larder_lora_destroy(crowd.lora);
    larder_cells_state pool = LARDER_CELLS_STATE_INIT;
    larder_cells_query(crowd.cells, &pool);
    assert_int_equal(pool.n_used, 0);
    larder_cells_destroy(crowd.cells);
    assert_int_equal(larder_context_destroy(crowd.context), LARDER_OK);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_nothing_wasted),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
