/* The arena through the C ABI: every verb, every documented status. */
#include "support/cmocka.h"

#include <stdlib.h>
#include <string.h>

#include "larder/larder.h"

enum { BT = 4, HEADS = 2, DIM = 4, LAYERS = 3 };

static larder_context* context;

static int set_up(void** state) {
    (void)state;
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    return larder_context_create(&o, &context);
}

static int tear_down(void** state) {
    (void)state;
    return larder_context_destroy(context);
}

static larder_layer_group full_group(void) {
    larder_layer_group g = LARDER_LAYER_GROUP_INIT;
    g.n_layers = LAYERS;
    g.block_tokens = BT;
    g.n_kv_heads = HEADS;
    g.k_dim = DIM;
    g.v_dim = DIM;
    return g;
}

static larder_layout* layout_of(const larder_layer_group* groups, uint32_t n) {
    larder_layout_options o = LARDER_LAYOUT_OPTIONS_INIT;
    o.groups = groups;
    o.n_groups = n;
    o.group_stride = sizeof *groups;
    larder_layout* layout = NULL;
    assert_int_equal(larder_layout_create(context, &o, &layout), LARDER_OK);
    return layout;
}

static larder_arena* paged(larder_layout* layout, const uint32_t* n_blocks, uint32_t n_groups) {
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.n_blocks = n_blocks;
    o.n_block_counts = n_groups;
    o.max_seqs = 8;
    larder_arena* a = NULL;
    assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_OK);
    return a;
}

static larder_arena* simple(uint32_t n_blocks) {
    const larder_layer_group g = full_group();
    larder_layout* layout = layout_of(&g, 1);
    larder_arena* a = paged(layout, &n_blocks, 1);
    larder_layout_destroy(layout); /* the arena keeps it */
    return a;
}

static const char* last_field(void) {
    static larder_error_info info;
    info.struct_size = sizeof info;
    assert_int_equal(larder_last_error(&info), LARDER_OK);
    return info.field;
}

static void expect_bad(larder_layout* layout, const larder_arena_options* o, larder_status status, const char* field) {
    larder_arena* a = (larder_arena*)1;
    const larder_status got = larder_arena_create(context, layout, o, &a);
    if (got != status) print_message("field %s\n", field);
    assert_int_equal(got, status);
    assert_null(a);
    assert_string_equal(last_field(), field);
}

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
    assert_int_equal(larder_arena_block_address(a, b[1], 0, 4, &p), LARDER_E_RANGE);
    assert_int_equal(larder_arena_block_address(a, b[1], 0, LARDER_PLANE_SCALE, &p), LARDER_OK);
    assert_null(p);
    assert_int_equal(larder_arena_verify(a), LARDER_OK);
    larder_arena_destroy(a);
}

static void views_match_the_documented_shape(void** state) {
    (void)state;
    larder_layer_group g = full_group();
    g.scale_bytes = 6;
    larder_layout* layout = layout_of(&g, 1);
    for (larder_arena_order order = LARDER_ARENA_LAYER_FIRST; order <= LARDER_ARENA_PAGE_FIRST; ++order) {
        for (larder_arena_memory memory = LARDER_ARENA_ANON; memory <= LARDER_ARENA_MEMFD; ++memory) {
            const uint32_t n = 9;
            larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
            o.n_blocks = &n;
            o.n_block_counts = 1;
            o.order = order;
            o.memory = memory;
            o.n_tp = 2;
            o.flags = LARDER_ARENA_POPULATE;
            larder_arena* a = NULL;
            assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_OK);
            larder_block b;
            assert_int_equal(larder_arena_alloc(a, 0, 1, &b), LARDER_OK);
            larder_arena_block_state st = LARDER_ARENA_BLOCK_STATE_INIT;
            assert_int_equal(larder_arena_block_query(a, b, &st), LARDER_OK);
            for (uint32_t l = 0; l < LAYERS; ++l) {
                larder_arena_layer v = LARDER_ARENA_LAYER_INIT;
                assert_int_equal(larder_arena_layer_view(a, 0, l, &v), LARDER_OK);
                assert_int_equal(v.n_kv_heads, HEADS / 2);
                assert_int_equal(v.n_blocks, n);
                assert_int_equal(v.k_head_stride, DIM * 2);
                assert_int_equal(v.k_token_stride, HEADS / 2 * DIM * 2);
                assert_int_equal(v.scale_token_stride, 6);
                if (order == LARDER_ARENA_LAYER_FIRST) assert_int_equal(v.k_block_stride, BT * v.k_token_stride);
                void* p = NULL;
                assert_int_equal(larder_arena_block_address(a, b, l, LARDER_PLANE_V, &p), LARDER_OK);
                assert_ptr_equal(p, (char*)v.v_base + (uint64_t)st.number * v.v_block_stride);
                memset(p, 0x77, BT * v.v_token_stride);
                assert_int_equal(larder_arena_block_address(a, b, l, LARDER_PLANE_SCALE, &p), LARDER_OK);
                assert_ptr_equal(p, (char*)v.scale_base + (uint64_t)st.number * v.scale_block_stride);
                memset(p, 0x77, BT * 6);
            }
            larder_arena_layer v = LARDER_ARENA_LAYER_INIT;
            assert_int_equal(larder_arena_layer_view(a, 0, LAYERS, &v), LARDER_E_RANGE);
            assert_int_equal(larder_arena_layer_view(a, 1, 0, &v), LARDER_E_RANGE);
            assert_int_equal(larder_arena_verify(a), LARDER_OK); /* the null block is untouched */
            larder_arena_destroy(a);
        }
    }
    larder_layout_destroy(layout);
}

static void sequences_grow_fork_and_copy(void** state) {
    (void)state;
    larder_arena* a = simple(12);
    larder_seq s, f[2];
    assert_int_equal(larder_arena_seq_create(a, &s), LARDER_OK);
    uint32_t n_copies = 99;
    assert_int_equal(larder_arena_seq_append(a, s, 10, NULL, 0, &n_copies),
                     LARDER_OK); /* 3 blocks, the last with 2 tokens */
    assert_int_equal(n_copies, 0);
    larder_block b[3];
    assert_int_equal(larder_arena_seq_blocks(a, s, 0, 0, 3, b), LARDER_OK);
    assert_int_equal(larder_arena_seq_blocks(a, s, 0, 1, 3, b), LARDER_E_RANGE);
    void* p = NULL;
    assert_int_equal(larder_arena_block_address(a, b[2], 1, LARDER_PLANE_K, &p), LARDER_OK);
    memset(p, 0x41, 2 * HEADS * DIM * 2);
    assert_int_equal(larder_arena_seq_fork(a, s, 11, 1, f), LARDER_E_RANGE);
    assert_int_equal(larder_arena_seq_fork(a, s, 10, 2, f), LARDER_OK);
    assert_int_equal(larder_arena_verify(a), LARDER_OK);
    /* the partly filled block is copied for the one that writes first, and again for the second */
    assert_int_equal(larder_arena_seq_append(a, f[0], 1, NULL, 0, &n_copies), LARDER_OK);
    assert_int_equal(n_copies, 1);
    larder_block c[3];
    assert_int_equal(larder_arena_seq_blocks(a, f[0], 0, 0, 3, c), LARDER_OK);
    assert_true(c[0] == b[0] && c[1] == b[1] && c[2] != b[2]);
    void* q = NULL;
    assert_int_equal(larder_arena_block_address(a, c[2], 1, LARDER_PLANE_K, &q), LARDER_OK);
    assert_memory_equal(p, q, 2 * HEADS * DIM * 2);
    /* a list instead of a copy */
    larder_arena_copy list[1];
    assert_int_equal(larder_arena_seq_append(a, f[1], 1, list, 0, &n_copies), LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(larder_arena_seq_append(a, f[1], 1, list, 1, &n_copies), LARDER_OK);
    assert_int_equal(n_copies, 1);
    assert_int_equal(list[0].group, 0);
    assert_int_equal(list[0].n_tokens, 2);
    assert_int_equal((uint64_t)list[0].src, (b[2] >> 32) & 0xfffffff);
    assert_int_equal(larder_arena_seq_append(a, s, 1, NULL, 0, &n_copies), LARDER_OK);
    assert_int_equal(n_copies, 0); /* nobody else is left on it */
    /* full blocks stay shared until somebody asks to write */
    assert_int_equal(larder_arena_seq_make_writable(a, f[0], 0, 5, NULL, 0, &n_copies), LARDER_OK);
    assert_int_equal(n_copies, 2);
    assert_int_equal(larder_arena_seq_make_writable(a, f[0], 0, 5, NULL, 0, &n_copies), LARDER_OK);
    assert_int_equal(n_copies, 0);
    assert_int_equal(larder_arena_seq_make_writable(a, f[0], 8, 9, NULL, 0, &n_copies), LARDER_E_RANGE);
    assert_int_equal(larder_arena_seq_truncate(a, f[0], 12), LARDER_E_RANGE);
    assert_int_equal(larder_arena_seq_truncate(a, f[0], 4), LARDER_OK);
    uint64_t length = 0;
    assert_int_equal(larder_arena_seq_length(a, f[0], &length), LARDER_OK);
    assert_int_equal(length, 4);
    /* full: nothing changes */
    assert_int_equal(larder_arena_seq_append(a, f[0], 1000, NULL, 0, &n_copies), LARDER_E_NOSPACE);
    assert_int_equal(larder_arena_seq_append(a, f[0], (uint64_t)1 << 33, NULL, 0, &n_copies), LARDER_E_RANGE);
    assert_int_equal(larder_arena_seq_length(a, f[0], &length), LARDER_OK);
    assert_int_equal(length, 4);
    assert_int_equal(larder_arena_verify(a), LARDER_OK);
    assert_int_equal(larder_arena_seq_destroy(a, s), LARDER_OK);
    assert_int_equal(larder_arena_seq_destroy(a, s), LARDER_E_STALE);
    assert_int_equal(larder_arena_seq_append(a, s, 1, NULL, 0, NULL), LARDER_E_STALE);
    assert_int_equal(larder_arena_seq_fork(a, s, 0, 1, f), LARDER_E_STALE);
    assert_int_equal(larder_arena_verify(a), LARDER_OK);
    larder_arena_destroy(a);
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

static void sealed_blocks_are_copied(void** state) {
    (void)state;
    larder_arena* a = simple(8);
    larder_seq s;
    assert_int_equal(larder_arena_seq_create(a, &s), LARDER_OK);
    assert_int_equal(larder_arena_seq_append(a, s, 2, NULL, 0, NULL), LARDER_OK);
    larder_block b, c;
    assert_int_equal(larder_arena_seq_blocks(a, s, 0, 0, 1, &b), LARDER_OK);
    assert_int_equal(larder_arena_seal(a, &b, 1), LARDER_OK);
    uint32_t n = 0;
    assert_int_equal(larder_arena_seq_append(a, s, 1, NULL, 0, &n), LARDER_OK);
    assert_int_equal(n, 1);
    assert_int_equal(larder_arena_seq_blocks(a, s, 0, 0, 1, &c), LARDER_OK);
    assert_true(b != c);
    larder_arena_block_state st = LARDER_ARENA_BLOCK_STATE_INIT;
    assert_int_equal(larder_arena_block_query(a, b, &st), LARDER_E_STALE);
    larder_arena_destroy(a);
}

static void attach_shares_a_prefix(void** state) {
    (void)state;
    larder_arena* a = simple(12);
    larder_block b[3];
    assert_int_equal(larder_arena_alloc(a, 0, 3, b), LARDER_OK);
    larder_seq s;
    assert_int_equal(larder_arena_seq_create(a, &s), LARDER_OK);
    assert_int_equal(larder_arena_seq_attach(a, s, 0, b, 3, 8), LARDER_E_RANGE);
    assert_int_equal(larder_arena_seq_attach(a, s, 1, b, 3, 12), LARDER_E_RANGE);
    const larder_block bad[3] = {b[0], b[1], b[2] + 1};
    assert_int_equal(larder_arena_seq_attach(a, s, 0, bad, 3, 12), LARDER_E_STALE);
    assert_int_equal(larder_arena_seq_attach(a, s, 0, b, 3, 10), LARDER_OK);
    assert_int_equal(larder_arena_seq_attach(a, s, 0, b, 3, 10), LARDER_E_STATE);
    larder_arena_block_state st = LARDER_ARENA_BLOCK_STATE_INIT;
    assert_int_equal(larder_arena_block_query(a, b[0], &st), LARDER_OK);
    assert_int_equal(st.n_refs, 2);
    uint32_t n = 0;
    assert_int_equal(larder_arena_seq_append(a, s, 6, NULL, 0, &n), LARDER_OK);
    assert_int_equal(n, 1); /* the partly matched block */
    assert_int_equal(larder_arena_seq_destroy(a, s), LARDER_OK);
    assert_int_equal(larder_arena_block_query(a, b[2], &st), LARDER_OK);
    assert_int_equal(st.n_refs, 1);
    assert_int_equal(larder_arena_unref(a, b, 3), LARDER_OK);
    larder_arena_group_state gs = LARDER_ARENA_GROUP_STATE_INIT;
    assert_int_equal(larder_arena_group_query(a, 0, &gs), LARDER_OK);
    assert_int_equal(gs.n_used, 0);
    assert_int_equal(larder_arena_verify(a), LARDER_OK);
    larder_arena_destroy(a);
}

static void tables_are_exported(void** state) {
    (void)state;
    larder_arena* a = simple(20);
    larder_seq s[3];
    for (int i = 0; i < 3; ++i) assert_int_equal(larder_arena_seq_create(a, &s[i]), LARDER_OK);
    assert_int_equal(larder_arena_seq_append(a, s[0], 9, NULL, 0, NULL), LARDER_OK);
    assert_int_equal(larder_arena_seq_append(a, s[2], 4, NULL, 0, NULL), LARDER_OK);
    int32_t table[5][4];
    memset(table, 0xff, sizeof table);
    assert_int_equal(larder_arena_block_table(a, 0, s, 3, 5, &table[0][0], 4), LARDER_OK);
    larder_block b[3];
    assert_int_equal(larder_arena_seq_blocks(a, s[0], 0, 0, 3, b), LARDER_OK);
    for (int i = 0; i < 3; ++i) assert_int_equal(table[0][i], (int32_t)((b[i] >> 32) & 0xfffffff));
    assert_int_equal(table[0][3], 0);
    for (int i = 0; i < 4; ++i) assert_int_equal(table[1][i] | table[3][i] | table[4][i], 0);
    assert_true(table[2][0] > 0 && table[2][1] == 0);
    assert_int_equal(larder_arena_block_table(a, 0, s, 3, 5, &table[0][0], 2), LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(larder_arena_block_table(a, 0, s, 3, 2, &table[0][0], 4), LARDER_E_RANGE);
    assert_int_equal(larder_arena_block_table(a, 2, s, 3, 5, &table[0][0], 4), LARDER_E_RANGE);
    assert_int_equal(larder_arena_block_table(a, 0, NULL, 3, 5, &table[0][0], 4), LARDER_E_INVALID);
    const larder_seq stale = s[0] + 1;
    assert_int_equal(larder_arena_block_table(a, 0, &stale, 1, 1, &table[0][0], 4), LARDER_E_STALE);

    int32_t indptr[5], indices[8], last[4];
    uint64_t n = 0;
    assert_int_equal(larder_arena_block_csr(a, 0, s, 3, 4, indptr, indices, 4, last, &n), LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(n, 5);
    assert_int_equal(larder_arena_block_csr(a, 0, s, 3, 4, indptr, indices, 8, last, &n), LARDER_OK);
    const int32_t want_indptr[5] = {0, 3, 3, 4, 5}, want_last[4] = {1, 0, 4, 1};
    assert_memory_equal(indptr, want_indptr, sizeof indptr);
    assert_memory_equal(last, want_last, sizeof last);
    for (int i = 0; i < 3; ++i) assert_int_equal(indices[i], table[0][i]);
    assert_int_equal(indices[4], 0);

    void* pointers[4][4];
    assert_int_equal(larder_arena_block_pointers(a, 0, 1, LARDER_PLANE_V, s, 3, 4, &pointers[0][0], 4), LARDER_OK);
    void* p = NULL;
    assert_int_equal(larder_arena_block_address(a, b[1], 1, LARDER_PLANE_V, &p), LARDER_OK);
    assert_ptr_equal(pointers[0][1], p);
    larder_arena_layer v = LARDER_ARENA_LAYER_INIT;
    assert_int_equal(larder_arena_layer_view(a, 0, 1, &v), LARDER_OK);
    assert_ptr_equal(pointers[3][3], v.v_base);
    assert_int_equal(larder_arena_block_pointers(a, 0, 1, LARDER_PLANE_SCALE, s, 3, 4, &pointers[0][0], 4),
                     LARDER_E_RANGE);

    const larder_arena_range r[2] = {{s[0], 3, 3}, {s[2], 0, 2}};
    int64_t slots[7];
    assert_int_equal(larder_arena_slot_mapping(a, 0, r, 2, slots, 8, 7, &n), LARDER_OK);
    assert_int_equal(n, 5);
    const int64_t want[7] = {
        table[0][0] * 4 + 3, table[0][1] * 4, table[0][1] * 4 + 1, table[2][0] * 4, table[2][0] * 4 + 1, -1, -1};
    assert_memory_equal(slots, want, sizeof want);
    int32_t narrow[5];
    assert_int_equal(larder_arena_slot_mapping(a, 0, r, 2, narrow, 4, 5, &n), LARDER_OK);
    for (int i = 0; i < 5; ++i) assert_int_equal(narrow[i], want[i]);
    assert_int_equal(larder_arena_slot_mapping(a, 0, r, 2, narrow, 4, 4, &n), LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(larder_arena_slot_mapping(a, 0, r, 2, narrow, 2, 5, &n), LARDER_E_INVALID);
    const larder_arena_range beyond = {s[0], 8, 2};
    assert_int_equal(larder_arena_slot_mapping(a, 0, &beyond, 1, narrow, 4, 5, &n), LARDER_E_RANGE);
    larder_arena_destroy(a);
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

static void imported_tensors_are_used_in_place(void** state) {
    (void)state;
    const larder_layer_group g = full_group();
    larder_layout* layout = layout_of(&g, 1);
    enum { N = 6, PLANE = BT * HEADS * DIM * 2 };
    /* FlashInfer's [n_blocks][2][...]: K and V of a block side by side */
    unsigned char* memory = calloc(LAYERS, N * 2 * PLANE);
    larder_arena_tensor t[LAYERS * 2];
    for (int l = 0; l < LAYERS; ++l) {
        for (int p = 0; p < 2; ++p) {
            const larder_arena_tensor init = LARDER_ARENA_TENSOR_INIT;
            t[l * 2 + p] = init;
            t[l * 2 + p].layer = (uint32_t)l;
            t[l * 2 + p].plane = LARDER_PLANE_K + p;
            t[l * 2 + p].base = memory + (size_t)l * N * 2 * PLANE + (size_t)p * PLANE;
            t[l * 2 + p].block_stride = 2 * PLANE;
        }
    }
    const uint32_t n = N;
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.n_blocks = &n;
    o.n_block_counts = 1;
    larder_arena_import_options i = LARDER_ARENA_IMPORT_OPTIONS_INIT;
    i.tensors = t;
    i.n_tensors = LAYERS * 2;
    i.tensor_stride = sizeof t[0];
    i.host_visible = 1;
    larder_arena* a = NULL;
    assert_int_equal(larder_arena_import(context, layout, &o, &i, &a), LARDER_OK);
    larder_block b;
    void* p = NULL;
    assert_int_equal(larder_arena_alloc(a, 0, 1, &b), LARDER_OK);
    assert_int_equal(larder_arena_block_address(a, b, 2, LARDER_PLANE_V, &p), LARDER_OK);
    assert_ptr_equal(p, (unsigned char*)t[5].base + ((b >> 32) & 0xfffffff) * 2 * PLANE);
    larder_arena_destroy(a);

    /* device memory: copies are listed, never done */
    i.host_visible = 0;
    assert_int_equal(larder_arena_import(context, layout, &o, &i, &a), LARDER_OK);
    larder_seq s, f;
    assert_int_equal(larder_arena_seq_create(a, &s), LARDER_OK);
    assert_int_equal(larder_arena_seq_append(a, s, 3, NULL, 0, NULL), LARDER_OK);
    assert_int_equal(larder_arena_seq_fork(a, s, 3, 1, &f), LARDER_OK);
    assert_int_equal(larder_arena_seq_append(a, f, 5, NULL, 0, NULL), LARDER_E_UNSUPPORTED);
    assert_int_equal(larder_arena_verify(a), LARDER_OK);
    larder_arena_copy list[2];
    uint32_t n_copies = 0;
    assert_int_equal(larder_arena_seq_append(a, f, 100, list, 2, &n_copies), LARDER_E_NOSPACE);
    assert_int_equal(larder_arena_seq_append(a, f, 5, list, 2, &n_copies), LARDER_OK);
    assert_int_equal(n_copies, 1);
    assert_int_equal(larder_arena_verify(a), LARDER_OK);
    larder_arena_destroy(a);

#define BAD_IMPORT(change, undo, status, field)                                                                        \
    do {                                                                                                               \
        change;                                                                                                        \
        assert_int_equal(larder_arena_import(context, layout, &o, &i, &a), status);                                    \
        assert_string_equal(last_field(), field);                                                                      \
        undo;                                                                                                          \
    } while (0)
    BAD_IMPORT(i.n_tensors = 5, i.n_tensors = 6, LARDER_E_INVALID, "tensors");
    BAD_IMPORT(t[1].base = NULL, t[1].base = memory + PLANE, LARDER_E_INVALID, "tensors.base");
    BAD_IMPORT(t[1].base = memory + PLANE / 2, t[1].base = memory + PLANE, LARDER_E_INVALID, "tensors");
    BAD_IMPORT(t[1].plane = LARDER_PLANE_K, t[1].plane = LARDER_PLANE_V, LARDER_E_INVALID, "tensors");
    BAD_IMPORT(t[1].plane = LARDER_PLANE_SCALE, t[1].plane = LARDER_PLANE_V, LARDER_E_INVALID, "tensors.plane");
    BAD_IMPORT(t[1].layer = 7, t[1].layer = 0, LARDER_E_RANGE, "tensors.layer");
    BAD_IMPORT(t[1].group = 1, t[1].group = 0, LARDER_E_RANGE, "tensors.group");
    BAD_IMPORT(t[1].block_stride = PLANE - 1, t[1].block_stride = 2 * PLANE, LARDER_E_INVALID, "tensors.block_stride");
    BAD_IMPORT(t[1].block_stride = UINT64_MAX, t[1].block_stride = 2 * PLANE, LARDER_E_RANGE, "tensors.block_stride");
    BAD_IMPORT(o.n_blocks = NULL, o.n_blocks = &n, LARDER_E_INVALID, "n_blocks");
    BAD_IMPORT(o.mode = LARDER_ARENA_CONTIGUOUS, o.mode = 0, LARDER_E_INVALID, "mode");
    larder_layout_destroy(layout);
    free(memory);
}

static void contiguous_sequences(void** state) {
    (void)state;
    const larder_layer_group g = full_group(); /* 16 bytes per token and plane */
    larder_layout* layout = layout_of(&g, 1);
    for (larder_arena_memory memory = LARDER_ARENA_ANON; memory <= LARDER_ARENA_MEMFD; ++memory) {
        larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
        o.mode = LARDER_ARENA_CONTIGUOUS;
        o.memory = memory;
        o.granule_bytes = 4096; /* 256 tokens */
        o.budget_bytes = 4096 * LAYERS * 2 * 9;
        o.max_seqs = 4;
        o.max_seq_tokens = 2048;
        o.n_lookahead = 1;
        larder_arena* a = NULL;
        assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_OK);
        larder_block b;
        assert_int_equal(larder_arena_alloc(a, 0, 1, &b), LARDER_E_UNSUPPORTED);
        larder_seq s, f;
        assert_int_equal(larder_arena_seq_create(a, &s), LARDER_OK);
        assert_int_equal(larder_arena_seq_append(a, s, 600, NULL, 0, NULL), LARDER_OK);
        larder_arena_group_state gs = LARDER_ARENA_GROUP_STATE_INIT;
        assert_int_equal(larder_arena_group_query(a, 0, &gs), LARDER_OK);
        assert_int_equal(gs.mapped_bytes, 4096 * LAYERS * 2 * 3);
        unsigned char* base[LAYERS][2];
        for (uint32_t l = 0; l < LAYERS; ++l) {
            for (int p = 0; p < 2; ++p) {
                void* at = NULL;
                assert_int_equal(larder_arena_seq_base(a, s, 0, l, LARDER_PLANE_K + p, &at), LARDER_OK);
                base[l][p] = at;
                memset(at, (int)(1 + l * 2 + (unsigned)p), 600 * 16);
            }
        }
        assert_int_equal(larder_arena_seq_fork(a, s, 520, 1, &f), LARDER_OK);
        assert_int_equal(larder_arena_group_query(a, 0, &gs), LARDER_OK);
        /* shared granules are counted once */
        assert_int_equal(gs.mapped_bytes, 4096 * LAYERS * 2 * (memory == LARDER_ARENA_MEMFD ? 4 : 6));
        assert_int_equal(larder_arena_verify(a), LARDER_OK);
        assert_int_equal(larder_arena_seq_make_writable(a, f, 100, 1, NULL, 0, NULL), LARDER_OK);
        void* at = NULL;
        assert_int_equal(larder_arena_seq_base(a, f, 0, 2, LARDER_PLANE_V, &at), LARDER_OK);
        unsigned char* copy = at;
        for (int i = 0; i < 520 * 16; ++i) assert_int_equal(copy[i], 6);
        memset(copy + 100 * 16, 0xee, 16);
        assert_int_equal(base[2][1][100 * 16], 6);
        assert_int_equal(larder_arena_seq_append(a, s, 1449, NULL, 0, NULL), LARDER_E_RANGE);
        assert_int_equal(larder_arena_seq_append(a, s, 1400, NULL, 0, NULL), LARDER_E_NOSPACE);
        assert_string_equal(last_field(), "budget_bytes");
        uint64_t length = 0;
        assert_int_equal(larder_arena_seq_length(a, s, &length), LARDER_OK);
        assert_int_equal(length, 600);
        assert_int_equal(larder_arena_verify(a), LARDER_OK);
        /* the memory of a finished sequence is there for the next, and given up under pressure */
        assert_int_equal(larder_arena_seq_destroy(a, f), LARDER_OK);
        assert_int_equal(larder_arena_seq_append(a, s, 1000, NULL, 0, NULL), LARDER_OK);
        assert_int_equal(larder_arena_seq_truncate(a, s, 10), LARDER_OK);
        for (int i = 0; i < 10 * 16; ++i) assert_int_equal(base[1][0][i], 3);
        assert_int_equal(larder_arena_seq_destroy(a, s), LARDER_OK);
        assert_int_equal(larder_arena_trim(a, 0), LARDER_OK);
        assert_int_equal(larder_arena_group_query(a, 0, &gs), LARDER_OK);
        assert_int_equal(gs.mapped_bytes, 0);
        assert_int_equal(larder_arena_verify(a), LARDER_OK);
        int32_t row[4];
        assert_int_equal(larder_arena_block_table(a, 0, &s, 0, 1, row, 4), LARDER_E_UNSUPPORTED);
        larder_arena_destroy(a);
    }
    larder_layout_destroy(layout);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bad_options_name_the_field, set_up, tear_down),
        cmocka_unit_test_setup_teardown(blocks_have_references_and_generations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(views_match_the_documented_shape, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sequences_grow_fork_and_copy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_sequences, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sealed_blocks_are_copied, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attach_shares_a_prefix, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tables_are_exported, set_up, tear_down),
        cmocka_unit_test_setup_teardown(groups_of_every_kind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(watermarks_and_reclaim, set_up, tear_down),
        cmocka_unit_test_setup_teardown(runs_keep_sequences_together, set_up, tear_down),
        cmocka_unit_test_setup_teardown(freed_blocks_are_cleared_when_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(imported_tensors_are_used_in_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(contiguous_sequences, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
