/** @file plan.h
 *  @brief Planner, worker and plan: the KV cache of a replica that is spread over ranks and processes.
 *
 *  One *planner* per model replica decides: it owns ids, the index and the policies, and touches no tensor. One
 * *worker* per rank owns memory and data I/O, and decides nothing. Between them go *plans*: versioned byte strings
 * without pointers, the same for all ranks, each of which applies it to its own shard. Whoever has scheduler and model
 * in one process uses kv.h, which is both.
 *
 *      planner: match, begin, reserve, commit -> plan -> export -> (pipe, socket, shared memory, ...) -> import ->
 * worker_submit worker:  job done -> take_report -> (...) -> planner_report
 *
 *  - A plan holds what it names: no block in it is reused before every rank has reported or died.
 *  - A block can be matched only when all ranks have succeeded. A record is stored only when all ranks have stored
 * their shard.
 *  - A worker may be given plans in any order and run several at once: two plans that are out never touch the same
 * block in conflict.
 *  - The engine computes on a rank only after that rank's job for the plan is done.
 */
#ifndef LARDER_PLAN_H
#define LARDER_PLAN_H

#include "larder/kv.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_planner larder_planner;
typedef struct larder_worker larder_worker;
typedef struct larder_plan larder_plan;
/** Names a plan in reports. */
typedef larder_id larder_plan_id;

/* ------------------------------------------------------------------------------- plans --- */

/** What a plan contains. */
typedef struct larder_plan_info {
    uint32_t struct_size;
    uint32_t n_ops; /**< statuses of a report */
    larder_plan_id id;
    uint32_t n_loads;  /**< records to be read into blocks */
    uint32_t n_stores; /**< blocks to be written to the tiers */
    uint32_t n_copies; /**< blocks to be copied */
    uint32_t n_drops;  /**< records to be removed */
    uint64_t n_bytes;  /**< of the exported form */
    larder_key layout_identity;
} larder_plan_info;

#define LARDER_PLAN_INFO_INIT                                                                                          \
    {                                                                                                                  \
        sizeof(larder_plan_info), 0, 0, 0, 0, 0, 0, 0, {                                                               \
            { 0 }                                                                                                      \
        }                                                                                                              \
    }

/** @return LARDER_OK; LARDER_E_INVALID.  @threads const  @since 0.1 */
LARDER_API larder_status larder_plan_get_info(const larder_plan* plan, larder_plan_info* out_info) LARDER_NOEXCEPT;

/** Write a plan as bytes (docs/formats/plan.md).
 *  @param buffer  NULL with capacity 0 asks for the size.
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (out_n_bytes is set); LARDER_E_INVALID.  @threads const  @blocking
 * never  @since 0.1 */
LARDER_API larder_status larder_plan_export(const larder_plan* plan, void* buffer, uint64_t capacity,
                                            uint64_t* out_n_bytes) LARDER_NOEXCEPT;

/** Make a plan from bytes, which may be hostile: everything is checked before anything is used.
 *  @return LARDER_OK; LARDER_E_TRUNCATED; LARDER_E_FORMAT (not a plan, or an operation that is none); LARDER_E_VERSION
 * (newer); LARDER_E_CORRUPT (checksum); LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_plan_import(larder_context* context, const void* bytes, uint64_t n_bytes,
                                            larder_plan** out_plan) LARDER_NOEXCEPT;

/** The checks of import alone. Needs no context.  @return as larder_plan_import().  @threads any  @since 0.1 */
LARDER_API larder_status larder_plan_validate(const void* bytes, uint64_t n_bytes) LARDER_NOEXCEPT;

/** Free a plan's handle. What the plan holds in its planner is held until it is reported. NULL is allowed.  @threads no
 * other call on this plan may run  @since 0.1 */
LARDER_API void larder_plan_destroy(larder_plan* plan) LARDER_NOEXCEPT;

/* ----------------------------------------------------------------------------- planner --- */

/** Options of larder_planner_create(). Zero means default. */
typedef struct larder_planner_options {
    uint32_t struct_size;
    uint32_t flags; /**< must be 0 */
    uint32_t
        n_tp; /**< ranks of each kind; the product, at most 64, is the number of ranks that report. Default 1 each */
    uint32_t n_pp;
    uint32_t n_cp;
    uint32_t n_dp;
    uint64_t n_blocks;      /**< blocks of each worker's arena, the null block not counted; at least 2 */
    larder_span tenant_key; /**< as in larder_kv_options */
    larder_span salt;
    larder_kv_write_policy write_policy;
    uint32_t max_sequences;
    uint32_t low_watermark;
    uint32_t high_watermark;
    uint32_t has_store;   /**< 1: workers have tiers below the arena, so blocks may be stored and loaded */
    uint32_t approximate; /**< 1: the workers' codec is lossy */
    uint32_t n_states;    /**< state slots of each worker, the null slot not counted; at least 2 with RECURRENT groups,
                             0 without */
    uint32_t reserved0;
} larder_planner_options;

#define LARDER_PLANNER_OPTIONS_INIT                                                                                    \
    { sizeof(larder_planner_options), 0, 0, 0, 0, 0, 0, {0, 0}, {0, 0}, 0, 0, 0, 0, 0, 0, 0, 0 }

/** Create a planner.
 *  @return LARDER_OK; LARDER_E_INVALID, LARDER_E_RANGE (also: n_tp does not divide the kv heads); LARDER_E_UNSUPPORTED
 * as larder_kv_open(); LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_planner_create(larder_context* context, larder_layout* layout,
                                               const larder_planner_options* options,
                                               larder_planner** out_planner) LARDER_NOEXCEPT;

/** Destroy a planner. Plans that are out lose their meaning; their handles are destroyed separately. NULL is allowed.
 * @threads no other call on it may run  @since 0.1 */
LARDER_API void larder_planner_destroy(larder_planner* planner) LARDER_NOEXCEPT;

/** As larder_kv_match(). n_tokens_host counts everything below the arenas: the planner does not know in which tier a
 * worker has it.
 *  @return as larder_kv_match(); LARDER_E_PEER_DEAD.  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_planner_match(larder_planner* planner, const larder_kv_query* query,
                                              larder_kv_match_info* out_match) LARDER_NOEXCEPT;
/** As larder_kv_release().  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_planner_release(larder_planner* planner, larder_lease lease) LARDER_NOEXCEPT;

/** Begin a sequence. While the plan is out the sequence is LOADING; when the last rank has reported, it is ACTIVE, and
 * larder_planner_seq_get_info() says how much was loaded.
 *  @param out_plan  NULL when no rank has anything to do; otherwise the caller's, to be sent to every rank and
 * destroyed.
 *  @return LARDER_OK; LARDER_PENDING (LOADING); LARDER_RETRY (out_plan, or a plan that is out already, will free blocks
 * for the loads: the lease is still good, ask again once it was reported); as larder_kv_begin(); LARDER_E_PEER_DEAD.
 * @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_planner_begin(larder_planner* planner, larder_lease lease,
                                              const larder_kv_begin_options* options, larder_seq* out_seq,
                                              larder_plan** out_plan) LARDER_NOEXCEPT;

/** As larder_kv_reserve(), but the work is the ranks': with LARDER_OK a plan may copy the last block (compute after
 * it); with LARDER_RETRY a plan stores blocks that can be evicted once it has been reported: then ask again.
 *  @return LARDER_OK; LARDER_RETRY (out_plan, or an earlier plan that is still out, will free blocks); as
 * larder_kv_reserve(); LARDER_E_PEER_DEAD.  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_planner_reserve(larder_planner* planner, larder_seq seq, uint64_t n_tokens,
                                                uint64_t n_lookahead, larder_plan** out_plan) LARDER_NOEXCEPT;

/** As larder_kv_commit(). Blocks that sealed are named in the plan, and can be matched when every rank has reported
 * success for it; under WRITE_THROUGH the plan stores them too.
 *  @return as larder_kv_commit(); LARDER_E_PEER_DEAD.  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_planner_commit(larder_planner* planner, larder_seq seq, const int32_t* tokens,
                                               uint64_t n_tokens, larder_plan** out_plan) LARDER_NOEXCEPT;

/** As larder_kv_truncate().  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_planner_truncate(larder_planner* planner, larder_seq seq,
                                                 uint64_t n_tokens) LARDER_NOEXCEPT;
/** As larder_kv_checkpoint().  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_planner_checkpoint(larder_planner* planner, larder_seq seq) LARDER_NOEXCEPT;
/** As larder_kv_fork().  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_planner_fork(larder_planner* planner, larder_seq seq, uint64_t n_tokens, uint32_t n,
                                             larder_seq* out_seqs) LARDER_NOEXCEPT;
/** As larder_kv_end().  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_planner_end(larder_planner* planner, larder_seq seq) LARDER_NOEXCEPT;
/** As larder_kv_seq_get_info().  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_planner_seq_get_info(larder_planner* planner, larder_seq seq,
                                                     larder_kv_seq_info* out_info) LARDER_NOEXCEPT;
/** As larder_kv_view(): block numbers are the same on all ranks.  @threads the caller is the one user of all these
 * sequences  @since 0.1 */
LARDER_API larder_status larder_planner_view(larder_planner* planner, const larder_seq* seqs, uint32_t n,
                                             const larder_kv_view_options* options) LARDER_NOEXCEPT;
/** As larder_kv_get_info(); the bytes of tiers are 0.  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_planner_get_info(larder_planner* planner, larder_kv_info* out_info) LARDER_NOEXCEPT;

/** Free up to n_blocks unused blocks now where they are stored below (or cannot be stored), and plan the storing of
 * others.
 *  @param out_n_blocks  freed at once; may be NULL.  @return LARDER_OK; LARDER_PARTIAL (fewer are free now).  @threads
 * internally synchronised  @since 0.1 */
LARDER_API larder_status larder_planner_evict(larder_planner* planner, uint64_t n_blocks, uint64_t* out_n_blocks,
                                              larder_plan** out_plan) LARDER_NOEXCEPT;

/** Plan that every published block is stored and made durable by every rank.
 *  @return LARDER_OK (out_plan is NULL when there is nothing to do).  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_planner_flush(larder_planner* planner, larder_plan** out_plan) LARDER_NOEXCEPT;

/** One rank has applied a plan.
 *  @param rank  ((dp * n_cp + cp) * n_pp + pp) * n_tp + tp.
 *  @param statuses  [n] one for each operation of the plan, as larder_worker_take_report() gave them.
 *  @return LARDER_OK; LARDER_PENDING (other ranks have not reported yet); LARDER_E_STALE (no such plan out);
 * LARDER_E_EXISTS (the rank reported already); LARDER_E_RANGE (rank, n).  @threads internally synchronised  @blocking
 * never  @since 0.1 */
LARDER_API larder_status larder_planner_report(larder_planner* planner, larder_plan_id plan, uint32_t rank,
                                               const larder_status* statuses, uint64_t n) LARDER_NOEXCEPT;

/** A rank is gone, and its memory with it. Plans stop waiting for it and count as failed there; all blocks of the
 * arenas are unpublished; open sequences are lost: every call on them but end returns LARDER_E_PEER_DEAD, as do match
 * and begin until the rank is replaced.
 *  @return LARDER_OK; LARDER_E_RANGE.  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_planner_rank_dead(larder_planner* planner, uint32_t rank) LARDER_NOEXCEPT;

/** A new worker has taken a dead rank's place. Records that its predecessor stored in a directory are found again when
 * its inventory says so.
 *  @return LARDER_OK; LARDER_E_RANGE; LARDER_E_STATE (the rank is not dead).  @threads internally synchronised  @since
 * 0.1 */
LARDER_API larder_status larder_planner_rank_alive(larder_planner* planner, uint32_t rank) LARDER_NOEXCEPT;

/** What a worker's tiers hold, as larder_worker_export_inventory() wrote it; hostile bytes are refused whole. A record
 * becomes known once every rank's inventory has it.
 *  @return LARDER_OK; LARDER_E_TRUNCATED; LARDER_E_FORMAT; LARDER_E_VERSION; LARDER_E_CORRUPT; LARDER_E_IDENTITY
 * (another layout); LARDER_E_RANGE; LARDER_E_NOMEM.
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_planner_import_inventory(larder_planner* planner, uint32_t rank, const void* bytes,
                                                         uint64_t n_bytes) LARDER_NOEXCEPT;

/* ------------------------------------------------------------------------------ worker --- */

/** Options of larder_worker_create(). Zero means default. */
typedef struct larder_worker_options {
    uint32_t struct_size;
    uint32_t flags;                  /**< must be 0 */
    uint32_t tp, pp, cp, dp;         /**< this worker's place */
    uint32_t n_tp, n_pp, n_cp, n_dp; /**< of how many; default 1 each */
    uint64_t n_blocks;               /**< blocks of the arena, the null block not counted: the planner's number */
    uint64_t host_bytes;             /**< the tiers: as in larder_kv_options. Each rank has a directory of its own */
    const char* directory;
    uint64_t file_bytes;
    uint64_t segment_bytes;
    const char* codec;
    uint32_t engine_memory; /**< 1: no arena is made; larder_worker_register() gives the engine's tensors before the
                               first plan */
    uint32_t n_states;      /**< state slots: the planner's number */
    uint32_t first_layer;   /**< with n_layers: the layers of this pipeline stage, as numbers of the model's layers */
    uint32_t n_layers; /**< 0: the stages share the model's layers evenly, stage pp of n_pp from layer L * pp / n_pp
                          on, where L is the largest layer number of the layout plus one */
} larder_worker_options;

#define LARDER_WORKER_OPTIONS_INIT                                                                                     \
    { sizeof(larder_worker_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** Create a rank's worker. What it holds of each block: the kv heads of its tp rank (SPLIT groups), the layers of its
 * pp stage, and of the block's tokens t those with t mod n_cp = cp. All ranks of a replica are made with the same
 * layout, that of the whole model; `layer` and numbers of layers in this worker's calls count its own layers of a
 * group.
 *  @return as larder_kv_open(); LARDER_E_RANGE (also: n_cp does not divide a group's block_tokens; the stage has no
 * layer of the layout).
 *  @threads internally synchronised  @blocking reads the file tier's segments  @since 0.1 */
LARDER_API larder_status larder_worker_create(larder_context* context, larder_layout* layout,
                                              const larder_worker_options* options,
                                              larder_worker** out_worker) LARDER_NOEXCEPT;

/** Destroy a worker; its jobs are waited for. Engine memory is not freed. NULL is allowed.  @threads no other call on
 * it may run  @blocking  @since 0.1 */
LARDER_API void larder_worker_destroy(larder_worker* worker) LARDER_NOEXCEPT;

/** Memory of the engine that holds one layer's blocks. */
typedef struct larder_worker_tensor {
    uint32_t struct_size;
    uint32_t group;
    uint32_t layer;            /**< index into the worker's layers of the group */
    int32_t device;            /**< -1: host memory. Others: LARDER_E_NO_DEVICE until the CUDA plug-in has them */
    larder_kv_layer_view view; /**< addresses and strides; a row [n_kv_heads][dim] of one token is dense. n_blocks at
                                  least (n_blocks + 1) of the worker, times the ratio of the layout's largest
                                  block_tokens to the group's. Where that is not 1, blocks must lie without gaps:
                                  block stride = block_tokens / n_cp * token stride */
} larder_worker_tensor;

#define LARDER_WORKER_TENSOR_INIT                                                                                      \
    { sizeof(larder_worker_tensor), 0, 0, -1, LARDER_KV_LAYER_VIEW_INIT }

/** Give the engine's tensors to a worker made with engine_memory. They are borrowed until the worker is destroyed,
 * never freed.
 *  @param tensors  [n], `stride` bytes apart: one for each layer of each group, in any order and any number of calls.
 *  @return LARDER_OK; LARDER_E_INVALID (NULL base, strides too small); LARDER_E_RANGE (group, layer, n_blocks);
 * LARDER_E_NO_DEVICE; LARDER_E_EXISTS (given already); LARDER_E_STATE (not made with engine_memory).  @threads
 * internally synchronised  @since 0.1 */
LARDER_API larder_status larder_worker_register(larder_worker* worker, const larder_worker_tensor* tensors,
                                                uint32_t stride, uint32_t n) LARDER_NOEXCEPT;

/** As larder_kv_get_layer(), for this rank's shard.
 *  @return as larder_kv_get_layer(); LARDER_E_STATE (engine memory not registered).  @threads const  @since 0.1 */
LARDER_API larder_status larder_worker_get_layer(larder_worker* worker, uint32_t group, uint32_t layer,
                                                 larder_kv_layer_view* out_view) LARDER_NOEXCEPT;

/** Apply a plan to this rank's shard. The plan's handle may be destroyed when the call returns.
 *  The job counts layers; items of larder_job_errors() are operations of the plan.
 *  @param stream  device stream that the work follows; 0: none.
 *  @return LARDER_PENDING; LARDER_OK (queue NULL: done); LARDER_E_IDENTITY (a plan for another layout); LARDER_E_RANGE
 * (it names a block that this worker does not have); LARDER_E_EXISTS (a plan of this id is here already);
 * LARDER_E_STATE (engine memory not registered); LARDER_E_BUSY (queue); LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking only without queue  @since 0.1 */
LARDER_API larder_status larder_worker_submit(larder_worker* worker, const larder_plan* plan, uint64_t stream,
                                              larder_queue* queue, uint64_t user_data,
                                              larder_job* out_job) LARDER_NOEXCEPT;

/** What became of each operation of a plan; kept from the end of its job until it is taken by this call.
 *  @param statuses  [n]  @param out_n  operations of the plan.
 *  @return LARDER_OK; LARDER_PENDING (the job still runs); LARDER_E_STALE (no such plan, or taken already);
 * LARDER_E_BUFFER_TOO_SMALL (out_n is set).
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_worker_take_report(larder_worker* worker, larder_plan_id plan, larder_status* statuses,
                                                   uint64_t n, uint64_t* out_n) LARDER_NOEXCEPT;

/** List what this worker's tiers hold (key, parent, tokens, quality) for larder_planner_import_inventory() after a
 * restart.
 *  @param buffer  NULL with capacity 0 asks for the size.
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL; LARDER_E_INVALID; LARDER_E_NOMEM.  @threads internally synchronised
 * @since 0.1 */
LARDER_API larder_status larder_worker_export_inventory(larder_worker* worker, void* buffer, uint64_t capacity,
                                                        uint64_t* out_n_bytes) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
