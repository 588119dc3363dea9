/** @file index.h
 *  @brief The index: an ordered concurrent map from keys of 8, 16 or 32 bytes, or of any length up to 1,024, to values
 * of 8, 16 or 32 bytes.
 *
 *  A B-skiplist: linked lists of 1 KiB nodes on several levels, in huge-page slabs. Readers take no lock and write no
 * shared memory; writers lock one node at a time. Look-ups in batches overlap their memory accesses and are two to
 * three times as fast as one by one.
 *
 *  Guarantees: get, put, insert, swap and remove are linearizable. A scan reports each key at most once, in order, and
 * every key that was there throughout; what is put or removed meanwhile may or may not be seen. Removing keys gives
 * their nodes back to the index; a stalled reader never keeps memory from being reused.
 *
 *  Keys and values are arrays of fixed-size elements without padding and without alignment requirements. With keys of
 * any length, wherever keys are asked for an element is a larder_index_key.
 *  Source: Luo, Hao, Wheatman, Pandey, Xu, "Bridging Cache-Friendliness and Concurrency: A Locality-Optimized In-Memory
 * B-Skiplist", ICPP 2025. Departures from it are listed in docs/guide/index.md.
 */
#ifndef LARDER_INDEX_H
#define LARDER_INDEX_H

#include "larder/context.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_index larder_index;

/** As key_bytes: each key has its own length, 1 to LARDER_INDEX_MAX_KEY_BYTES, and the order is that of memcmp with the
 * shorter of two keys first when one begins with the other. */
#define LARDER_INDEX_ANY_LENGTH 0xffffffffu
#define LARDER_INDEX_MAX_KEY_BYTES 1024u

/** A key of any length. Read during the call only. Another n_bytes than 1 to 1,024 is LARDER_E_RANGE, a NULL data is
 * LARDER_E_INVALID; a call on many keys then does nothing at all. */
typedef struct larder_index_key {
    const void* data;
    uint64_t n_bytes;
} larder_index_key;

/** How keys are ordered. */
typedef int32_t larder_index_order;
enum {
    LARDER_INDEX_ORDER_BYTES = 1,  /**< as memcmp: byte strings, big-endian numbers */
    LARDER_INDEX_ORDER_INTEGER = 2 /**< as unsigned little-endian numbers: a uint64_t as it lies in memory */
};

/** Options of larder_index_create(). Zero means default. */
typedef struct larder_index_options {
    uint32_t struct_size;
    uint32_t key_bytes;       /**< 8 (default), 16, 32 or LARDER_INDEX_ANY_LENGTH */
    uint32_t value_bytes;     /**< 8 (default), 16 or 32 */
    larder_index_order order; /**< default INTEGER; of keys of any length always BYTES */
    uint64_t max_bytes; /**< memory that the index may take, in whole slabs of 2 MiB; 2 MiB to 4 TiB; default 1 TiB */
} larder_index_options;

#define LARDER_INDEX_OPTIONS_INIT                                                                                      \
    { sizeof(larder_index_options), 0, 0, 0, 0 }

/** Create an empty index. It takes its first slab of 2 MiB at once. Keys of any length take a slab of their own for
 * each power of two that their lengths round up to, from 16 to 1,024 (up to 8 bytes: none).
 *  @return LARDER_OK; LARDER_E_INVALID or LARDER_E_RANGE (field named); LARDER_E_TOO_NEW; LARDER_E_NOMEM;
 * LARDER_E_NOSPACE.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_index_create(larder_context* context, const larder_index_options* options,
                                             larder_index** out_index) LARDER_NOEXCEPT;

/** Destroy an index and give its slabs back. NULL is allowed.  @threads no other call on this handle may run  @since
 * 0.1 */
LARDER_API void larder_index_destroy(larder_index* index) LARDER_NOEXCEPT;

/* ---------------------------------------------------------------------- one key at a time --- */

/** @param out_value  receives value_bytes; may be NULL.
 *  @return LARDER_OK; LARDER_MISS; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @cost O(log n)
 * @since 0.1 */
LARDER_API larder_status larder_index_get(larder_index* index, const void* key, void* out_value) LARDER_NOEXCEPT;

/** Insert or update.
 *  @return LARDER_OK; LARDER_E_NOSPACE (max_bytes) or LARDER_E_NOMEM: nothing changed; LARDER_E_INVALID.  @threads
 * internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_index_put(larder_index* index, const void* key, const void* value) LARDER_NOEXCEPT;

/** Insert if absent.
 *  @param out_present  receives the value that was there, when LARDER_E_EXISTS is returned; may be NULL.
 *  @return LARDER_OK; LARDER_E_EXISTS; LARDER_E_NOSPACE or LARDER_E_NOMEM: nothing changed; LARDER_E_INVALID.  @threads
 * internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_index_insert(larder_index* index, const void* key, const void* value,
                                             void* out_present) LARDER_NOEXCEPT;

/** Compare and swap: replace the value when it equals *expected.
 *  @param expected  in: what should be there; out: what was there, when LARDER_E_STATE is returned.
 *  @return LARDER_OK; LARDER_E_STATE (another value); LARDER_MISS (no such key); LARDER_E_INVALID.  @threads internally
 * synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_index_swap(larder_index* index, const void* key, void* expected,
                                           const void* value) LARDER_NOEXCEPT;

/** @param out_value  receives the value that was removed; may be NULL.
 *  @return LARDER_OK; LARDER_MISS; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_index_remove(larder_index* index, const void* key, void* out_value) LARDER_NOEXCEPT;

/* --------------------------------------------------------------------------------- batches --- */

/** Many look-ups at once, up to 32 of them in flight (16 with keys of any length).
 *  @param keys  [n * key_bytes]  @param out_values  [n * value_bytes]; elements of missing keys become zero  @param
 * out_status  [n] LARDER_OK or LARDER_MISS; may be NULL
 *  @param out_n_found  may be NULL.
 *  @return LARDER_OK (whatever was found); LARDER_E_INVALID.  Each look-up is linearizable, the batch as a whole is
 * not.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_index_get_many(larder_index* index, const void* keys, uint64_t n, void* out_values,
                                               larder_status* out_status, uint64_t* out_n_found) LARDER_NOEXCEPT;

/** Many puts. Of equal keys in one batch the later one wins.
 *  @param out_status  [n]; may be NULL.
 *  @return LARDER_OK; LARDER_PARTIAL (some failed: their status is LARDER_E_NOSPACE or LARDER_E_NOMEM);
 * LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_index_put_many(larder_index* index, const void* keys, const void* values, uint64_t n,
                                               larder_status* out_status) LARDER_NOEXCEPT;

/** Many removals.
 *  @param out_status  [n] LARDER_OK or LARDER_MISS; may be NULL.  @param out_n_removed  may be NULL.
 *  @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_index_remove_many(larder_index* index, const void* keys, uint64_t n,
                                                  larder_status* out_status, uint64_t* out_n_removed) LARDER_NOEXCEPT;

/* ----------------------------------------------------------------------------------- order --- */

/** Where a scan begins and where it goes. */
typedef int32_t larder_index_from;
enum {
    LARDER_INDEX_AT_LEAST = 1, /**< ascending from the first key >= the given one (lower bound) */
    LARDER_INDEX_ABOVE = 2,    /**< ascending from the first key > the given one (upper bound) */
    LARDER_INDEX_AT_MOST = 3,  /**< descending from the last key <= the given one (floor) */
    LARDER_INDEX_BELOW = 4     /**< descending from the last key < the given one */
};

/** Up to n pairs in order. To go on, call again with the last key and ABOVE (or BELOW).
 *  @param key  NULL: from the very first key (ascending) or the very last (descending).
 *  @param out_keys, out_values  [n]; either may be NULL.  @param out_n  pairs given.
 *  @return LARDER_OK (fewer than n: the end was reached); LARDER_MISS (none); LARDER_E_INVALID, also for an index with
 * keys of any length; LARDER_E_RANGE (from).
 *  @threads internally synchronised  @blocking never  @cost O(log n) and then the pairs; descending one descent per
 * node  @since 0.1 */
LARDER_API larder_status larder_index_scan(larder_index* index, larder_index_from from, const void* key, void* out_keys,
                                           void* out_values, uint64_t n, uint64_t* out_n) LARDER_NOEXCEPT;

/** larder_index_scan() for keys of any length: their bytes are written one after the other into the caller's buffer.
 *  @param buffer  buffer_bytes long, at least LARDER_INDEX_MAX_KEY_BYTES.
 *  @param out_keys  [n] where each key lies in the buffer.  @param out_values  [n]; may be NULL.  @param out_n  pairs
 * given.
 *  @return LARDER_OK (fewer than n: the end was reached); LARDER_PARTIAL (the buffer is full; at least one pair was
 * given); LARDER_MISS (none); LARDER_E_INVALID, also for an index with keys of a fixed size; LARDER_E_RANGE (from,
 * buffer_bytes).
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_index_scan_keys(larder_index* index, larder_index_from from,
                                                const larder_index_key* key, void* buffer, uint64_t buffer_bytes,
                                                larder_index_key* out_keys, void* out_values, uint64_t n,
                                                uint64_t* out_n) LARDER_NOEXCEPT;

/** How many keys there are. Exact while nobody writes.
 *  @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @cost O(1)  @since 0.1 */
LARDER_API larder_status larder_index_count(larder_index* index, uint64_t* out_n) LARDER_NOEXCEPT;

/** About how many keys there are from `first` on and below `end`, judged from the nodes on the way to both. Exact when
 * the index has one leaf; otherwise within a few percent of all keys, better for even loads.
 *  @param first  NULL: from the beginning.  @param end  NULL: to the end. Not above first: 0.
 *  @return LARDER_OK; LARDER_E_INVALID; LARDER_E_RANGE.  @threads internally synchronised  @blocking never  @cost two
 * descents  @since 0.1 */
LARDER_API larder_status larder_index_estimate(larder_index* index, const void* first, const void* end,
                                               uint64_t* out_n) LARDER_NOEXCEPT;

/* ------------------------------------------------------------------------------------ bulk --- */

/** Fill an empty index from sorted pairs; faster and denser than puts.
 *  @param keys  strictly ascending.
 *  @return LARDER_OK; LARDER_E_STATE (not empty); LARDER_E_INVALID (not ascending: the message gives the position);
 * LARDER_E_NOSPACE; LARDER_E_NOMEM. After an error the index is empty.
 *  @threads no other call on this index may run  @cost O(n)  @since 0.1 */
LARDER_API larder_status larder_index_build(larder_index* index, const void* keys, const void* values,
                                            uint64_t n) LARDER_NOEXCEPT;

/** Takes the bytes of a snapshot in order. A negative return value stops the snapshot, which then returns it. */
typedef struct larder_index_sink {
    larder_status (*write)(void* ctx, const void* data, uint64_t n_bytes);
    void* ctx;
} larder_index_sink;

/** Gives exactly n_bytes of a snapshot, in order, or a negative status (LARDER_E_TRUNCATED at the end of the data). */
typedef struct larder_index_source {
    larder_status (*read)(void* ctx, void* data, uint64_t n_bytes);
    void* ctx;
} larder_index_source;

/** Write all pairs to a stream (docs/formats/index-snapshot.md): versioned, each chunk with a checksum, in key order.
 *  Others may write meanwhile: the snapshot then has the guarantees of a scan.
 *  @return LARDER_OK; what the sink returned; LARDER_E_INVALID; LARDER_E_NOMEM.  @threads internally synchronised
 * @blocking as the sink  @since 0.1 */
LARDER_API larder_status larder_index_save(larder_index* index, const larder_index_sink* sink) LARDER_NOEXCEPT;

/** Fill an empty index from a snapshot.
 *  @return LARDER_OK; LARDER_E_STATE (not empty); LARDER_E_FORMAT (not a snapshot); LARDER_E_VERSION; LARDER_E_IDENTITY
 * (other key_bytes, value_bytes or order); LARDER_E_CORRUPT (checksum, order, count); LARDER_E_TRUNCATED or what else
 * the source returned; LARDER_E_NOSPACE; LARDER_E_NOMEM. After an error the index is empty.
 *  @threads no other call on this index may run  @blocking as the source  @since 0.1 */
LARDER_API larder_status larder_index_load(larder_index* index, const larder_index_source* source) LARDER_NOEXCEPT;

/* ------------------------------------------------------------- a snapshot read where it lies --- */

/** A snapshot in the caller's memory (a file that was read or mapped), readable without loading. */
typedef struct larder_index_view larder_index_view;

typedef struct larder_index_view_info {
    uint32_t struct_size;
    uint32_t key_bytes; /**< 8, 16, 32 or LARDER_INDEX_ANY_LENGTH */
    uint32_t value_bytes;
    larder_index_order order;
    uint64_t n_keys;
} larder_index_view_info;

#define LARDER_INDEX_VIEW_INFO_INIT                                                                                    \
    { sizeof(larder_index_view_info), 0, 0, 0, 0 }

/** Open a snapshot that lies in memory. Checks its beginning, its end and its length; each chunk is checked when it is
 * first met, which larder_index_view_verify() does for all.
 *  @param data  [n_bytes] borrowed until close; must not change.
 *  @return LARDER_OK; LARDER_E_FORMAT (not a snapshot); LARDER_E_VERSION; LARDER_E_CORRUPT; LARDER_E_TRUNCATED (another
 * length than its chunks have); LARDER_E_INVALID; LARDER_E_NOMEM.  @threads internally synchronised  @blocking never
 * @cost O(1), and a bit per chunk  @since 0.1 */
LARDER_API larder_status larder_index_view_open(larder_context* context, const void* data, uint64_t n_bytes,
                                                larder_index_view** out_view) LARDER_NOEXCEPT;

/** NULL is allowed.  @threads no other call on this handle may run  @since 0.1 */
LARDER_API void larder_index_view_close(larder_index_view* view) LARDER_NOEXCEPT;

/** @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_index_view_get_info(larder_index_view* view,
                                                    larder_index_view_info* out_info) LARDER_NOEXCEPT;

/** @param key  as for larder_index_get().  @param out_value  receives value_bytes; may be NULL.
 *  @return LARDER_OK; LARDER_MISS; LARDER_E_CORRUPT (a chunk on the way is damaged); LARDER_E_INVALID; LARDER_E_RANGE.
 *  @threads internally synchronised  @blocking never  @cost O(log n), and the check of chunks not met before  @since
 * 0.1 */
LARDER_API larder_status larder_index_view_get(larder_index_view* view, const void* key,
                                               void* out_value) LARDER_NOEXCEPT;

/** As larder_index_scan(). Keys of any length are given as larder_index_key elements that point into the snapshot.
 *  @param out_keys, out_values  [n]; either may be NULL.
 *  @return LARDER_OK (fewer than n: the end was reached); LARDER_MISS (none); LARDER_E_CORRUPT (a chunk is damaged:
 * out_n pairs before it were given); LARDER_E_INVALID; LARDER_E_RANGE.  @threads internally synchronised  @blocking
 * never
 * @since 0.1 */
LARDER_API larder_status larder_index_view_scan(larder_index_view* view, larder_index_from from, const void* key,
                                                void* out_keys, void* out_values, uint64_t n,
                                                uint64_t* out_n) LARDER_NOEXCEPT;

/** Check every chunk, the order of all keys and their number.
 *  @return LARDER_OK; LARDER_E_CORRUPT; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @cost
 * O(n)
 * @since 0.1 */
LARDER_API larder_status larder_index_view_verify(larder_index_view* view) LARDER_NOEXCEPT;

/* ---------------------------------------------------------------------------------- insight --- */

typedef struct larder_index_info {
    uint32_t struct_size;
    uint32_t n_levels;
    uint64_t n_keys;
    uint64_t n_nodes; /**< in use, all levels */
    uint64_t n_leaves;
    uint64_t n_free_nodes; /**< given back by removals, to be used again */
    uint64_t memory_bytes; /**< slabs held */
    uint64_t record_bytes; /**< taken by keys of any length beside the nodes */
} larder_index_info;

#define LARDER_INDEX_INFO_INIT                                                                                         \
    { sizeof(larder_index_info), 0, 0, 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised; exact while nobody writes  @blocking never
 * @since 0.1 */
LARDER_API larder_status larder_index_get_info(larder_index* index, larder_index_info* out_info) LARDER_NOEXCEPT;

/** Remove everything and give all slabs but one back.
 *  @return LARDER_OK; LARDER_E_NOMEM: then the handle can only be destroyed.  @threads no other call on this index may
 * run  @since 0.1 */
LARDER_API larder_status larder_index_clear(larder_index* index) LARDER_NOEXCEPT;

/** Check every invariant: order inside and between nodes, separators, levels, links, counts, that every node is used or
 * free exactly once.
 *  @return LARDER_OK; LARDER_E_CORRUPT with the first that does not hold; LARDER_E_NOMEM.  @threads no other call on
 * this index may run  @cost O(n)  @since 0.1 */
LARDER_API larder_status larder_index_verify(larder_index* index) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
