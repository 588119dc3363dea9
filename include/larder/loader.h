/** @file loader.h
 *  @brief Loading a stored prefix under a deadline: for each chunk a quality level, or computing it again.
 *
 *  A loader decides and does nothing else: it owns no thread, no clock and no file. Its user asks for the next step,
 * does it, and says when it was done; the loader learns the bandwidth from that. The same calls give the same answers.
 *
 *  Chunks are those of streams with levels (stream.h), or of anything that comes in a base and refinements. Steps come
 * one at a time, as if link and processor took turns. First every chunk is made usable, in order: its base is read, or
 * it is computed again where that is faster. What time is left over is not lost but shared by all chunks that are still
 * to come; more than the base is read at once only as long as the bases of the rest would be there in time at half the
 * bandwidth that is expected. When all chunks are usable, the time until the deadline goes to refinements, those first
 * that give the most for their time.
 *
 *  After CacheGen (arXiv 2310.07240), whose rule gives every chunk the same share of the time and stores each level
 * apart.
 */
#ifndef LARDER_LOADER_H
#define LARDER_LOADER_H

#include "larder/context.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_loader larder_loader;

#define LARDER_LOADER_MAX_LEVELS 8
#define LARDER_LOADER_NEVER UINT64_MAX /**< recompute_ns of a chunk that cannot be computed again */

/** Options of larder_loader_create(). */
typedef struct larder_loader_options {
    uint32_t struct_size;
    uint32_t n_chunks; /**< 1 to 65536 */
    uint32_t n_levels; /**< 1 to LARDER_LOADER_MAX_LEVELS */
    uint32_t reserved0;
    const uint64_t* level_bytes;  /**< [n_chunks * n_levels]: bytes that each level adds to the one before; a chunk's
                                     levels end at the first 0, its base is at least 1. Copied */
    const uint64_t* recompute_ns; /**< [n_chunks], or NULL: none can be computed again. Copied */
    const double* values; /**< [n_levels + 1]: what a chunk is worth at each level, then computed again; positive,
                             not descending up to the last level; NULL: 1, 2, ... n_levels, and n_levels again.
                             Copied */
    uint64_t deadline_ns; /**< when all chunks must be usable, on the caller's clock */
    uint64_t bytes_per_s; /**< bandwidth expected in the long run, 1 to 2^50: what holds at first, and what the estimate
                             goes back to while nothing is read */
    uint64_t request_ns;  /**< what each read costs besides its bytes */
} larder_loader_options;

#define LARDER_LOADER_OPTIONS_INIT                                                                                     \
    { sizeof(larder_loader_options), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

typedef int32_t larder_loader_action;
enum {
    LARDER_LOADER_FETCH = 1,    /**< read n_levels levels from first_level on, n_bytes together */
    LARDER_LOADER_RECOMPUTE = 2 /**< compute the chunk's tokens again; all chunks before it are usable */
};

/** One step. */
typedef struct larder_loader_step {
    uint32_t struct_size;
    larder_loader_action action;
    uint32_t chunk;
    uint32_t first_level, n_levels; /**< FETCH; 0 for RECOMPUTE */
    uint32_t reserved0;
    uint64_t n_bytes;     /**< FETCH; 0 for RECOMPUTE */
    uint64_t expected_ns; /**< how long it should take */
} larder_loader_step;

#define LARDER_LOADER_STEP_INIT                                                                                        \
    { sizeof(larder_loader_step), 0, 0, 0, 0, 0, 0, 0 }

/** Create a loader.
 *  @return LARDER_OK; LARDER_E_INVALID (a value or a missing base, named in the message); LARDER_E_RANGE;
 * LARDER_E_TOO_NEW; LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_loader_create(larder_context* context, const larder_loader_options* options,
                                              larder_loader** out_loader) LARDER_NOEXCEPT;

/** Drop a loader. NULL is allowed.  @threads no other call on this loader may run  @since 0.1 */
LARDER_API void larder_loader_destroy(larder_loader* loader) LARDER_NOEXCEPT;

/** The next step. While a chunk is unusable there is always one, after the deadline too (then the fastest).
 *  @param now_ns  the caller's clock; never before an earlier call's
 *  @return LARDER_OK; LARDER_MISS (nothing is left that fits before the deadline: loading is over); LARDER_E_STATE (the
 * step before has not been reported); LARDER_E_INVALID (time runs backwards).
 *  @threads one at a time  @blocking never  @cost no allocation; sorts what is left to decide  @since 0.1 */
LARDER_API larder_status larder_loader_next(larder_loader* loader, uint64_t now_ns,
                                            larder_loader_step* out_step) LARDER_NOEXCEPT;

/** The step that larder_loader_next() gave is over.
 *  @param succeeded  0: it failed, what it would have brought is not there; a chunk that failed to be computed again is
 * not tried again that way
 *  @return LARDER_OK; LARDER_E_STATE (no step is under way); LARDER_E_INVALID (time runs backwards).
 *  @threads one at a time  @blocking never  @since 0.1 */
LARDER_API larder_status larder_loader_report(larder_loader* loader, uint64_t now_ns,
                                              uint32_t succeeded) LARDER_NOEXCEPT;

/** Where loading stands. */
typedef struct larder_loader_info {
    uint32_t struct_size;
    uint32_t n_usable;     /**< chunks with at least their base */
    uint32_t n_recomputed; /**< of them computed again */
    uint32_t reserved0;
    double value;           /**< of all usable chunks together */
    uint64_t usable_ns;     /**< when the last chunk became usable; 0: not yet */
    uint64_t bytes_per_s;   /**< the bandwidth now expected */
    uint64_t fetched_bytes; /**< of reads that succeeded */
} larder_loader_info;

#define LARDER_LOADER_INFO_INIT                                                                                        \
    { sizeof(larder_loader_info), 0, 0, 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_INVALID.  @threads one at a time  @since 0.1 */
LARDER_API larder_status larder_loader_inspect(const larder_loader* loader, larder_loader_info* out) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
