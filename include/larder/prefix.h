/** @file prefix.h
 *  @brief The prefix index: which blocks of tokens were computed before, and where they lie.
 *
 *  A prompt is cut into blocks of block_tokens tokens. Each full block has a 256-bit key that depends on everything
 * before it (a chain hash), on the layout, the tenant, the adapter and the caller's salt (docs/formats/keys.md). The
 * index is a tree of entries: an entry is one published block, its parent the block before it.
 *  - *match* finds the longest published prefix of a chain of keys and, with tokens at hand, how many leading tokens of
 * the next block are shared with some published block.
 *  - *publish* adds computed blocks; where another thread was faster, the caller learns the winner's entry.
 *  - an entry says in which places (arena, host tier, file tier, remote) its data lie, with one 64-bit location for
 * each; it exists while any residency bit is set.
 *  - *pin* holds entries: a pinned entry cannot be removed and loses no place. Matching pins what it returns unless
 * asked not to.
 *  - *candidates* lists what to evict from a place: leaves first, least recently used first.
 *
 *  Guarantees: an entry's parent exists as long as the entry, so the matched blocks of a chain are always a gapless
 * prefix. Keys are compared whole. The index stores no tensor and decides nothing; it can be used without an arena or a
 * store.
 *
 *  @section prefix_threads Threads
 *  Every call is internally synchronised: any number of threads may match, publish, pin, drop, remove and list at the
 * same time. A match that does not pin writes no memory that other threads read, except the time of last use. No call
 * waits for another thread's work; all of them are in memory.
 */
#ifndef LARDER_PREFIX_H
#define LARDER_PREFIX_H

#include "larder/event.h"
#include "larder/index.h"
#include "larder/layout.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_prefix larder_prefix;

/** A published block. Stale once it was removed, even if the same key is published again. */
typedef larder_id larder_prefix_entry;

/** Places where a block's data can lie. */
#define LARDER_PREFIX_IN_ARENA 1u
#define LARDER_PREFIX_IN_HOST 2u
#define LARDER_PREFIX_IN_FILE 4u
#define LARDER_PREFIX_IN_REMOTE 8u
#define LARDER_PREFIX_N_PLACES 4u

/* ------------------------------------------------------------------------------- keys --- */

/** Content that is not a token, such as an image: positions [first, first + n) depend on it. */
typedef struct larder_prefix_extra {
    uint64_t first;
    uint64_t n;
    uint8_t digest[32]; /**< of its content */
} larder_prefix_extra;

/** A salted range: whoever does not give the same salt for these positions shares no block that touches them, nor any
 * later one. */
typedef struct larder_prefix_salted {
    uint64_t first;
    uint64_t n;
    larder_span salt;
} larder_prefix_salted;

/** Everything that a chain begins with. */
typedef struct larder_prefix_scope {
    uint32_t struct_size;
    uint32_t reserved0;
    const larder_layout* layout; /**< its identity is part of the root; NULL: `identity` is used instead */
    larder_key identity;         /**< used when layout is NULL; all zero is allowed */
    larder_span
        tenant_key; /**< secret of 16 to 64 bytes; without it nobody can compute a key of this chain. Empty: none */
    larder_span adapter; /**< digest of a LoRA adapter or the like; may be empty */
    larder_span salt;    /**< any bytes; may be empty */
} larder_prefix_scope;

#define LARDER_PREFIX_SCOPE_INIT                                                                                       \
    {                                                                                                                  \
        sizeof(larder_prefix_scope), 0, 0, {{0}}, {0, 0}, {0, 0}, {                                                    \
            0, 0                                                                                                       \
        }                                                                                                              \
    }

/** The root key of a chain. A pure function: the same scope gives the same root in every process and for ever.
 *  @return LARDER_OK; LARDER_E_INVALID (a span with a length but no data); LARDER_E_RANGE (tenant_key of 1 to 15 or
 * above 64 bytes); LARDER_E_TOO_NEW.
 *  @threads any  @blocking never  @cost one hash  @since 0.1 */
LARDER_API larder_status larder_prefix_root(const larder_prefix_scope* scope, larder_key* out_root) LARDER_NOEXCEPT;

/** Tokens to be hashed, or matched. */
typedef struct larder_prefix_tokens {
    uint32_t struct_size;
    uint32_t block_tokens; /**< 1 to 4096 */
    const int32_t* tokens; /**< [n_tokens], borrowed during the call */
    uint64_t n_tokens;
    uint64_t first_position; /**< position of tokens[0] in its sequence, a multiple of block_tokens; extras and salted
                                ranges count from the sequence's beginning */
    const larder_prefix_extra* extras;  /**< [n_extras] in ascending order of `first` */
    const larder_prefix_salted* salted; /**< [n_salted] in ascending order of `first` */
    uint32_t n_extras;
    uint32_t n_salted;
} larder_prefix_tokens;

#define LARDER_PREFIX_TOKENS_INIT                                                                                      \
    { sizeof(larder_prefix_tokens), 0, 0, 0, 0, 0, 0, 0, 0 }

/** Keys of the full blocks of a token array.
 *  @param parent  the root, or the key of the block before tokens[0].
 *  @param out_keys  [capacity]  @param out_n  receives the number of full blocks, n_tokens / block_tokens; may be NULL.
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (out_n is set; the first `capacity` keys were written);
 * LARDER_E_INVALID (NULL, order of ranges, an empty range, first_position, a token below 0: the message gives its
 * position); LARDER_E_RANGE; LARDER_E_TOO_NEW.
 *  @threads any  @blocking never  @cost one hash per block  @since 0.1 */
LARDER_API larder_status larder_prefix_keys(const larder_key* parent, const larder_prefix_tokens* tokens,
                                            larder_key* out_keys, uint64_t capacity, uint64_t* out_n) LARDER_NOEXCEPT;

/* ------------------------------------------------------------------------------ handle --- */

#define LARDER_PREFIX_NO_TOKENS 1u /**< keep no tokens: less memory, no partial matches */

/** Options of larder_prefix_create(). Zero means default. */
typedef struct larder_prefix_options {
    uint32_t struct_size;
    uint32_t flags;        /**< LARDER_PREFIX_NO_TOKENS */
    uint32_t block_tokens; /**< 1 to 4096, a power of two; default 16 */
    uint32_t reserved0;
    uint64_t max_entries; /**< entries at once, roots included, 1 to 2^27; default 2^24. Memory is taken as they come. A
                             publisher at work holds room for up to 32 */
    uint64_t n_events; /**< events that are kept for readers (larder_prefix_events_read()), a power of two up to 2^24,
                          128 bytes each; 0: none */
} larder_prefix_options;

#define LARDER_PREFIX_OPTIONS_INIT                                                                                     \
    { sizeof(larder_prefix_options), 0, 0, 0, 0, 0 }

/** Create an empty prefix index.
 *  @return LARDER_OK; LARDER_E_INVALID; LARDER_E_RANGE; LARDER_E_TOO_NEW; LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_prefix_create(larder_context* context, const larder_prefix_options* options,
                                              larder_prefix** out_prefix) LARDER_NOEXCEPT;

/** Destroy it. Pins do not matter any more. NULL is allowed.  @threads no other call on this handle may run  @since 0.1
 */
LARDER_API void larder_prefix_destroy(larder_prefix* prefix) LARDER_NOEXCEPT;

/* ------------------------------------------------------------------------------- match --- */

/** One block as the index knows it. */
typedef struct larder_prefix_block {
    larder_prefix_entry entry;
    uint32_t residency;                        /**< LARDER_PREFIX_IN_* */
    uint32_t n_tokens;                         /**< block_tokens; less for a published tail */
    uint64_t location[LARDER_PREFIX_N_PLACES]; /**< of bit 0, 1, 2, 3 of residency; 0 where the bit is not set. In the
                                                  arena a larder_block */
    uint32_t depth;                            /**< blocks before it in its chain */
    uint32_t tag;                              /**< the caller's own (larder_prefix_set_tag()) */
} larder_prefix_block;

#define LARDER_PREFIX_PEEK 1u /**< pin nothing and leave the time of last use alone */

/** What is looked for. */
typedef struct larder_prefix_query {
    uint32_t struct_size;
    uint32_t flags;         /**< LARDER_PREFIX_PEEK */
    larder_key root;        /**< of the chain */
    const larder_key* keys; /**< [n_keys] of the full blocks, from the first on */
    uint64_t n_keys;
    const int32_t* next_tokens; /**< [n_next] tokens that follow the last of `keys`, up to block_tokens: for a partial
                                   match there. May be NULL */
    uint64_t n_next;
    const int32_t* tokens; /**< [n_keys * block_tokens] all tokens of the keys, for a partial match after an earlier
                              miss. May be NULL */
    uint64_t max_partial_tokens; /**< report at most so many tokens of a partial match; 0: no limit */
    const uint8_t* no_partial;   /**< [n_keys + 1], not 0 for a block that extras or salted ranges touch: it is never
                                    matched in part. NULL: all 0 */
} larder_prefix_query;

#define LARDER_PREFIX_QUERY_INIT                                                                                       \
    { sizeof(larder_prefix_query), 0, {{0}}, 0, 0, 0, 0, 0, 0, 0 }

/** What was found. */
typedef struct larder_prefix_match_info {
    uint32_t struct_size;
    uint32_t n_partial_tokens; /**< leading tokens of the block after the last full one that a published block shares;
                                  0: none */
    uint64_t n_blocks;         /**< leading keys that are published */
    larder_prefix_block
        partial; /**< the published block that shares them (the copy source); entry 0: none. Pinned like the others */
} larder_prefix_match_info;

#define LARDER_PREFIX_MATCH_INFO_INIT                                                                                  \
    {                                                                                                                  \
        sizeof(larder_prefix_match_info), 0, 0, {                                                                      \
            0, 0, 0, {0, 0, 0, 0}, 0, 0                                                                                \
        }                                                                                                              \
    }

/** Longest published prefix of a chain. Without LARDER_PREFIX_PEEK every block returned is pinned once (give it back
 * with larder_prefix_unpin()) and counts as used now.
 *  @param out_blocks, stride, capacity  receive the matched blocks, stride bytes apart; at most `capacity` are matched.
 * With PEEK, out_blocks may be NULL to learn the length alone, which is cheaper.
 *  @return LARDER_OK (n_blocks may be 0); LARDER_E_INVALID; LARDER_E_RANGE (n_next above block_tokens);
 * LARDER_E_TOO_NEW; LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never  @cost O(log n_keys) rounds of batched look-ups for the length,
 * then one look-up per block  @since 0.1 */
LARDER_API larder_status larder_prefix_match(larder_prefix* prefix, const larder_prefix_query* query,
                                             larder_prefix_block* out_blocks, uint32_t stride, uint64_t capacity,
                                             larder_prefix_match_info* out_info) LARDER_NOEXCEPT;

/** The entry of one key, whatever its chain; not pinned, not used.
 *  @return LARDER_OK; LARDER_MISS; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_prefix_lookup(larder_prefix* prefix, const larder_key* key,
                                              larder_prefix_block* out_block) LARDER_NOEXCEPT;

/** Hold entries once more. Either all or none are pinned.
 *  @return LARDER_OK; LARDER_E_STALE (the message names the first).  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_prefix_pin(larder_prefix* prefix, const larder_prefix_entry* entries,
                                           uint64_t n) LARDER_NOEXCEPT;

/** Give pins back, one per entry named.
 *  @return LARDER_OK; LARDER_E_STALE or LARDER_E_STATE (not pinned); the others are given back all the same.
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_prefix_unpin(larder_prefix* prefix, const larder_prefix_entry* entries,
                                             uint64_t n) LARDER_NOEXCEPT;

/** Count entries as used now; the later ones of the array as a trifle longer ago, so that a prefix outlives its
 * suffixes. Stale ones are passed over.
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_prefix_touch(larder_prefix* prefix, const larder_prefix_entry* entries,
                                             uint64_t n) LARDER_NOEXCEPT;

/* ----------------------------------------------------------------------------- publish --- */

#define LARDER_PREFIX_ITEM_NO_PARTIAL 1u /**< extras or salted ranges touch it: never the source of a partial match */

/** A computed block to be published. */
typedef struct larder_prefix_item {
    larder_key key;
    const int32_t* tokens; /**< [n_tokens], copied; NULL: no partial matches with this block */
    uint32_t n_tokens;  /**< block_tokens, or less for the last item: a tail, found by partial matches only and never a
                           parent */
    uint32_t flags;     /**< LARDER_PREFIX_ITEM_NO_PARTIAL */
    uint32_t residency; /**< exactly one LARDER_PREFIX_IN_* bit: the place that `location` speaks of */
    uint32_t tag;       /**< given to a new entry */
    uint64_t location;
} larder_prefix_item;

/** What became of an item. */
typedef int32_t larder_prefix_outcome;
enum {
    LARDER_PREFIX_NEW = 1,    /**< a new entry with the item's location */
    LARDER_PREFIX_JOINED = 2, /**< the block was known elsewhere; the item's location was added to its entry */
    LARDER_PREFIX_DUPLICATE =
        3 /**< the block is in that place already; the item's location was not taken and `block` holds the winner's */
};

/** @copydoc larder_prefix_outcome */
typedef struct larder_prefix_published {
    larder_prefix_block block;
    larder_prefix_outcome outcome;
    uint32_t reserved0;
} larder_prefix_published;

/** Publish consecutive blocks of one chain.
 *  @param root    of the chain; its entry is made when the first block is published under it.
 *  @param parent  the entry before items[0]; 0: items[0] is the first block of the chain. The caller should hold a pin
 * on it.
 *  @param pin     1: each entry of `out` is pinned once, new or not.
 *  @param out     [n]; elements from out_n on are not touched.  @param out_n  items published, from the first on.
 *  @return LARDER_OK; LARDER_PARTIAL (fewer than n: max_entries or memory is used up; the message says which);
 * LARDER_E_STALE (parent); LARDER_E_INVALID (a short item that is not the last, residency not one bit, a token below
 * 0); LARDER_E_TOO_NEW (flags); LARDER_E_STATE (parent is a tail); LARDER_E_NOSPACE or LARDER_E_NOMEM (not even one).
 *  @threads internally synchronised  @blocking never  @cost one insertion per block, two with tokens  @since 0.1 */
LARDER_API larder_status larder_prefix_publish(larder_prefix* prefix, const larder_key* root,
                                               larder_prefix_entry parent, const larder_prefix_item* items, uint64_t n,
                                               uint32_t pin, larder_prefix_published* out,
                                               uint64_t* out_n) LARDER_NOEXCEPT;

/** Say that a block now also lies in a place. An older location of that place is replaced.
 *  @param residency  one bit.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_INVALID; LARDER_E_BUSY (a replacement while others pin the entry).
 * @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_prefix_add(larder_prefix* prefix, larder_prefix_entry entry, uint32_t residency,
                                           uint64_t location) LARDER_NOEXCEPT;

/** Say that a block no longer lies in a place; with its last place the entry goes.
 *  @param residency  one bit.  @param out_block  what the entry was before, for freeing what lies at its location; may
 * be NULL.
 *  @return LARDER_OK; LARDER_MISS (it did not lie there); LARDER_E_BUSY (pinned, or it is the last place and blocks
 * that follow it are published); LARDER_E_STALE; LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_prefix_drop(larder_prefix* prefix, larder_prefix_entry entry, uint32_t residency,
                                            larder_prefix_block* out_block) LARDER_NOEXCEPT;

/** Unpublish an entry and everything that follows it, leaves first. Pinned entries stay, and so do those before them.
 *  @param out, capacity, out_n  receive what was removed, in that order, so that the caller can free the locations.
 * When `capacity` is reached the call stops.
 *  @return LARDER_OK (all gone); LARDER_PARTIAL (capacity reached: call again); LARDER_E_BUSY (pinned entries stayed);
 * LARDER_E_STALE; LARDER_E_INVALID; LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_prefix_remove(larder_prefix* prefix, larder_prefix_entry entry,
                                              larder_prefix_block* out, uint64_t capacity,
                                              uint64_t* out_n) LARDER_NOEXCEPT;

/* ----------------------------------------------------------------------------- look in --- */

/** What to evict from a place, in order: entries that lie there, that no following block in that place needs, that
 * nobody pins, and (where it is their last place) that nothing follows; least recently used first. Nothing is reserved:
 * larder_prefix_drop() decides. As leaves go, the blocks before them become candidates.
 *  @param residency  one bit.
 *  @return LARDER_OK (out_n may be less than n: there are no more); LARDER_E_INVALID; LARDER_E_NOMEM.  @threads
 * internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_prefix_candidates(larder_prefix* prefix, uint32_t residency, larder_prefix_block* out,
                                                  uint64_t n, uint64_t* out_n) LARDER_NOEXCEPT;

/** Blocks that follow an entry (or, with entry 0, a root), for routers and dumps. In the order of their first tokens;
 * blocks without tokens come first.
 *  @param after  0, or the last entry of the previous call, to go on behind it.
 *  @return LARDER_OK; LARDER_PARTIAL (more follow); LARDER_MISS (no such root, or no children); LARDER_E_STALE;
 * LARDER_E_INVALID.
 *  @threads internally synchronised; children published or removed meanwhile may or may not be seen  @since 0.1 */
LARDER_API larder_status larder_prefix_children(larder_prefix* prefix, const larder_key* root,
                                                larder_prefix_entry entry, larder_prefix_entry after,
                                                larder_prefix_block* out, uint64_t n, uint64_t* out_n) LARDER_NOEXCEPT;

/** Key, parent and tokens of an entry.
 *  @param out_key, out_parent  may be NULL; the parent of a chain's first block is 0.
 *  @param out_tokens  [capacity], may be NULL; @param out_n_tokens  tokens kept, 0 when none; may be NULL.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_BUFFER_TOO_SMALL.  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_prefix_describe(larder_prefix* prefix, larder_prefix_entry entry, larder_key* out_key,
                                                larder_prefix_entry* out_parent, int32_t* out_tokens, uint64_t capacity,
                                                uint64_t* out_n_tokens) LARDER_NOEXCEPT;

/** A 32-bit word of the caller's, kept with the entry and never looked at.  @return LARDER_OK; LARDER_E_STALE. @threads
 * internally synchronised  @since 0.1 */
LARDER_API larder_status larder_prefix_set_tag(larder_prefix* prefix, larder_prefix_entry entry,
                                               uint32_t tag) LARDER_NOEXCEPT;

/* ------------------------------------------------------------------------------ events --- */

/** Events that follow a cursor (larder/event.h): a block was published, lies in other places, was removed.
 *  @param cursor  in: events that the reader has behind it; 0: from the first one ever. Out: moved on by *out_n.
 *  @param out, stride, n  receive events, stride bytes apart.  @param out_n  how many; 0: nothing new.
 *  @return LARDER_OK; LARDER_E_STALE (the next event was overwritten: take a snapshot; cursor is as it was);
 * LARDER_E_STATE (the index keeps no events); LARDER_E_RANGE (a cursor beyond the newest event); LARDER_E_INVALID.
 *  @threads internally synchronised; readers delay nobody  @blocking never  @since 0.1 */
LARDER_API larder_status larder_prefix_events_read(larder_prefix* prefix, uint64_t* cursor, larder_event* out,
                                                   uint32_t stride, uint64_t n, uint64_t* out_n) LARDER_NOEXCEPT;

/** What is published, as events of kind LARDER_EVENT_PUBLISHED with sequence 0, in no order. With the events from
 * *cursor on a copy made of them becomes right; without a log of events it is, as long as nothing changes.
 *  @param position  in: 0 to begin, then as it came back. Out: where to go on.
 *  @param cursor    written when position is 0: pass it to larder_prefix_events_read() afterwards.
 *  @param out, stride, n  receive blocks, stride bytes apart; n at least 1.  @param out_n  how many.
 *  @return LARDER_OK (that was the last of it); LARDER_PARTIAL (call again); LARDER_E_RANGE; LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @cost O(entries) for the whole  @since 0.1 */
LARDER_API larder_status larder_prefix_events_snapshot(larder_prefix* prefix, uint64_t* position, uint64_t* cursor,
                                                       larder_event* out, uint32_t stride, uint64_t n,
                                                       uint64_t* out_n) LARDER_NOEXCEPT;

/* ------------------------------------------------------------------- export and import --- */

/** Write what is published to a stream (docs/formats/prefix-snapshot.md): versioned, each chunk with a checksum. Others
 * may go on meanwhile: whatever is published from the beginning to the end is written, and with each block the one
 * before it. An entry that is being written cannot be evicted at that moment.
 *  @param places  LARDER_PREFIX_IN_* bits: places that will still mean something to the reader. A block that lies in
 * none of them is left out, with all that follow it.
 *  @return LARDER_OK; what the sink returned; LARDER_E_INVALID (places 0 or unknown, sink); LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking as the sink  @cost O(entries log entries), 16 bytes each  @since 0.1 */
LARDER_API larder_status larder_prefix_export(larder_prefix* prefix, uint32_t places,
                                              const larder_index_sink* sink) LARDER_NOEXCEPT;

/** What larder_prefix_import() did. */
typedef struct larder_prefix_import_info {
    uint32_t struct_size;
    uint32_t reserved0;
    uint64_t n_blocks;   /**< that were read */
    uint64_t n_new;      /**< of them: new entries */
    uint64_t n_known;    /**< of them: published already; places that were not known have been added to their entries */
    uint64_t n_left_out; /**< of them: the block before them is gone meanwhile, or their key means another block here */
} larder_prefix_import_info;

#define LARDER_PREFIX_IMPORT_INFO_INIT                                                                                 \
    { sizeof(larder_prefix_import_info), 0, 0, 0, 0, 0 }

/** Publish what a stream holds, beside what is published already. All of it counts as used later than what was there,
 * in the order of use that it had. Each chunk is checked before anything of it is published; after an error the blocks
 * of the chunks before stay.
 *  @param out_info  filled also after an error; may be NULL.
 *  @return LARDER_OK; LARDER_E_FORMAT (not an export of a prefix index); LARDER_E_VERSION; LARDER_E_IDENTITY (another
 * block_tokens); LARDER_E_CORRUPT (checksum, structure, count); LARDER_E_TRUNCATED or what else the source returned;
 * LARDER_E_NOSPACE (max_entries); LARDER_E_NOMEM; LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking as the source  @cost one publication per block  @since 0.1 */
LARDER_API larder_status larder_prefix_import(larder_prefix* prefix, const larder_index_source* source,
                                              larder_prefix_import_info* out_info) LARDER_NOEXCEPT;

/** What the index holds. */
typedef struct larder_prefix_info {
    uint32_t struct_size;
    uint32_t block_tokens;
    uint64_t n_entries; /**< published blocks */
    uint64_t n_roots;
    uint64_t n_pinned;     /**< entries with at least one pin; counted by looking at all of them */
    uint64_t memory_bytes; /**< slabs of entries and maps */
    uint64_t n_resident[LARDER_PREFIX_N_PLACES]; /**< entries that lie in each place */
} larder_prefix_info;

#define LARDER_PREFIX_INFO_INIT                                                                                        \
    {                                                                                                                  \
        sizeof(larder_prefix_info), 0, 0, 0, 0, 0, {                                                                   \
            0, 0, 0, 0                                                                                                 \
        }                                                                                                              \
    }

/** @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised; exact while nothing changes  @cost
 * O(entries)  @since 0.1 */
LARDER_API larder_status larder_prefix_get_info(larder_prefix* prefix, larder_prefix_info* out_info) LARDER_NOEXCEPT;

/** Check every invariant of the index: for tests and for a doubtful process.
 *  @return LARDER_OK; LARDER_E_CORRUPT with the first invariant that does not hold.  @threads no other call on this
 * handle may run  @cost O(entries)  @since 0.1 */
LARDER_API larder_status larder_prefix_verify(larder_prefix* prefix) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
