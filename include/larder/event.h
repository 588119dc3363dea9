/** @file event.h
 *  @brief What happened in a prefix index or a store, in order: for routers, and whoever else keeps a copy of what lies
 * where.
 *
 *  An object that was created with n_events keeps its newest n_events events. Reading takes nothing out: any number of
 * readers follow, each with a cursor of its own, and none of them delays anybody. A cursor is the number of events that
 * its reader has behind it; 0 begins with the first one ever. A reader that fell behind by more than the log keeps is
 * told so (LARDER_E_STALE): it forgets its copy, takes a snapshot, and goes on from the cursor that the snapshot names.
 *
 *  An event says how its object is afterwards, so an event that is applied twice, or that a snapshot knew already, does
 * no harm. Hence a snapshot stops nobody: it lists what is there while others go on, and with all events from its
 * cursor on the copy becomes right: it is so once everything that had happened when the snapshot ended was read. Of one
 * key the events come in the order in which they happened. A block's publication
 * comes after that of the block before it, its removal before that one's.
 */
#ifndef LARDER_EVENT_H
#define LARDER_EVENT_H

#include "larder/status.h"

LARDER_EXTERN_C_BEGIN

/** What became of an object. */
typedef int32_t larder_event_kind;
enum {
    LARDER_EVENT_PUBLISHED = 1, /**< it is there; in a snapshot: it was there */
    LARDER_EVENT_PLACED = 2,    /**< it lies in other places than before */
    LARDER_EVENT_REMOVED = 3    /**< it is not there any more */
};

/** One event. */
typedef struct larder_event {
    uint64_t sequence; /**< its number in this log: 1, 2, 3 ... without gaps; 0 in a snapshot */
    larder_event_kind kind;
    uint32_t places; /**< where it lies now, in the bits of its object (LARDER_PREFIX_IN_*, LARDER_TIER_*: those that
                        stand for the same place have the same value); 0: nowhere */
    uint32_t places_before; /**< where it lay */
    int32_t cause;          /**< why it went or moved, in the object's own numbers; 0: not told */
    larder_key key;
    larder_key parent;  /**< of a block: the key of the block before it, or its root. Otherwise zeros */
    uint64_t entry;     /**< of a block: its larder_prefix_entry, for larder_prefix_describe(). Otherwise 0 */
    uint64_t n_bytes;   /**< of a stored object. Otherwise 0 */
    uint32_t depth;     /**< of a block: how many come before it */
    uint32_t n_tokens;  /**< of a block */
    uint32_t tag;       /**< of a block: the caller's, as it is at this moment; setting it makes no event */
    uint32_t reserved0; /**< 0 */
} larder_event;

LARDER_EXTERN_C_END
#endif
