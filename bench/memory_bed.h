// What the benches of the memory room stand on.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "larder/larder.h"

namespace {

// A layout of one group and an arena over it.
struct Bed {
    larder_context* context = nullptr;
    larder_layout* layout = nullptr;
    larder_arena* arena = nullptr;

    explicit Bed(larder_arena_options o, uint32_t n_layers = 1, uint32_t dim = 8) {
        larder_context_create(nullptr, &context);
        larder_layer_group g = LARDER_LAYER_GROUP_INIT;
        g.n_layers = n_layers;
        g.n_kv_heads = 1;
        g.k_dim = g.v_dim = dim;
        larder_layout_options lo = LARDER_LAYOUT_OPTIONS_INIT;
        lo.groups = &g;
        lo.n_groups = 1;
        lo.group_stride = sizeof g;
        larder_layout_create(context, &lo, &layout);
        if (larder_arena_create(context, layout, &o, &arena) < 0) {
            larder_error_info e = LARDER_ERROR_INFO_INIT;
            larder_last_error(&e);
            std::fprintf(stderr, "the arena could not be made: %s\n", e.message);
            std::exit(2);
        }
    }
    ~Bed() {
        larder_arena_destroy(arena);
        larder_layout_destroy(layout);
        larder_context_destroy(context);
    }
};

larder_arena_options paged(const uint32_t& n_blocks, uint64_t entries = 0) {
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.n_blocks = &n_blocks;
    o.n_block_counts = 1;
    o.max_table_entries = entries;
    return o;
}

}  // namespace
