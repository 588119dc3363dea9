/** @file store.h
 *  @brief The store: objects under content keys, kept in RAM and in a file, found again after a restart.
 *
 *  An object is an opaque payload (usually a stream of stream.h) under a 256-bit key, with a small set of facts about
 * it (larder_object_meta). The store forgets when it must, and never lies: a read returns the bytes that were put under
 * that key, verified by checksum, or it returns no bytes. What was made for another layout or tenant, or is less exact
 * than asked for, is refused, not reinterpreted.
 *
 *  A store has a host tier (RAM), a file tier (a directory), or both, and may have a remote tier behind them
 * (remote.h). A put lands in the host tier and is written to the file tier behind the caller's back; a get that is
 * served by the file tier brings the object back into the host tier. Where a tier is full it evicts; being full is a
 * normal answer.
 *
 *  Durability: after larder_store_flush() returned LARDER_OK, what was put before it survives SIGKILL and loss of
 * power, until the file tier evicts it.
 */
#ifndef LARDER_STORE_H
#define LARDER_STORE_H

#include "larder/event.h"
#include "larder/job.h"
#include "larder/layout.h"
#include "larder/replay.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_store larder_store;
struct larder_remote_options;

/** Tiers as bits of a mask. */
enum {
    LARDER_TIER_HOST = 2u,  /**< RAM of this process */
    LARDER_TIER_FILE = 4u,  /**< a directory on a local disk */
    LARDER_TIER_REMOTE = 8u /**< beyond this machine (remote.h) */
};

/** What is known about an object besides its payload. Stored with it, checksummed, returned by lookup and scan. */
typedef struct larder_object_meta {
    uint32_t struct_size;
    uint32_t tenant;   /**< who pays for it (quotas) and whose drop removes it; 0 is an ordinary tenant */
    larder_key layout; /**< identity of model, shapes and types: larder_layout_identity() */
    larder_key parent; /**< key of the block before it in its sequence; all zero: none */
    uint32_t n_tokens; /**< tokens that the payload covers */
    larder_quality
        quality;    /**< how faithful the payload is: 1 to 255, larger is coarser; 0 counts as LARDER_QUALITY_EXACT */
    uint32_t codec; /**< how the payload is encoded, 0 to 65535; the store does not look inside */
    uint32_t user_flags; /**< the caller's own */
} larder_object_meta;

#define LARDER_OBJECT_META_INIT                                                                                        \
    { sizeof(larder_object_meta), 0, {{0}}, {{0}}, 0, 0, 0, 0 }

/** What a reader accepts. An object that does not meet it is refused: LARDER_E_IDENTITY for another layout or tenant,
 * LARDER_MISS for too coarse a quality. */
typedef struct larder_object_want {
    uint32_t struct_size;
    uint32_t tenant;            /**< the object's tenant must be this one */
    larder_key layout;          /**< the object's layout must be this one */
    larder_quality min_quality; /**< the least that will do: 1 to 255; default LARDER_QUALITY_EXACT */
    uint32_t reserved0;
} larder_object_want;

#define LARDER_OBJECT_WANT_INIT                                                                                        \
    { sizeof(larder_object_want), 0, {{0}}, 0, 0 }

/** When data goes from RAM to the file tier. */
typedef int32_t larder_write_policy;
enum {
    LARDER_WRITE_THROUGH = 1, /**< soon after the put, as a job of low priority */
    LARDER_WRITE_BACK = 2     /**< when RAM needs the room, and at flush and close */
};

/** When the operating system is asked to make written segments durable. */
typedef int32_t larder_sync_policy;
enum {
    LARDER_SYNC_ON_FLUSH = 1, /**< at larder_store_flush() and close only */
    LARDER_SYNC_ON_SEAL = 2   /**< also each time a segment is full */
};

/** Options of larder_store_open(). Zero means default. */
typedef struct larder_store_options {
    uint32_t struct_size;
    uint32_t set_mask;      /**< none defined; 0 */
    const char* directory;  /**< of the file tier, created when absent (its parent must exist); NULL: no file tier.
                               UTF-8, copied. */
    uint64_t host_bytes;    /**< RAM for payloads, at least 64 KiB; 0: no host tier */
    uint64_t file_bytes;    /**< hard cap on the bytes of the directory's data file, 4 to 2^20 segments; needed when
                               directory is given */
    uint64_t segment_bytes; /**< 64 KiB to 64 MiB, a power of two; default 64 MiB or the largest that gives 8 segments.
                               An existing store keeps its own. */
    larder_write_policy write_policy; /**< default LARDER_WRITE_THROUGH */
    larder_sync_policy sync_policy;   /**< default LARDER_SYNC_ON_FLUSH */
    uint32_t host_policy; /**< eviction of the host tier: a larder_policy of replay.h that works on line; default
                             LARDER_POLICY_LRU. Objects that cover no tokens (n_tokens 0) are what
                             LARDER_POLICY_SRRIP favours; of LRU_TAIL, LRU_LEAF and AUTO a request is one get. */
    uint32_t file_policy; /**< which segment the file tier evicts: LARDER_POLICY_LRU (default) or LARDER_POLICY_FIFO */
    uint32_t reinsert_percent; /**< of an evicted segment's bytes, how much of what was read since it was written is
                                  kept by writing it again: 0 (default) to 50. Pinned objects are always kept. */
    uint32_t no_promote;       /**< 1: a get served by the file tier does not bring the object into the host tier */
    uint64_t max_dirty_bytes;  /**< of the host tier that may wait to be written; default half of host_bytes */
    uint64_t n_events; /**< events that are kept for readers (larder_store_events_read()), a power of two up to 2^24,
                          128 bytes each; 0: none */
    const struct larder_remote_options*
        remote;                   /**< of the remote tier (remote.h); NULL: none. Borrowed during the call */
    uint64_t write_bytes_per_day; /**< the file tier's endurance: what may be written to the disk in a day, everything
                                     included, up to an hour's share of it at once; 0: no limit. While it is used up,
                                     the file takes no objects: those in RAM that were not written stay there until they
                                     are evicted, and only what is pinned is written again. */
    uint64_t write_back_bytes_per_s; /**< what workers write to the file behind the callers' backs; 0: no limit. Beyond
                                        max_dirty_bytes, and in a flush, writing goes as fast as it can. */
    uint64_t prefetch_bytes_per_s; /**< what prefetches and moves to RAM read from the file, what larder_store_acquire()
                                      reads included, though it does not wait; 0: no limit */
    const char* record_path; /**< of a file, created or emptied, that receives all that is asked of the store and of the
                                policy of its host tier, for larder_replay_record(); 20 to 40 bytes each, written in
                                blocks of 256 KiB by whoever fills one. Needs a host tier. UTF-8, used at open only;
                                NULL: none */
} larder_store_options;

#define LARDER_STORE_OPTIONS_INIT                                                                                      \
    { sizeof(larder_store_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** Open a store; with a directory that holds one already, what it held is there again.
 *  @return LARDER_OK; LARDER_E_INVALID (neither tier, a field that cannot be); LARDER_E_RANGE (a size, a policy,
 * reinsert_percent); LARDER_E_TOO_NEW; LARDER_E_NOMEM; LARDER_E_SYSTEM; of the directory: LARDER_E_IN_USE (another
 * process, or this one, has it open), LARDER_E_VERSION (made by a newer, incompatible version; nothing was touched),
 * LARDER_E_FORMAT (the data file is not a store; nothing was touched), LARDER_E_CORRUPT (every copy of the superblock
 * is damaged; nothing was touched), LARDER_E_READ_ONLY, LARDER_E_PERMISSION, LARDER_E_DISK_FULL, LARDER_E_IO,
 * LARDER_E_NOT_FOUND (its parent).
 *  @threads internally synchronised  @blocking reads the index of the file tier  @cost one read per sealed segment
 * @since 0.1 */
LARDER_API larder_status larder_store_open(larder_context* context, const larder_store_options* options,
                                           larder_store** out_store) LARDER_NOEXCEPT;

/** Close a store: flushes, waits for its jobs, gives everything back. NULL is allowed. What could not be written is
 * lost; call larder_store_flush() first to learn of it.
 *  @threads no other call on this store may run  @blocking writes what is dirty  @since 0.1 */
LARDER_API void larder_store_close(larder_store* store) LARDER_NOEXCEPT;

/** Flags of a put. */
enum {
    LARDER_PUT_NO_HOST = 1u,  /**< straight to the file tier */
    LARDER_PUT_NO_FILE = 2u,  /**< RAM only: never written to the file tier */
    LARDER_PUT_PIN = 4u,      /**< as larder_store_pin() at once */
    LARDER_PUT_NO_REMOTE = 8u /**< never written to the remote tier */
};

/** One object to put. */
typedef struct larder_store_put_item {
    uint32_t struct_size;
    uint32_t flags; /**< LARDER_PUT_* */
    larder_key key;
    const larder_object_meta* meta; /**< borrowed like the data */
    const void* data;               /**< borrowed until the call returns or the job's completion is taken */
    uint64_t n_bytes;               /**< 1 to the largest object: see larder_store_info.max_object_bytes */
} larder_store_put_item;

#define LARDER_STORE_PUT_ITEM_INIT                                                                                     \
    { sizeof(larder_store_put_item), 0, {{0}}, 0, 0, 0 }

/** Put objects. A key that is there already with the same identity and no coarser quality is left as it is and counts
 * as put (deduplicated); with a coarser quality it is replaced.
 *  @param items     array of n, `stride` bytes apart (sizeof(larder_store_put_item))
 *  @param statuses  [n], receives one status per item: LARDER_OK; LARDER_RETRY (another thread is putting that key just
 * now: nothing to do); LARDER_E_NOSPACE (no tier has room and nothing can be evicted); LARDER_E_QUOTA;
 * LARDER_E_IDENTITY (the key exists with another layout or tenant); LARDER_E_RANGE (n_bytes, quality, codec);
 * LARDER_E_INVALID; LARDER_E_NOMEM; LARDER_E_DISK_FULL, LARDER_E_IO (no host tier, and the file tier failed). May be
 * NULL.
 *  @param queue     NULL: do it now. Otherwise a job is made, whose errors name the items; the arrays, metas, data and
 * statuses must stay until its completion is taken.
 *  @return LARDER_OK; LARDER_PARTIAL (queue NULL: some items failed); LARDER_PENDING (a job was made);
 * LARDER_E_INVALID; LARDER_E_RANGE; LARDER_E_BUSY (the queue is full); LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking with queue NULL: may write to the file when RAM is full of unwritten
 * data
 *  @cost one copy and checksum of the payload  @since 0.1 */
LARDER_API larder_status larder_store_put(larder_store* store, const larder_store_put_item* items, uint32_t stride,
                                          uint32_t n, larder_status* statuses, larder_queue* queue, uint64_t user_data,
                                          larder_job* out_job) LARDER_NOEXCEPT;

/** One object, or a part of it, to get. */
typedef struct larder_store_get_item {
    uint32_t struct_size;
    uint32_t reserved0;
    larder_key key;
    const larder_object_want* want; /**< what is accepted; borrowed like the buffer */
    void* buffer;                   /**< receives the bytes */
    uint64_t capacity;              /**< bytes that fit */
    uint64_t offset;                /**< first byte wanted */
    uint64_t n_bytes;               /**< how many; 0: up to the end */
} larder_store_get_item;

#define LARDER_STORE_GET_ITEM_INIT                                                                                     \
    { sizeof(larder_store_get_item), 0, {{0}}, 0, 0, 0, 0, 0 }

/** The answer to one get. */
typedef struct larder_store_get_result {
    larder_status status; /**< LARDER_OK: the bytes are in the buffer and their checksum holds; LARDER_MISS (not there,
                             too coarse, or found damaged or unreadable and dropped: larder_store_explain());
                               LARDER_RETRY (being put just now); LARDER_E_IDENTITY; LARDER_E_BUFFER_TOO_SMALL (n_bytes
                             says what is needed); LARDER_E_RANGE (offset or n_bytes outside the object, min_quality);
                             LARDER_E_INVALID; LARDER_E_NOMEM; LARDER_E_CANCELLED */
    uint32_t tier;        /**< LARDER_TIER_*: who served it. What no local tier has is asked of the remote one, where
                             there is one, for at most its get_timeout_ns */
    uint64_t n_bytes;     /**< written to the buffer, or needed */
} larder_store_get_result;

/** Get objects into the caller's buffers. Items that come from the file tier are read concurrently,
 * LARDER_PARAM_IO_DEPTH at a time. Unless status is LARDER_OK the contents of an item's buffer are undefined.
 *  @param items    array of n, `stride` bytes apart (sizeof(larder_store_get_item))
 *  @param results  [n]
 *  @param queue    NULL: do it now. Otherwise a job is made (n layers: item i counts as layer i,
 * larder_job_wait_layer() waits for a prefix of the items); arrays, buffers, wants and results must stay until its
 * completion is taken.
 *  @return LARDER_OK (queue NULL: look at each result; a miss is not a failure of the call); LARDER_PENDING (a job was
 * made); LARDER_E_INVALID; LARDER_E_RANGE; LARDER_E_BUSY; LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking with queue NULL: reads files  @cost one copy and checksum of the payload
 * @since 0.1 */
LARDER_API larder_status larder_store_get(larder_store* store, const larder_store_get_item* items, uint32_t stride,
                                          uint32_t n, larder_store_get_result* results, larder_queue* queue,
                                          uint64_t user_data, larder_job* out_job) LARDER_NOEXCEPT;

/** What a lookup or scan tells about an object. */
typedef struct larder_object_info {
    uint32_t struct_size;
    larder_status status; /**< LARDER_OK: there; LARDER_MISS; LARDER_PENDING: being put just now; LARDER_E_IDENTITY */
    uint32_t tiers;       /**< LARDER_TIER_* mask. A hit in the file tier is provisional: reading it verifies it. */
    uint32_t n_pins;
    uint64_t n_bytes; /**< of the payload */
    larder_key key;
    larder_object_meta meta;
    uint32_t coming;   /**< LARDER_TIER_* mask of the tiers it is on its way to: FILE: waits to be written */
    uint32_t n_leases; /**< of larder_store_acquire() */
} larder_object_info;

#define LARDER_OBJECT_INFO_INIT                                                                                        \
    { sizeof(larder_object_info), 0, 0, 0, 0, {{0}}, LARDER_OBJECT_META_INIT, 0, 0 }

/** Ask for many keys at once. Touches nothing: does not count as use for eviction.
 *  @param want    what is accepted; NULL: anything (info->meta tells what it is)
 *  @param infos   array of n, `info_stride` bytes apart; the caller sets struct_size of each
 *  @return LARDER_OK; LARDER_E_INVALID; LARDER_E_RANGE.  @threads internally synchronised  @blocking never  @cost well
 * under a microsecond per key  @since 0.1 */
LARDER_API larder_status larder_store_lookup(larder_store* store, const larder_key* keys, uint32_t n,
                                             const larder_object_want* want, larder_object_info* infos,
                                             uint32_t info_stride) LARDER_NOEXCEPT;

/** A stretch of a store's memory. */
typedef struct larder_piece {
    void* data;
    uint64_t n_bytes;
} larder_piece;

/** Take room in RAM for objects that are then written in place: no copy is made of them. Until larder_store_commit() a
 * lookup says LARDER_PENDING and a get LARDER_RETRY, and nobody else can put that key. A coarser object under the key
 * goes at once.
 *
 *  A reservation belongs to its owner. It ends at larder_store_commit(), at larder_store_abort(), when the owner's
 * process is gone (noticed when somebody asks for the key, when RAM has no room, and by larder_store_expire()), and
 * when the store is closed; never because time passed.
 *  @param items      array of n, `stride` bytes apart, as of larder_store_put(); data is NULL, n_bytes is the most that
 * will be written, LARDER_PUT_NO_HOST is not among the flags
 *  @param owner_pid  the process that writes, for which this one speaks; 0: this one
 *  @param leases     [n], receives the reservations; 0 where the status is not LARDER_OK
 *  @param statuses   [n]: LARDER_OK (write into larder_store_view()); LARDER_E_EXISTS (there already, with the same
 * identity and no coarser: nothing to write); LARDER_RETRY (another is writing it just now); LARDER_E_NOSPACE;
 * LARDER_E_QUOTA; LARDER_E_IDENTITY; LARDER_E_RANGE; LARDER_E_INVALID; LARDER_E_NOMEM. May be NULL.
 *  @return LARDER_OK (all reserved); LARDER_PARTIAL; LARDER_E_INVALID; LARDER_E_RANGE; LARDER_E_NOT_FOUND (no such
 * process); LARDER_E_STATE (no host tier).
 *  @threads internally synchronised  @blocking may write to the file when RAM is full of unwritten data  @since 0.1 */
LARDER_API larder_status larder_store_reserve(larder_store* store, const larder_store_put_item* items, uint32_t stride,
                                              uint32_t n, int32_t owner_pid, larder_lease* leases,
                                              larder_status* statuses) LARDER_NOEXCEPT;

/** Make reservations objects: all of them at one moment, or none. What belongs together, such as the shards of a block,
 * is committed in one call and never seen in part. They are written to the file as after a put.
 *  @param leases   [n]; they end
 *  @param n_bytes  [n]: how much was written, 1 to what was reserved; the rest is given back. NULL: all
 *  @return LARDER_OK; LARDER_E_STALE (one of them has ended, is being committed, is named twice, or was not made by
 * reserve); LARDER_E_RANGE (n_bytes); LARDER_E_INVALID; LARDER_E_NOMEM. After an error all that were valid still are.
 *  @threads internally synchronised  @blocking never  @cost one checksum of the payloads  @since 0.1 */
LARDER_API larder_status larder_store_commit(larder_store* store, const larder_lease* leases, uint32_t n,
                                             const uint64_t* n_bytes) LARDER_NOEXCEPT;

/** Give reservations up: their keys are as if they had never been reserved.
 *  @return LARDER_OK; LARDER_E_STALE (one of them has ended, is being committed, or was not made by reserve; the others
 * are given up); LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_store_abort(larder_store* store, const larder_lease* leases,
                                            uint32_t n) LARDER_NOEXCEPT;

/** Flags of larder_store_acquire(). */
enum {
    LARDER_ACQUIRE_UNVERIFIED = 1u /**< the reader checks the bytes itself, as a decoder of streams does */
};

/** Hold objects in RAM while somebody reads them there: no copy is made of them. What only the file has is read into
 * RAM first. The bytes stay where they are and as they are until the lease ends, whatever becomes of the key. A lease
 * belongs to a transfer and an owner: it ends at larder_store_release(), with the job that it was tied to there, when
 * the owner's process is gone, and when the store is closed; never because time passed.
 *  @param want       what is accepted
 *  @param flags      LARDER_ACQUIRE_*
 *  @param owner_pid  the process that reads, for which this one speaks; 0: this one
 *  @param leases     [n]; 0 where the status is not LARDER_OK
 *  @param statuses   [n]: LARDER_OK (read from larder_store_view()); LARDER_MISS; LARDER_RETRY (being put);
 * LARDER_E_IDENTITY; LARDER_E_NOSPACE (RAM has no room for what the file has); LARDER_E_NOMEM. May be NULL.
 *  @return LARDER_OK (all are held); LARDER_PARTIAL; LARDER_E_INVALID; LARDER_E_RANGE (want); LARDER_E_NOT_FOUND (no
 * such process); LARDER_E_STATE (no host tier); LARDER_E_NOMEM (nothing is held).
 *  @threads internally synchronised  @blocking reads files, unless larder_store_prefetch() was there before  @cost one
 * checksum of the payloads, or none  @since 0.1 */
LARDER_API larder_status larder_store_acquire(larder_store* store, const larder_key* keys, uint32_t n,
                                              const larder_object_want* want, uint32_t flags, int32_t owner_pid,
                                              larder_lease* leases, larder_status* statuses) LARDER_NOEXCEPT;

/** End leases of larder_store_acquire(): now, or when a transfer that still reads has finished.
 *  @param queue  NULL: now. Otherwise `job` is one of its jobs, of whatever kind, and the leases end when it finishes,
 * with whatever status; when it has finished already, now.
 *  @return LARDER_OK; LARDER_E_STALE (a lease has ended already or is not a reader's, and the others are released; or
 * the job's completion was taken already, and nothing was done); LARDER_E_INVALID; LARDER_E_NOMEM (nothing was done).
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_store_release(larder_store* store, const larder_lease* leases, uint32_t n,
                                              larder_queue* queue, larder_job job) LARDER_NOEXCEPT;

/** Where the bytes of a lease are: in one piece when they are 4 KiB times a power of two, at most 2 MiB, and RAM is not
 * in fragments; otherwise in several, in order. Each piece but the last is a multiple of 4 KiB; each begins on a page.
 *  @param pieces    [capacity]: writable when the lease is a reservation, otherwise to be read only
 *  @param out_n     receives how many there are
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (out_n says what is needed); LARDER_E_STALE; LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_store_view(larder_store* store, larder_lease lease, larder_piece* pieces,
                                           uint32_t capacity, uint32_t* out_n) LARDER_NOEXCEPT;

/** End the leases and reservations of owners whose processes are gone. The store does so itself where it matters; a
 * planner calls it when it learns of a death.
 *  @param out_n  receives how many ended; may be NULL.
 *  @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @cost a few system calls per lease of
 * another process  @since 0.1 */
LARDER_API larder_status larder_store_expire(larder_store* store, uint64_t* out_n) LARDER_NOEXCEPT;

/** Receives one object of a scan. The info is valid during the call. Return 0 to go on, anything else to stop. Must not
 * call the same store. */
typedef int32_t (*larder_store_scan_fn)(void* ctx, const larder_object_info* info);

/** Walk over all objects, in no particular order. Objects put or evicted meanwhile may or may not be seen.
 *  @return LARDER_OK; LARDER_PARTIAL (fn stopped it); LARDER_E_INVALID; LARDER_E_NOMEM.  @threads internally
 * synchronised  @since 0.1 */
LARDER_API larder_status larder_store_scan(larder_store* store, larder_store_scan_fn fn, void* ctx) LARDER_NOEXCEPT;

/** Events that follow a cursor (larder/event.h): an object can be read, lies in other tiers than before, is not there
 * any more. places are LARDER_TIER_* of which each can be read; cause is LARDER_ABSENT_*. What opening found is not
 * told: a reader begins with a snapshot.
 *  @param cursor  in: events that the reader has behind it; 0: from the first one since the store was opened. Out:
 * moved on by *out_n.
 *  @param out, stride, n  receive events, stride bytes apart.  @param out_n  how many; 0: nothing new.
 *  @return LARDER_OK; LARDER_E_STALE (the next event was overwritten: take a snapshot; cursor is as it was);
 * LARDER_E_STATE (the store keeps no events); LARDER_E_RANGE (a cursor beyond the newest event); LARDER_E_INVALID.
 *  @threads internally synchronised; readers delay nobody  @blocking never  @since 0.1 */
LARDER_API larder_status larder_store_events_read(larder_store* store, uint64_t* cursor, larder_event* out,
                                                  uint32_t stride, uint64_t n, uint64_t* out_n) LARDER_NOEXCEPT;

/** What can be read, as events of kind LARDER_EVENT_PUBLISHED with sequence 0, in no order. With the events from
 * *cursor on a copy made of them is right.
 *  @param position  in: 0 to begin, then as it came back. Out: where to go on.
 *  @param cursor    written when position is 0: pass it to larder_store_events_read() afterwards.
 *  @param out, stride, n  receive objects, stride bytes apart; n at least 1.  @param out_n  how many.
 *  @return LARDER_OK (that was the last of it); LARDER_PARTIAL (call again); LARDER_E_RANGE; LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @cost O(objects) for the whole  @since 0.1 */
LARDER_API larder_status larder_store_events_snapshot(larder_store* store, uint64_t* position, uint64_t* cursor,
                                                      larder_event* out, uint32_t stride, uint64_t n,
                                                      uint64_t* out_n) LARDER_NOEXCEPT;

/** Flags of larder_store_move(). */
enum {
    LARDER_MOVE_KEEP = 1u /**< leave it where it was as well */
};

/** Move objects to a tier: what is there already stays, then they go from the other tiers. To RAM, an object that only
 * the file has is read; the file forgets it for good, as with larder_store_evict(). To the file, what was not written
 * yet is written now; it is durable at the next flush.
 *  @param to_tier   LARDER_TIER_HOST or LARDER_TIER_FILE
 *  @param flags     LARDER_MOVE_*
 *  @param statuses  [n]: LARDER_OK; LARDER_MISS; LARDER_RETRY (being put); LARDER_E_BUSY (pinned, leased or being read,
 * and so still in both); LARDER_E_NOSPACE, LARDER_E_QUOTA (no room in that tier); LARDER_E_STATE (to the file:
 * LARDER_PUT_NO_FILE); LARDER_E_CORRUPT; LARDER_E_IO; LARDER_E_DISK_FULL; LARDER_E_NOMEM; LARDER_E_CANCELLED
 *  @param queue     NULL: do it now. Otherwise a job is made, to RAM in its turn behind gets, to the file behind
 * prefetches; keys and statuses must stay until its completion is taken.
 *  @return LARDER_OK; LARDER_PARTIAL (queue NULL: look at the statuses); LARDER_PENDING (a job was made);
 * LARDER_E_INVALID; LARDER_E_RANGE (n, to_tier); LARDER_E_STATE (not both tiers); LARDER_E_BUSY; LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking with queue NULL: reads or writes files  @since 0.1 */
LARDER_API larder_status larder_store_move(larder_store* store, const larder_key* keys, uint32_t n, uint32_t to_tier,
                                           uint32_t flags, larder_status* statuses, larder_queue* queue,
                                           uint64_t user_data, larder_job* out_job) LARDER_NOEXCEPT;

/** Make room in RAM of what will not be used for a while: larder_store_move() to LARDER_TIER_FILE.
 *  @return as larder_store_move().  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_store_offload(larder_store* store, const larder_key* keys, uint32_t n,
                                              larder_status* statuses, larder_queue* queue, uint64_t user_data,
                                              larder_job* out_job) LARDER_NOEXCEPT;

/** Have in RAM what will be used soon: larder_store_move() to LARDER_TIER_HOST with LARDER_MOVE_KEEP.
 *  @return as larder_store_move().  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_store_onboard(larder_store* store, const larder_key* keys, uint32_t n,
                                              larder_status* statuses, larder_queue* queue, uint64_t user_data,
                                              larder_job* out_job) LARDER_NOEXCEPT;

/** Take objects out of the tiers named by the mask, pinned ones excepted. Out of the file tier: for good, also after a
 * restart (the removal itself becomes durable at the next flush).
 *  @param statuses  [n]: LARDER_OK; LARDER_MISS; LARDER_E_BUSY (pinned, being put, or not yet written and RAM only was
 * asked for); LARDER_E_NOSPACE, LARDER_E_IO, LARDER_E_DISK_FULL (gone from this session, but the removal could not be
 * recorded). May be NULL.
 *  @return LARDER_OK; LARDER_PARTIAL (an item failed or is not there); LARDER_E_INVALID; LARDER_E_RANGE (tiers).
 *  @threads internally synchronised  @blocking out of the file tier: may write  @since 0.1 */
LARDER_API larder_status larder_store_evict(larder_store* store, const larder_key* keys, uint32_t n, uint32_t tiers,
                                            larder_status* statuses) LARDER_NOEXCEPT;

/** Keep objects from being evicted, in whichever tier they are; counted. Pins live in memory and end with the store.
 *  @param statuses  [n]: LARDER_OK; LARDER_MISS; LARDER_RETRY (being put). May be NULL.
 *  @return LARDER_OK; LARDER_PARTIAL (an item is not there); LARDER_E_INVALID.  @threads internally synchronised
 * @blocking never  @since 0.1 */
LARDER_API larder_status larder_store_pin(larder_store* store, const larder_key* keys, uint32_t n,
                                          larder_status* statuses) LARDER_NOEXCEPT;

/** Take pins back.
 *  @param statuses  [n]: LARDER_OK; LARDER_MISS; LARDER_E_STATE (not pinned). May be NULL.
 *  @return as larder_store_pin().  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_store_unpin(larder_store* store, const larder_key* keys, uint32_t n,
                                            larder_status* statuses) LARDER_NOEXCEPT;

/** What became of a hint. */
typedef int32_t larder_outcome;
enum {
    LARDER_OUTCOME_ACCEPTED = 1, /**< it is in force */
    LARDER_OUTCOME_CLIPPED = 2,  /**< in force for less than was asked for */
    LARDER_OUTCOME_DEFERRED = 3, /**< remembered, and in force when the object comes into RAM */
    LARDER_OUTCOME_REJECTED = 4, /**< of no effect: it speaks of what is over, or there is no room to remember it */
    LARDER_OUTCOME_MISSING = 5   /**< of no effect: there is no such object */
};

/** Tell that a coming request will use these keys. What is known to be used is kept in RAM before what is not, what is
 * needed last goes first: with the requests of a scheduler's queue told, eviction is the best that can be done with
 * what they say. A key may be named by many requests. Each is forgotten when larder_store_hint_served() says so; until
 * then there may be 2^20 of them.
 *  @param request   its place in the order of requests: any number that grows, up to 2^43-1
 *  @param outcomes  [n]: LARDER_OUTCOME_ACCEPTED; _DEFERRED (not in RAM, or not there at all); _REJECTED (served
 * already, too large, or too many hints). May be NULL.
 *  @return LARDER_OK (all accepted); LARDER_PARTIAL (look at the outcomes); LARDER_E_INVALID; LARDER_E_STATE (no host
 * tier); LARDER_E_NOMEM (some may be in force).
 *  @threads internally synchronised  @blocking never  @cost O(log hints) per key  @since 0.1 */
LARDER_API larder_status larder_store_hint(larder_store* store, const larder_key* keys, uint32_t n, uint64_t request,
                                           larder_outcome* outcomes) LARDER_NOEXCEPT;

/** Tell that this request and all before it have been served, or never will be: their hints are forgotten.
 *  @return LARDER_OK; LARDER_E_RANGE (request); LARDER_E_STATE (no host tier); LARDER_E_NOMEM.  @threads internally
 * synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_store_hint_served(larder_store* store, uint64_t request) LARDER_NOEXCEPT;

/** Give objects a priority, for a time or for good. RAM evicts the lower priority first; what was not protected has 50.
 * Of an evicted segment of the file tier, what has more than 50 is written again as far as reinsert_percent goes. It is
 * a wish, not a pin: the store never refuses a put for it. It counts as a use. Protecting again replaces it; it lives
 * in memory and ends with the store.
 *  @param priority  0 to 100
 *  @param ttl_ns    how long; 0: until protected again; cut to seven days
 *  @param outcomes  [n]: LARDER_OUTCOME_ACCEPTED; _CLIPPED (ttl_ns); _DEFERRED (being put); _MISSING. May be NULL.
 *  @return LARDER_OK (all accepted); LARDER_PARTIAL (look at the outcomes); LARDER_E_INVALID; LARDER_E_RANGE
 * (priority); LARDER_E_NOMEM (some may be in force).
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_store_protect(larder_store* store, const larder_key* keys, uint32_t n,
                                              uint32_t priority, uint64_t ttl_ns,
                                              larder_outcome* outcomes) LARDER_NOEXCEPT;

/** Remove everything of a tenant, pinned objects included, for good; durable at the next flush.
 *  @param out_n  receives how many objects went; may be NULL.
 *  @return LARDER_OK; LARDER_E_BUSY (some are being put just now; the rest is gone); LARDER_E_NOMEM; LARDER_E_NOSPACE,
 * LARDER_E_IO, LARDER_E_DISK_FULL (gone from this session, but the removal could not be recorded).
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_store_drop_tenant(larder_store* store, uint32_t tenant,
                                                  uint64_t* out_n) LARDER_NOEXCEPT;

/** Bits of larder_object_filter.set_mask. */
enum { LARDER_FILTER_TENANT = 1u, LARDER_FILTER_LAYOUT = 2u };

/** Which objects are meant: those that meet everything that is given. */
typedef struct larder_object_filter {
    uint32_t struct_size;
    uint32_t set_mask;    /**< LARDER_FILTER_*: which of the next two are given */
    uint32_t tenant;      /**< the object's tenant */
    uint32_t flags_mask;  /**< these bits of the object's user_flags ... */
    uint32_t flags_value; /**< ... have this value: an epoch, a model's generation, whatever the caller keeps there */
    uint32_t reserved0;
    larder_key layout; /**< the object's layout, and with it its model and shapes */
} larder_object_filter;

#define LARDER_OBJECT_FILTER_INIT                                                                                      \
    {                                                                                                                  \
        sizeof(larder_object_filter), 0, 0, 0, 0, 0, {                                                                 \
            { 0 }                                                                                                      \
        }                                                                                                              \
    }

/** Remove all objects that a filter means, pinned ones included. Of the file tier each removal is recorded, durable at
 * the next flush; records that had been evicted before may come back at the next open, as after any eviction
 * (larder_store_drop_tenant() covers these too).
 *  @param out_n  receives how many objects went; may be NULL.
 *  @return LARDER_OK; LARDER_E_INVALID (a filter that gives nothing, flags_value outside flags_mask); LARDER_E_BUSY
 * (some are being put just now; the rest is gone); LARDER_E_NOMEM; LARDER_E_NOSPACE, LARDER_E_IO, LARDER_E_DISK_FULL
 * (gone from this session, but a removal could not be recorded).
 *  @threads internally synchronised  @blocking may write  @cost looks at every object  @since 0.1 */
LARDER_API larder_status larder_store_drop(larder_store* store, const larder_object_filter* filter,
                                           uint64_t* out_n) LARDER_NOEXCEPT;

/** Bring objects from the file tier into RAM before they are asked for. Runs behind larder_store_get() and before
 * write-back, in turns of at most 4 MiB, between which what is more urgent goes first.
 *  @param keys         [n], borrowed like statuses until the job's completion is taken
 *  @param deadline_ns  from now; what has not been read by then is left; 0: none
 *  @param statuses     [n]: LARDER_OK (in RAM); LARDER_MISS; LARDER_RETRY (being put); LARDER_E_NOSPACE (RAM has no
 * room that can be had without writing, or the tenant's quota is used up); LARDER_E_TIMEOUT (the deadline);
 * LARDER_E_CANCELLED; LARDER_E_NOMEM
 *  @return LARDER_PENDING (a job was made; n layers: key i counts as layer i); LARDER_E_INVALID; LARDER_E_RANGE (n);
 * LARDER_E_STATE (not both tiers); LARDER_E_BUSY (the queue is full); LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_store_prefetch(larder_store* store, const larder_key* keys, uint32_t n,
                                               uint64_t deadline_ns, larder_status* statuses, larder_queue* queue,
                                               uint64_t user_data, larder_job* out_job) LARDER_NOEXCEPT;

/** What to do with one block of a prefix. */
typedef int32_t larder_load_action;
enum { LARDER_STEP_LOAD = 1, LARDER_STEP_RECOMPUTE = 2 };

typedef struct larder_load_step {
    larder_load_action action;
    uint32_t tier;     /**< LARDER_TIER_* to load from; 0: recompute */
    uint64_t ready_ns; /**< from now: when it is expected to be done */
} larder_load_step;

/** The answer of larder_store_plan(). */
typedef struct larder_load_plan {
    uint32_t struct_size;
    uint32_t n_load;           /**< blocks at the front to load */
    uint64_t total_ns;         /**< until all blocks are there */
    uint64_t queued_bytes;     /**< that others had asked of the file tier */
    uint64_t host_bytes_per_s; /**< measured at the last gets of 64 KiB and more; 0: not yet, and a guess was used */
    uint64_t file_bytes_per_s;
} larder_load_plan;

#define LARDER_LOAD_PLAN_INIT                                                                                          \
    { sizeof(larder_load_plan), 0, 0, 0, 0, 0 }

/** Load or recompute? Of a prefix the front is loaded and the rest computed after it; the split is the one that is done
 * first, by what gets from each tier gave lately, by what is waiting for the file tier, and by what the engine needs to
 * compute. Reads nothing.
 *  @param keys         [n], in the order of the sequence
 *  @param prefill_ns   [n]: what computing block i takes when all before it are there
 *  @param want         what is accepted; what does not meet it cannot be loaded
 *  @param deadline_ns  from now; 0: none
 *  @param steps        [n]
 *  @return LARDER_OK; LARDER_PARTIAL (the same, but even the best plan is later than the deadline); LARDER_E_INVALID;
 * LARDER_E_RANGE (want); LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_store_plan(larder_store* store, const larder_key* keys, const uint64_t* prefill_ns,
                                           uint32_t n, const larder_object_want* want, uint64_t deadline_ns,
                                           larder_load_step* steps, larder_load_plan* out) LARDER_NOEXCEPT;

/** Limit a tenant's payload bytes in each tier, in RAM counted in units of 4 KiB for each object; 0: no limit. Takes
 * effect at the tenant's next put, which first evicts the tenant's own oldest objects. Quotas live in memory: set them
 * after each open.
 *  @return LARDER_OK; LARDER_E_NOMEM.  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_store_set_quota(larder_store* store, uint32_t tenant, uint64_t host_bytes,
                                                uint64_t file_bytes) LARDER_NOEXCEPT;

/** Write everything down and make it durable.
 *  @param queue  NULL: do it now; otherwise a job is made.
 *  @return LARDER_OK: what was put before (without LARDER_PUT_NO_FILE) and not evicted since survives a crash;
 * LARDER_PARTIAL: the same, but some objects found no room in the file tier and are in RAM only (it is
 * full of what is pinned, or the disk is full and the tier goes on in what it has); LARDER_PENDING (a job
 * was made; the same codes come as its status); LARDER_E_IO, LARDER_E_DISK_FULL (a
 * write or sync failed, or the file tier takes none any more: what was not durable before may be lost in a crash; what
 * was durable stays so); LARDER_E_STATE (no file tier); LARDER_E_BUSY; LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking with queue NULL: writes and syncs  @since 0.1 */
LARDER_API larder_status larder_store_flush(larder_store* store, larder_queue* queue, uint64_t user_data,
                                            larder_job* out_job) LARDER_NOEXCEPT;

/** What scrub or check found. */
typedef struct larder_store_report {
    uint32_t struct_size;
    uint32_t format_version;    /**< of the data file; check only */
    uint64_t n_segments;        /**< looked at */
    uint64_t n_sealed;          /**< of these with a valid footer */
    uint64_t n_records;         /**< whose header and payload hold */
    uint64_t n_bytes;           /**< of their payloads */
    uint64_t n_corrupt;         /**< records whose checksum or identity does not hold */
    uint64_t n_torn;            /**< segments without a footer whose tail does not hold: ordinary after a crash */
    uint64_t n_bad_superblocks; /**< damaged copies, of four */
    uint64_t n_repaired; /**< objects dropped (scrub), or segments and superblocks written anew (check with repair) */
    uint64_t n_removals; /**< recorded removals of keys and tenants */
} larder_store_report;

#define LARDER_STORE_REPORT_INIT                                                                                       \
    { sizeof(larder_store_report), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** Read every object of both tiers and verify it. What does not hold is dropped.
 *  @return LARDER_OK; LARDER_PARTIAL (something was dropped); LARDER_E_INVALID; LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking reads the whole store  @since 0.1 */
LARDER_API larder_status larder_store_scrub(larder_store* store, larder_store_report* out_report) LARDER_NOEXCEPT;

/** Check the store's own bookkeeping: budgets against what is held, lists against the table, segments against their
 * records. For tests and bug reports.
 *  @return LARDER_OK; LARDER_E_INTERNAL with the invariant that is broken in the message.  @threads internally
 * synchronised  @since 0.1 */
LARDER_API larder_status larder_store_verify(larder_store* store) LARDER_NOEXCEPT;

/** Why a key is not there. */
typedef int32_t larder_absence;
enum {
    LARDER_ABSENT_NOT = 0,      /**< it is there */
    LARDER_ABSENT_NEVER = 1,    /**< not put since the store was opened, as far as is remembered */
    LARDER_ABSENT_EVICTED = 2,  /**< a tier needed the room */
    LARDER_ABSENT_REMOVED = 3,  /**< larder_store_evict() */
    LARDER_ABSENT_DROPPED = 4,  /**< larder_store_drop_tenant() */
    LARDER_ABSENT_QUOTA = 5,    /**< its tenant's quota */
    LARDER_ABSENT_CORRUPT = 6,  /**< its checksum or identity did not hold when it was read */
    LARDER_ABSENT_REJECTED = 7, /**< there was no room when it was put */
    LARDER_ABSENT_IO = 8,       /**< the file tier failed to write or read it */
    LARDER_ABSENT_REPLACED = 9, /**< by an object of finer quality, which then went as well */
    LARDER_ABSENT_ABORTED = 10, /**< reserved, and not committed */
    LARDER_ABSENT_MOVED = 11    /**< to another tier, and gone from there as well */
};

/** The answer of larder_store_explain(). */
typedef struct larder_store_explanation {
    uint32_t struct_size;
    larder_absence why;
    uint32_t tier; /**< LARDER_TIER_* it was last in, 0: none */
    uint32_t reserved0;
    uint64_t age_ns; /**< since then */
    char text[128];  /**< one English sentence */
} larder_store_explanation;

#define LARDER_STORE_EXPLANATION_INIT                                                                                  \
    { sizeof(larder_store_explanation), 0, 0, 0, 0, "" }

/** Why is it not there? The last 65536 departures are remembered by a 64-bit tag of the key.
 *  @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_store_explain(larder_store* store, const larder_key* key,
                                              larder_store_explanation* out) LARDER_NOEXCEPT;

/** Sizes and counters of one store. */
typedef struct larder_store_info {
    uint32_t struct_size;
    uint32_t tiers;            /**< LARDER_TIER_* mask of what this store has */
    uint64_t max_object_bytes; /**< the largest payload that a put accepts */
    uint64_t n_objects;
    uint64_t n_host_objects;
    uint64_t n_file_objects;
    uint64_t host_capacity_bytes;
    uint64_t host_used_bytes;     /**< in units of 4 KiB */
    uint64_t host_dirty_bytes;    /**< not yet in the file tier */
    uint64_t file_capacity_bytes; /**< of all segments */
    uint64_t file_used_bytes;     /**< of segments in use */
    uint64_t file_live_bytes;     /**< payloads that can be read */
    uint64_t segment_bytes;
    uint64_t n_segments; /**< in use */
    uint64_t n_pinned;   /**< objects with pins */
    uint64_t put_bytes;  /**< payloads given to the file tier, without reinsertion */
    uint64_t
        written_bytes; /**< to the file, everything included: written_bytes / put_bytes is the write amplification */
    uint64_t reinserted_bytes;    /**< payloads written again when their segment was evicted */
    uint64_t recovered_records;   /**< found by open */
    uint64_t recovery_read_bytes; /**< read by open */
    uint64_t recovery_ns;         /**< time open took */
    larder_status file_status; /**< LARDER_OK; LARDER_E_IO, LARDER_E_DISK_FULL: the file tier takes no writes any more,
                                  reads go on */
    uint32_t direct_io;        /**< 1: the file tier bypasses the page cache */
    uint32_t io_uring;         /**< 1: reads go through io_uring */
    uint32_t reserved0;
    uint64_t n_leases;           /**< of larder_store_acquire() that have not ended */
    uint64_t n_reserved;         /**< of larder_store_reserve() that have not ended */
    larder_status record_status; /**< LARDER_OK, or why the recording ended: LARDER_E_IO, LARDER_E_DISK_FULL */
    uint32_t reserved1;
    int64_t write_budget_bytes; /**< that write_bytes_per_day leaves just now; below 0: used up; INT64_MAX: no limit */
} larder_store_info;

#define LARDER_STORE_INFO_INIT                                                                                         \
    { sizeof(larder_store_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_store_info_get(larder_store* store, larder_store_info* out) LARDER_NOEXCEPT;

/** One record that larder_store_check() met. */
typedef struct larder_store_record {
    uint32_t struct_size;
    larder_status
        status; /**< LARDER_OK; LARDER_E_CORRUPT (payload); LARDER_E_TRUNCATED (reaches over the end of its segment) */
    uint64_t segment; /**< index in the file */
    uint64_t segment_sequence;
    uint64_t offset;     /**< in the segment */
    uint64_t n_bytes;    /**< of the payload */
    uint32_t superseded; /**< 1: a later record or removal stands for this key */
    uint32_t reserved0;
    larder_key key;
    larder_object_meta meta;
} larder_store_record;

typedef int32_t (*larder_store_record_fn)(void* ctx, const larder_store_record* record);

enum {
    LARDER_CHECK_REPAIR = 1u /**< cut torn tails, drop corrupt records, renew damaged superblocks and footers */
};

/** Look at a store that is not open: every record of every segment is read and verified.
 *  @param fn   receives each record; may be NULL. Return 0 to go on, anything else to stop.
 *  @return LARDER_OK (all holds); LARDER_PARTIAL (damage was found, and repaired if asked; or fn stopped it);
 * LARDER_E_NOT_FOUND (no store there); LARDER_E_IN_USE; LARDER_E_VERSION; LARDER_E_FORMAT; LARDER_E_CORRUPT (every
 * superblock is damaged); LARDER_E_IO; LARDER_E_READ_ONLY (repair asked for); LARDER_E_PERMISSION; LARDER_E_INVALID;
 * LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking reads the whole file  @since 0.1 */
LARDER_API larder_status larder_store_check(larder_context* context, const char* directory, uint32_t check_flags,
                                            larder_store_record_fn fn, void* ctx,
                                            larder_store_report* out_report) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
