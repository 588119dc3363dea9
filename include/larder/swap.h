/** @file swap.h
 *  @brief What moving sequences out of an arena costs, and in which copies (FastSwitch, arXiv 2411.18424).
 *
 *  The plan names every block of the sequences once, also one that several of them share, and joins adjacent blocks to
 * runs whatever sequence or place in a table they have. Blocks that an earlier plan has saved and that were not written
 * since are left out: a turn of a conversation moves only what it added.
 */
#ifndef LARDER_SWAP_H
#define LARDER_SWAP_H

#include "larder/arena.h"

LARDER_EXTERN_C_BEGIN

/** A sequence to move. */
typedef struct larder_swap_seq {
    uint32_t struct_size;
    uint32_t reserved0;
    larder_seq seq;
    uint64_t n_saved_tokens; /**< tokens from the start that are saved already; whole blocks of them are left out */
} larder_swap_seq;

#define LARDER_SWAP_SEQ_INIT                                                                                           \
    { sizeof(larder_swap_seq), 0, 0, 0 }

/** Adjacent blocks, to be copied to or from a packed buffer. */
typedef struct larder_swap_run {
    int32_t first; /**< block number */
    uint32_t n_blocks;
    uint64_t packed; /**< place of the first block in the packed buffer, in blocks */
} larder_swap_run;

/** The model of a copy and the totals of a plan. The caller sets struct_size, copy_ns and bandwidth_bytes_per_s. */
typedef struct larder_swap_plan_info {
    uint32_t struct_size;
    uint32_t n_runs;
    uint64_t copy_ns;               /**< in: what a copy costs however small it is; 0: 10,000 */
    uint64_t bandwidth_bytes_per_s; /**< in: 0: 25e9 */
    uint64_t n_blocks;
    uint64_t n_bytes;
    uint64_t n_copies;     /**< one per run, layer and plane (LAYER_FIRST), or one per run (PAGE_FIRST) */
    uint64_t modelled_ns;  /**< n_copies * copy_ns + n_bytes / bandwidth */
    uint64_t by_blocks_ns; /**< the same with one copy for each block: what runs save */
} larder_swap_plan_info;

#define LARDER_SWAP_PLAN_INFO_INIT                                                                                     \
    { sizeof(larder_swap_plan_info), 0, 0, 0, 0, 0, 0, 0, 0 }

/** Plan the moving of sequences in one layer group. Nothing is moved. The plan holds until a sequence of it is appended
 * to, truncated or destroyed.
 *  @param seqs      [n_seqs], seq_stride bytes apart
 *  @param runs      [capacity], ascending by block number
 *  @param info      in and out; n_runs and the totals are right also with LARDER_E_BUFFER_TOO_SMALL
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (the first `capacity` runs are written); LARDER_E_STALE; LARDER_E_RANGE
 * (group); LARDER_E_INVALID; LARDER_E_UNSUPPORTED (CONTIGUOUS); LARDER_E_TOO_NEW; LARDER_E_NOMEM.
 *  @threads one thread per sequence  @blocking never  @cost n log n in the blocks; allocates while it runs  @since 0.1
 */
LARDER_API larder_status larder_swap_plan(larder_arena* arena, uint32_t group, const larder_swap_seq* seqs,
                                          uint32_t seq_stride, uint32_t n_seqs, larder_swap_run* runs,
                                          uint64_t capacity, larder_swap_plan_info* info) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
