/* A context without workers, small layouts and arenas, for tests of the arena in C. */
#ifndef LARDER_TESTS_ARENA_BED_H
#define LARDER_TESTS_ARENA_BED_H

#include <stdlib.h>
#include <string.h>

#include "larder/larder.h"
#include "support/cmocka.h"

enum { BT = 4, HEADS = 2, DIM = 4, LAYERS = 3 };

static larder_context* context;

static inline int set_up(void** state) {
    (void)state;
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    return larder_context_create(&o, &context);
}

static inline int tear_down(void** state) {
    (void)state;
    return larder_context_destroy(context);
}

static inline larder_layer_group full_group(void) {
    larder_layer_group g = LARDER_LAYER_GROUP_INIT;
    g.n_layers = LAYERS;
    g.block_tokens = BT;
    g.n_kv_heads = HEADS;
    g.k_dim = DIM;
    g.v_dim = DIM;
    return g;
}

static inline larder_layout* layout_of(const larder_layer_group* groups, uint32_t n) {
    larder_layout_options o = LARDER_LAYOUT_OPTIONS_INIT;
    o.groups = groups;
    o.n_groups = n;
    o.group_stride = sizeof *groups;
    larder_layout* layout = NULL;
    assert_int_equal(larder_layout_create(context, &o, &layout), LARDER_OK);
    return layout;
}

static inline larder_arena* paged(larder_layout* layout, const uint32_t* n_blocks, uint32_t n_groups) {
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.n_blocks = n_blocks;
    o.n_block_counts = n_groups;
    o.max_seqs = 8;
    larder_arena* a = NULL;
    assert_int_equal(larder_arena_create(context, layout, &o, &a), LARDER_OK);
    return a;
}

static inline larder_arena* simple(uint32_t n_blocks) {
    const larder_layer_group g = full_group();
    larder_layout* layout = layout_of(&g, 1);
    larder_arena* a = paged(layout, &n_blocks, 1);
    larder_layout_destroy(layout); /* the arena keeps it */
    return a;
}

static inline const char* last_field(void) {
    static larder_error_info info;
    info.struct_size = sizeof info;
    assert_int_equal(larder_last_error(&info), LARDER_OK);
    return info.field;
}

static inline void expect_bad(larder_layout* layout, const larder_arena_options* o, larder_status status,
                              const char* field) {
    larder_arena* a = (larder_arena*)1;
    const larder_status got = larder_arena_create(context, layout, o, &a);
    if (got != status) print_message("field %s\n", field);
    assert_int_equal(got, status);
    assert_null(a);
    assert_string_equal(last_field(), field);
}

#endif
