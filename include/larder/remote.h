/** @file remote.h
 *  @brief A store's remote tier: what lies beyond this machine, through a plug-in (larder/plugin/remote_v1.h).
 *
 *  With larder_store_options.remote a store also writes what is put to a remote, such as a Redis Cluster, and looks
 * there for what it has not got itself. The remote is asked, never mirrored: another store may have put what is found
 * there, and the remote may forget anything at any time. What comes back is verified (key, layout, tenant, CRC32C) and
 * is a miss when it does not hold.
 *
 *  No call waits for the remote longer than the time it is given, and none waits for a part of it that is known not to
 * answer.
 */
#ifndef LARDER_REMOTE_H
#define LARDER_REMOTE_H

#include "larder/store.h"

LARDER_EXTERN_C_BEGIN

/** One setting of a plug-in: those of Redis are listed in the guide. */
typedef struct larder_remote_setting {
    const char* name;
    const char* value;
} larder_remote_setting;

/** Where the remote is and how long to wait for it. Borrowed during larder_store_open(). Zero means default. */
typedef struct larder_remote_options {
    uint32_t struct_size;
    uint32_t n_settings;
    const char* plugin; /**< "redis" (liblarder-redis.so, beside this library or where the system looks), or the path of
                           a plug-in's file */
    const larder_remote_setting* settings; /**< [n_settings] */
    uint64_t get_timeout_ns; /**< the longest that a get or prefetch waits for the remote; default 20 ms */
    uint64_t put_timeout_ns; /**< the longest that a batch of writes behind the caller's back may take; default 1 s */
    uint64_t max_queued; /**< objects that wait to be written, 1 to 2^20; what is more is not written: default 4096 */
    uint32_t ttl_ms;     /**< the remote may forget what was put after so long; 0: no limit */
    uint32_t reserved0;
} larder_remote_options;

#define LARDER_REMOTE_OPTIONS_INIT                                                                                     \
    { sizeof(larder_remote_options), 0, 0, 0, 0, 0, 0, 0, 0 }

/** What a store's remote tier has done, and how the remote is. */
typedef struct larder_remote_info {
    uint32_t struct_size;
    larder_status health; /**< LARDER_OK: it answers, as far as is known; LARDER_PARTIAL: a part of it does; otherwise
                             why nothing does */
    uint32_t n_nodes;
    uint32_t n_nodes_down;
    uint64_t n_queued;      /**< objects waiting to be written, or being written */
    uint64_t n_put;         /**< objects written */
    uint64_t put_bytes;     /**< their payloads */
    uint64_t n_dropped;     /**< objects that were not written: too many waited, or they were gone when it was their
                               turn */
    uint64_t n_put_failed;  /**< objects that the remote did not take */
    uint64_t n_asked;       /**< keys that a get, prefetch or lookup asked for */
    uint64_t n_hits;        /**< of these, found and verified */
    uint64_t hit_bytes;     /**< payloads that came back */
    uint64_t n_corrupt;     /**< values whose identity or checksum did not hold */
    uint64_t n_unanswered;  /**< keys that were asked for without an answer: time-outs, nodes that are down */
    uint64_t n_round_trips; /**< of the plug-in: times that it waited for a node */
    uint64_t n_timeouts;    /**< of the plug-in: times that a node did not answer in time */
    uint64_t n_redirects;   /**< of the plug-in: commands sent again elsewhere */
    uint64_t n_hedges;      /**< of the plug-in: reads sent a second time because the first was late */
    uint64_t n_foreign;     /**< of the plug-in: values that it did not write, or of which a part is missing */
    uint64_t n_malformed;   /**< of the plug-in: answers that made no sense */
} larder_remote_info;

#define LARDER_REMOTE_INFO_INIT                                                                                        \
    { sizeof(larder_remote_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_STATE (the store has no remote tier); LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_store_remote_info(larder_store* store, larder_remote_info* out) LARDER_NOEXCEPT;

/** larder_store_lookup() in all tiers: keys that neither RAM nor the file has are asked of the remote, in one batch.
 * What is told of an object there is what its verified header says; reading it verifies the rest.
 *  @param timeout_ns  the longest to wait for the remote; what it has not answered by then is a miss. 0: local tiers
 * only
 *  @return as larder_store_lookup(); LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking up to timeout_ns  @cost one round trip to each node of the remote
 * @since 0.1 */
LARDER_API larder_status larder_store_lookup_within(larder_store* store, const larder_key* keys, uint32_t n,
                                                    const larder_object_want* want, uint64_t timeout_ns,
                                                    larder_object_info* infos, uint32_t info_stride) LARDER_NOEXCEPT;

/** Wait until what was put before has been written to the remote, or has failed to be.
 *  @return LARDER_OK (nothing waits any more: larder_store_remote_info() tells how it went); LARDER_E_TIMEOUT;
 * LARDER_E_STATE (the store has no remote tier).
 *  @threads internally synchronised  @blocking up to timeout_ns  @since 0.1 */
LARDER_API larder_status larder_store_remote_flush(larder_store* store, uint64_t timeout_ns) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
