/* Blocks by id: references, generations, seals, watermarks, runs. */
#include "support/arena_bed.h"

static void blocks_have_references_and_generations(void** state) {
    (void)state;
    larder_arena* a = simple(5);
    larder_block b[4], more;
    assert_int_equal(larder_arena_alloc(a, 0, 5, b), LARDER_E_NOSPACE);
    assert_int_equal(larder_arena_alloc(a, 0, 4, b), LARDER_OK);
    assert_int_equal(larder_arena_alloc(a, 0, 1, &more), LARDER_E_NOSPACE);
    assert_string_equal(last_field(), "n_blocks");
    assert_int_equal(larder_arena_alloc(a, 1, 1, &more), LARDER_E_RANGE);
    assert_int_equal(larder_arena_alloc(a, 0, 1, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_arena_alloc(a, 0, 0, NULL), LARDER_OK);
    larder_arena_block_state st = LARDER_ARENA_BLOCK_STATE_INIT;
    for (int i = 0; i < 4; ++i) {
        assert_int_equal(larder_arena_block_query(a, b[i], &st), LARDER_OK);
        assert_in_range(st.number, 1, 4); /* never the null block */
        assert_int_equal(st.n_refs, 1);
        assert_int_equal(st.sealed, 0);
        for (int k = 0; k < i; ++k) assert_true(b[i] != b[k]);
    }
    assert_int_equal(larder_arena_ref(a, b, 4), LARDER_OK);
    assert_int_equal(larder_arena_unref(a, b, 4), LARDER_OK);
    assert_int_equal(larder_arena_seal(a, b, 1), LARDER_OK);
    assert_int_equal(larder_arena_block_query(a, b[0], &st), LARDER_OK);
    assert_int_equal(st.sealed, 1);
    /* one stale id: the others are done */
    assert_int_equal(larder_arena_unref(a, &b[3], 1), LARDER_OK);
    assert_int_equal(larder_arena_unref(a, &b[2], 2), LARDER_E_STALE);
    assert_int_equal(larder_arena_block_query(a, b[2], &st), LARDER_E_STALE);
    assert_int_equal(larder_arena_seal(a, &b[2], 1), LARDER_E_STALE);
    /* ref is all or none */
    const larder_block mixed[2] = {b[0], b[2]};
    assert_int_equal(larder_arena_ref(a, mixed, 2), LARDER_E_STALE);
    assert_int_equal(larder_arena_block_query(a, b[0], &st), LARDER_OK);
    assert_int_equal(st.n_refs, 1);
    /* last freed, first given; another generation; not sealed any more */
    assert_int_equal(larder_arena_unref(a, &b[0], 1), LARDER_OK);
    assert_int_equal(larder_arena_alloc(a, 0, 1, &more), LARDER_OK);
    assert_true(more != b[0]);
    assert_int_equal(more >> 32, b[0] >> 32);
    assert_int_equal(larder_arena_block_query(a, more, &st), LARDER_OK);
    assert_int_equal(st.sealed, 0);
    const larder_block foreign[] = {0, UINT64_MAX, (larder_block)2 << 60, b[1] ^ ((larder_block)1 << 60),
                                    b[1] + ((larder_block)7 << 32)};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; ++i) {
        assert_int_equal(larder_arena_ref(a, &foreign[i], 1), LARDER_E_STALE);
        assert_int_equal(larder_arena_unref(a, &foreign[i], 1), LARDER_E_STALE);
        assert_int_equal(larder_arena_block_query(a, foreign[i], &st), LARDER_E_STALE);
    }
    void* p = NULL;
    assert_int_equal(larder_arena_block_address(a, b[1], LAYERS, LARDER_PLANE_K, &p), LARDER_E_RANGE);
    assert_int_equal(larder_arena_block_address(a, b[1], 0, 6, &p), LARDER_E_RANGE);
    assert_int_equal(larder_arena_block_address(a, b[1], 0, LARDER_PLANE_SCALE, &p), LARDER_OK);
    assert_null(p);
    assert_int_equal(larder_arena_verify(a), LARDER_OK);
    larder_arena_destroy(a);
}

static uint64_t free_one(void* ctx, uint32_t group, uint64_t n_blocks) {
    larder_block* b = (larder_block*)ctx;
    (void)group;
    (void)n_blocks;
    larder_arena* a = (larder_arena*)(uintptr_t)b[1];
    return larder_arena_unref(a, b, 1) == LARDER_OK ? 1 : 0;
}

static void watermarks_and_reclaim(void** state) {
    (void)state;
    const larder_layer_group g = full_group();
    larder_layout* layout = layout_of(&g, 1);
    const uint32_t n = 101;
    static larder_block held[2];
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.n_blocks = &n;
    o.n_block_counts = 1;
    o.low_watermark = 100;
    o.high_watermark = 200;
    o.reclaim.fn = free_one;
    o.reclaim.ctx = held;
    larder_arena* a = NULL;
    assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_OK);
    larder_block b[100], extra;
    larder_arena_group_state gs = LARDER_ARENA_GROUP_STATE_INIT;
    assert_int_equal(larder_arena_alloc(a, 0, 90, b), LARDER_OK);
    assert_int_equal(larder_arena_group_query(a, 0, &gs), LARDER_OK);
    assert_int_equal(gs.n_to_reclaim, 0);
    assert_int_equal(larder_arena_alloc(a, 0, 10, b + 90), LARDER_OK);
    assert_int_equal(larder_arena_group_query(a, 0, &gs), LARDER_OK);
    assert_int_equal(gs.n_to_reclaim, 20);
    held[0] = b[5];
    held[1] = (larder_block)(uintptr_t)a;
    assert_int_equal(larder_arena_alloc(a, 0, 1, &extra), LARDER_OK);
    assert_int_equal(larder_arena_alloc(a, 0, 1, &extra), LARDER_E_NOSPACE);
    larder_stats stats;
    stats.struct_size = sizeof stats;
    assert_int_equal(larder_context_stats(context, &stats), LARDER_OK);
    assert_int_equal(stats.arena_blocks_used, 100);
    assert_int_equal(stats.arena_blocks_total, 101);
    assert_true(stats.arena_allocs >= 101);
    assert_true(stats.arena_alloc_failures >= 1);
    larder_arena_destroy(a);
    assert_int_equal(larder_context_stats(context, &stats), LARDER_OK);
    assert_int_equal(stats.arena_blocks_used, 0);
    assert_true(stats.arena_allocs >= 101);
    larder_layout_destroy(layout);
}

static void runs_keep_sequences_together(void** state) {
    (void)state;
    const larder_layer_group g = full_group();
    larder_layout* layout = layout_of(&g, 1);
    const uint32_t n = 65;
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.n_blocks = &n;
    o.n_block_counts = 1;
    o.run_blocks = 16;
    larder_arena* a = NULL;
    assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_OK);
    larder_seq s[4];
    for (int i = 0; i < 4; ++i) assert_int_equal(larder_arena_seq_create(a, &s[i]), LARDER_OK);
    /* in turn, a block at a time: single blocks would be scattered */
    for (int round = 0; round < 12; ++round)
        for (int i = 0; i < 3; ++i) assert_int_equal(larder_arena_seq_append(a, s[i], BT, NULL, 0, NULL), LARDER_OK);
    larder_arena_run runs[8];
    uint64_t n_runs = 0;
    for (int i = 0; i < 3; ++i) {
        assert_int_equal(larder_arena_seq_runs(a, s[i], 0, runs, 8, &n_runs), LARDER_OK);
        assert_in_range(n_runs, 1, 2);
        uint64_t sum = 0;
        for (uint64_t k = 0; k < n_runs; ++k) {
            assert_int_equal(runs[k].entry, sum);
            sum += runs[k].n_blocks;
        }
        assert_int_equal(sum, 12);
    }
    assert_int_equal(larder_arena_verify(a), LARDER_OK);
    /* what the others reserved and do not use is there when nothing else is */
    assert_int_equal(larder_arena_seq_append(a, s[3], 28 * BT, NULL, 0, NULL), LARDER_OK);
    assert_int_equal(larder_arena_seq_append(a, s[3], 1, NULL, 0, NULL), LARDER_E_NOSPACE);
    assert_int_equal(larder_arena_seq_runs(a, s[3], 0, runs, 1, &n_runs), LARDER_E_BUFFER_TOO_SMALL);
    assert_true(n_runs > 1);
    assert_int_equal(larder_arena_seq_runs(a, s[3], 1, runs, 8, &n_runs), LARDER_E_RANGE);
    assert_int_equal(larder_arena_verify(a), LARDER_OK);
    /* all merged again: one run of 32 */
    for (int i = 0; i < 4; ++i) assert_int_equal(larder_arena_seq_destroy(a, s[i]), LARDER_OK);
    assert_int_equal(larder_arena_seq_runs(a, s[3], 0, runs, 8, &n_runs), LARDER_E_STALE);
    assert_int_equal(larder_arena_seq_create(a, &s[0]), LARDER_OK);
    assert_int_equal(larder_arena_seq_append(a, s[0], 32 * BT, NULL, 0, NULL), LARDER_OK);
    assert_int_equal(larder_arena_seq_runs(a, s[0], 0, runs, 8, &n_runs), LARDER_OK);
    assert_int_equal(n_runs, 1);
    larder_arena_destroy(a);
    larder_layout_destroy(layout);
}

static void freed_blocks_are_cleared_when_asked(void** state) {
    (void)state;
    const larder_layer_group g = full_group();
    larder_layout* layout = layout_of(&g, 1);
    const uint32_t n = 3;
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.n_blocks = &n;
    o.n_block_counts = 1;
    o.flags = LARDER_ARENA_ZERO_ON_FREE;
    larder_arena* a = NULL;
    assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_OK);
    larder_block b;
    void* p = NULL;
    assert_int_equal(larder_arena_alloc(a, 0, 1, &b), LARDER_OK);
    assert_int_equal(larder_arena_block_address(a, b, 2, LARDER_PLANE_K, &p), LARDER_OK);
    char zero[BT * HEADS * DIM * 2] = {0};
    memset(p, 1, sizeof zero);
    assert_int_equal(larder_arena_unref(a, &b, 1), LARDER_OK);
    assert_memory_equal(p, zero, sizeof zero);
    larder_arena_destroy(a);
    larder_layout_destroy(layout);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blocks_have_references_and_generations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(watermarks_and_reclaim, set_up, tear_down),
        cmocka_unit_test_setup_teardown(runs_keep_sequences_together, set_up, tear_down),
        cmocka_unit_test_setup_teardown(freed_blocks_are_cleared_when_asked, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
