/* Sequences of blocks: growth, forks, copies, shared prefixes. */
#include "support/arena_bed.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sequences_grow_fork_and_copy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sealed_blocks_are_copied, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attach_shares_a_prefix, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
