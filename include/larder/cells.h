/** @file cells.h
 *  @brief Unified paging: KV caches, adapters of any rank and activations from one pool of cells (S-LoRA, arXiv
 * 2311.03285; dLLM-Serve for the activations).
 *
 *  A cell is cell_bytes in every layer and plane. For S-LoRA it is one vector of the hidden size: a token takes one
 * cell (its K in plane 0, its V in plane 1), an adapter of rank r takes 4r (A and B of q, k, v and o). A cell may as
 * well be a page of 16 tokens. Users of different kinds take from the same pool, so nothing is set aside for one kind
 * that another could use, and nothing is padded to a largest rank.
 *
 *  Cells are numbers, 0 to n_cells-1: what gather kernels read. They carry no generation; whoever took cells gives back
 * exactly those. The pool's memory is [plane][layer][cell] (LARDER_ARENA_LAYER_FIRST) or [cell][layer][plane]
 * (LARDER_ARENA_PAGE_FIRST), or the caller's own (cell_bytes 0: numbers only).
 *
 *  The transient reservation: the last n_transient cells belong to activations, which need them for moments. In between
 * they are lent: when all other cells are taken, LARDER_CELLS_ANY gives them out too. Taking them back moves what lies
 * there to other free cells, see larder_cells_transient_begin().
 */
#ifndef LARDER_CELLS_H
#define LARDER_CELLS_H

#include "larder/arena.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_cells larder_cells;

/** How the cells of an allocation lie. */
typedef int32_t larder_cells_shape;
enum {
    LARDER_CELLS_ANY = 1,        /**< wherever some are free; succeeds whenever enough are */
    LARDER_CELLS_CONTIGUOUS = 2, /**< one after the other */
    LARDER_CELLS_RUNS = 3,       /**< in runs of run_cells adjacent ones */
    LARDER_CELLS_GRID = 4        /**< in runs that begin at multiples of run_cells */
};

/** Options of larder_cells_create(). Zero means default; n_cells is required. */
typedef struct larder_cells_options {
    uint32_t struct_size;
    uint32_t n_cells;    /**< 1 to 2^28 */
    uint64_t cell_bytes; /**< per layer and plane, a multiple of 16 up to 2^30; 0: the pool has no memory of its own */
    uint32_t n_layers;   /**< 1 to 4096; default 1 */
    uint32_t n_planes;   /**< 1 to 16; default 2 */
    larder_arena_order order; /**< default LAYER_FIRST */
    uint32_t run_cells;       /**< a power of two up to 64; default 16 */
    uint32_t n_transient;     /**< cells of the transient reservation, below n_cells; default none */
    uint32_t reserved0;
} larder_cells_options;

#define LARDER_CELLS_OPTIONS_INIT                                                                                      \
    { sizeof(larder_cells_options), 0, 0, 0, 0, 0, 0, 0, 0 }

/** Create a pool. Its memory is zero at first, host memory in huge pages where the system gives them.
 *  @return LARDER_OK; LARDER_E_RANGE (a count or size outside its bounds, or memory that does not fit an address);
 * LARDER_E_INVALID (an unknown order, NULL); LARDER_E_NOMEM; LARDER_E_TOO_NEW.
 *  @threads internally synchronised  @blocking maps memory  @since 0.1 */
LARDER_API larder_status larder_cells_create(larder_context* context, const larder_cells_options* options,
                                             larder_cells** out_cells) LARDER_NOEXCEPT;

/** Destroy a pool, whatever is taken. NULL is allowed.
 *  @threads no other call on this pool may run  @blocking unmaps memory  @since 0.1 */
LARDER_API void larder_cells_destroy(larder_cells* cells) LARDER_NOEXCEPT;

/** Take n cells, all or none. Contents are arbitrary.
 *  @param n          RUNS and GRID: a multiple of run_cells
 *  @param out_cells  [n] ascending within each run
 *  @return LARDER_OK; LARDER_E_NOSPACE (fewer are free, or none lie that way; nothing was taken); LARDER_E_RANGE (n);
 * LARDER_E_INVALID (NULL, an unknown shape).
 *  @threads internally synchronised  @blocking never  @cost ANY: about 3 ns per cell, its return included; other shapes
 * may look at the whole bitmap, an eighth of a byte per cell  @since 0.1 */
LARDER_API larder_status larder_cells_alloc(larder_cells* cells, larder_cells_shape shape, uint32_t n,
                                            int32_t* out_cells) LARDER_NOEXCEPT;

/** Give cells back, in any order and grouping. All or none.
 *  @return LARDER_OK; LARDER_E_STALE (a cell is not taken, or is listed twice); LARDER_E_RANGE; LARDER_E_INVALID;
 * nothing has changed then.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_cells_free(larder_cells* cells, const int32_t* list, uint32_t n) LARDER_NOEXCEPT;

/** Where a cell's bytes in one layer and plane are.
 *  @return LARDER_OK; LARDER_E_RANGE; LARDER_E_UNSUPPORTED (the pool has no memory of its own); LARDER_E_INVALID.
 *  @threads const  @blocking never  @since 0.1 */
LARDER_API larder_status larder_cells_address(const larder_cells* cells, uint32_t plane, uint32_t layer, int32_t cell,
                                              void** out_address) LARDER_NOEXCEPT;

/** A cell whose contents went elsewhere. */
typedef struct larder_cells_move {
    int32_t src;
    int32_t dst;
} larder_cells_move;

/** Take the first n cells of the transient reservation for activations; with PAGE_FIRST they are one range of bytes.
 * Lent cells among them are moved: dst is taken and src is the activations'. Whoever holds src must put dst in its
 * place in its tables before it uses or frees it. Larder has copied the bytes when the pool has memory; otherwise the
 * caller copies before it writes activations.
 *  @param moves        [capacity]
 *  @param out_n_moves  receives the number of moves, also with LARDER_E_BUFFER_TOO_SMALL
 *  @param out_first    receives the first cell of the reservation
 *  @return LARDER_OK; LARDER_E_NOSPACE (too few other cells are free; the message says how many have to be freed, and
 * the last error's field is "n"); LARDER_E_BUFFER_TOO_SMALL; LARDER_E_STATE (begun already); LARDER_E_RANGE (n is 0 or
 * beyond n_transient); LARDER_E_INVALID. Nothing has changed then.
 *  @threads internally synchronised; the holders of cells must not use them meanwhile  @blocking copies  @since 0.1 */
LARDER_API larder_status larder_cells_transient_begin(larder_cells* cells, uint32_t n, larder_cells_move* moves,
                                                      uint32_t capacity, uint32_t* out_n_moves,
                                                      int32_t* out_first) LARDER_NOEXCEPT;

/** The activations are done with: their cells are lent again.
 *  @return LARDER_OK; LARDER_E_STATE (not begun); LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_cells_transient_end(larder_cells* cells) LARDER_NOEXCEPT;

/** What a pool holds. n_cells = n_used + n_free + n_transient_used. */
typedef struct larder_cells_state {
    uint32_t struct_size;
    uint32_t n_cells;
    uint32_t n_used;           /**< by larder_cells_alloc() */
    uint32_t n_free;           /**< that ANY would find, lent ones included */
    uint32_t n_lent;           /**< of n_used: cells of the transient reservation */
    uint32_t n_transient_used; /**< by activations now */
    uint64_t memory_bytes;
} larder_cells_state;

#define LARDER_CELLS_STATE_INIT                                                                                        \
    { sizeof(larder_cells_state), 0, 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_cells_query(const larder_cells* cells, larder_cells_state* out) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
