/** @file kv.h
 *  @brief The front door: the KV cache of one model replica in one process.
 *
 *  A kv owns an arena of blocks that the engine computes in, an index of everything that was computed before, and (when
 * asked for) a host tier and a file tier below the arena. One request goes one way:
 *
 *      match(tokens) -> lease -> begin -> sequence -> { reserve -> engine computes -> commit } ... -> end
 *
 *  - *match* says how many leading tokens are already computed and where they lie, and holds them by a lease.
 *  - *begin* turns the lease into a sequence: blocks in the arena are shared at once, the rest is loaded by a job,
 * layer by layer.
 *  - *reserve* makes room for tokens that are about to be computed; *view* gives the kernels block tables or slot
 * mappings.
 *  - *commit* says which tokens now have their K and V in the reserved slots. Full blocks seal: they never change
 * again, and other sequences find them.
 *
 *  Of a sequence, always: reserved >= computed >= published. Only committed tokens are sealed, published or stored.
 *  A cache may forget, it is never wrong: each block has a 256-bit key over everything before it, the layout, the
 * tenant and the adapter; each stored record is checked for identity and checksum when it crosses a tier; one that
 * fails is a miss. With a lossless codec (the default) what is served is bit-identical to what was computed.
 *
 *  @section kv_rules Rules
 *  - One sequence is used by one thread at a time; everything else is internally synchronised.
 *  - The engine writes only slots that it reserved and did not yet commit. It reads slots of tokens that are computed.
 *  - A sequence whose begin or resume job has not finished may be read up to the layers that have arrived
 * (larder_job_wait_layer()).
 *  - RECURRENT groups have one state slot per sequence instead of blocks. reserve() gives the engine a slot to write in
 * (a copy, when the present state is shared), view() its number; when commit returns, the slot holds the state behind
 * the last committed token. A commit that ends on a multiple of checkpoint_tokens (in whole blocks) and leaves nothing
 * reserved publishes the state; a match ends where a state is kept. Prefill up to such multiples to have them found.
 *  - Block 0 of every group is the null block: never part of a sequence, always mapped, what padding points to. Its
 * contents mean nothing.
 */
#ifndef LARDER_KV_H
#define LARDER_KV_H

#include "larder/job.h"
#include "larder/layout.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_kv larder_kv;

/** When sealed blocks are written to the tiers below the arena. */
typedef int32_t larder_kv_write_policy;
enum {
    LARDER_KV_WRITE_BACK = 1,   /**< when free blocks run low (watermarks), on suspend(OFFLOAD) and on flush */
    LARDER_KV_WRITE_THROUGH = 2 /**< as soon as they seal */
};

#define LARDER_KV_NO_RECLAIM                                                                                           \
    1u /**< reserve answers LARDER_RETRY instead of writing evicted blocks back on the calling thread */

/** Options of larder_kv_open(). Zero means default. Everything is copied. */
typedef struct larder_kv_options {
    uint32_t struct_size;
    uint32_t flags;       /**< LARDER_KV_* flags */
    uint64_t arena_bytes; /**< budget of the arena; rounded down to whole blocks. Default 256 MiB */
    uint64_t
        n_blocks; /**< the same as a number of blocks, the null block not counted; when given, arena_bytes must be 0 */
    uint64_t host_bytes; /**< budget of the host tier (encoded blocks in RAM); 0: no host tier */
    const char*
        directory; /**< of the file tier, made when absent; NULL: no file tier. One kv or store at a time uses it */
    uint64_t file_bytes;    /**< budget of the file tier: 16 KiB and 4 to 2^20 segments; default 1 GiB */
    uint64_t segment_bytes; /**< of the file tier's segments, 64 KiB to 64 MiB, a power of two; default 64 MiB or the
                               largest that gives 8 segments */
    const char* codec;      /**< preset for blocks below the arena: "lossless" (default), "raw", "int8", "int4" */
    larder_span tenant_key; /**< secret key of the content hash: 0 or 16 to 64 bytes. Without it nobody can guess or
                               find a tenant's blocks */
    larder_span salt;       /**< default salt of queries that give none; may be empty; at most 65536 bytes */
    larder_kv_write_policy write_policy; /**< default BACK */
    uint32_t max_sequences;              /**< open at once, 1 to 65536; default 1024 */
    uint32_t low_watermark;  /**< per mille of the arena: below it, free and freely evictable blocks make write-back
                                start; default 100 */
    uint32_t high_watermark; /**< per mille at which write-back stops; default 200, or low_watermark when
                                that is more; not below low_watermark */
    uint32_t n_states; /**< RECURRENT groups: state slots, the null slot not counted, 2 to 2^28-2. A sequence holds
                          up to two, published states the others. Part of arena_bytes. Default: a quarter of
                          arena_bytes, at most 4 per sequence; 2 per sequence when n_blocks is given */
    uint32_t reserved0;
} larder_kv_options;

#define LARDER_KV_OPTIONS_INIT                                                                                         \
    { sizeof(larder_kv_options), 0, 0, 0, 0, 0, 0, 0, 0, {0, 0}, {0, 0}, 0, 0, 0, 0, 0, 0 }

/** Open a KV cache. With a directory that an earlier kv used, what was durable there is found again, after any crash.
 *  @param layout  kept alive by the kv. What is allocated, hashed, matched and stored is a block of the largest
 * block_tokens of its groups, over all groups; groups of smaller blocks see it as several of theirs. WINDOW groups keep
 * all their blocks.
 *  @return LARDER_OK; LARDER_E_INVALID, LARDER_E_RANGE (field named; an arena of fewer than two blocks);
 * LARDER_E_TOO_NEW; LARDER_E_MISSING_PROFILE (a codec that
 * needs one); LARDER_E_UNSUPPORTED (a codec that needs saliency, or that cannot take these dims); LARDER_E_NOT_FOUND
 * (codec); LARDER_E_NOMEM; of the directory: LARDER_E_IN_USE, LARDER_E_READ_ONLY, LARDER_E_PERMISSION,
 * LARDER_E_DISK_FULL, LARDER_E_IO, LARDER_E_FORMAT, LARDER_E_VERSION, LARDER_E_CORRUPT, LARDER_E_NOT_FOUND (its
 * parent). Records of other layouts in it are left alone and never found.
 *  @threads internally synchronised  @blocking reads the file tier's segments  @cost O(arena + stored records)  @since
 * 0.1 */
LARDER_API larder_status larder_kv_open(larder_context* context, larder_layout* layout,
                                        const larder_kv_options* options, larder_kv** out_kv) LARDER_NOEXCEPT;

/** Close a kv: sequences and leases end, jobs are cancelled and waited for. What was not flushed may be lost below the
 * arena; call larder_kv_flush() first to keep it. Memory of the arena is gone afterwards: no device work on it may be
 * in flight. NULL is allowed.
 *  @threads no other call on this kv may run  @blocking waits for running jobs  @since 0.1 */
LARDER_API void larder_kv_close(larder_kv* kv) LARDER_NOEXCEPT;

/* ------------------------------------------------------------------ match and begin --- */

/** Something in the prompt that is not a token, such as an image: positions [first, first + n) depend on it. */
typedef struct larder_kv_extra {
    uint32_t first;
    uint32_t n;
    uint8_t digest[32]; /**< of its content */
} larder_kv_extra;

/** What is asked for. Either tokens or keys; neither is an empty prompt, of which nothing is found. */
typedef struct larder_kv_query {
    uint32_t struct_size;
    uint32_t peek;         /**< 1: only look; no lease is made and nothing is counted as used */
    const int32_t* tokens; /**< [n_tokens], borrowed during the call */
    uint64_t n_tokens;
    const larder_key* keys; /**< [n_keys] the caller's own key for each full block instead of tokens; they must depend
                               on all that comes before */
    uint64_t n_keys;
    larder_span salt;              /**< empty: the kv's. Different salts never share a block. At most 65536 bytes */
    larder_span adapter;           /**< digest of a LoRA adapter or the like, at most 65536 bytes; empty: none */
    const larder_kv_extra* extras; /**< [n_extras], ascending by first, not overlapping */
    uint32_t n_extras;
    larder_quality min_quality; /**< the least that will do; default EXACT */
    uint64_t max_match_tokens;  /**< match at most so many; default: all but the last token, whose logits the engine
                                   needs (with keys: all). UINT64_MAX: all */
    uint64_t deadline_ns; /**< a load job that has not begun so long after larder_kv_begin() loads nothing: the engine
                             computes instead; 0: none */
    uint32_t priority;    /**< 0 to 100 of the sequence's blocks, higher stays longer; default 50 */
    uint32_t reserved0;
} larder_kv_query;

#define LARDER_KV_QUERY_INIT                                                                                           \
    { sizeof(larder_kv_query), 0, 0, 0, 0, 0, {0, 0}, {0, 0}, 0, 0, 0, 0, 0, 0, 0 }

/** What was found. Tokens are counted from the first on, without a gap. */
typedef struct larder_kv_match_info {
    uint32_t struct_size;
    uint32_t
        n_partial_tokens; /**< the last of n_tokens: leading tokens of a block that differs later; begin copies them */
    larder_lease lease;   /**< for larder_kv_begin() or larder_kv_release(); 0 with peek */
    uint64_t n_tokens;    /**< already computed */
    uint64_t n_tokens_arena; /**< of these: in the arena, usable at once */
    uint64_t n_tokens_host;  /**< to be decoded from the host tier */
    uint64_t n_tokens_file;  /**< to be read from the file tier */
    uint64_t n_blocks;       /**< full blocks among them */
    larder_quality quality;  /**< of the worst block among them */
    uint32_t reserved0;
} larder_kv_match_info;

#define LARDER_KV_MATCH_INFO_INIT                                                                                      \
    { sizeof(larder_kv_match_info), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** Find the longest prefix that is already computed. Takes no block; may be repeated. The lease pins what was found in
 * the arena until it is used by larder_kv_begin() or given back by larder_kv_release(). Records in lower tiers are
 * looked up again by begin, which may find less.
 *  @return LARDER_OK, also when nothing was found (n_tokens 0; the lease is valid all the same); LARDER_E_INVALID (both
 * or neither of tokens and keys, extras not ascending, a token outside the vocabulary); LARDER_E_RANGE;
 * LARDER_E_TOO_NEW; LARDER_E_BUSY (max_sequences leases are out); LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never  @cost one hash per full block, O(log n) look-ups  @since 0.1 */
LARDER_API larder_status larder_kv_match(larder_kv* kv, const larder_kv_query* query,
                                         larder_kv_match_info* out_match) LARDER_NOEXCEPT;

/** Give a lease back unused.
 *  @return LARDER_OK; LARDER_E_STALE (used, released or never given).  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_kv_release(larder_kv* kv, larder_lease lease) LARDER_NOEXCEPT;

/** Options of larder_kv_begin(). */
typedef struct larder_kv_begin_options {
    uint32_t struct_size;
    uint32_t reserved0;
    uint64_t max_load_tokens; /**< use at most so many of the tokens that are not in the arena; default all */
    uint64_t stream;          /**< device stream that the loads follow; 0: none. Host arenas ignore it */
} larder_kv_begin_options;

#define LARDER_KV_BEGIN_OPTIONS_INIT                                                                                   \
    { sizeof(larder_kv_begin_options), 0, 0, 0 }

/** Begin a sequence from a lease. The lease is used up when the call succeeds.
 *  The sequence starts with `n_computed` tokens of larder_kv_seq_info: those of the match as far as they are still
 * there and room was found for loading.
 *  - LARDER_OK: all of them are in the arena; no job.
 *  - LARDER_PENDING: a job loads the rest and counts layers 0 .. n-1 over all groups in model order. Records are read
 * and verified before the first layer is reported: once layer 0 has arrived, n_computed is final. When a record was bad
 * or gone, n_computed ends before it, the job's status is LARDER_PARTIAL, and the engine computes the difference.
 *  @param options  NULL: defaults.  @param queue  may be NULL: then loads are done before the call returns (blocking).
 *  @param out_seq  owned by the caller until larder_kv_end().  @param out_job  may be NULL.
 *  @return LARDER_OK; LARDER_PENDING; LARDER_E_STALE (lease); LARDER_E_BUSY (max_sequences are open); LARDER_E_NOMEM.
 *          An arena too full for loading is not an error: fewer tokens are computed. Nor is a full queue: the loads are
 * done before the call returns.
 *  @threads internally synchronised  @blocking only without queue, and as larder_kv_reserve() when blocks must be
 * evicted  @since 0.1 */
LARDER_API larder_status larder_kv_begin(larder_kv* kv, larder_lease lease, const larder_kv_begin_options* options,
                                         larder_queue* queue, uint64_t user_data, larder_seq* out_seq,
                                         larder_job* out_job) LARDER_NOEXCEPT;

/* -------------------------------------------------------------------- a sequence's life --- */

typedef int32_t larder_kv_seq_state;
enum { LARDER_KV_SEQ_LOADING = 1, LARDER_KV_SEQ_ACTIVE = 2, LARDER_KV_SEQ_SUSPENDED = 3 };

/** Where a sequence stands. */
typedef struct larder_kv_seq_info {
    uint32_t struct_size;
    larder_kv_seq_state state;
    uint64_t n_reserved;    /**< tokens that have slots */
    uint64_t n_computed;    /**< committed tokens; SUSPENDED: those that resume would try to bring back */
    uint64_t n_published;   /**< tokens in sealed blocks that others can find */
    uint32_t n_blocks;      /**< blocks held */
    larder_quality quality; /**< of its contents */
} larder_kv_seq_info;

#define LARDER_KV_SEQ_INFO_INIT                                                                                        \
    { sizeof(larder_kv_seq_info), 0, 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_STALE; LARDER_E_INVALID.  @threads internally synchronised, one thread per sequence
 * @blocking never  @since 0.1 */
LARDER_API larder_status larder_kv_seq_get_info(larder_kv* kv, larder_seq seq,
                                                larder_kv_seq_info* out_info) LARDER_NOEXCEPT;

/** Make sure that the next n_tokens tokens, and n_lookahead more for speculation, have slots that this sequence alone
 * may write. A shared last block is copied first. When no block is free, unused ones are evicted, leaves first and
 * least recently used first; those that are nowhere else are encoded and stored by this thread if there is a tier
 * below, otherwise forgotten.
 *  @return LARDER_OK; LARDER_E_NOSPACE (every block is in use by sequences and leases; nothing changed: end or suspend
 * one, then ask again); LARDER_RETRY (LARDER_KV_NO_RECLAIM only: write-back is under way); LARDER_E_STATE (SUSPENDED,
 * or LOADING); LARDER_E_STALE; LARDER_E_RANGE (n_tokens or n_lookahead above 2^31); LARDER_E_NOMEM.
 *  @threads one thread per sequence  @blocking only when the arena is full  @cost within a block nothing is locked or
 * allocated  @since 0.1 */
LARDER_API larder_status larder_kv_reserve(larder_kv* kv, larder_seq seq, uint64_t n_tokens,
                                           uint64_t n_lookahead) LARDER_NOEXCEPT;

/** K and V of the next n_tokens tokens have been written to their slots. Blocks that became full seal and are
 * published; where the same block was published by somebody else meanwhile, the sequence goes on with its own copy and
 * nothing is stored twice.
 *  @param tokens  [n_tokens]; NULL for sequences begun with keys.
 *  @return LARDER_OK; LARDER_E_RANGE (more than reserved: nothing was committed); LARDER_E_INVALID (a token outside the
 * vocabulary); LARDER_E_STATE (SUSPENDED or LOADING); LARDER_E_STALE; LARDER_E_NOMEM (nothing was committed).
 *  @threads one thread per sequence  @blocking never  @cost one hash per sealed block; within a block nothing is locked
 * or allocated  @since 0.1 */
LARDER_API larder_status larder_kv_commit(larder_kv* kv, larder_seq seq, const int32_t* tokens,
                                          uint64_t n_tokens) LARDER_NOEXCEPT;

/** For sequences begun with the caller's keys: the keys of further full blocks, in order, before their last token is
 * committed. Blocks without a key are never published.
 *  @return LARDER_OK; LARDER_E_STATE (a sequence of tokens); LARDER_E_STALE; LARDER_E_NOMEM.  @threads one thread per
 * sequence  @since 0.1 */
LARDER_API larder_status larder_kv_append_keys(larder_kv* kv, larder_seq seq, const larder_key* keys,
                                               uint64_t n_keys) LARDER_NOEXCEPT;

/** Something that is not a token, for positions that are not committed yet; see larder_kv_extra.
 *  @return LARDER_OK; LARDER_E_RANGE (a position that is committed, or not ascending); LARDER_E_STALE; LARDER_E_NOMEM.
 *  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_kv_append_extra(larder_kv* kv, larder_seq seq,
                                                const larder_kv_extra* extra) LARDER_NOEXCEPT;

/** Go back to n_tokens computed tokens (speculation failed, or a chat was edited). Reservations beyond are given up:
 * reserve again before writing. Blocks that were published stay published.
 *  With RECURRENT groups n_tokens must be 0, n_computed, the sequence's checkpoint, or a multiple of checkpoint_tokens
 * whose state is still in the arena. To n_computed itself the state is taken as it is: after speculation that was
 * rejected, truncate to the checkpoint.
 *  @return LARDER_OK; LARDER_E_RANGE (above n_computed; no state is kept there, the message names the nearest);
 * LARDER_E_STATE (SUSPENDED or LOADING); LARDER_E_STALE.
 *  @threads one thread per sequence  @blocking never  @since 0.1 */
LARDER_API larder_status larder_kv_truncate(larder_kv* kv, larder_seq seq, uint64_t n_tokens) LARDER_NOEXCEPT;

/** New sequences that share the first n_tokens tokens of `seq` (beams, samples, branches of a tree). A partly shared
 * block is copied when its new holder first reserves.
 *  @param out_seqs  [n]; on failure none was made.
 *  @return LARDER_OK; LARDER_E_RANGE (n_tokens above n_computed, n 0); LARDER_E_BUSY (max_sequences); LARDER_E_STATE
 * (SUSPENDED or LOADING; with RECURRENT groups, at n_computed: tokens are reserved beyond); LARDER_E_STALE;
 * LARDER_E_NOMEM. With RECURRENT groups n_tokens is as in larder_kv_truncate().
 *  @threads one thread per sequence  @blocking never  @cost O(blocks) per new sequence  @since 0.1 */
LARDER_API larder_status larder_kv_fork(larder_kv* kv, larder_seq seq, uint64_t n_tokens, uint32_t n,
                                        larder_seq* out_seqs) LARDER_NOEXCEPT;

/** Keep a point that truncate can come back to. Attention keeps every position, so without RECURRENT groups nothing has
 * to be done. With them the state behind the last committed token is kept until the next checkpoint of the sequence, a
 * truncate to before it, or its end.
 *  @return LARDER_OK; LARDER_E_STATE (SUSPENDED or LOADING; with RECURRENT groups also: tokens are reserved beyond the
 * committed ones, so the state may be ahead); LARDER_E_STALE.  @threads one thread per sequence  @since 0.1 */
LARDER_API larder_status larder_kv_checkpoint(larder_kv* kv, larder_seq seq) LARDER_NOEXCEPT;

/** Shift the positions [first, last) by delta, re-rotating their keys.
 *  @return LARDER_E_UNSUPPORTED: rotation kernels are not built yet; LARDER_E_STALE.  @threads one thread per sequence
 * @since 0.1 */
LARDER_API larder_status larder_kv_shift(larder_kv* kv, larder_seq seq, uint64_t first, uint64_t last,
                                         int64_t delta) LARDER_NOEXCEPT;

/** Move reserved, uncommitted slots: the accepted path of a speculation tree becomes contiguous. Position src[i] is
 * copied to dst[i], in order.
 *  @param src, dst  [n] positions from n_computed to n_reserved-1; both strictly ascending, dst[i] <= src[i].
 *  @return LARDER_OK; LARDER_E_RANGE; LARDER_E_INVALID (order); LARDER_E_STATE; LARDER_E_STALE.
 *  @threads one thread per sequence; no device work on these slots may be in flight  @blocking copies  @since 0.1 */
LARDER_API larder_status larder_kv_compact(larder_kv* kv, larder_seq seq, const uint64_t* src, const uint64_t* dst,
                                           uint64_t n) LARDER_NOEXCEPT;

typedef int32_t larder_kv_suspend_mode;
enum {
    LARDER_KV_SUSPEND_DROP =
        1, /**< give the blocks up; what is published may still be there at resume, the rest is computed again */
    LARDER_KV_SUSPEND_OFFLOAD = 2 /**< the same, but first bring all computed tokens, the unsealed last block too, to
                                     the tiers below; without such tiers as DROP */
};

/** Pre-empt a sequence: its blocks become free for others. Reservations are given up.
 *  The engine must have no device work in flight on its slots. The sequence can be resumed, or ended, once the job is
 * done.
 *  @param queue  NULL: the work is done before the call returns.
 *  @return LARDER_OK; LARDER_PENDING; LARDER_E_STATE (SUSPENDED or LOADING); LARDER_E_STALE; LARDER_E_INVALID (mode);
 * LARDER_E_NOMEM. A full queue is not an error: the work is done before the call returns.
 *  @threads one thread per sequence  @blocking only without queue  @since 0.1 */
LARDER_API larder_status larder_kv_suspend(larder_kv* kv, larder_seq seq, larder_kv_suspend_mode mode,
                                           larder_queue* queue, uint64_t user_data,
                                           larder_job* out_job) LARDER_NOEXCEPT;

/** Bring a suspended sequence back, as begin does: shared blocks at once, the rest by a job. Afterwards n_computed says
 * how many tokens are there; the engine computes the rest again.
 *  @return as larder_kv_begin(); LARDER_E_STATE (not SUSPENDED, or its suspend job still runs).
 *  @threads one thread per sequence  @blocking as larder_kv_begin()  @since 0.1 */
LARDER_API larder_status larder_kv_resume(larder_kv* kv, larder_seq seq, const larder_kv_begin_options* options,
                                          larder_queue* queue, uint64_t user_data, larder_job* out_job) LARDER_NOEXCEPT;

/** End a sequence. Its published blocks stay, to be found by others until they are evicted. While its begin or resume
 * job runs, the blocks live on until the job is done. The engine must have no device work in flight on its slots.
 *  @return LARDER_OK; LARDER_E_STALE.  @threads one thread per sequence  @blocking never  @since 0.1 */
LARDER_API larder_status larder_kv_end(larder_kv* kv, larder_seq seq) LARDER_NOEXCEPT;

/* ------------------------------------------------------------------ what the kernels see --- */

/** Where one layer's K and V lie. K of token t of a sequence whose block table is `table`:
 *  k + table[t / block_tokens] * k_block_stride_bytes + (t % block_tokens) * k_token_stride_bytes, then
 * [n_kv_heads][k_dim] dense; V and scales likewise. */
typedef struct larder_kv_layer_view {
    uint32_t struct_size;
    uint32_t block_tokens;
    void* k;
    void* v;                       /**< NULL where v_dim is 0 */
    void* scales;                  /**< NULL where scale_bytes is 0 */
    uint64_t n_blocks;             /**< the null block counted: block numbers are 0 .. n_blocks-1 */
    uint64_t k_block_stride_bytes; /**< between two blocks */
    uint64_t v_block_stride_bytes;
    uint64_t scale_block_stride_bytes;
    uint64_t k_token_stride_bytes;
    uint64_t v_token_stride_bytes;
    uint64_t scale_token_stride_bytes;
    uint32_t n_kv_heads;
    uint32_t reserved0;
} larder_kv_layer_view;

#define LARDER_KV_LAYER_VIEW_INIT                                                                                      \
    { sizeof(larder_kv_layer_view), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** Addresses of one layer. They do not change while the kv is open.
 *  @param group  index into the layout's groups.  @param layer  index into the group's layers, 0 .. n_layers-1.
 *  @return LARDER_OK; LARDER_E_RANGE; LARDER_E_INVALID.  @threads const  @since 0.1 */
LARDER_API larder_status larder_kv_get_layer(larder_kv* kv, uint32_t group, uint32_t layer,
                                             larder_kv_layer_view* out_view) LARDER_NOEXCEPT;

typedef int32_t larder_kv_view_format;
enum {
    LARDER_KV_VIEW_BLOCK_TABLE =
        1, /**< int32 [rows][dst_stride]: block numbers of each sequence; the rest of a row is the null block */
    LARDER_KV_VIEW_SLOT_MAPPING = 2, /**< int64 [rows][dst_stride]: block * block_tokens + offset for the tokens from
                                        n_computed (or first_token) on; the rest is 0 */
    LARDER_KV_VIEW_CSR =
        3 /**< int32 indices packed one sequence after the other in dst; indptr [rows + 1]; last_block_tokens [rows] */
};

/** Options of larder_kv_view(). All memory is the caller's, at fixed addresses, so that a captured graph can be
 * replayed. */
typedef struct larder_kv_view_options {
    uint32_t struct_size;
    uint32_t group;               /**< whose block numbers. Groups of the largest block_tokens share theirs; a group of
                                     smaller blocks has larger_tokens / block_tokens consecutive ones for each */
    larder_kv_view_format format; /**< default BLOCK_TABLE */
    uint32_t pad_rows;   /**< rows written in total, at least n; the rows after the n-th hold padding. Default n */
    void* dst;           /**< host memory */
    uint64_t dst_stride; /**< elements between rows; for CSR the capacity of dst in elements */
    const uint64_t* first_token; /**< SLOT_MAPPING: [n] first token of each row; NULL: its n_computed */
    int32_t* indptr;             /**< CSR */
    int32_t* last_block_tokens;  /**< CSR: tokens in the last block of each row, 0 for padding */
    uint64_t stream;             /**< device stream that the write follows; 0: none. Host memory is written at once */
    uint32_t include_reserved; /**< 1: blocks that are only reserved are listed too (BLOCK_TABLE lists them always); CSR
                                  counts reserved tokens */
    uint32_t cp; /**< larder_planner_view() with n_cp above 1: for which rank. SLOT_MAPPING has -1 for tokens of others,
                    last_block_tokens counts this rank's. 0 in a kv */
} larder_kv_view_options;

#define LARDER_KV_VIEW_OPTIONS_INIT                                                                                    \
    { sizeof(larder_kv_view_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** Fill block tables, slot mappings or CSR arrays for a batch.
 *  @param seqs  [n]; a 0 is a row of padding.
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (dst_stride; dst is undefined); LARDER_E_STALE (which row, in the
 * message); LARDER_E_RANGE; LARDER_E_INVALID; LARDER_E_STATE (a SUSPENDED sequence).
 *  @threads the caller is the one user of all these sequences  @blocking never  @cost O(entries written), allocates
 * nothing  @since 0.1 */
LARDER_API larder_status larder_kv_view(larder_kv* kv, const larder_seq* seqs, uint32_t n,
                                        const larder_kv_view_options* options) LARDER_NOEXCEPT;

/* ------------------------------------------------------------------- tiers and insight --- */

/** Write every published block to the lowest tier and make it durable: what was published before the call is found
 * after a crash. Without a file tier blocks go to the host tier; without both nothing happens.
 *  @param queue  NULL: done when the call returns.
 *  @return LARDER_OK; LARDER_PENDING; LARDER_E_BUSY (queue); LARDER_E_NOMEM; without queue also LARDER_E_DISK_FULL,
 * LARDER_E_IO, LARDER_PARTIAL (blocks that the tier did not admit).
 *  @threads internally synchronised  @blocking only without queue  @since 0.1 */
LARDER_API larder_status larder_kv_flush(larder_kv* kv, larder_queue* queue, uint64_t user_data,
                                         larder_job* out_job) LARDER_NOEXCEPT;

/** Take up to n_blocks unused blocks out of the arena, leaves first, least recently used first, as reserve would.
 *  @param out_n_blocks  how many became free; may be NULL.
 *  @return LARDER_OK; LARDER_PARTIAL (fewer).  @threads internally synchronised  @blocking stores what is nowhere else
 * @since 0.1 */
LARDER_API larder_status larder_kv_evict(larder_kv* kv, uint64_t n_blocks, uint64_t* out_n_blocks) LARDER_NOEXCEPT;

/** Where a block of a query is. */
#define LARDER_KV_IN_ARENA 1u
#define LARDER_KV_IN_HOST 2u
#define LARDER_KV_IN_FILE 4u
#define LARDER_KV_LOADING 8u

/** Why a block can or cannot be used. */
typedef int32_t larder_kv_reason;
enum {
    LARDER_KV_REASON_USABLE = 1,
    LARDER_KV_REASON_NEVER_SEEN = 2, /**< not published since open, or so long ago that it was forgotten */
    LARDER_KV_REASON_EVICTED = 3,    /**< it was there and was evicted from all tiers */
    LARDER_KV_REASON_CORRUPT = 4,    /**< its record failed its checksum or identity */
    LARDER_KV_REASON_QUALITY = 5,    /**< only approximate data is there */
    LARDER_KV_REASON_AFTER_GAP = 6   /**< it is there, but a block before it is not */
};

/** One full block of a query. */
typedef struct larder_kv_block_info {
    larder_key key;
    uint32_t residency; /**< LARDER_KV_IN_* bits */
    larder_kv_reason reason;
    larder_quality quality; /**< 0 when it is nowhere */
    uint32_t reserved0;
} larder_kv_block_info;

/** For each full block of a query: where it is, or why not.
 *  @param out, stride, n  array for up to n blocks, stride bytes apart.  @param out_n  full blocks of the query.
 *  @return LARDER_OK; LARDER_PARTIAL (more blocks than n); as larder_kv_match().
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_kv_explain(larder_kv* kv, const larder_kv_query* query, larder_kv_block_info* out,
                                           uint32_t stride, uint64_t n, uint64_t* out_n) LARDER_NOEXCEPT;

/** What a kv holds at this moment. */
typedef struct larder_kv_info {
    uint32_t struct_size;
    uint32_t block_tokens;
    uint64_t block_bytes; /**< of one block over all groups */
    uint64_t n_blocks;    /**< of the arena, the null block not counted */
    uint64_t n_free;
    uint64_t n_evictable; /**< published and held by nobody: what reserve and evict can give up */
    uint64_t n_in_use;    /**< held by sequences, leases and stores in flight */
    uint64_t n_published; /**< blocks of the arena that can be found */
    uint64_t n_dirty;     /**< published and in no lower tier */
    uint64_t n_sequences;
    uint64_t n_leases;
    uint64_t host_bytes; /**< memory that encoded blocks take in the host tier, in its units of 4 KiB */
    uint64_t file_bytes; /**< in the file tier */
    uint64_t n_states;   /**< state slots of the RECURRENT groups, the null slot not counted */
    uint64_t n_free_states;
    uint64_t state_bytes; /**< of one slot over all RECURRENT groups */
} larder_kv_info;

#define LARDER_KV_INFO_INIT                                                                                            \
    { sizeof(larder_kv_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @cost O(n_blocks)  @since
 * 0.1 */
LARDER_API larder_status larder_kv_get_info(larder_kv* kv, larder_kv_info* out_info) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
