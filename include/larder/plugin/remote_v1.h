/** @file remote_v1.h
 *  @brief What a plug-in for a remote tier (liblarder-redis.so, or anybody's) offers to the library. Version 1, frozen:
 * a later version is another header and another symbol.
 *
 *  A plug-in is a shared library with one exported function, larder_remote_plugin_v1(). The library opens it with
 * RTLD_NOW | RTLD_LOCAL, refuses a table of another version, one that is too short or has a hole, and one whose score
 * is not positive, and never closes it.
 *
 *  A remote keeps values of bytes under keys of 256 bits, for a while. It may forget any value at any time, and it may
 * be read and written by others. The library checks identity and checksums of what it gets, makes it small and secret,
 * and decides what is worth asking for; the plug-in moves bytes, in batches, within a time, without copying them.
 *
 *  The life of a request:
 *
 *      prepare (once) -> post -> check ... check -> post again, or release
 *
 *  - prepare() looks at a batch and makes whatever can be made before it is sent.
 *  - post() starts it and returns at once. From here until the request has completed the memory of the items is the
 *    plug-in's.
 *  - check() says LARDER_PENDING or LARDER_OK: completed, each item has its status. A plug-in without threads of its
 * own does the work inside check(), so whoever posts must also check.
 *  - release() may come at any time: what is still under way is given up, and the memory of the items is not touched
 * any more when it returns.
 *
 *  Items of a batch are independent and in no order. One request is used by one thread at a time; different requests,
 * and all else, by any threads at once. No function may throw, print, exit, change signals or write the value of a key,
 * of a password or of a path to the log. Statuses are those of larder/status.h; a function that fails calls host->fail
 * with its status and one sentence before it returns.
 */
#ifndef LARDER_PLUGIN_REMOTE_V1_H
#define LARDER_PLUGIN_REMOTE_V1_H

#include "larder/status.h"

LARDER_EXTERN_C_BEGIN

/** What the library lends to the plug-in; valid until close() of the remote it was given with. */
typedef struct larder_remote_host_v1 {
    uint32_t struct_size;
    uint32_t reserved0;
    void* ctx;
    void* (*alloc)(void* ctx, uint64_t n_bytes, uint64_t align); /**< NULL: no memory */
    void (*free)(void* ctx, void* ptr, uint64_t n_bytes, uint64_t align);
    void (*fail)(void* ctx, larder_status status, int32_t os_errno,
                 const char* message);                          /**< detail for larder_last_error() */
    uint64_t (*now_ns)(void* ctx);                              /**< monotonic; all times of this interface are of it */
    void (*log)(void* ctx, int32_t level, const char* message); /**< level: a larder_log_level of context.h */
} larder_remote_host_v1;

/** One setting for open(): where the remote is, and how to talk to it. Borrowed during open(). */
typedef struct larder_remote_setting_v1 {
    const char* name;
    const char* value;
} larder_remote_setting_v1;

/** What a remote can do. */
typedef struct larder_remote_caps_v1 {
    uint32_t struct_size;
    uint32_t max_items;             /**< of a batch, at least 1 */
    uint64_t max_value_bytes;       /**< at least 64 KiB */
    uint64_t preferred_value_bytes; /**< values of about this size travel best; 0: any */
    uint32_t needs_registration;    /**< 1: the memory of put and get must lie in what register_memory() was given */
    uint32_t keeps_all;             /**< 1: nothing is forgotten unless removed */
    uint32_t reserved0[4];
} larder_remote_caps_v1;

/** What a remote has counted since open(), and how it is. */
typedef struct larder_remote_counters_v1 {
    uint32_t struct_size;
    larder_status health;   /**< LARDER_OK: all of it answers, as far as is known; LARDER_PARTIAL: a part; otherwise why
                               nothing does: LARDER_E_PEER_DEAD, LARDER_E_TIMEOUT, LARDER_E_PERMISSION ... */
    uint32_t n_nodes;       /**< that it is made of */
    uint32_t n_nodes_down;  /**< of these not asked at present */
    uint64_t n_commands;    /**< sent */
    uint64_t n_round_trips; /**< times that a connection was written to after everything before had been answered */
    uint64_t n_timeouts;    /**< connections given up because no answer came in time */
    uint64_t n_connects;    /**< connections made */
    uint64_t n_redirects;   /**< commands that had to be sent again elsewhere */
    uint64_t n_hedges;      /**< reads sent a second time because the first was late */
    uint64_t n_malformed;   /**< answers that were not of the protocol */
    uint64_t n_foreign;     /**< values that put() did not write, and values with a part missing or of a wrong length */
    uint64_t n_refused;     /**< items answered without being sent, because their node was down */
    uint64_t sent_bytes;
    uint64_t received_bytes;
} larder_remote_counters_v1;

/** A stretch of the caller's memory. */
typedef struct larder_remote_piece_v1 {
    void* data; /**< only read by LARDER_REMOTE_PUT */
    uint64_t n_bytes;
} larder_remote_piece_v1;

/** What a batch does. */
enum {
    LARDER_REMOTE_PUT = 1,    /**< keep the value under the key, in the place of what was there */
    LARDER_REMOTE_GET = 2,    /**< read the value, or a part of it */
    LARDER_REMOTE_EXISTS = 3, /**< is there a value? */
    LARDER_REMOTE_REMOVE = 4  /**< forget it */
};

/** One item of a batch. Two items of a put or remove must not have the same key.
 *
 *  Status of a completed item: LARDER_OK; LARDER_MISS (no value: never put, forgotten, or not whole any more);
 * LARDER_E_CORRUPT (what is there was not written by put(); as good as a miss); LARDER_E_TIMEOUT; LARDER_E_PEER_DEAD
 * (its node does not answer, or is not asked because it did not lately); LARDER_E_NOSPACE (put: the remote is full);
 * LARDER_E_PERMISSION; LARDER_E_RANGE (put: too large); LARDER_E_BUSY (the remote asks for patience: it loads, moves,
 * or elects); LARDER_E_NOMEM; LARDER_E_IO (whatever else). A put without LARDER_OK may have been carried out, wholly or
 * in part: what a get then finds is the old value, the new one, LARDER_MISS, or, when both have the same size, a
 * mixture that the library's checksums reveal. */
typedef struct larder_remote_item_v1 {
    larder_key key;
    larder_remote_piece_v1* pieces; /**< put: the value; get: where its bytes go, in this order; otherwise NULL */
    uint32_t n_pieces;              /**< at most 1024, each at least 1 byte */
    larder_status status;           /**< out */
    uint64_t offset;                /**< get: first byte of the value that is wanted; otherwise 0 */
    uint64_t n_bytes; /**< out of a get: size of the whole value. The pieces are filled as far as the value
                         goes; what lies behind is left alone or spoilt. */
} larder_remote_item_v1;

typedef struct larder_remote_batch_v1 {
    uint32_t struct_size;
    uint32_t op;                  /**< LARDER_REMOTE_* */
    larder_remote_item_v1* items; /**< borrowed until release() of the request */
    uint32_t n_items;             /**< 1 to max_items */
    uint32_t ttl_ms;              /**< put: forget it after so long; 0: no limit */
} larder_remote_batch_v1;

/** `r` is what open() gave, `q` what prepare() gave. */
typedef struct larder_remote_table_v1 {
    uint32_t version; /**< 1 */
    uint32_t struct_size;
    const char* name;       /**< such as "redis" */
    int32_t (*score)(void); /**< 0: of no use on this machine (a library that it needs is not there) */
    /** Fails for settings that are not known or cannot be (LARDER_E_INVALID, LARDER_E_RANGE; the message names the
     * setting), for what will not mend by itself (LARDER_E_PERMISSION: password or certificate; LARDER_E_VERSION: the
     * other side does not speak the protocol) and for LARDER_E_NOMEM. A remote that does not answer is opened
     * nevertheless. */
    larder_status (*open)(const larder_remote_host_v1* host, const larder_remote_setting_v1* settings,
                          uint32_t n_settings, void** out_remote);
    void (*close)(void* r); /**< all requests have been released */
    void (*caps)(void* r, larder_remote_caps_v1* out);
    void (*counters)(void* r, larder_remote_counters_v1* out);
    /** Make memory known before it is used, for what moves bytes by itself. Does nothing where that is not needed. */
    larder_status (*register_memory)(void* r, void* base, uint64_t n_bytes, uint64_t* out_region);
    void (*unregister_memory)(void* r, uint64_t region);
    /** LARDER_OK; LARDER_E_INVALID; LARDER_E_RANGE; LARDER_E_NOMEM. */
    larder_status (*prepare)(void* r, const larder_remote_batch_v1* batch, void** out_request);
    /** Everything must be answered within timeout_ns from now; what is not gets LARDER_E_TIMEOUT. LARDER_OK, or
     * LARDER_E_STATE (under way already). Statuses of the items are reset. */
    larder_status (*post)(void* r, void* q, uint64_t timeout_ns);
    /** Wait at most wait_ns (0: look only), and never much beyond the time of post(). LARDER_OK; LARDER_PENDING;
     * LARDER_E_STATE (not posted). */
    larder_status (*check)(void* r, void* q, uint64_t wait_ns);
    void (*release)(void* r, void* q);
} larder_remote_table_v1;

/** The one symbol of a plug-in. Returns a table in static storage. */
typedef const larder_remote_table_v1* (*larder_remote_plugin_v1_fn)(void);
#define LARDER_REMOTE_PLUGIN_V1_SYMBOL "larder_remote_plugin_v1"

LARDER_EXTERN_C_END
#endif
