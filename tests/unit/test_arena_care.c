/* Options that look after the bytes: clearing, isolation, guards, population; more planes; great lengths. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/arena_bed.h"

static larder_arena* with(larder_arena_options o, const uint32_t* n_blocks) {
    const larder_layer_group g = full_group();
    larder_layout* layout = layout_of(&g, 1);
    larder_arena* a = NULL;
    o.n_blocks = n_blocks;
    o.n_block_counts = 1;
    assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_OK);
    larder_layout_destroy(layout);
    return a;
}

static const unsigned char* bytes_of(larder_arena* a, larder_block b, larder_plane plane) {
    void* p = NULL;
    assert_int_equal(larder_arena_block_address(a, b, 1, plane, &p), LARDER_OK);
    assert_non_null(p);
    return p;
}

static void blocks_are_cleared_when_handed_over(void** state) {
    (void)state;
    const uint32_t n = 3, n_bytes = BT * HEADS * DIM * 2;
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.flags = LARDER_ARENA_ZERO_ON_HANDOVER;
    larder_arena* a = with(o, &n);
    unsigned char zero[BT * HEADS * DIM * 2] = {0};
    larder_block b[2];
    assert_int_equal(larder_arena_alloc(a, 0, 2, b), LARDER_OK);
    const unsigned char* at = bytes_of(a, b[0], LARDER_PLANE_V);
    memset((void*)at, 7, n_bytes);
    assert_int_equal(larder_arena_unref(a, b, 2), LARDER_OK);
    assert_int_equal(at[0], 7); /* not before it goes to somebody */
    assert_int_equal(larder_arena_alloc(a, 0, 1, &b[0]), LARDER_OK);
    assert_int_equal(larder_arena_alloc(a, 0, 1, &b[1]), LARDER_OK);
    for (int i = 0; i < 2; ++i) assert_memory_equal(bytes_of(a, b[i], LARDER_PLANE_V), zero, n_bytes);
    memset((void*)at, 7, n_bytes);
    assert_int_equal(larder_arena_unref(a, b, 2), LARDER_OK);
    larder_seq s;
    assert_int_equal(larder_arena_seq_create(a, &s), LARDER_OK);
    assert_int_equal(larder_arena_seq_append(a, s, 2 * BT, NULL, 0, NULL), LARDER_OK);
    assert_memory_equal(at, zero, n_bytes);
    larder_arena_destroy(a);
}

static void isolated_blocks_share_no_page(void** state) {
    (void)state;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint32_t n = 9;
    for (larder_arena_order order = LARDER_ARENA_LAYER_FIRST; order <= LARDER_ARENA_PAGE_FIRST; ++order) {
        larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
        o.flags = LARDER_ARENA_ISOLATE;
        o.order = order;
        larder_arena* a = with(o, &n);
        larder_arena_layer v = LARDER_ARENA_LAYER_INIT;
        assert_int_equal(larder_arena_layer_view(a, 0, 2, &v), LARDER_OK);
        assert_int_equal(v.k_block_stride % page, 0);
        larder_arena_group_state g = LARDER_ARENA_GROUP_STATE_INIT;
        assert_int_equal(larder_arena_group_query(a, 0, &g), LARDER_OK);
        assert_int_equal(g.mapped_bytes, n * page * (order == LARDER_ARENA_LAYER_FIRST ? 2 * LAYERS : 1));
        assert_int_equal(g.block_bytes, 2 * LAYERS * BT * HEADS * DIM * 2);
        larder_block b[8];
        assert_int_equal(larder_arena_alloc(a, 0, 8, b), LARDER_OK);
        for (int i = 0; i < 8; ++i)
            for (int k = 0; k < i; ++k)
                assert_int_not_equal((uintptr_t)bytes_of(a, b[i], LARDER_PLANE_K) / page,
                                     (uintptr_t)bytes_of(a, b[k], LARDER_PLANE_K) / page);
        assert_int_equal(larder_arena_verify(a), LARDER_OK);
        larder_arena_destroy(a);
    }
}

/* A write far enough past a plane ends the child. */
static void guards_stop_a_runaway_write(void** state) {
    (void)state;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint32_t n = 9;
    for (int order = LARDER_ARENA_LAYER_FIRST; order <= LARDER_ARENA_PAGE_FIRST; ++order)
        for (int memory = LARDER_ARENA_ANON; memory <= LARDER_ARENA_MEMFD; ++memory) {
            larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
            o.flags = LARDER_ARENA_GUARD | LARDER_ARENA_ISOLATE | LARDER_ARENA_POPULATE;
            o.order = order;
            o.memory = memory;
            larder_arena* a = with(o, &n);
            larder_arena_layer v = LARDER_ARENA_LAYER_INIT;
            assert_int_equal(larder_arena_layer_view(a, 0, order == LARDER_ARENA_PAGE_FIRST ? 0 : 1, &v), LARDER_OK);
            volatile unsigned char* end = (unsigned char*)v.k_base + n * v.k_block_stride;
            end[-1] = 1;
            end[-(int64_t)page] = 1;
            const pid_t child = fork();
            if (child == 0) {
                signal(SIGSEGV, SIG_DFL);
                *end = 1;
                _exit(0);
            }
            int how = 0;
            assert_int_equal(waitpid(child, &how, 0), child);
            assert_true(WIFSIGNALED(how) || WEXITSTATUS(how) != 0);
            larder_arena_destroy(a);
        }
}

static void bias_and_low_rank_planes(void** state) {
    (void)state;
    const uint32_t n = 5;
    for (int mode = LARDER_ARENA_PAGED; mode <= LARDER_ARENA_CONTIGUOUS; ++mode) {
        larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
        o.flags = LARDER_ARENA_BIAS;
        o.v_rank = 3;
        o.mode = mode;
        larder_arena* a = NULL;
        if (mode == LARDER_ARENA_CONTIGUOUS) {
            const larder_layer_group g = full_group();
            larder_layout* layout = layout_of(&g, 1);
            o.budget_bytes = 1 << 22;
            o.granule_bytes = 65536;
            o.max_seqs = 2;
            o.max_seq_tokens = 64;
            assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_OK);
            larder_layout_destroy(layout);
        } else {
            a = with(o, &n);
        }
        larder_arena_layer v = LARDER_ARENA_LAYER_INIT;
        assert_int_equal(larder_arena_layer_view(a, 0, 0, &v), LARDER_OK);
        assert_non_null(v.bias_base);
        assert_non_null(v.low_rank_base);
        assert_int_equal(v.bias_token_stride, 2 * HEADS);
        assert_int_equal(v.low_rank_token_stride, 2 * 3);
        larder_seq s, f;
        assert_int_equal(larder_arena_seq_create(a, &s), LARDER_OK);
        assert_int_equal(larder_arena_seq_append(a, s, 3, NULL, 0, NULL), LARDER_OK);
        if (mode == LARDER_ARENA_PAGED) {
            /* What a fork copies when it writes are all planes. */
            larder_block b, c;
            assert_int_equal(larder_arena_seq_blocks(a, s, 0, 0, 1, &b), LARDER_OK);
            memset((void*)bytes_of(a, b, LARDER_PLANE_BIAS), 5, 3 * 2 * HEADS);
            memset((void*)bytes_of(a, b, LARDER_PLANE_LOW_RANK), 6, 3 * 2 * 3);
            assert_int_equal(larder_arena_seq_fork(a, s, 3, 1, &f), LARDER_OK);
            assert_int_equal(larder_arena_seq_append(a, f, 1, NULL, 0, NULL), LARDER_OK);
            assert_int_equal(larder_arena_seq_blocks(a, f, 0, 0, 1, &c), LARDER_OK);
            assert_int_not_equal(b, c);
            assert_memory_equal(bytes_of(a, b, LARDER_PLANE_BIAS), bytes_of(a, c, LARDER_PLANE_BIAS), 3 * 2 * HEADS);
            assert_memory_equal(bytes_of(a, b, LARDER_PLANE_LOW_RANK), bytes_of(a, c, LARDER_PLANE_LOW_RANK), 18);
            larder_arena_group_state g = LARDER_ARENA_GROUP_STATE_INIT;
            assert_int_equal(larder_arena_group_query(a, 0, &g), LARDER_OK);
            assert_int_equal(g.block_bytes, LAYERS * BT * (2 * HEADS * DIM * 2 + 2 * HEADS + 2 * 3));
        } else {
            void* p = NULL;
            assert_int_equal(larder_arena_seq_base(a, s, 0, 0, LARDER_PLANE_BIAS, &p), LARDER_OK);
            memset(p, 5, 3 * 2 * HEADS);
        }
        assert_int_equal(larder_arena_verify(a), LARDER_OK);
        larder_arena_destroy(a);
    }
}

static void several_threads_populate(void** state) {
    (void)state;
    const uint32_t n = (80u << 20) / (2 * LAYERS * BT * HEADS * DIM * 2);
    for (int memory = LARDER_ARENA_ANON; memory <= LARDER_ARENA_MEMFD; ++memory) {
        larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
        o.flags = LARDER_ARENA_POPULATE;
        o.memory = memory;
        o.n_populate_threads = 3;
        larder_arena* a = with(o, &n);
        assert_int_equal(larder_arena_verify(a), LARDER_OK);
        larder_arena_destroy(a);
    }
}

/* 10 million tokens: appended in a few calls, forked, cut, looked up. */
static void great_lengths(void** state) {
    (void)state;
    const uint64_t n_tokens = 10000000;
    const uint32_t n = (uint32_t)(n_tokens / BT) + 8;
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.max_seqs = 2;
    o.max_seq_tokens = n_tokens;
    larder_arena* a = with(o, &n);
    larder_seq s, f;
    assert_int_equal(larder_arena_seq_create(a, &s), LARDER_OK);
    for (int i = 0; i < 4; ++i) assert_int_equal(larder_arena_seq_append(a, s, n_tokens / 4, NULL, 0, NULL), LARDER_OK);
    assert_int_equal(larder_arena_seq_append(a, s, 1, NULL, 0, NULL), LARDER_E_RANGE);
    assert_int_equal(larder_arena_seq_fork(a, s, n_tokens - 5, 1, &f), LARDER_OK);
    const uint32_t n_entries = (uint32_t)(n_tokens / BT);
    int32_t* row = malloc(2 * n_entries * sizeof *row);
    uint32_t* entries = malloc(n_entries * sizeof *entries);
    int32_t* found = malloc(n_entries * sizeof *found);
    assert_non_null(row);
    const larder_seq both[2] = {s, f};
    assert_int_equal(larder_arena_block_table(a, 0, both, 2, 2, row, n_entries), LARDER_OK);
    assert_memory_equal(row, row + n_entries, (n_entries - 2) * sizeof *row);
    assert_int_equal(row[2 * n_entries - 1], 0);
    uint64_t x = 88172645463325252u;
    for (uint32_t i = 0; i < n_entries; ++i) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        entries[i] = (uint32_t)(x % n_entries);
    }
    assert_int_equal(larder_arena_seq_lookup(a, s, 0, entries, n_entries, found), LARDER_OK);
    for (uint32_t i = 0; i < n_entries; ++i) assert_int_equal(found[i], row[entries[i]]);
    entries[7] = n_entries;
    found[0] = -9;
    assert_int_equal(larder_arena_seq_lookup(a, s, 0, entries, n_entries, found), LARDER_E_RANGE);
    assert_int_equal(found[0], -9);
    assert_int_equal(larder_arena_seq_lookup(a, s, 1, entries, 1, found), LARDER_E_RANGE);
    assert_int_equal(larder_arena_seq_lookup(a, s, 0, NULL, 0, NULL), LARDER_OK);
    assert_int_equal(larder_arena_seq_lookup(a, s, 0, NULL, 1, found), LARDER_E_INVALID);
    assert_int_equal(larder_arena_seq_truncate(a, s, 3), LARDER_OK);
    assert_int_equal(larder_arena_seq_lookup(a, s, 0, (uint32_t[]){0}, 1, found), LARDER_OK);
    assert_int_equal(found[0], row[0]);
    assert_int_equal(larder_arena_seq_destroy(a, f), LARDER_OK);
    assert_int_equal(larder_arena_verify(a), LARDER_OK);
    assert_int_equal(larder_arena_seq_lookup(a, f, 0, entries, 1, found), LARDER_E_STALE);
    free(row);
    free(entries);
    free(found);
    larder_arena_destroy(a);
}

static void sizes_that_overflow(void** state) {
    (void)state;
    larder_layer_group g = full_group();
    g.n_layers = 4096;
    g.block_tokens = 4096;
    g.n_kv_heads = 4096;
    g.k_dim = g.v_dim = 65536;
    larder_layout* layout = NULL;
    larder_layout_options lo = LARDER_LAYOUT_OPTIONS_INIT;
    lo.groups = &g;
    lo.n_groups = 1;
    lo.group_stride = sizeof g;
    assert_int_equal(larder_layout_create(context, &lo, &layout), LARDER_OK);
    const uint32_t n = (1u << 28) - 1;
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.n_blocks = &n;
    o.n_block_counts = 1;
    larder_arena* a = NULL;
    for (int order = LARDER_ARENA_LAYER_FIRST; order <= LARDER_ARENA_PAGE_FIRST; ++order)
        for (int flags = 0; flags <= LARDER_ARENA_ISOLATE; flags += LARDER_ARENA_ISOLATE) {
            o.order = order;
            o.flags = flags | LARDER_ARENA_BIAS;
            o.v_rank = 65536;
            assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_E_RANGE);
            assert_string_equal(last_field(), "n_blocks");
            assert_null(a);
        }
    o.v_rank = 65537;
    assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_E_RANGE);
    assert_string_equal(last_field(), "v_rank");
    larder_layout_destroy(layout);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blocks_are_cleared_when_handed_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(isolated_blocks_share_no_page, set_up, tear_down),
        cmocka_unit_test_setup_teardown(guards_stop_a_runaway_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bias_and_low_rank_planes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(several_threads_populate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(great_lengths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sizes_that_overflow, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
