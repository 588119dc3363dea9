/* The arena in CONTIGUOUS mode. */
#include <time.h>

#include "support/arena_bed.h"

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

static uint64_t mapped(larder_arena* a) {
    larder_arena_group_state g = LARDER_ARENA_GROUP_STATE_INIT;
    assert_int_equal(larder_arena_group_query(a, 0, &g), LARDER_OK);
    return g.mapped_bytes;
}

/* Waits for what the arena's own thread will do; the test's own time limit is the only one. */
static void until_mapped(larder_arena* a, uint64_t at_least, uint64_t at_most) {
    const struct timespec ms = {0, 1000000};
    while (mapped(a) < at_least || mapped(a) > at_most) nanosleep(&ms, NULL);
}

static void memory_is_mapped_and_given_back_in_the_background(void** state) {
    (void)state;
    const uint64_t granule = 4096, row = granule * LAYERS, token = HEADS * DIM * 2, per_granule = granule / token;
    for (int memory = LARDER_ARENA_ANON; memory <= LARDER_ARENA_MEMFD; ++memory) {
        const larder_layer_group g = full_group();
        larder_layout* layout = layout_of(&g, 1);
        larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
        o.mode = LARDER_ARENA_CONTIGUOUS;
        o.memory = memory;
        o.flags = LARDER_ARENA_BACKGROUND;
        o.granule_bytes = (uint32_t)granule;
        o.max_seqs = 3;
        o.max_seq_tokens = 64 * per_granule;
        o.n_lookahead = (uint32_t)(4 * per_granule);
        o.budget_bytes = 128 * row;
        o.warm_bytes = 12 * row;
        larder_arena* a = NULL;
        assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_OK);
        larder_seq s[3];
        for (int i = 0; i < 3; ++i) {
            assert_int_equal(larder_arena_seq_create(a, &s[i]), LARDER_OK);
            assert_int_equal(larder_arena_seq_append(a, s[i], 1, NULL, 0, NULL), LARDER_OK);
        }
        /* One token and what lies 4 granules ahead of it, in K and in V. */
        until_mapped(a, 3 * 2 * 5 * row, 3 * 2 * 5 * row);
        assert_int_equal(larder_arena_seq_append(a, s[0], 4 * per_granule, NULL, 0, NULL), LARDER_OK);
        void* k = NULL;
        assert_int_equal(larder_arena_seq_base(a, s[0], 0, 0, LARDER_PLANE_K, &k), LARDER_OK);
        memset(k, 1, (4 * per_granule + 1) * token);
        for (int i = 0; i < 3; ++i) assert_int_equal(larder_arena_seq_destroy(a, s[i]), LARDER_OK);
        until_mapped(a, 0, o.warm_bytes);
        assert_true(mapped(a) > 0);
        assert_int_equal(larder_arena_verify(a), LARDER_OK);
        larder_arena_destroy(a);
        o.mode = LARDER_ARENA_PAGED;
        assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_E_UNSUPPORTED);
        o.mode = LARDER_ARENA_CONTIGUOUS;
        o.flags = LARDER_ARENA_GUARD;
        assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_E_UNSUPPORTED);
        larder_layout_destroy(layout);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(contiguous_sequences, set_up, tear_down),
        cmocka_unit_test_setup_teardown(memory_is_mapped_and_given_back_in_the_background, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
