/* What kernels read: views, tables in every form, imported tensors. */
#include "support/arena_bed.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(views_match_the_documented_shape, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tables_are_exported, set_up, tear_down),
        cmocka_unit_test_setup_teardown(imported_tensors_are_used_in_place, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
