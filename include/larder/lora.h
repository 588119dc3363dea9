/** @file lora.h
 *  @brief A cache of low-rank adapters of any rank, in the pool of cells that the KV caches live in (S-LoRA, arXiv
 * 2311.03285).
 *
 *  An adapter of rank r takes r * cells_per_rank cells of a larder_cells pool, wherever some are free: nothing is
 * padded to a largest rank, and nothing is set aside for adapters that KV could use. The adapters of the running batch
 * are acquired and stay; those of the next batch are prefetched while it runs; all others stay as long as nobody needs
 * their cells, the least recently used goes first.
 *
 *  The weights are the program's: a callback fills the cells, from wherever the adapters are kept and in whatever form
 * (larder_adapter_decode() for compact ones). What kernels gather by are the lists of larder_lora_tables().
 */
#ifndef LARDER_LORA_H
#define LARDER_LORA_H

#include "larder/cells.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_lora larder_lora;

/** A registered adapter: an id with a generation. */
typedef larder_id larder_lora_adapter;

/** What a load has to fill. */
typedef struct larder_lora_request {
    uint32_t struct_size;
    uint32_t rank;
    larder_lora_adapter adapter;
    uint64_t user_data;   /**< as registered */
    const int32_t* cells; /**< [n_cells], until the load has ended */
    uint32_t n_cells;
    uint32_t reserved0;
} larder_lora_request;

/** Fills the cells of an adapter, in every layer and plane (larder_cells_address(), or the program's own memory).
 * Returns LARDER_OK when that is done, LARDER_PENDING when it will be told by larder_lora_loaded(), or a negative
 * status. Called without a lock by the thread that prefetches or acquires; may call this cache, save to destroy it.
 * drop (may be NULL) is called once when the cache goes. */
typedef struct larder_lora_load {
    larder_status (*fn)(void* ctx, const larder_lora_request* request);
    void* ctx;
    void (*drop)(void* ctx);
} larder_lora_load;

/** Options of larder_lora_create(). Zero means default; cells and load.fn are required. */
typedef struct larder_lora_options {
    uint32_t struct_size;
    uint32_t max_rank;       /**< 1 to 65536; default 256 */
    uint32_t cells_per_rank; /**< 1 to 64; default 4: A and B of q, k, v and o */
    uint32_t max_adapters;   /**< registered at a time, 1 to 2^24; default 65536 */
    larder_cells* cells;     /**< shared with other users; must outlive the cache */
    larder_lora_load load;
} larder_lora_options;

#define LARDER_LORA_OPTIONS_INIT                                                                                       \
    {                                                                                                                  \
        sizeof(larder_lora_options), 0, 0, 0, 0, {                                                                     \
            0, 0, 0                                                                                                    \
        }                                                                                                              \
    }

/** Make a cache without adapters.
 *  @return LARDER_OK; LARDER_E_RANGE (a field outside its bounds); LARDER_E_INVALID (NULL, cells of another context);
 * LARDER_E_NOMEM; LARDER_E_TOO_NEW. load.drop is called only for a cache that was made.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_lora_create(larder_context* context, const larder_lora_options* options,
                                            larder_lora** out_lora) LARDER_NOEXCEPT;

/** Destroy a cache and give its cells back. Loads that are pending must have ended, and device work on the cells. NULL
 * is allowed.
 *  @threads no other call on this cache may run  @blocking never  @since 0.1 */
LARDER_API void larder_lora_destroy(larder_lora* lora) LARDER_NOEXCEPT;

/** Make an adapter known. Takes no cells.
 *  @param rank         1 to max_rank
 *  @param scaling      alpha / rank, for the tables of the kernels
 *  @param user_data    handed to the load
 *  @param out_adapter  receives the id
 *  @return LARDER_OK; LARDER_E_RANGE (rank is 0 or beyond max_rank, its cells are more than the pool has, or scaling is
 * not finite); LARDER_E_NOSPACE (max_adapters); LARDER_E_INVALID; LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_lora_register(larder_lora* lora, uint32_t rank, float scaling, uint64_t user_data,
                                              larder_lora_adapter* out_adapter) LARDER_NOEXCEPT;

/** Forget an adapter and give its cells back.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_BUSY (it is acquired, or being loaded); LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_lora_unregister(larder_lora* lora, larder_lora_adapter adapter) LARDER_NOEXCEPT;

/** The next batch needs these, in this order of urgency: load those that are not there, in the room of adapters that
 * neither the running batch has acquired nor the next one needs. The list replaces that of the last call; 0 adapters
 * end it. An adapter that does not fit is passed over, as smaller ones behind it may.
 *  @param statuses  [n] LARDER_OK (there), LARDER_PENDING (being loaded), LARDER_E_NOSPACE, LARDER_E_STALE, or what the
 * load returned
 *  @return LARDER_OK; LARDER_PARTIAL (look at the statuses); LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking as the load  @since 0.1 */
LARDER_API larder_status larder_lora_prefetch(larder_lora* lora, const larder_lora_adapter* adapters, uint32_t n,
                                              larder_status* statuses) LARDER_NOEXCEPT;

/** Take adapters for the running batch: those with LARDER_OK or LARDER_PENDING stay until larder_lora_release(), and
 * are loaded if they are not there. Listed twice means acquired twice.
 *  @param statuses  [n] LARDER_OK; LARDER_PENDING (its cells are its own; what is in them is there after
 * larder_lora_loaded(), ask larder_lora_tables()); LARDER_E_NOSPACE (the last error has the cells that are needed and
 * those that could be had); LARDER_E_STALE; what the load returned
 *  @return LARDER_OK (all are there); LARDER_PENDING (all are acquired, some still being loaded); LARDER_PARTIAL (look
 * at the statuses); LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking as the load  @cost about 5 ns for an adapter that is there  @since 0.1
 */
LARDER_API larder_status larder_lora_acquire(larder_lora* lora, const larder_lora_adapter* adapters, uint32_t n,
                                             larder_status* statuses) LARDER_NOEXCEPT;

/** Give adapters back that were acquired, all or none. They stay in the cache until room is needed. Device work that
 * reads them must be done.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_STATE (one is not acquired, or not as often as it is listed);
 * LARDER_E_INVALID. Nothing has changed then.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_lora_release(larder_lora* lora, const larder_lora_adapter* adapters,
                                             uint32_t n) LARDER_NOEXCEPT;

/** A pending load has ended.
 *  @param result  LARDER_OK, or a negative status: the cells are given back when nobody holds the adapter any more, and
 * the next acquire loads it anew
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_STATE (it is not being loaded); LARDER_E_INVALID (a positive result).
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_lora_loaded(larder_lora* lora, larder_lora_adapter adapter,
                                            larder_status result) LARDER_NOEXCEPT;

/** Where acquired adapters lie: adapter i has cells[starts[i]] to cells[starts[i + 1] - 1].
 *  @param cells      [capacity]
 *  @param starts     [n + 1]; starts[n] is the number of cells, also with LARDER_E_BUFFER_TOO_SMALL
 *  @param scalings   [n]; may be NULL
 *  @return LARDER_OK; LARDER_PENDING (one is still being loaded; the tables are right); LARDER_E_BUFFER_TOO_SMALL;
 * LARDER_E_STALE; LARDER_E_STATE (one is not acquired); the status of a load that failed; LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_lora_tables(larder_lora* lora, const larder_lora_adapter* adapters, uint32_t n,
                                            int32_t* cells, uint32_t capacity, uint32_t* starts,
                                            float* scalings) LARDER_NOEXCEPT;

/** Evict adapters that neither batch needs until n cells of the pool are free: for KV that found none.
 *  @return LARDER_OK; LARDER_E_NOSPACE (they would not be enough, and none was evicted: the message has both numbers);
 * LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_lora_make_room(larder_lora* lora, uint32_t n_cells) LARDER_NOEXCEPT;

/** Cells of the pool have moved: larder_cells_transient_begin() returned these moves. Those that are adapters' are
 * renumbered; fetch tables anew. No load may be pending when cells move.
 *  @param moves  [n]; those of other users of the pool do no harm
 *  @return LARDER_OK; LARDER_E_INVALID; LARDER_E_NOMEM (nothing has changed).
 *  @threads internally synchronised  @blocking never  @cost a search among the moves for each cell  @since 0.1 */
LARDER_API larder_status larder_lora_move(larder_lora* lora, const larder_cells_move* moves,
                                          uint32_t n) LARDER_NOEXCEPT;

/** What a cache holds, and what it has done. */
typedef struct larder_lora_state {
    uint32_t struct_size;
    uint32_t n_adapters;   /**< registered */
    uint32_t n_resident;   /**< with cells, being loaded or there */
    uint32_t n_acquired;   /**< of n_resident */
    uint64_t n_cells;      /**< of all resident ones: their ranks times cells_per_rank */
    uint64_t n_free_cells; /**< of adapters that neither batch needs */
    uint64_t
        n_next_cells; /**< that the next batch needs and has not yet: what the admission of KV should leave alone */
    uint64_t n_hits;  /**< acquires that found their adapter there or being loaded */
    uint64_t n_misses;
    uint64_t n_loads; /**< begun by acquires and prefetches */
    uint64_t n_failed_loads;
    uint64_t n_evictions;
} larder_lora_state;

#define LARDER_LORA_STATE_INIT                                                                                         \
    { sizeof(larder_lora_state), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_lora_query(const larder_lora* lora, larder_lora_state* out) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
