// The pool of cells against a plain array of owners: every shape, the transient reservation, conservation.
#include "support/cmocka.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include "base/hash.h"
#include "larder/larder.h"
#include "support/seed.h"

using larder::Rng;

namespace {

struct Bed {
    larder_context* context = nullptr;
    larder_cells* cells = nullptr;
    larder_cells_options o = LARDER_CELLS_OPTIONS_INIT;

    explicit Bed(const larder_cells_options& options) : o(options) {
        assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
        assert_int_equal(larder_cells_create(context, &o, &cells), LARDER_OK);
    }
    ~Bed() {
        larder_cells_destroy(cells);
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
    uint64_t& word(int32_t cell, uint32_t plane = 0) const {
        void* p = nullptr;
        assert_int_equal(larder_cells_address(cells, plane, o.n_layers - 1, cell, &p), LARDER_OK);
        return *static_cast<uint64_t*>(p);
    }
};

constexpr int32_t nobody = -1, activations = -2;

struct Model {
    std::vector<int32_t> owner;                    // of each cell
    std::map<int32_t, std::vector<int32_t>> held;  // by allocation
    int32_t next = 0;
    uint32_t n_active = 0;
};

bool exists(const Model& m, uint32_t n, uint32_t align, uint32_t end) {
    for (uint32_t at = 0; at + n <= end; at += align) {
        uint32_t i = 0;
        while (i < n && m.owner[at + i] == nobody) ++i;
        if (i == n) return true;
    }
    return false;
}

void take(const Bed& bed, Model& m, Rng& rng) {
    const auto shape = larder_cells_shape(1 + rng.below(4));
    const uint32_t run = bed.o.run_cells, end = bed.o.n_cells - bed.o.n_transient;
    const bool runs = shape >= LARDER_CELLS_RUNS;
    const uint32_t n = runs ? run * uint32_t(1 + rng.below(3)) : uint32_t(1 + rng.below(rng.below(8) ? 40 : 200));
    std::vector<int32_t> got(n, -9);
    const larder_status s = larder_cells_alloc(bed.cells, shape, n, got.data());
    const uint32_t n_free = uint32_t(std::count(m.owner.begin(), m.owner.end(), nobody));
    if (shape == LARDER_CELLS_ANY) assert_int_equal(s, n <= n_free ? LARDER_OK : LARDER_E_NOSPACE);
    if (shape == LARDER_CELLS_CONTIGUOUS) assert_int_equal(s, exists(m, n, 1, end) ? LARDER_OK : LARDER_E_NOSPACE);
    if (s < 0) {
        assert_int_equal(s, LARDER_E_NOSPACE);
        if (runs && n == run) assert_false(exists(m, run, shape == LARDER_CELLS_GRID ? run : 1, end));
        return;
    }
    for (uint32_t i = 0; i < n; ++i) {
        assert_in_range(got[i], 0, bed.o.n_cells - 1);
        assert_int_equal(m.owner[size_t(got[i])], nobody);  // in nobody else's hands
        m.owner[size_t(got[i])] = m.next;
        if (shape != LARDER_CELLS_ANY) assert_true(uint32_t(got[i]) < end);
        const uint32_t adjacent = shape == LARDER_CELLS_CONTIGUOUS ? n : runs ? run : 1;
        if (i % adjacent) assert_int_equal(got[i], got[i - 1] + 1);
        if (shape == LARDER_CELLS_GRID && i % run == 0) assert_int_equal(uint32_t(got[i]) % run, 0);
        bed.word(got[i], bed.o.n_planes - 1) = uint64_t(m.next) << 32 | i;
    }
    // Lent cells go last.
    if (shape == LARDER_CELLS_ANY && std::any_of(got.begin(), got.end(), [&](int32_t c) { return uint32_t(c) >= end; }))
        assert_int_equal(std::count(m.owner.begin(), m.owner.begin() + end, nobody), 0);
    m.held[m.next++] = got;
}

void give(const Bed& bed, Model& m, Rng& rng) {
    if (m.held.empty()) return;
    auto it = m.held.begin();
    std::advance(it, ptrdiff_t(rng.below(m.held.size())));
    std::vector<int32_t> list = it->second;
    for (uint32_t i = 0; i < list.size(); ++i)  // the bytes stayed or moved along
        assert_true(bed.word(list[i], bed.o.n_planes - 1) == (uint64_t(it->first) << 32 | i));
    if (rng.below(4) == 0) {  // a list with something wrong in it changes nothing
        std::vector<int32_t> bad = list;
        const uint64_t kind = rng.below(m.n_active ? 4 : 3);
        bad.push_back(kind == 0   ? list[0]
                      : kind == 1 ? int32_t(bed.o.n_cells)
                      : kind == 2 ? -1
                                  : int32_t(bed.o.n_cells - bed.o.n_transient));
        assert_int_equal(larder_cells_free(bed.cells, bad.data(), uint32_t(bad.size())),
                         kind == 1 || kind == 2 ? LARDER_E_RANGE : LARDER_E_STALE);
    }
    for (uint32_t i = uint32_t(list.size()); i > 1; --i) std::swap(list[i - 1], list[rng.below(i)]);
    assert_int_equal(larder_cells_free(bed.cells, list.data(), uint32_t(list.size())), LARDER_OK);
    assert_int_equal(larder_cells_free(bed.cells, list.data(), 1), LARDER_E_STALE);
    for (int32_t c : list) m.owner[size_t(c)] = nobody;
    m.held.erase(it);
}

void activate(const Bed& bed, Model& m, Rng& rng) {
    const uint32_t end = bed.o.n_cells - bed.o.n_transient, n = uint32_t(1 + rng.below(bed.o.n_transient));
    std::vector<larder_cells_move> moves(bed.o.n_transient);
    uint32_t n_moves = 0;
    int32_t first = -1;
    if (m.n_active) {
        assert_int_equal(larder_cells_transient_begin(bed.cells, n, moves.data(), bed.o.n_transient, &n_moves, &first),
                         LARDER_E_STATE);
        assert_int_equal(larder_cells_transient_end(bed.cells), LARDER_OK);
        assert_int_equal(larder_cells_transient_end(bed.cells), LARDER_E_STATE);
        for (uint32_t i = 0; i < m.n_active; ++i) m.owner[end + i] = nobody;
        m.n_active = 0;
        return;
    }
    uint32_t n_lent = 0, n_elsewhere = 0;
    for (uint32_t i = 0; i < bed.o.n_cells; ++i) {
        const bool inside = i >= end && i < end + n;
        n_lent += inside && m.owner[i] != nobody;
        n_elsewhere += !inside && m.owner[i] == nobody;
    }
    if (n_lent && n_lent <= n_elsewhere)
        assert_int_equal(larder_cells_transient_begin(bed.cells, n, moves.data(), n_lent - 1, &n_moves, &first),
                         LARDER_E_BUFFER_TOO_SMALL);
    const larder_status s =
        larder_cells_transient_begin(bed.cells, n, moves.data(), bed.o.n_transient, &n_moves, &first);
    assert_int_equal(s, n_lent <= n_elsewhere ? LARDER_OK : LARDER_E_NOSPACE);
    assert_int_equal(n_moves, n_lent);
    if (s < 0) return;
    assert_int_equal(first, end);
    for (uint32_t i = 0; i < n_moves; ++i) {
        assert_in_range(moves[i].src, end, end + n - 1);
        assert_int_equal(m.owner[size_t(moves[i].dst)], nobody);
        const int32_t who = m.owner[size_t(moves[i].src)];
        assert_true(who >= 0);
        m.owner[size_t(moves[i].dst)] = who;
        std::vector<int32_t>& list = m.held[who];
        *std::find(list.begin(), list.end(), moves[i].src) = moves[i].dst;
    }
    for (uint32_t i = 0; i < n; ++i) {
        m.owner[end + i] = activations;
        bed.word(first + int32_t(i)) = ~uint64_t(0);  // activations write where they like
        bed.word(first + int32_t(i), bed.o.n_planes - 1) = ~uint64_t(0);
    }
    m.n_active = n;
}

void random_operations(larder_arena_order order) {
    Rng rng(test_seed() + uint64_t(order));
    for (uint64_t round = 0; round < test_rounds(12); ++round) {
        larder_cells_options o = LARDER_CELLS_OPTIONS_INIT;
        o.n_cells = uint32_t(200 + rng.below(9000));
        o.cell_bytes = 16;
        o.n_layers = 2;
        o.n_planes = uint32_t(1 + rng.below(3));
        o.order = order;
        o.run_cells = 1u << rng.below(7);
        o.n_transient = uint32_t(1 + rng.below(o.n_cells / 4));
        Bed bed(o);
        Model m;
        m.owner.assign(o.n_cells, nobody);
        for (int i = 0; i < 600; ++i) {
            const uint64_t what = rng.below(20);
            if (what < 10)
                take(bed, m, rng);
            else if (what < 18)
                give(bed, m, rng);
            else
                activate(bed, m, rng);
            larder_cells_state s = LARDER_CELLS_STATE_INIT;
            assert_int_equal(larder_cells_query(bed.cells, &s), LARDER_OK);
            assert_int_equal(s.n_free, std::count(m.owner.begin(), m.owner.end(), nobody));
            assert_int_equal(s.n_transient_used, m.n_active);
            assert_int_equal(s.n_used + s.n_free + s.n_transient_used, o.n_cells);
            const auto lent = m.owner.begin() + (o.n_cells - o.n_transient);
            assert_int_equal(s.n_lent, std::count_if(lent, m.owner.end(), [](int32_t w) { return w >= 0; }));
        }
    }
}

void layer_first(void**) {
    random_operations(LARDER_ARENA_LAYER_FIRST);
}

void page_first(void**) {
    random_operations(LARDER_ARENA_PAGE_FIRST);
}

// Whatever the ranks and whatever came before: as long as enough cells are free, an adapter finds room.
void no_fragmentation(void**) {
    larder_cells_options o = LARDER_CELLS_OPTIONS_INIT;
    o.n_cells = 20000;
    Bed bed(o);
    Rng rng(test_seed());
    std::vector<std::vector<int32_t>> held;
    uint32_t n_used = 0;
    for (uint64_t i = 0; i < test_rounds(4000); ++i) {
        const uint32_t n = rng.below(2) ? 4u * (8u << rng.below(5)) : uint32_t(1 + rng.below(300));
        std::vector<int32_t> got(n);
        while (n_used + n > o.n_cells) {
            std::swap(held[rng.below(held.size())], held.back());
            assert_int_equal(larder_cells_free(bed.cells, held.back().data(), uint32_t(held.back().size())), LARDER_OK);
            n_used -= uint32_t(held.back().size());
            held.pop_back();
        }
        assert_int_equal(larder_cells_alloc(bed.cells, LARDER_CELLS_ANY, n, got.data()), LARDER_OK);
        n_used += n;
        held.push_back(got);
    }
}

void threads(void**) {
    larder_cells_options o = LARDER_CELLS_OPTIONS_INIT;
    o.n_cells = 1000;
    o.cell_bytes = 16;
    o.n_layers = 1;
    Bed bed(o);
    std::vector<std::thread> all;
    std::vector<int> bad(4, 0);
    for (uint32_t t = 0; t < 4; ++t)
        all.emplace_back([&, t] {
            Rng rng(test_seed() + t);
            for (uint64_t i = 0; i < test_rounds(3000); ++i) {
                int32_t got[32];
                const uint32_t n = uint32_t(1 + rng.below(32));
                void* p = nullptr;
                if (larder_cells_alloc(bed.cells, rng.below(2) ? LARDER_CELLS_ANY : LARDER_CELLS_CONTIGUOUS, n, got) <
                    0)
                    continue;
                for (uint32_t k = 0; k < n; ++k) {
                    larder_cells_address(bed.cells, 0, 0, got[k], &p);
                    *static_cast<uint32_t*>(p) = t;
                }
                for (uint32_t k = 0; k < n; ++k) {
                    larder_cells_address(bed.cells, 0, 0, got[k], &p);
                    bad[t] += *static_cast<uint32_t*>(p) != t;
                }
                bad[t] += larder_cells_free(bed.cells, got, n) != LARDER_OK;
            }
        });
    for (auto& t : all) t.join();
    for (int b : bad) assert_int_equal(b, 0);
    larder_cells_state s = LARDER_CELLS_STATE_INIT;
    assert_int_equal(larder_cells_query(bed.cells, &s), LARDER_OK);
    assert_int_equal(s.n_used, 0);
}

void bad_input(void**) {
    larder_context* c = nullptr;
    assert_int_equal(larder_context_create(nullptr, &c), LARDER_OK);
    larder_cells* p = nullptr;
    auto try_with = [&](auto change) {
        larder_cells_options o = LARDER_CELLS_OPTIONS_INIT;
        o.n_cells = 100;
        change(o);
        return larder_cells_create(c, &o, &p);
    };
    assert_int_equal(larder_cells_create(c, nullptr, &p), LARDER_E_RANGE);
    assert_int_equal(try_with([](auto& o) { o.cell_bytes = 24; }), LARDER_E_RANGE);
    assert_int_equal(try_with([](auto& o) { o.run_cells = 3; }), LARDER_E_RANGE);
    assert_int_equal(try_with([](auto& o) { o.run_cells = 128; }), LARDER_E_RANGE);
    assert_int_equal(try_with([](auto& o) { o.n_transient = 100; }), LARDER_E_RANGE);
    assert_int_equal(try_with([](auto& o) { o.order = 7; }), LARDER_E_INVALID);
    assert_int_equal(try_with([](auto& o) { o.reserved0 = 1; }), LARDER_E_INVALID);
    assert_int_equal(
        try_with([](auto& o) { o.cell_bytes = 1 << 30, o.n_layers = 4096, o.n_planes = 16, o.n_cells = 1 << 28; }),
        LARDER_E_RANGE);
    assert_null(p);
    assert_int_equal(try_with([](auto&) {}), LARDER_OK);
    int32_t list[200];
    uint32_t n_moves = 0;
    int32_t first = 0;
    void* address = nullptr;
    assert_int_equal(larder_cells_alloc(p, 0, 1, list), LARDER_E_INVALID);
    assert_int_equal(larder_cells_alloc(p, LARDER_CELLS_GRID, 15, list), LARDER_E_RANGE);
    assert_int_equal(larder_cells_alloc(p, LARDER_CELLS_ANY, 1, nullptr), LARDER_E_INVALID);
    assert_int_equal(larder_cells_alloc(p, LARDER_CELLS_ANY, 101, list), LARDER_E_NOSPACE);
    assert_int_equal(larder_cells_address(p, 0, 0, 0, &address), LARDER_E_UNSUPPORTED);
    assert_int_equal(larder_cells_transient_begin(p, 1, nullptr, 0, &n_moves, &first), LARDER_E_RANGE);
    larder_cells_destroy(p);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(layer_first), cmocka_unit_test(page_first), cmocka_unit_test(no_fragmentation),
        cmocka_unit_test(threads),     cmocka_unit_test(bad_input),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
