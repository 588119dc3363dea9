/* What an arena refuses at its creation, and how it divides a budget. */
#include "support/arena_bed.h"

static void bad_options_name_the_field(void** state) {
    (void)state;
    const larder_layer_group g = full_group();
    larder_layout* layout = layout_of(&g, 1);
    const larder_arena_options init = LARDER_ARENA_OPTIONS_INIT;
    const uint32_t ten = 10, one = 1, huge = UINT32_MAX;
    larder_arena_options o = init;
    expect_bad(layout, &o, LARDER_E_INVALID, "budget_bytes");
    expect_bad(layout, NULL, LARDER_E_INVALID, "budget_bytes");
    o.budget_bytes = 100;
    expect_bad(layout, &o, LARDER_E_NOSPACE, "budget_bytes");
    o.budget_bytes = UINT64_MAX;
    expect_bad(layout, &o, LARDER_E_RANGE, "budget_bytes");
    o.budget_bytes = (uint64_t)1 << 45;
    larder_arena* a = NULL;
    larder_status s = larder_arena_create(context, layout, &o, &a);
    assert_true(s == LARDER_E_NOMEM || s == LARDER_E_RANGE);
#define BAD(change, status, field)                                                                                     \
    do {                                                                                                               \
        o = init;                                                                                                      \
        o.n_blocks = &ten;                                                                                             \
        o.n_block_counts = 1;                                                                                          \
        change;                                                                                                        \
        expect_bad(layout, &o, status, field);                                                                         \
    } while (0)
    BAD(o.n_block_counts = 2, LARDER_E_INVALID, "n_block_counts");
    BAD(o.n_blocks = NULL, LARDER_E_INVALID, "n_blocks");
    BAD(o.n_blocks = &one, LARDER_E_RANGE, "n_blocks");
    BAD(o.n_blocks = &huge, LARDER_E_RANGE, "n_blocks");
    BAD(o.mode = 9, LARDER_E_INVALID, "mode");
    BAD(o.mode = -1, LARDER_E_INVALID, "mode");
    BAD(o.memory = 9, LARDER_E_INVALID, "memory");
    BAD(o.memory = LARDER_ARENA_IMPORTED, LARDER_E_INVALID, "memory");
    BAD(o.order = 3, LARDER_E_INVALID, "order");
    BAD(o.flags = 1u << 31, LARDER_E_TOO_NEW, "flags");
    BAD(o.n_tp = 3, LARDER_E_RANGE, "n_tp");
    BAD(o.n_tp = 5000, LARDER_E_RANGE, "n_tp");
    BAD(o.max_seqs = UINT32_MAX, LARDER_E_RANGE, "max_seqs");
    BAD(o.max_seq_tokens = UINT64_MAX, LARDER_E_RANGE, "max_seq_tokens");
    BAD(o.max_table_entries = UINT64_MAX, LARDER_E_RANGE, "max_table_entries");
    BAD(o.low_watermark = 1001, LARDER_E_RANGE, "low_watermark");
    BAD((o.low_watermark = 500, o.high_watermark = 400), LARDER_E_RANGE, "high_watermark");
    BAD(o.granule_bytes = 12288, LARDER_E_INVALID, "granule_bytes");
    BAD(o.run_blocks = 6, LARDER_E_INVALID, "run_blocks");
    BAD(o.run_blocks = 8192, LARDER_E_RANGE, "run_blocks");
    BAD(o.reserved0 = 1, LARDER_E_INVALID, "reserved0");
    BAD(o.granule_bytes = 1, LARDER_E_RANGE, "granule_bytes");
    BAD(o.mode = LARDER_ARENA_CONTIGUOUS, LARDER_E_INVALID, "n_blocks");
    BAD(o.struct_size = 4, LARDER_E_INVALID, "struct_size");
    BAD((o.mode = LARDER_ARENA_CONTIGUOUS, o.n_blocks = NULL, o.n_block_counts = 0, o.budget_bytes = 1 << 20),
        LARDER_E_NOSPACE, "budget_bytes");
    BAD((o.mode = LARDER_ARENA_CONTIGUOUS, o.n_blocks = NULL, o.n_block_counts = 0, o.budget_bytes = 1 << 30,
         o.max_seq_tokens = (uint64_t)1 << 40),
        LARDER_E_RANGE, "max_seq_tokens");
    o = init;
    assert_int_equal(larder_arena_create(NULL, layout, &o, &a), LARDER_E_INVALID);
    assert_int_equal(larder_arena_create(context, NULL, &o, &a), LARDER_E_INVALID);
    assert_int_equal(larder_arena_create(context, layout, &o, NULL), LARDER_E_INVALID);
    larder_arena_destroy(NULL);
    larder_layout_destroy(layout);
}

static void groups_of_every_kind(void** state) {
    (void)state;
    larder_layer_group g[4] = {full_group(), full_group(), LARDER_LAYER_GROUP_INIT, LARDER_LAYER_GROUP_INIT};
    g[1].kind = LARDER_GROUP_WINDOW;
    g[1].block_tokens = 2;
    g[1].window = 4;
    g[1].n_sinks = 1;
    g[2].kind = LARDER_GROUP_RECURRENT;
    g[2].n_layers = 2;
    g[2].state_bytes = 100;
    g[2].checkpoint_tokens = 64;
    g[3].kind = LARDER_GROUP_LATENT;
    g[3].n_layers = 1;
    g[3].n_kv_heads = 1;
    g[3].k_dim = 8;
    g[3].block_tokens = 8;
    larder_layout* layout = layout_of(g, 4);
    const uint32_t n_blocks[4] = {30, 30, 5, 30};
    larder_arena* a = paged(layout, n_blocks, 4);
    larder_seq s, f;
    assert_int_equal(larder_arena_seq_create(a, &s), LARDER_OK);
    assert_int_equal(larder_arena_seq_append(a, s, 13, NULL, 0, NULL), LARDER_OK);
    larder_arena_group_state gs = LARDER_ARENA_GROUP_STATE_INIT;
    const uint64_t used[4] = {4, 7, 1, 2};
    for (uint32_t i = 0; i < 4; ++i) {
        assert_int_equal(larder_arena_group_query(a, i, &gs), LARDER_OK);
        assert_int_equal(gs.n_used, used[i]);
    }
    /* the state is copied whenever a fork goes on */
    larder_block state_block, other;
    void* p = NULL;
    assert_int_equal(larder_arena_seq_blocks(a, s, 2, 0, 1, &state_block), LARDER_OK);
    assert_int_equal(larder_arena_block_address(a, state_block, 1, LARDER_PLANE_K, &p), LARDER_OK);
    memset(p, 0x42, 100);
    assert_int_equal(larder_arena_seq_fork(a, s, 13, 1, &f), LARDER_OK);
    uint32_t n = 0;
    assert_int_equal(larder_arena_seq_append(a, f, 3, NULL, 0, &n), LARDER_OK);
    assert_int_equal(n, 4);
    assert_int_equal(larder_arena_seq_blocks(a, f, 2, 0, 1, &other), LARDER_OK);
    assert_true(other != state_block);
    void* q = NULL;
    assert_int_equal(larder_arena_block_address(a, other, 1, LARDER_PLANE_K, &q), LARDER_OK);
    assert_memory_equal(p, q, 100);
    /* the window moves on: blocks 1 to 3 go, the sink stays */
    assert_int_equal(larder_arena_seq_slide(a, s, 13), LARDER_OK);
    larder_block w[7];
    assert_int_equal(larder_arena_seq_blocks(a, s, 1, 0, 7, w), LARDER_OK);
    assert_true(w[0] && !w[1] && !w[2] && !w[3] && w[4] && w[6]);
    assert_int_equal(larder_arena_seq_slide(a, s, 14), LARDER_E_RANGE);
    int64_t slots[13];
    const larder_arena_range r = {s, 0, 13};
    assert_int_equal(larder_arena_slot_mapping(a, 1, &r, 1, slots, 8, 13, NULL), LARDER_OK);
    assert_true(slots[0] > 0 && slots[2] == -1 && slots[7] == -1 && slots[8] > 0);
    assert_int_equal(larder_arena_slot_mapping(a, 2, &r, 1, slots, 8, 13, NULL), LARDER_E_UNSUPPORTED);
    /* coming back into the released part never writes the null block */
    assert_int_equal(larder_arena_seq_truncate(a, s, 5), LARDER_OK);
    assert_int_equal(larder_arena_seq_append(a, s, 1, NULL, 0, NULL), LARDER_OK);
    assert_int_equal(larder_arena_seq_blocks(a, s, 1, 2, 1, w), LARDER_OK);
    assert_true(w[0] != 0);
    assert_int_equal(larder_arena_verify(a), LARDER_OK);
    larder_block of_full;
    assert_int_equal(larder_arena_seq_blocks(a, s, 0, 0, 1, &of_full), LARDER_OK);
    assert_int_equal(larder_arena_seq_create(a, &f), LARDER_OK);
    assert_int_equal(larder_arena_seq_attach(a, f, 3, &of_full, 1, 4), LARDER_E_INVALID);
    larder_arena_destroy(a);

    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.budget_bytes = 1 << 20;
    o.max_seqs = 4;
    assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_OK);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < 4; ++i) {
        assert_int_equal(larder_arena_group_query(a, i, &gs), LARDER_OK);
        bytes += gs.n_blocks * gs.block_bytes;
    }
    assert_in_range(bytes, (1 << 20) * 9 / 10, 1 << 20);
    larder_arena_destroy(a);
    larder_layout_destroy(layout);
}

static void too_many_sequences(void** state) {
    (void)state;
    larder_arena* a = simple(40);
    larder_seq s[8], f[8];
    for (int i = 0; i < 6; ++i) assert_int_equal(larder_arena_seq_create(a, &s[i]), LARDER_OK);
    assert_int_equal(larder_arena_seq_append(a, s[0], 9, NULL, 0, NULL), LARDER_OK);
    assert_int_equal(larder_arena_seq_fork(a, s[0], 9, 3, f), LARDER_E_NOSPACE);
    assert_string_equal(last_field(), "max_seqs");
    assert_int_equal(larder_arena_seq_fork(a, s[0], 9, 2, f), LARDER_OK);
    assert_int_equal(larder_arena_seq_create(a, &s[6]), LARDER_E_NOSPACE);
    assert_int_equal(larder_arena_verify(a), LARDER_OK);
    larder_arena_destroy(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bad_options_name_the_field, set_up, tear_down),
        cmocka_unit_test_setup_teardown(groups_of_every_kind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_sequences, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
