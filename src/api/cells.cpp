#include "memory/cells.h"

#include "api/guard.h"

using namespace larder;

larder_status larder_cells_create(larder_context* context, const larder_cells_options* options,
                                  larder_cells** out_cells) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_cells);
    *out_cells = nullptr;
    return larder_cells::create(*context, options, out_cells);
    LARDER_API_END
}

void larder_cells_destroy(larder_cells* cells) noexcept {
    if (cells && check_handle(cells, HandleType::cells, "cells") >= 0) cells->context->drop_handle(cells);
}

larder_status larder_cells_alloc(larder_cells* cells, larder_cells_shape shape, uint32_t n,
                                 int32_t* out_cells) noexcept {
    LARDER_API_HANDLE(cells, cells);
    if (n) LARDER_API_NONNULL(out_cells);
    return cells->alloc(shape, {out_cells, n});
}

larder_status larder_cells_free(larder_cells* cells, const int32_t* list, uint32_t n) noexcept {
    LARDER_API_HANDLE(cells, cells);
    if (n) LARDER_API_NONNULL(list);
    return cells->free({list, n});
}

larder_status larder_cells_address(const larder_cells* cells, uint32_t plane, uint32_t layer, int32_t cell,
                                   void** out_address) noexcept {
    LARDER_API_HANDLE(cells, cells);
    LARDER_API_NONNULL(out_address);
    return cells->address(plane, layer, cell, out_address);
}

larder_status larder_cells_transient_begin(larder_cells* cells, uint32_t n, larder_cells_move* moves, uint32_t capacity,
                                           uint32_t* out_n_moves, int32_t* out_first) noexcept {
    LARDER_API_HANDLE(cells, cells);
    if (capacity) LARDER_API_NONNULL(moves);
    LARDER_API_NONNULL(out_n_moves);
    LARDER_API_NONNULL(out_first);
    return cells->transient_begin(n, {moves, capacity}, *out_n_moves, *out_first);
}

larder_status larder_cells_transient_end(larder_cells* cells) noexcept {
    LARDER_API_HANDLE(cells, cells);
    return cells->transient_end();
}

larder_status larder_cells_query(const larder_cells* cells, larder_cells_state* out) noexcept {
    LARDER_API_HANDLE(cells, cells);
    larder_cells_state state;
    cells->query(state);
    return write_struct(out, state, "larder_cells_state");
}
