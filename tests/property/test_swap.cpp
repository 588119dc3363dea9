// Swap plans against sets of block numbers: every block once, runs maximal, what was saved left out.
#include "support/cmocka.h"

#include <map>
#include <set>
#include <vector>

#include "base/hash.h"
#include "larder/larder.h"
#include "support/seed.h"

using larder::Rng;

namespace {

struct Bed {
    larder_context* context = nullptr;
    larder_layout* layout = nullptr;
    larder_arena* arena = nullptr;
    uint32_t n_blocks = 800;

    explicit Bed(larder_arena_order order, uint32_t run_blocks) {
        assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
        larder_layer_group g = LARDER_LAYER_GROUP_INIT;
        g.n_layers = 3;
        g.block_tokens = 4;
        g.n_kv_heads = 1;
        g.k_dim = g.v_dim = 8;
        larder_layout_options lo = LARDER_LAYOUT_OPTIONS_INIT;
        lo.groups = &g;
        lo.n_groups = 1;
        lo.group_stride = sizeof g;
        assert_int_equal(larder_layout_create(context, &lo, &layout), LARDER_OK);
        larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
        o.n_blocks = &n_blocks;
        o.n_block_counts = 1;
        o.max_seqs = 32;
        o.order = order;
        o.run_blocks = run_blocks;
        assert_int_equal(larder_arena_create(context, layout, &o, &arena), LARDER_OK);
    }
    ~Bed() {
        larder_arena_destroy(arena);
        larder_layout_destroy(layout);
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
};

// The numbers that a plan must name.
std::set<int32_t> wanted(const Bed& bed, const std::vector<larder_swap_seq>& seqs) {
    std::set<int32_t> out;
    for (const larder_swap_seq& s : seqs) {
        std::vector<int32_t> row(1024, -1);
        uint64_t n_tokens = 0;
        assert_int_equal(larder_arena_seq_length(bed.arena, s.seq, &n_tokens), LARDER_OK);
        assert_int_equal(larder_arena_block_table(bed.arena, 0, &s.seq, 1, 1, row.data(), row.size()), LARDER_OK);
        for (uint64_t i = s.n_saved_tokens / 4; i < (n_tokens + 3) / 4; ++i) out.insert(row[i]);
    }
    return out;
}

void check(const Bed& bed, const std::vector<larder_swap_seq>& seqs, uint64_t per_run) {
    std::vector<larder_swap_run> runs(bed.n_blocks);
    larder_swap_plan_info info = LARDER_SWAP_PLAN_INFO_INIT;
    info.copy_ns = 500;
    info.bandwidth_bytes_per_s = 1000000000;
    assert_int_equal(larder_swap_plan(bed.arena, 0, seqs.data(), sizeof seqs[0], uint32_t(seqs.size()), runs.data(),
                                      runs.size(), &info),
                     LARDER_OK);
    std::set<int32_t> named;
    uint64_t packed = 0;
    for (uint32_t i = 0; i < info.n_runs; ++i) {
        assert_true(runs[i].n_blocks > 0);
        assert_int_equal(runs[i].packed, packed);
        packed += runs[i].n_blocks;
        if (i) assert_true(runs[i].first > runs[i - 1].first + int32_t(runs[i - 1].n_blocks));  // maximal, ascending
        for (uint32_t k = 0; k < runs[i].n_blocks; ++k) assert_true(named.insert(runs[i].first + int32_t(k)).second);
    }
    assert_true(named == wanted(bed, seqs));
    const uint64_t block_bytes = 3 * 2 * 4 * 8 * 2;
    assert_int_equal(info.n_blocks, named.size());
    assert_int_equal(info.n_bytes, named.size() * block_bytes);
    assert_int_equal(info.n_copies, info.n_runs * per_run);
    assert_int_equal(info.modelled_ns, info.n_copies * 500 + info.n_bytes);
    assert_int_equal(info.by_blocks_ns, info.n_blocks * per_run * 500 + info.n_bytes);
    if (info.n_runs < 2) return;
    std::vector<larder_swap_run> fewer(info.n_runs - 1);
    const uint32_t n_runs = info.n_runs;
    assert_int_equal(larder_swap_plan(bed.arena, 0, seqs.data(), sizeof seqs[0], uint32_t(seqs.size()), fewer.data(),
                                      fewer.size(), &info),
                     LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(info.n_runs, n_runs);
    for (uint32_t i = 0; i + 1 < n_runs; ++i) assert_int_equal(fewer[i].first, runs[i].first);
}

void random_sequences(larder_arena_order order, uint32_t run_blocks, uint64_t per_run) {
    const Bed bed(order, run_blocks);
    Rng rng(test_seed());
    std::vector<larder_seq> live;
    for (uint64_t i = 0; i < test_rounds(1500); ++i) {
        larder_seq s = 0;
        const uint64_t what = rng.below(5);
        if (live.empty() || (what == 0 && live.size() < 30)) {
            assert_int_equal(larder_arena_seq_create(bed.arena, &s), LARDER_OK);
            live.push_back(s);
        } else if (what == 1 && live.size() < 30) {
            const larder_seq from = live[rng.below(live.size())];
            uint64_t n = 0;
            assert_int_equal(larder_arena_seq_length(bed.arena, from, &n), LARDER_OK);
            if (larder_arena_seq_fork(bed.arena, from, rng.below(n + 1), 1, &s) >= 0) live.push_back(s);
        } else if (what == 2) {
            std::swap(live[rng.below(live.size())], live.back());
            assert_int_equal(larder_arena_seq_destroy(bed.arena, live.back()), LARDER_OK);
            live.pop_back();
        } else {
            (void)larder_arena_seq_append(bed.arena, live[rng.below(live.size())], 1 + rng.below(60), nullptr, 0,
                                          nullptr);
        }
        std::vector<larder_swap_seq> seqs;
        for (larder_seq id : live) {
            if (rng.below(2)) continue;
            larder_swap_seq q = LARDER_SWAP_SEQ_INIT;
            q.seq = id;
            q.n_saved_tokens = rng.below(3) ? 0 : rng.below(80);
            seqs.push_back(q);
        }
        check(bed, seqs, per_run);
    }
}

void layer_first(void**) {
    random_sequences(LARDER_ARENA_LAYER_FIRST, 0, 6);
}

void layer_first_in_runs(void**) {
    random_sequences(LARDER_ARENA_LAYER_FIRST, 16, 6);
}

void page_first(void**) {
    random_sequences(LARDER_ARENA_PAGE_FIRST, 0, 1);
}

void bad_input(void**) {
    const Bed bed(LARDER_ARENA_LAYER_FIRST, 0);
    larder_swap_seq s = LARDER_SWAP_SEQ_INIT;
    larder_swap_plan_info info = LARDER_SWAP_PLAN_INFO_INIT;
    assert_int_equal(larder_swap_plan(bed.arena, 0, &s, sizeof s, 1, nullptr, 0, &info), LARDER_E_STALE);
    assert_int_equal(larder_swap_plan(bed.arena, 1, &s, sizeof s, 0, nullptr, 0, &info), LARDER_E_RANGE);
    assert_int_equal(larder_swap_plan(bed.arena, 0, nullptr, sizeof s, 1, nullptr, 0, &info), LARDER_E_INVALID);
    assert_int_equal(larder_swap_plan(bed.arena, 0, nullptr, 0, 0, nullptr, 0, nullptr), LARDER_E_INVALID);
    s.reserved0 = 1;
    assert_int_equal(larder_swap_plan(bed.arena, 0, &s, sizeof s, 1, nullptr, 0, &info), LARDER_E_INVALID);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(layer_first),
        cmocka_unit_test(layer_first_in_runs),
        cmocka_unit_test(page_first),
        cmocka_unit_test(bad_input),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
