/** @file replay.h
 *  @brief What would this policy have done? Replays a trace of block references through the library's own eviction
 * policies.
 */
#ifndef LARDER_REPLAY_H
#define LARDER_REPLAY_H

#include "larder/context.h"

LARDER_EXTERN_C_BEGIN

/** Eviction policies: rows of one table, the same code in the store's tiers and in replay. */
typedef uint32_t larder_policy;
enum {
    LARDER_POLICY_LRU = 1, /**< least recently used */
    LARDER_POLICY_LRU_TAIL =
        2, /**< LRU that touches a request's last block first, so that tails go before the prefixes they need */
    LARDER_POLICY_FIFO = 3, /**< oldest first */
    LARDER_POLICY_LFU = 4,  /**< least often used; counts outlive eviction, for as many things that are gone as the
                               cache has known at once. Ties: least recently used */
    LARDER_POLICY_BELADY =
        5, /**< farthest next use, with the right not to admit: the best possible, knows the future. Replay only. */
    LARDER_POLICY_S3_FIFO = 6, /**< two FIFO queues, a small one of 10 % for what is new (Yang et al., SOSP 2023) */
    LARDER_POLICY_ARC = 7,     /**< seen once and seen often, each LRU, the balance set by what was evicted too early
                                  (Megiddo and Modha, FAST 2003) */
    LARDER_POLICY_LRU_2 = 8, /**< oldest second last request first, times kept as the counts of LFU are (O'Neil et al.,
                                SIGMOD 1993) */
    LARDER_POLICY_GDSF =
        9, /**< fewest uses per byte since admitted first, aged by what was evicted (Cherkasova, 1998) */
    LARDER_POLICY_2Q = 10, /**< FIFO of 25 % for what is new, LRU for what came back (Johnson and Shasha, VLDB 1994) */
    LARDER_POLICY_LRU_LEAF = 11, /**< LRU_TAIL that first evicts what was the last of its sequence when it came, until
                                    it is asked for again or something follows it */
    LARDER_POLICY_AUTO =
        12, /**< evicts as that of LRU_LEAF, ARC, S3_FIFO, LFU, LRU_2, GDSF would that lately hit most, found by shadow
              caches of at most 4,096 sampled blocks each (set duelling: Qureshi et al., ISCA 2007) */
    LARDER_POLICY_SLRU =
        13, /**< on probation until used, then protected, 80 % of the room at most (Karedla et al., Computer 1994) */
    LARDER_POLICY_SIEVE =
        14, /**< FIFO with a hand that spares once what was used since it came by (Zhang et al., NSDI 2024) */
    LARDER_POLICY_W_TINY_LFU = 15, /**< LRU window of 1 % before an SLRU that takes only what is asked for more often
                                      than its victim, by a sketch (Einziger et al., ACM TOS 2017) */
    LARDER_POLICY_LIRS = 16,  /**< shortest distance between the last two uses stays, 1 % for the rest (Jiang and Zhang,
                                 SIGMETRICS 2002) */
    LARDER_POLICY_SRRIP = 17, /**< two-bit predictions of the next use (Jaleel et al., ISCA 2010); while more than an
                                 eighth of the references to what has a score miss, it is favoured and spared once
                                 (Victima: Kanellopoulos et al., MICRO 2023) */
    LARDER_POLICY_HYBRID = 18 /**< what has no known next use first, then what is far off, the least score first;
                                 victims that will be used wait in a buffer of an eighth of the room (LSM-GNN: Park et
                                 al., 2024) */
};

/** One row of the policy table. */
typedef struct larder_policy_info {
    uint32_t struct_size;
    larder_policy policy;
    const char* name;        /**< such as "lru"; static */
    const char* description; /**< one line; static */
    uint32_t online;         /**< 1: may serve as a store's host_policy */
    uint32_t reserved0;
} larder_policy_info;

#define LARDER_POLICY_INFO_INIT                                                                                        \
    { sizeof(larder_policy_info), 0, 0, 0, 0, 0 }

/** Row `index` of the policy table.
 *  @return LARDER_OK; LARDER_E_NOT_FOUND (past the last row); LARDER_E_INVALID.  @threads any  @since 0.1 */
LARDER_API larder_status larder_policy_get(uint32_t index, larder_policy_info* out) LARDER_NOEXCEPT;

/** A trace: requests in order of time, each a list of block ids. Equal ids are the same block. */
typedef struct larder_replay_trace {
    uint32_t struct_size;
    uint32_t reserved0;
    const uint64_t* blocks; /**< the ids of all requests one behind the other */
    const uint64_t*
        ends; /**< [n_requests]: request r is blocks[ends[r-1]] to blocks[ends[r]-1], ends[-1] taken as 0; ascending */
    uint64_t n_requests;
    const uint8_t* scores; /**< of each reference: the static worth of its block, larger is dearer, for SRRIP and
                              HYBRID; NULL: all 0 */
} larder_replay_trace;

#define LARDER_REPLAY_TRACE_INIT                                                                                       \
    { sizeof(larder_replay_trace), 0, 0, 0, 0, 0 }

/** What to replay through. */
typedef struct larder_replay_options {
    uint32_t struct_size;
    larder_policy policy;
    uint64_t capacity_blocks;    /**< at least 1 */
    uint64_t lookahead_requests; /**< how many of the coming requests are known, as by a scheduler's queue: what they
                                    ask for stays before all else, what is needed last goes first. 0: none */
} larder_replay_options;

#define LARDER_REPLAY_OPTIONS_INIT                                                                                     \
    { sizeof(larder_replay_options), 0, 0, 0 }

/** Counts of one replay. */
typedef struct larder_replay_result {
    uint32_t struct_size;
    uint32_t reserved0;
    uint64_t n_references;  /**< blocks asked for */
    uint64_t n_unique;      /**< different blocks */
    uint64_t n_hits;        /**< blocks found */
    uint64_t n_prefix_hits; /**< blocks in the leading run of hits of their request: what a prefix cache can reuse */
    uint64_t n_evictions;
    uint64_t elapsed_ns;
} larder_replay_result;

#define LARDER_REPLAY_RESULT_INIT                                                                                      \
    { sizeof(larder_replay_result), 0, 0, 0, 0, 0, 0, 0 }

/** Replay a trace. Requests are atomic: the hits of all blocks of a request are judged first, then its blocks are
 * touched or admitted in order, and the capacity is enforced when the request ends.
 *  @return LARDER_OK; LARDER_E_INVALID (NULL, ends not ascending); LARDER_E_NOT_FOUND (no such policy); LARDER_E_RANGE
 * (capacity_blocks, more than 2^40 references or 2^32-2 different blocks); LARDER_E_NOMEM.
 *  @threads any; traces may be shared  @blocking computes  @cost about 10 million references per second and core for
 * LRU, a tenth of that for AUTO  @since 0.1 */
LARDER_API larder_status larder_replay_run(larder_context* context, const larder_replay_trace* trace,
                                           const larder_replay_options* options,
                                           larder_replay_result* out_result) LARDER_NOEXCEPT;

/** A request of recorded traffic. */
typedef struct larder_recorded_request {
    uint32_t struct_size;
    uint32_t n_hits;        /**< how many of its objects were served */
    uint64_t time_ns;       /**< since the recording began */
    const uint64_t* blocks; /**< [n_blocks]: the first 8 bytes of each key, little-endian; valid during the call */
    uint64_t n_blocks;
} larder_recorded_request;

#define LARDER_RECORDED_REQUEST_INIT                                                                                   \
    { sizeof(larder_recorded_request), 0, 0, 0, 0 }

/** Receives one request. Return 0 to go on, anything else to stop. */
typedef int32_t (*larder_recorded_fn)(void* ctx, const larder_recorded_request* request);

/** What a record holds, and how its replay went. */
typedef struct larder_record_report {
    uint32_t struct_size;
    larder_policy policy;      /**< of the store's host tier */
    uint64_t capacity_bytes;   /**< of the store's host tier */
    uint64_t wall_ns;          /**< when it began, since 1970 */
    uint64_t n_operations;     /**< in the record, as far as it was replayed */
    uint64_t n_requests;       /**< of one object or more */
    uint64_t n_references;     /**< objects of requests, and objects put without having been missed before */
    uint64_t n_hits;           /**< objects that gets were served */
    uint64_t n_evictions;      /**< decisions of the policy */
    uint64_t n_differences;    /**< 0, or 1: the policy chose another victim than then, and the replay ended there */
    uint64_t first_difference; /**< at which operation, counted from 1 */
    uint32_t torn; /**< 1: the record ends in the middle, as after a crash; what is before it was replayed */
    uint32_t reserved0;
} larder_record_report;

#define LARDER_RECORD_REPORT_INIT                                                                                      \
    { sizeof(larder_record_report), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** Read the traffic that a store recorded (larder_store_options.record_path): does again all that the policy of its
 * host tier was asked, holds each of its decisions against that of then, and hands out the requests, which are a trace
 * for larder_replay_run(). An object that a get missed and that was put afterwards is one reference.
 *  @param path  the file; UTF-8
 *  @param fn    receives each request in order of time; may be NULL
 *  @return LARDER_OK (all as it was, bit for bit); LARDER_PARTIAL (another decision, a torn end, or fn stopped it);
 * LARDER_E_NOT_FOUND; LARDER_E_FORMAT (not a record); LARDER_E_VERSION; LARDER_E_CORRUPT; LARDER_E_IO;
 * LARDER_E_PERMISSION; LARDER_E_INVALID; LARDER_E_NOMEM.
 *  @threads any  @blocking reads the file  @since 0.1 */
LARDER_API larder_status larder_replay_record(larder_context* context, const char* path, larder_recorded_fn fn,
                                              void* ctx, larder_record_report* out_report) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
