/** @file arena.h
 *  @brief Fast memory for KV caches: blocks with reference counts, sequences made of blocks, and the tables that
 * attention kernels read.
 *
 *  An arena belongs to one layout and one rank. It has a pool of blocks for each layer group. A block holds the keys
 * and values of `block_tokens` tokens in all layers of its group. Block 0 of each group is the null block: zero-filled,
 * never handed out, and what padding and released table entries point to.
 *
 *  Two modes behind the same sequence verbs:
 *  - PAGED: a sequence is a table of blocks; blocks are shared between sequences (fork, prefix reuse) and copied before
 * a write.
 *  - CONTIGUOUS (vAttention, Prabhu et al. 2024): a sequence owns a virtual range per layer and tensor, and memory
 * appears in it ahead of need. Kernels written for plain tensors run unchanged. There are no blocks; the block
 * functions return LARDER_E_UNSUPPORTED.
 *
 *  Three names for a place:
 *  - larder_block: a 64-bit id with a generation. A stale one is answered by LARDER_E_STALE.
 *  - block number (int32): what kernels see. Valid while the block is referenced.
 *  - slot (int32 or int64): block number * block_tokens + token within the block.
 *
 *  Shape of one layer in LAYER_FIRST order: K [n_blocks][block_tokens][n_kv_heads][k_dim], V likewise with v_dim (the
 * NHD order of FlashInfer); a third plane holds scale_bytes per token. RECURRENT groups have one block per sequence,
 * its K plane being the state of state_bytes.
 *
 *  After creation an arena calls no allocator: everything it needs is sized by its options.
 */
#ifndef LARDER_ARENA_H
#define LARDER_ARENA_H

#include "larder/layout.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_arena larder_arena;

typedef int32_t larder_arena_mode;
enum { LARDER_ARENA_PAGED = 1, LARDER_ARENA_CONTIGUOUS = 2 };

/** Where the bytes live. */
typedef int32_t larder_arena_memory;
enum {
    LARDER_ARENA_ANON = 1,    /**< private memory, huge pages where the system gives them; the fastest */
    LARDER_ARENA_MEMFD = 2,   /**< shared memory: can be given to another process; lets CONTIGUOUS sequences share a
                                 prefix. Small pages on most systems. */
    LARDER_ARENA_IMPORTED = 3 /**< the engine's own tensors, see larder_arena_import(); not for larder_arena_create() */
};

typedef int32_t larder_arena_order;
enum {
    LARDER_ARENA_LAYER_FIRST = 1, /**< per layer one K and one V tensor over all blocks: what attention kernels want */
    LARDER_ARENA_PAGE_FIRST = 2   /**< one block over all layers is one run of bytes: what copies want */
};

/** The tensors of a layer. */
typedef int32_t larder_plane;
enum {
    LARDER_PLANE_K = 1,
    LARDER_PLANE_V = 2,
    LARDER_PLANE_SCALE = 3,
    LARDER_PLANE_BIAS = 4,    /**< with LARDER_ARENA_BIAS: [n_blocks][block_tokens][n_kv_heads] of fp16, added to the
                                 logits; ln m lets a merged entry stand for m tokens */
    LARDER_PLANE_LOW_RANK = 5 /**< with v_rank: [n_blocks][block_tokens][v_rank] of v_dtype, the part of V that an
                                 adapter adds before its up-projection (LRAgent); the same for all heads and ranks */
};

/** Bits of larder_arena_options::flags. */
enum {
    LARDER_ARENA_ZERO_ON_FREE = 1,     /**< a block is cleared when its last reference goes */
    LARDER_ARENA_POPULATE = 2,         /**< fault all memory in at creation instead of at first use (PAGED) */
    LARDER_ARENA_ZERO_ON_HANDOVER = 4, /**< a block is cleared when it is given out (PAGED) */
    LARDER_ARENA_ISOLATE = 8, /**< every block begins a page of memory of its own in each plane, so that no two blocks,
                                 and so no two tenants, share one; block strides grow to whole pages (PAGED) */
    LARDER_ARENA_GUARD = 16,  /**< an inaccessible page behind each plane: a kernel or copy that runs past it faults
                                 (PAGED) */
    LARDER_ARENA_LOCKED = 32, /**< the memory stays resident (mlock), which includes POPULATE (PAGED) */
    LARDER_ARENA_BIAS = 64,   /**< groups but RECURRENT ones have LARDER_PLANE_BIAS */
    LARDER_ARENA_BACKGROUND = 128 /**< a thread of the arena maps what n_lookahead asks for, and gives memory beyond
                                     warm_bytes back, so that appending maps only what it needs at once (CONTIGUOUS) */
};

/** Called on the allocating thread when a group is full, before LARDER_E_NOSPACE is returned: free at least n_blocks
 * blocks of the group through larder_arena_unref() or by destroying sequences, and return how many were freed (0 ends
 * the attempt). No lock is held. It must not allocate from the arena. drop (may be NULL) is called once when the arena
 * goes. */
typedef struct larder_arena_reclaim {
    uint64_t (*fn)(void* ctx, uint32_t group, uint64_t n_blocks);
    void* ctx;
    void (*drop)(void* ctx);
} larder_arena_reclaim;

/** Options of larder_arena_create(). Zero means default. Either budget_bytes or n_blocks must be given. */
typedef struct larder_arena_options {
    uint32_t struct_size;
    uint32_t flags;             /**< LARDER_ARENA_ZERO_ON_FREE, LARDER_ARENA_POPULATE */
    larder_arena_mode mode;     /**< default PAGED */
    larder_arena_memory memory; /**< default ANON */
    larder_arena_order order;   /**< default LAYER_FIRST */
    uint32_t n_tp; /**< tensor-parallel ranks: the arena holds n_kv_heads / n_tp heads of SPLIT groups; default 1 */
    uint64_t budget_bytes;    /**< PAGED: divided over the groups so that each can hold the same number of tokens
                                 (RECURRENT groups first get 2 blocks per sequence; WINDOW groups no more than their
                                 windows need). CONTIGUOUS: physical memory, required. */
    const uint32_t* n_blocks; /**< PAGED, instead of budget_bytes: blocks of each group, the null block included, each 2
                                 to 2^28-1; borrowed during the call */
    uint32_t n_block_counts;  /**< entries of n_blocks; must be the layout's number of groups when n_blocks is given */
    uint32_t max_seqs;        /**< sequences that can live at once, 1 to 2^20; default 256 */
    uint64_t max_seq_tokens;  /**< tokens of one sequence, up to 2^40; default 2^31 (PAGED) or 131072 (CONTIGUOUS, where
                                 it is reserved address space) */
    uint64_t max_table_entries; /**< PAGED: table entries of all sequences together, shared ones counted once; default 4
                                   per block and 1024 per sequence. 8 to 12 bytes each. */
    uint32_t low_watermark;     /**< thousandths of a group's blocks: with fewer free, pressure begins; default 50 */
    uint32_t high_watermark;    /**< thousandths: reclaim until so many are free; default 100 */
    uint32_t n_lookahead;   /**< CONTIGUOUS: tokens of memory kept ready ahead of each sequence's end; default 256 */
    uint32_t granule_bytes; /**< CONTIGUOUS: unit of mapping, a power of two from the system's page to 1 GiB; default 2
                               MiB (ANON), 64 KiB (MEMFD) */
    larder_arena_reclaim reclaim; /**< fn NULL: none */
    uint32_t run_blocks; /**< PAGED: keep the blocks of a sequence together in runs of so many, a power of two up to
                            4096 (FastSwitch, Shen et al. 2024): moving the sequence is then a few large copies, see
                            larder_arena_seq_runs(). A sequence's unused part of its last run goes to others when
                            nothing else is free. Blocks cost more to allocate. 0: single blocks */
    uint32_t v_rank;     /**< groups with a V have LARDER_PLANE_LOW_RANK of so many elements per token; 0 to 65536 */
    uint32_t n_populate_threads; /**< threads that POPULATE uses, 1 to 64; default one per CPU, at most 8 */
    uint32_t reserved0;
    uint64_t warm_bytes; /**< with BACKGROUND: memory of finished sequences that stays mapped for the next ones; default
                            budget_bytes */
} larder_arena_options;

#define LARDER_ARENA_OPTIONS_INIT                                                                                      \
    { sizeof(larder_arena_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0, 0, 0}, 0, 0, 0, 0, 0 }

/** Create an arena.
 *  @param layout  kept alive by the arena.
 *  @param out_arena  receives the handle, owned by the caller until larder_arena_destroy().
 *  @return LARDER_OK; LARDER_E_INVALID (NULL arguments, neither budget_bytes nor n_blocks, an unknown mode, memory or
 * order, a granule that is no power of two; larder_last_error() names the field); LARDER_E_RANGE (a count, watermark or
 * size outside its bounds, or a total that does not fit an address); LARDER_E_NOSPACE (budget_bytes too small for two
 * blocks per group); LARDER_E_NOMEM (more than the machine or its cgroup has, or LOCKED and more than RLIMIT_MEMLOCK
 * allows: the message carries both numbers; or the system or allocator refused); LARDER_E_UNSUPPORTED (MEMFD where the
 * system has none, a flag that is for the other mode); LARDER_E_TOO_NEW.
 *  @threads internally synchronised  @blocking maps memory; with POPULATE touches all of it  @since 0.1 */
LARDER_API larder_status larder_arena_create(larder_context* context, larder_layout* layout,
                                             const larder_arena_options* options,
                                             larder_arena** out_arena) LARDER_NOEXCEPT;

/** One tensor that the engine owns, for larder_arena_import(). */
typedef struct larder_arena_tensor {
    uint32_t struct_size;
    uint32_t group;
    uint32_t layer; /**< index within the group, 0 to n_layers-1 */
    larder_plane plane;
    void* base;            /**< address of block 0; a device address when host_visible is 0 */
    uint64_t block_stride; /**< bytes from block to block; at least one block of the plane */
} larder_arena_tensor;

#define LARDER_ARENA_TENSOR_INIT                                                                                       \
    { sizeof(larder_arena_tensor), 0, 0, 0, 0, 0 }

/** Options of larder_arena_import(). */
typedef struct larder_arena_import_options {
    uint32_t struct_size;
    uint32_t n_tensors;
    const larder_arena_tensor*
        tensors;            /**< one for each layer and plane of every group, in any order; borrowed during the call */
    uint32_t tensor_stride; /**< bytes between elements of tensors; sizeof(larder_arena_tensor) of the caller */
    uint32_t host_visible;  /**< 1: the CPU may read and write the tensors; 0: they are device addresses, and Larder
                               never touches them */
} larder_arena_import_options;

#define LARDER_ARENA_IMPORT_OPTIONS_INIT                                                                               \
    { sizeof(larder_arena_import_options), 0, 0, 0, 0 }

/** Make an arena over tensors that the engine allocated itself. They are never freed by Larder and must outlive the
 * arena. Block 0 becomes the null block: the engine keeps it zero.
 *  @param options  as for larder_arena_create(), with n_blocks given; mode PAGED; memory 0 or IMPORTED; order and
 * budget_bytes unused.
 *  @return as larder_arena_create(); LARDER_E_INVALID also for a tensor that is missing, given twice, NULL, has a
 * stride below its block's bytes, or overlaps another.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_arena_import(larder_context* context, larder_layout* layout,
                                             const larder_arena_options* options,
                                             const larder_arena_import_options* import_options,
                                             larder_arena** out_arena) LARDER_NOEXCEPT;

/** Destroy an arena with all its sequences and blocks. NULL is allowed.
 *  @threads no other call on this arena may run  @blocking unmaps memory  @since 0.1 */
LARDER_API void larder_arena_destroy(larder_arena* arena) LARDER_NOEXCEPT;

/** The state of one group. Exact when no other thread is in the arena. */
typedef struct larder_arena_group_state {
    uint32_t struct_size;
    uint32_t block_tokens;
    uint64_t n_blocks; /**< null block included */
    uint64_t n_used;   /**< blocks with at least one reference; the null block is not counted */
    uint64_t n_free;
    uint64_t n_retired;     /**< blocks that have used all their generations and are out of service */
    uint64_t n_to_reclaim;  /**< 0 above the low watermark; below it, blocks to free to reach the high one */
    uint64_t block_bytes;   /**< over the group's layers */
    uint64_t mapped_bytes;  /**< memory behind this group now */
    uint64_t granule_bytes; /**< CONTIGUOUS: the unit of mapping; 0 in PAGED */
    uint64_t n_elsewhere;   /**< blocks that other processes have, see larder_arena_join() */
} larder_arena_group_state;

#define LARDER_ARENA_GROUP_STATE_INIT                                                                                  \
    { sizeof(larder_arena_group_state), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_RANGE (group); LARDER_E_INVALID.  @threads internally synchronised  @blocking never
 * @cost a few ns per CPU  @since 0.1 */
LARDER_API larder_status larder_arena_group_query(larder_arena* arena, uint32_t group,
                                                  larder_arena_group_state* out) LARDER_NOEXCEPT;

/** Where one layer's tensors are. In PAGED, byte (block, token, head, d) of K is k_base + block * k_block_stride +
 * token * k_token_stride + head * k_head_stride + d. In CONTIGUOUS, k_base is that of sequence range 0, and
 * *_block_stride the distance between the ranges of sequences (larder_arena_seq_base() gives a sequence's own). */
typedef struct larder_arena_layer {
    uint32_t struct_size;
    uint32_t n_kv_heads; /**< of this rank */
    void* k_base;
    void* v_base;     /**< NULL when the group has no V */
    void* scale_base; /**< NULL without scales */
    uint64_t k_block_stride, v_block_stride, scale_block_stride;
    uint64_t k_token_stride, v_token_stride, scale_token_stride;
    uint64_t k_head_stride, v_head_stride;
    uint64_t n_blocks;   /**< PAGED: the group's; CONTIGUOUS: max_seqs */
    void* bias_base;     /**< NULL without LARDER_PLANE_BIAS */
    void* low_rank_base; /**< NULL without LARDER_PLANE_LOW_RANK */
    uint64_t bias_block_stride, low_rank_block_stride;
    uint64_t bias_token_stride, low_rank_token_stride;
} larder_arena_layer;

#define LARDER_ARENA_LAYER_INIT                                                                                        \
    { sizeof(larder_arena_layer), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** @param layer  index within the group.  @return LARDER_OK; LARDER_E_RANGE (group, layer); LARDER_E_INVALID.  @threads
 * const  @blocking never  @since 0.1 */
LARDER_API larder_status larder_arena_layer_view(const larder_arena* arena, uint32_t group, uint32_t layer,
                                                 larder_arena_layer* out) LARDER_NOEXCEPT;

/* --- blocks (PAGED) ----------------------------------------------------------------------------------------------- */

/** Take n blocks of a group, all or none. Each has one reference, which is the caller's. Contents are arbitrary (zero
 * with ZERO_ON_FREE). Blocks that were freed last are given first.
 *  @param out_blocks  [n]
 *  @return LARDER_OK; LARDER_E_NOSPACE (fewer than n are free; nothing was taken); LARDER_E_RANGE (group);
 * LARDER_E_INVALID; LARDER_E_UNSUPPORTED (CONTIGUOUS).
 *  @threads internally synchronised  @blocking never (but for the reclaim callback)  @cost about 10 ns per call and 2
 * ns per block  @since 0.1 */
LARDER_API larder_status larder_arena_alloc(larder_arena* arena, uint32_t group, uint32_t n,
                                            larder_block* out_blocks) LARDER_NOEXCEPT;

/** Add one reference to each block; a block listed twice gets two. All or none: on an error nothing has changed.
 *  Once a block has been sealed or has had a second reference, this is safe against a concurrent last unref: the answer
 * is then LARDER_E_STALE. Before that only its holder may use the id: whoever publishes one takes a reference for the
 * publication first.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_RANGE (2^29 references); LARDER_E_INVALID; LARDER_E_UNSUPPORTED.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_arena_ref(larder_arena* arena, const larder_block* blocks, uint32_t n) LARDER_NOEXCEPT;

/** Drop one reference of each block; at the last one the block is free and its id stale. Stale ids are skipped.
 *  @return LARDER_OK; LARDER_E_STALE when at least one was stale (the others are done); LARDER_E_INVALID;
 * LARDER_E_UNSUPPORTED.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_arena_unref(larder_arena* arena, const larder_block* blocks,
                                            uint32_t n) LARDER_NOEXCEPT;

/** Make blocks immutable: a sequence that would write into one gets a copy first, also when nobody else holds it.
 * Undone only by freeing.
 *  @return LARDER_OK; LARDER_E_STALE (those before it are sealed); LARDER_E_INVALID; LARDER_E_UNSUPPORTED.
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_arena_seal(larder_arena* arena, const larder_block* blocks, uint32_t n) LARDER_NOEXCEPT;

/** What is known of one block. */
typedef struct larder_arena_block_state {
    uint32_t struct_size;
    uint32_t group;
    int32_t number;  /**< what kernels see */
    uint32_t n_refs; /**< the table nodes of sequences and the callers' own; sequences that share a stretch of table
                        since a fork count once */
    uint32_t sealed;
    uint32_t reserved0;
} larder_arena_block_state;

#define LARDER_ARENA_BLOCK_STATE_INIT                                                                                  \
    { sizeof(larder_arena_block_state), 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_STALE; LARDER_E_INVALID; LARDER_E_UNSUPPORTED.  @threads internally synchronised  @since
 * 0.1 */
LARDER_API larder_status larder_arena_block_query(larder_arena* arena, larder_block block,
                                                  larder_arena_block_state* out) LARDER_NOEXCEPT;

/** The address of a block's plane in one layer; contiguous over block_tokens tokens.
 *  @param out_address  NULL for a plane that the group has not; a device address in an imported arena without
 * host_visible.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_RANGE (layer, plane); LARDER_E_INVALID; LARDER_E_UNSUPPORTED.
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_arena_block_address(larder_arena* arena, larder_block block, uint32_t layer,
                                                    larder_plane plane, void** out_address) LARDER_NOEXCEPT;

/* --- sequences ---------------------------------------------------------------------------------------------------- */

/** Create an empty sequence. It takes no blocks.
 *  @return LARDER_OK; LARDER_E_NOSPACE (max_seqs live); LARDER_E_INVALID.
 *  @threads internally synchronised; afterwards each sequence is used by one thread at a time  @blocking never  @since
 * 0.1 */
LARDER_API larder_status larder_arena_seq_create(larder_arena* arena, larder_seq* out_seq) LARDER_NOEXCEPT;

/** Destroy a sequence and drop its references. In CONTIGUOUS its memory stays mapped for the next sequence.
 *  @return LARDER_OK; LARDER_E_STALE.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_arena_seq_destroy(larder_arena* arena, larder_seq seq) LARDER_NOEXCEPT;

/** A copy that must be done before the destination is written: whole blocks from number src to number dst, in every
 * layer of the group. */
typedef struct larder_arena_copy {
    uint32_t group;
    int32_t src;
    int32_t dst;
    uint32_t n_tokens; /**< so many tokens of the block count; at least 1 */
} larder_arena_copy;

/** Room for n_tokens more tokens at the end: new blocks in every group, and a copy of the last block where it is shared
 * or sealed and partly filled (all or none).
 *  @param copies    NULL: Larder copies the bytes itself, now. Otherwise Larder copies nothing and lists what the
 * caller has to copy on its own stream before it writes; the source is not reused before every other holder has dropped
 * it, which the caller orders on the same stream.
 *  @param capacity  entries of copies; at least the layout's number of groups when copies is given.
 *  @param out_n_copies  receives the number of copies done or listed; may be NULL.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_NOSPACE (blocks, table entries or, in CONTIGUOUS, physical memory: the
 * field says which; nothing has changed); LARDER_E_RANGE (beyond max_seq_tokens); LARDER_E_BUFFER_TOO_SMALL (capacity);
 * LARDER_E_UNSUPPORTED (a copy is needed, copies is NULL and the tensors are not host-visible).
 *  @threads one thread per sequence  @blocking CONTIGUOUS may map memory  @since 0.1 */
LARDER_API larder_status larder_arena_seq_append(larder_arena* arena, larder_seq seq, uint64_t n_tokens,
                                                 larder_arena_copy* copies, uint32_t capacity,
                                                 uint32_t* out_n_copies) LARDER_NOEXCEPT;

/** Make the tokens [first, first + n) writable: every block of the range that is shared or sealed is replaced by a copy
 * (all or none).
 *  @param copies, capacity, out_n_copies  as in larder_arena_seq_append(); capacity is at least one per block of the
 * range and group.
 *  @return as larder_arena_seq_append(); LARDER_E_RANGE (tokens that the sequence has not).
 *  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_arena_seq_make_writable(larder_arena* arena, larder_seq seq, uint64_t first, uint64_t n,
                                                        larder_arena_copy* copies, uint32_t capacity,
                                                        uint32_t* out_n_copies) LARDER_NOEXCEPT;

/** Shorten to n_tokens. Blocks wholly behind are dropped. RECURRENT groups keep their block: which state it holds is
 * the caller's business.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_RANGE (longer than the sequence); LARDER_E_NOSPACE (a shared table had
 * to be copied and no table entries are left; nothing has changed).
 *  @threads one thread per sequence  @blocking never  @since 0.1 */
LARDER_API larder_status larder_arena_seq_truncate(larder_arena* arena, larder_seq seq,
                                                   uint64_t n_tokens) LARDER_NOEXCEPT;

/** Make n new sequences that share the first n_tokens tokens. PAGED copies no block now (see larder_arena_seq_append())
 * and shares the table itself, so that the cost does not grow with the length when n_tokens is the whole sequence.
 * CONTIGUOUS shares whole granules with MEMFD and copies with ANON.
 *  @param out_seqs  [n]; all or none.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_RANGE (n_tokens); LARDER_E_NOSPACE; LARDER_E_INVALID.
 *  @threads one thread for `seq`; the new ones may go to other threads  @blocking CONTIGUOUS maps or copies memory
 * @cost PAGED about 1 us  @since 0.1 */
LARDER_API larder_status larder_arena_seq_fork(larder_arena* arena, larder_seq seq, uint64_t n_tokens, uint32_t n,
                                               larder_seq* out_seqs) LARDER_NOEXCEPT;

/** Put existing blocks at the head of a group's table that is still empty: what follows a prefix match. The sequence
 * takes references of its own.
 *  @param blocks    [n_blocks] ids of that group; LARDER_NULL_BLOCK for blocks that a window has passed. n_blocks is
 * n_tokens / block_tokens rounded up (RECURRENT: 1).
 *  @param n_tokens  the sequence's length afterwards. The first call sets it, calls for other groups repeat it. Groups
 * not attached get fresh blocks at the next append.
 *  @return LARDER_OK; LARDER_E_STALE (sequence or block); LARDER_E_STATE (the table is not empty, or the sequence has
 * another length); LARDER_E_RANGE (group, n_blocks); LARDER_E_NOSPACE (table entries); LARDER_E_INVALID (a block of
 * another group); LARDER_E_UNSUPPORTED (CONTIGUOUS).
 *  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_arena_seq_attach(larder_arena* arena, larder_seq seq, uint32_t group,
                                                 const larder_block* blocks, uint64_t n_blocks,
                                                 uint64_t n_tokens) LARDER_NOEXCEPT;

#define LARDER_NULL_BLOCK ((larder_block)0)

/** In every WINDOW group, release the blocks that no token from n_computed on can see: wholly behind the sinks and
 * wholly before n_computed - window. Their entries become the null block.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_RANGE (n_computed beyond the sequence); LARDER_E_NOSPACE (table entries;
 * nothing has changed); LARDER_E_UNSUPPORTED (CONTIGUOUS).
 *  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_arena_seq_slide(larder_arena* arena, larder_seq seq,
                                                uint64_t n_computed) LARDER_NOEXCEPT;

/** Length of a sequence in tokens.  @return LARDER_OK; LARDER_E_STALE; LARDER_E_INVALID.  @threads one thread per
 * sequence  @since 0.1 */
LARDER_API larder_status larder_arena_seq_length(larder_arena* arena, larder_seq seq,
                                                 uint64_t* out_n_tokens) LARDER_NOEXCEPT;

/** The ids of blocks [first, first + n) of a group's table, borrowed: no reference is added. Released entries give
 * LARDER_NULL_BLOCK.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_RANGE (group, first, n); LARDER_E_INVALID; LARDER_E_UNSUPPORTED.
 * @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_arena_seq_blocks(larder_arena* arena, larder_seq seq, uint32_t group, uint64_t first,
                                                 uint64_t n, larder_block* out_blocks) LARDER_NOEXCEPT;

/** Block numbers of scattered entries of a group's table, in one call: what host code uses that reads a few blocks of
 * each sequence.
 *  @param entries     [n] places in the table, in any order
 *  @param out_numbers [n]; released entries give the null block
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_RANGE (group, or an entry that the table has not; nothing was written);
 * LARDER_E_INVALID; LARDER_E_UNSUPPORTED.
 *  @threads one thread per sequence  @blocking never  @cost about 1 ns per entry while the table is in the cache
 *  @since 0.1 */
LARDER_API larder_status larder_arena_seq_lookup(larder_arena* arena, larder_seq seq, uint32_t group,
                                                 const uint32_t* entries, uint32_t n,
                                                 int32_t* out_numbers) LARDER_NOEXCEPT;

/** Adjacent blocks of a sequence: bytes of a layer's plane from number `first` on, n_blocks * block stride long, are
 * one copy in LAYER_FIRST order. */
typedef struct larder_arena_run {
    uint64_t entry; /**< place in the table of the first one */
    int32_t first;  /**< block number */
    uint32_t n_blocks;
} larder_arena_run;

/** A group's table as runs of adjacent blocks, in order: what moving the sequence has to copy. Released entries are
 * left out.
 *  @param out_runs  [capacity]
 *  @param out_n     receives the number of runs, also with LARDER_E_BUFFER_TOO_SMALL; may be NULL
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (the first `capacity` runs are written); LARDER_E_STALE; LARDER_E_RANGE
 * (group); LARDER_E_INVALID; LARDER_E_UNSUPPORTED (CONTIGUOUS).
 *  @threads one thread per sequence  @blocking never  @since 0.1 */
LARDER_API larder_status larder_arena_seq_runs(larder_arena* arena, larder_seq seq, uint32_t group,
                                               larder_arena_run* out_runs, uint64_t capacity,
                                               uint64_t* out_n) LARDER_NOEXCEPT;

/** CONTIGUOUS: address of token 0 of a sequence in one layer and plane. It does not change while the sequence lives.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_RANGE (group, layer, plane); LARDER_E_INVALID; LARDER_E_UNSUPPORTED
 * (PAGED).  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_arena_seq_base(larder_arena* arena, larder_seq seq, uint32_t group, uint32_t layer,
                                               larder_plane plane, void** out_base) LARDER_NOEXCEPT;

/* --- what kernels read (PAGED) ------------------------------------------------------------------------------------ */

/** Block tables as dense rows: row i holds the block numbers of seqs[i], the rest of the row and rows n_seqs to
 * n_rows-1 the null block. Everything is written, at addresses that are the caller's, so that a captured graph can read
 * them.
 *  @param dst         [n_rows][row_stride]
 *  @param row_stride  entries per row
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_RANGE (group, n_rows below n_seqs); LARDER_E_BUFFER_TOO_SMALL (a
 * sequence has more blocks than row_stride); LARDER_E_INVALID; LARDER_E_UNSUPPORTED.
 *  @threads one thread per sequence  @blocking never  @cost about a copy of dst  @since 0.1 */
LARDER_API larder_status larder_arena_block_table(larder_arena* arena, uint32_t group, const larder_seq* seqs,
                                                  uint32_t n_seqs, uint32_t n_rows, int32_t* dst,
                                                  uint64_t row_stride) LARDER_NOEXCEPT;

/** Block tables in FlashInfer's compressed form: row i is indices[indptr[i] .. indptr[i+1]), its last block holds
 * last_page_len[i] tokens. Rows n_seqs to n_rows-1 are padding: one null block of one token.
 *  @param indptr         [n_rows + 1]
 *  @param indices        [capacity]
 *  @param last_page_len  [n_rows]; 0 for an empty sequence
 *  @param out_n_indices  receives what is needed, also with LARDER_E_BUFFER_TOO_SMALL; may be NULL
 *  @return as larder_arena_block_table().  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_arena_block_csr(larder_arena* arena, uint32_t group, const larder_seq* seqs,
                                                uint32_t n_seqs, uint32_t n_rows, int32_t* indptr, int32_t* indices,
                                                uint64_t capacity, int32_t* last_page_len,
                                                uint64_t* out_n_indices) LARDER_NOEXCEPT;

/** Block tables as addresses of one layer's plane; padding points to the null block.
 *  @param dst  [n_rows][row_stride]
 *  @return as larder_arena_block_table(); LARDER_E_RANGE (layer, plane).  @threads one thread per sequence  @since 0.1
 */
LARDER_API larder_status larder_arena_block_pointers(larder_arena* arena, uint32_t group, uint32_t layer,
                                                     larder_plane plane, const larder_seq* seqs, uint32_t n_seqs,
                                                     uint32_t n_rows, void** dst, uint64_t row_stride) LARDER_NOEXCEPT;

/** A range of a sequence's tokens. */
typedef struct larder_arena_range {
    larder_seq seq;
    uint64_t first;
    uint64_t n_tokens;
} larder_arena_range;

/** Slots of tokens, one after the other: block number * block_tokens + offset. Entries from the end of the ranges to
 * n_entries are -1.
 *  @param ranges       [n_ranges]
 *  @param dst          [n_entries] of int32_t (entry_bytes 4) or int64_t (8)
 *  @param out_n        receives the number of tokens; may be NULL
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_RANGE (group, a token that the sequence has not, or a slot beyond
 * int32_t with entry_bytes 4); LARDER_E_BUFFER_TOO_SMALL; LARDER_E_INVALID (entry_bytes); LARDER_E_UNSUPPORTED
 * (CONTIGUOUS, or a RECURRENT group).
 *  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_arena_slot_mapping(larder_arena* arena, uint32_t group,
                                                   const larder_arena_range* ranges, uint32_t n_ranges, void* dst,
                                                   uint32_t entry_bytes, uint64_t n_entries,
                                                   uint64_t* out_n) LARDER_NOEXCEPT;

/* --- several processes (PAGED, MEMFD) ----------------------------------------------------------------------------- */

/** The descriptor of a shared arena, for larder_arena_join() in other processes: pass it by SCM_RIGHTS or inheritance.
 *  @param out_fd  borrowed until the arena is destroyed; do not close it
 *  @return LARDER_OK; LARDER_E_UNSUPPORTED (CONTIGUOUS, memory other than MEMFD, run_blocks, or an arena that was
 * joined itself); LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_arena_export(larder_arena* arena, int32_t* out_fd) LARDER_NOEXCEPT;

/** Join an arena that another process made: the same memory, block numbers and strides. Each process has sequences,
 * ids and references of its own; a record in the shared memory says which process has which blocks, in chunks of up to
 * 64, and every process takes chunks as it needs them. A chunk goes back when its process destroys its arena, or when
 * another process finds that it died (see larder_arena_reap()); a living process's chunks are never taken. Bytes of
 * others' blocks may be read by number; that they stay is for the processes to agree on. Processes must see each
 * other's process numbers (one pid namespace).
 *  @param layout   must have the identity of the maker's
 *  @param options  as for larder_arena_create(); only reclaim, max_seqs, max_seq_tokens, max_table_entries, watermarks,
 * ZERO_ON_FREE and ZERO_ON_HANDOVER count, the rest is the maker's. NULL: defaults.
 *  @param fd       borrowed during the call
 *  @return LARDER_OK; LARDER_E_INVALID (not a shared arena, of another layout, or the memory could shrink);
 * LARDER_E_NOSPACE (64 processes have joined); LARDER_E_TOO_NEW; LARDER_E_NOMEM; LARDER_E_RANGE.
 *  @threads internally synchronised  @blocking maps memory  @since 0.1 */
LARDER_API larder_status larder_arena_join(larder_context* context, larder_layout* layout,
                                           const larder_arena_options* options, int32_t fd,
                                           larder_arena** out_arena) LARDER_NOEXCEPT;

/** Free the blocks of processes that died without leaving. larder_arena_alloc() and the sequence calls do it themselves
 * before they answer LARDER_E_NOSPACE.
 *  @param out_n_blocks  receives how many became free; may be NULL
 *  @return LARDER_OK; LARDER_E_UNSUPPORTED (not a shared arena); LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking a system call per process that joined  @since 0.1 */
LARDER_API larder_status larder_arena_reap(larder_arena* arena, uint64_t* out_n_blocks) LARDER_NOEXCEPT;

/* --- care --------------------------------------------------------------------------------------------------------- */

/** Check that nothing is lost and nothing is held twice: every block is free, used or retired, exactly once; every
 * reference of a table is counted; the null block is zero.
 *  @return LARDER_OK; LARDER_E_INTERNAL with what does not hold; LARDER_E_NOMEM.
 *  @threads no other call on this arena may run  @cost linear in blocks and table entries; allocates while it runs
 * @since 0.1 */
LARDER_API larder_status larder_arena_verify(larder_arena* arena) LARDER_NOEXCEPT;

/** CONTIGUOUS: give memory that no living sequence needs back to the system, until at most keep_bytes of such memory
 * are mapped. PAGED: does nothing.
 *  @return LARDER_OK; LARDER_E_SYSTEM.  @threads internally synchronised  @blocking unmaps memory  @since 0.1 */
LARDER_API larder_status larder_arena_trim(larder_arena* arena, uint64_t keep_bytes) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
