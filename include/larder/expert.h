/** @file expert.h
 *  @brief A cache of the experts of a mixture-of-experts model: more weights than the fast memory holds, of which each
 * token needs a few.
 *
 *  The model has n_layers layers of n_experts experts each. The cache owns slots in fast memory (host or a device) and
 * keeps experts in them. For each layer that it is about to compute the engine acquires the experts that its router
 * chose: those that are there are answered at once, the others are loaded from their source, and what has to go for
 * them is chosen by a policy. An acquired expert stays where it is until it is released.
 *
 *      larder_expert_acquire(cache, layer, ids, n, NULL, views, sizeof *views, queue, 0, &job, &lease);
 *      for each view, in the order of view.turn: larder_job_wait_layer(queue, job, view.turn, ...), compute with it
 *      larder_expert_release(cache, lease);
 *
 *  Nothing that the cache learns or is told beforehand changes what an acquire returns, only how soon.
 *
 *  Per-layer LRU with resident experts first: Eliseev and Mazur, arXiv 2312.17238. Scores of several uses: HOBBIT (Tang
 * et al., arXiv 2411.01433), MoE-Infinity (Xue et al., arXiv 2401.14361). Future counts: Liang et al., arXiv
 * 2505.16056.
 */
#ifndef LARDER_EXPERT_H
#define LARDER_EXPERT_H

#include "larder/job.h"
#include "larder/moe.h"
#include "larder/store.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_expert_cache larder_expert_cache;

/** What one acquire holds: an id with a generation. */
typedef uint64_t larder_expert_lease;

/** Which expert goes when room is needed. All see the same records: rows of one table, the same code in the cache and
 * in larder_expert_replay(). Ties: the one not used for longest, then the lower number. */
typedef uint32_t larder_expert_policy;
enum {
    LARDER_EXPERT_LRU = 1,    /**< not used for longest */
    LARDER_EXPERT_LFU = 2,    /**< least often used since the cache was made */
    LARDER_EXPERT_HOBBIT = 3, /**< least mean of recency, frequency, frequency in the finest precision, and nearness of
                                 its layer, in the present sequence (HOBBIT's priority with equal weights) */
    LARDER_EXPERT_MOE_INFINITY = 4, /**< least share of the present sequence's uses in its layer times nearness of the
                                       layer (MoE-Infinity) */
    LARDER_EXPERT_AUTO = 5,         /**< least expected use soon: counts that fade at five speeds and what followed the
                                       previous experts, weighted by a regression that learns as it goes */
    LARDER_EXPERT_BELADY = 6,       /**< farthest next use; knows the future. Replay only */
    LARDER_EXPERT_FUTURE_COUNT = 7  /**< least often used in the next lookahead_tokens tokens; knows the future. Replay
                                       only */
};

/** One row of the policy table. */
typedef struct larder_expert_policy_info {
    uint32_t struct_size;
    larder_expert_policy policy;
    const char* name;        /**< such as "lru"; static */
    const char* description; /**< one line; static */
    uint32_t online;         /**< 1: may serve in a cache */
    uint32_t reserved0;
} larder_expert_policy_info;

#define LARDER_EXPERT_POLICY_INFO_INIT                                                                                 \
    { sizeof(larder_expert_policy_info), 0, 0, 0, 0, 0 }

/** Row `index` of the table.
 *  @return LARDER_OK; LARDER_E_NOT_FOUND (past the last row); LARDER_E_INVALID.  @threads any  @since 0.1 */
LARDER_API larder_status larder_expert_policy_get(uint32_t index, larder_expert_policy_info* out) LARDER_NOEXCEPT;

/** Writes n_bytes of an expert's weights, from byte `offset` on, to dst in host memory. Called on worker threads, for
 * several experts at once; must not call the same cache. Returns LARDER_OK or a negative status, which becomes that of
 * the expert. drop (may be NULL) is called once when the cache goes. */
typedef struct larder_expert_load {
    larder_status (*fn)(void* ctx, uint32_t layer, uint32_t expert, uint64_t offset, void* dst, uint64_t n_bytes);
    void* ctx;
    void (*drop)(void* ctx);
} larder_expert_load;

/** Where the weights are when they are not in a slot. */
typedef int32_t larder_expert_source;
enum {
    LARDER_EXPERT_SOURCE_MEMORY = 1, /**< host memory of the caller, which must stay */
    LARDER_EXPERT_SOURCE_FILE = 2,   /**< a file, kept open by the cache */
    LARDER_EXPERT_SOURCE_STORE = 3,  /**< objects of a store, which must stay open */
    LARDER_EXPERT_SOURCE_CALLBACK = 4
};

/** One precision in which the experts exist: how large they are, how many slots it has, where they come from. */
typedef struct larder_expert_precision {
    uint32_t struct_size;
    larder_expert_source source;
    uint64_t n_bytes;     /**< of one expert, 1 to 2^40; a slot begins at a multiple of 256 bytes */
    uint32_t layer_slots; /**< slots of each layer, 1 or more; more than n_experts are not made */
    uint32_t reserved0;
    const void* memory; /**< MEMORY: expert e of layer l is at memory + l * layer_stride_bytes + e *
                           expert_stride_bytes */
    const char* path;   /**< FILE: likewise, from offset_bytes on; borrowed during the call */
    uint64_t offset_bytes;
    uint64_t layer_stride_bytes;    /**< default n_experts * expert_stride_bytes */
    uint64_t expert_stride_bytes;   /**< default n_bytes */
    larder_store* store;            /**< STORE */
    const larder_key* keys;         /**< STORE: [n_layers][n_experts]; borrowed during the call */
    const larder_object_want* want; /**< STORE: what is accepted; borrowed during the call */
    larder_expert_load load;        /**< CALLBACK */
    const uint32_t* crc32c; /**< [n_layers][n_experts] CRC32C of each expert's bytes, verified by each load; borrowed
                               during the call. NULL: not verified (objects of a store always are) */
} larder_expert_precision;

#define LARDER_EXPERT_PRECISION_INIT                                                                                   \
    { sizeof(larder_expert_precision), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0, 0, 0}, 0 }

/** Options of larder_expert_create(). Zero means default; n_layers, n_experts and one precision are required. */
typedef struct larder_expert_options {
    uint32_t struct_size;
    uint32_t n_layers;                         /**< 1 to 4096 */
    uint32_t n_experts;                        /**< of each layer, 1 to 65536 */
    uint32_t n_precisions;                     /**< 1 to 4, the finest first */
    const larder_expert_precision* precisions; /**< borrowed during the call */
    uint32_t precision_stride;                 /**< sizeof(larder_expert_precision) */
    larder_expert_policy policy;               /**< default LARDER_EXPERT_AUTO */
    uint32_t max_leases;                       /**< of one layer at a time, 1 to 4096, default 16 */
    uint32_t n_channels;                       /**< chunks loaded side by side, 1 to 16, default 2 */
    uint64_t chunk_bytes;  /**< loads go in pieces of so much, between which what is more urgent goes first; 4096 to
                              2^30, default 2 MiB */
    larder_device* device; /**< whose memory the slots are in, kept open by the cache; NULL: host memory */
} larder_expert_options;

#define LARDER_EXPERT_OPTIONS_INIT                                                                                     \
    { sizeof(larder_expert_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** Make a cache, empty.
 *  @return LARDER_OK; LARDER_E_INVALID (NULL, a source without what it needs); LARDER_E_RANGE (a field outside its
 * bounds); LARDER_E_NOT_FOUND (no such policy, no such file); LARDER_E_UNSUPPORTED (a policy that knows the future);
 * LARDER_E_TRUNCATED (a file that ends before the last expert); LARDER_E_PERMISSION, LARDER_E_IO (the file);
 * LARDER_E_NOMEM; LARDER_E_DEVICE_NOMEM; LARDER_E_DEVICE_LOST; LARDER_E_DEVICE; LARDER_E_TOO_NEW. `load.drop` is called
 * only for a cache that was made.
 *  @threads internally synchronised  @blocking maps the slots' memory  @since 0.1 */
LARDER_API larder_status larder_expert_create(larder_context* context, const larder_expert_options* options,
                                              larder_expert_cache** out_cache) LARDER_NOEXCEPT;

/** Destroy a cache. Leases end; jobs that are under way finish, what had not come with LARDER_E_CANCELLED. Device work
 * on the slots must be done. NULL is allowed.
 *  @threads no other call on this cache may run  @blocking waits for chunks under way  @since 0.1 */
LARDER_API void larder_expert_destroy(larder_expert_cache* cache) LARDER_NOEXCEPT;

/** One expert of an acquire. */
typedef struct larder_expert_view {
    larder_device_ptr address; /**< of its weights, a CPU address without a device; stays until the lease ends. 0 when
                                  the load failed */
    larder_status status;      /**< LARDER_OK: ready; LARDER_PENDING: on its way; otherwise why it could not be had */
    uint32_t precision;        /**< index into the precisions */
    uint32_t turn; /**< its place in the order in which the experts become ready: those that were there first */
    uint32_t reserved0;
} larder_expert_view;

/** Hold the experts that a layer is about to use. Those that are there are ready at once. For each of the others a slot
 * is taken, by the policy from experts that nobody holds, and it is loaded, before anything that was only foreseen.
 *
 *  It never waits for another lease to end: when there are not enough slots that can be taken, nothing is changed.
 *  @param experts  [n] numbers, each at most once
 *  @param n        1 or more
 *  @param out      [n], `stride` bytes apart (sizeof(larder_expert_view)). With a job: to stay until its completion is
 * taken, and written until then.
 *  @param queue    NULL: wait until all are loaded or have failed. Otherwise a job is made when some are not there;
 * turn t is its layer t for larder_job_wait_layer() and larder_job_stream_wait(): once it is past, the view says
 * whether the expert is ready. larder_job_errors() names the index of those that failed.
 *  @param out_lease  receives what larder_expert_release() takes, also with LARDER_PARTIAL and LARDER_PENDING. The
 * lease may end before the job does.
 *  @return LARDER_OK (all are ready, there is no job); LARDER_PARTIAL (queue NULL: some could not be loaded, their
 * views say why; the others are ready); LARDER_PENDING (a job was made); LARDER_E_NOSPACE (more experts than the layer
 * has slots: the message has both numbers); LARDER_E_BUSY (other leases hold too many slots, or there are max_leases,
 * or the queue is full); LARDER_E_RANGE (layer, an expert's number); LARDER_E_INVALID (an expert twice, n 0, NULL);
 * LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking with queue NULL: until loaded
 *  @cost resident experts: no allocation, and no lock but their layer's  @since 0.1 */
LARDER_API larder_status larder_expert_acquire(larder_expert_cache* cache, uint32_t layer, const uint32_t* experts,
                                               uint32_t n, larder_expert_view* out, uint32_t stride,
                                               larder_queue* queue, uint64_t user_data, larder_job* out_job,
                                               larder_expert_lease* out_lease) LARDER_NOEXCEPT;

/** End a lease: its experts may be evicted. Device work that reads them must be done, or be ordered before the cache's
 * loads by the caller.
 *  @return LARDER_OK; LARDER_E_STALE (released already, or never acquired).
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_expert_release(larder_expert_cache* cache, larder_expert_lease lease) LARDER_NOEXCEPT;

/** A new sequence begins: the records of HOBBIT and MOE_INFINITY, which are of one sequence, start again.
 *  @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_expert_begin_sequence(larder_expert_cache* cache) LARDER_NOEXCEPT;

/** What a hint may come from, each trusted as far as it was right: numbers of the caller's choice. */
enum { LARDER_EXPERT_MAX_SOURCES = 8 };

/** Tell which experts the next acquire of a layer will probably ask for: from the router of the layer before, a routing
 * predictor, the token before. What is not there is loaded ahead of time, behind everything that an acquire waits for
 * and before what has a later deadline; each chunk gives way to what is more urgent.
 *
 *  Each source is measured: its probabilities count times the share of its hints that came true of late. What comes to
 * less than a half is loaded only into slots that are free, so a source that is wrong soon costs nothing. The layer's
 * next acquire, whoever makes it, settles all hints of the layer.
 *  @param probabilities  [n] above 0, at most 1; NULL: 1
 *  @param source       below LARDER_EXPERT_MAX_SOURCES
 *  @param deadline_ns  from now, when the layer will be computed
 *  @return LARDER_OK; LARDER_E_RANGE (layer, an expert's number, a probability, source: nothing was changed);
 * LARDER_E_INVALID (NULL).
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_expert_hint(larder_expert_cache* cache, uint32_t layer, const uint32_t* experts,
                                            const float* probabilities, uint32_t n, uint32_t source,
                                            uint64_t deadline_ns) LARDER_NOEXCEPT;

/** Counters of a cache. */
typedef struct larder_expert_state {
    uint32_t struct_size;
    uint32_t n_leases; /**< that have not ended */
    uint64_t n_slots;  /**< of all precisions and layers */
    uint64_t slot_bytes;
    uint64_t n_acquired;   /**< experts asked for */
    uint64_t n_hits;       /**< of these were ready, or on their way for another lease */
    uint64_t n_evictions;  /**< experts that went for others */
    uint64_t n_loads;      /**< that came to their end */
    uint64_t n_failed;     /**< loads that failed */
    uint64_t loaded_bytes; /**< read from the sources, failed and abandoned loads included */
    uint64_t n_late;       /**< hits that were not ready yet */
    uint64_t n_foreseen;   /**< loads begun for a hint */
} larder_expert_state;

#define LARDER_EXPERT_STATE_INIT                                                                                       \
    { sizeof(larder_expert_state), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised; takes one layer after the other  @blocking
 * never  @since 0.1 */
LARDER_API larder_status larder_expert_query(larder_expert_cache* cache, larder_expert_state* out) LARDER_NOEXCEPT;

/** Check the cache's own bookkeeping. For tests and bug reports.
 *  @return LARDER_OK; LARDER_E_INTERNAL with the invariant that is broken in the message; LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_expert_verify(larder_expert_cache* cache) LARDER_NOEXCEPT;

typedef struct larder_expert_replay_options {
    uint32_t struct_size;
    larder_expert_policy policy; /**< default LARDER_EXPERT_AUTO */
    uint32_t layer_slots;        /**< k to n_experts */
    uint32_t reserved0;
    uint64_t lookahead_tokens; /**< of FUTURE_COUNT, 1 or more, default 16; must be 0 for others */
} larder_expert_replay_options;

#define LARDER_EXPERT_REPLAY_OPTIONS_INIT                                                                              \
    { sizeof(larder_expert_replay_options), 0, 0, 0, 0 }

typedef struct larder_expert_replay_result {
    uint32_t struct_size;
    uint32_t reserved0;
    uint64_t n_references; /**< n_tokens * n_layers * k */
    uint64_t n_hits;
    uint64_t n_evictions;
    uint64_t elapsed_ns;
} larder_expert_replay_result;

#define LARDER_EXPERT_REPLAY_RESULT_INIT                                                                               \
    { sizeof(larder_expert_replay_result), 0, 0, 0, 0, 0 }

/** What would a cache with so many slots in each layer have hit? Every token acquires its experts layer by layer and
 * releases them; every text is a sequence, see larder_expert_begin_sequence(). The hits of a choice are judged against
 * what was there before it.
 *  @param hits  [n_layers] receives each layer's hits; may be NULL
 *  @return LARDER_OK; as larder_moe_check(); LARDER_E_RANGE also for layer_slots and lookahead_tokens;
 * LARDER_E_INVALID (lookahead_tokens with another policy); LARDER_E_NOT_FOUND (no such policy).
 *  @threads any; routing may be shared  @blocking computes  @cost AUTO about 1 us for a choice of 8 from 64  @since 0.1
 */
LARDER_API larder_status larder_expert_replay(larder_context* context, const larder_moe_routing* routing,
                                              const larder_expert_replay_options* options, uint64_t* hits,
                                              larder_expert_replay_result* out_result) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
