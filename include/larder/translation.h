/** @file translation.h
 *  @brief A cache of translations in front of a table that is expensive to walk (Victima, arXiv 2310.04158, in
 * software).
 *
 *  A line holds the translations of 8 consecutive keys (logical blocks) in 64 bytes, so one walk serves its neighbours.
 * A line is kept only when its walk was costly: what is cheap to walk again would push out what is not. Victims are
 * chosen by re-reference prediction (SRRIP, 2 bits, 4 ways).
 *
 *  Whether it pays depends on what stands beside it, so measure: it gains where the table is asked key by key and one
 * walk gives 8 neighbours for about the price of one, such as a scan of an ordered index. It loses where the table has
 * a batched look-up (larder_arena_seq_lookup()), or where a walk costs 8 look-ups; docs/guide/memory.md has figures.
 * The cache does not know when the table changes: whoever changes it calls larder_translation_drop().
 */
#ifndef LARDER_TRANSLATION_H
#define LARDER_TRANSLATION_H

#include "larder/context.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_translation larder_translation;

/** What LARDER_TRANSLATION_NONE keys have instead of a value. */
#define LARDER_TRANSLATION_NONE ((int64_t)-1)

/** Walks the table: writes the translations of the 8 keys from first_key (a multiple of 8) on to out_values, NONE for
 * keys without one, and returns what it cost, in any unit that min_walk_cost has too (levels, cache misses,
 * nanoseconds). Called on the thread of the look-up. drop (may be NULL) is called once when the cache goes. */
typedef struct larder_translation_walk {
    uint32_t (*fn)(void* ctx, uint64_t first_key, int64_t* out_values);
    void* ctx;
    void (*drop)(void* ctx);
} larder_translation_walk;

/** Options of larder_translation_create(). Zero means default; walk.fn is required. */
typedef struct larder_translation_options {
    uint32_t struct_size;
    uint32_t n_lines;       /**< a power of two, 4 to 2^24; default 4096. About 73 bytes each. */
    uint32_t min_walk_cost; /**< walks of so much are costly; default 1 */
    uint32_t reserved0;
    larder_translation_walk walk;
} larder_translation_options;

#define LARDER_TRANSLATION_OPTIONS_INIT                                                                                \
    {                                                                                                                  \
        sizeof(larder_translation_options), 0, 0, 0, {                                                                 \
            0, 0, 0                                                                                                    \
        }                                                                                                              \
    }

/** @return LARDER_OK; LARDER_E_INVALID (walk.fn is NULL); LARDER_E_RANGE (n_lines); LARDER_E_NOMEM; LARDER_E_TOO_NEW.
 * drop is called only for a cache that was made.  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_translation_create(larder_context* context, const larder_translation_options* options,
                                                   larder_translation** out_translation) LARDER_NOEXCEPT;

/** NULL is allowed.  @threads no other call on this cache may run  @since 0.1 */
LARDER_API void larder_translation_destroy(larder_translation* translation) LARDER_NOEXCEPT;

/** Translate keys, in any order, repetitions allowed.
 *  @param keys        [n] each below 2^63
 *  @param out_values  [n]; NONE where the table has none
 *  @return LARDER_OK; LARDER_E_RANGE (a key; the values of those before it are written); LARDER_E_INVALID.
 *  @threads one at a time; a worker has a cache of its own  @blocking as the walk  @since 0.1 */
LARDER_API larder_status larder_translation_lookup(larder_translation* translation, const uint64_t* keys, uint64_t n,
                                                   int64_t* out_values) LARDER_NOEXCEPT;

/** Forget the translations of n keys from first on. More than the cache holds: all.
 *  @return LARDER_OK; LARDER_E_INVALID.  @threads one at a time  @blocking never  @since 0.1 */
LARDER_API larder_status larder_translation_drop(larder_translation* translation, uint64_t first,
                                                 uint64_t n) LARDER_NOEXCEPT;

typedef struct larder_translation_state {
    uint32_t struct_size;
    uint32_t n_lines;
    uint64_t n_hits;
    uint64_t n_walks;
    uint64_t n_kept; /**< walks whose line was kept */
} larder_translation_state;

#define LARDER_TRANSLATION_STATE_INIT                                                                                  \
    { sizeof(larder_translation_state), 0, 0, 0, 0 }

/** Counts since creation.  @return LARDER_OK; LARDER_E_INVALID.  @threads one at a time  @blocking never  @since 0.1 */
LARDER_API larder_status larder_translation_query(larder_translation* translation,
                                                  larder_translation_state* out) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
