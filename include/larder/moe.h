/** @file moe.h
 *  @brief Mixtures of experts, planned: is a model fit for offloading, how many expert slots does each layer need,
 * which experts to compute in place, which tokens to batch together.
 *
 *  Pure functions on arrays: they keep nothing and touch no weights. What they read is recorded routing: the expert
 * numbers that the router chose, for each token and MoE layer.
 */
#ifndef LARDER_MOE_H
#define LARDER_MOE_H

#include "larder/context.h"

LARDER_EXTERN_C_BEGIN

/** How an expert number is stored. All little-endian. */
typedef int32_t larder_moe_type;
enum { LARDER_MOE_U8 = 1, LARDER_MOE_I16 = 2, LARDER_MOE_I32 = 3 };

/** The order of the axes of a routing array. */
typedef int32_t larder_moe_order;
enum {
    LARDER_MOE_TOKENS_FIRST = 1, /**< [token][layer][k] */
    LARDER_MOE_LAYERS_FIRST = 2  /**< [layer][token][k] */
};

/** Recorded routing. Within a token and layer the k experts differ; the strongest comes first where the order is known
 * (it settles ties). Borrowed during a call. */
typedef struct larder_moe_routing {
    uint32_t struct_size;
    larder_moe_type type;
    larder_moe_order order; /**< default TOKENS_FIRST */
    uint32_t n_layers;      /**< 1 to 4096 */
    uint32_t n_experts;     /**< of a layer, 1 to 65536 */
    uint32_t k;             /**< experts of a token in a layer, 1 to 256 and at most n_experts */
    uint64_t n_tokens;      /**< 1 to 2^26 */
    uint64_t n_bytes;       /**< n_tokens * n_layers * k * bytes of the type */
    const void* ids;
    uint64_t sequence_tokens; /**< every so many tokens another text begins: no segment reaches across. Caches stay.
                                 0: one text */
} larder_moe_routing;

#define LARDER_MOE_ROUTING_INIT                                                                                        \
    { sizeof(larder_moe_routing), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** Check a routing array from end to end, as every call below does with the layers that it reads.
 *  @param routing        n_experts 0: any expert numbers will do
 *  @param out_n_experts  receives 1 + the largest number; may be NULL
 *  @return LARDER_OK; LARDER_E_RANGE (a count outside its bounds; an expert number outside its: the message says at
 * which token, layer and place); LARDER_E_INVALID (an expert twice for a token; n_bytes does not follow from the
 * counts; NULL; an unknown type or order); LARDER_E_NOMEM; LARDER_E_TOO_NEW.
 *  @threads any  @blocking computes  @cost about 1 ns per number  @since 0.1 */
LARDER_API larder_status larder_moe_check(larder_context* context, const larder_moe_routing* routing,
                                          uint32_t* out_n_experts) LARDER_NOEXCEPT;

/** How well a segment of text can be served by a fixed set of experts: the best F1 score that any set, chosen for each
 * segment with full knowledge, reaches at covering its activations (segment routing best performance, SRP: Liang et
 * al., "Not All Models Suit Expert Offloading", arXiv 2505.16056). 1 when routing is constant in every segment. */
typedef struct larder_moe_segments {
    uint32_t struct_size;
    uint32_t threshold;  /**< the set that reaches it: experts with at least so many activations in the segment */
    double srp;          /**< 0 to 1 */
    double size_ratio;   /**< experts of that set over the k that a token uses, mean */
    uint64_t n_segments; /**< looked at, over all layers of the group */
} larder_moe_segments;

#define LARDER_MOE_SEGMENTS_INIT                                                                                       \
    { sizeof(larder_moe_segments), 0, 0, 0, 0 }

/** Measure segments of `segment_tokens` tokens at every possible start. Layers of a group share one threshold, which is
 * exact: the best set is given by a common one.
 *  @param segment_tokens  1 to the shorter of n_tokens and sequence_tokens
 *  @return as larder_moe_check(); LARDER_E_RANGE also for the layers and segment_tokens.
 *  @threads any  @blocking computes  @cost about 5 ns per number  @since 0.1 */
LARDER_API larder_status larder_moe_measure_segments(larder_context* context, const larder_moe_routing* routing,
                                                     uint32_t first_layer, uint32_t n_layers, uint32_t segment_tokens,
                                                     larder_moe_segments* out) LARDER_NOEXCEPT;

/** Which experts a layer's cache keeps. Ties: the least recently used goes, of one token the weakest first. */
typedef int32_t larder_moe_keep;
enum {
    LARDER_MOE_KEEP_RECENT = 1,      /**< LRU */
    LARDER_MOE_KEEP_FREQUENT = 2,    /**< LFU; counts never fade */
    LARDER_MOE_KEEP_COUNT_AHEAD = 3, /**< most activations in the next `lookahead` tokens: segment cache best hit rate
                                        (SCH, same paper) */
    LARDER_MOE_KEEP_NEXT = 4         /**< nearest next use: the best possible (Belady) */
};

/** Hits of a layer's cache for every number of slots, in one pass (stack algorithm: Mattson et al., 1970).
 *
 *  For each token the k experts are looked up in what the cache held before it; then all k are in it, in place of
 * those worth least, and stay until the next token. A cache of fewer than k slots holds as many of them as it can.
 *  @param lookahead  KEEP_COUNT_AHEAD: 1 to 2^26; otherwise 0
 *  @param out_hits   [n_experts + 1] of n_tokens * k look-ups, with 0 to n_experts slots
 *  @return as larder_moe_check(); LARDER_E_RANGE also for layer and lookahead; LARDER_E_INVALID also for keep.
 *  @threads any  @blocking computes  @cost for 64 experts and k 8 about 40 ns per number  @since 0.1 */
LARDER_API larder_status larder_moe_measure_cache(larder_context* context, const larder_moe_routing* routing,
                                                  uint32_t layer, larder_moe_keep keep, uint64_t lookahead,
                                                  uint64_t* out_hits) LARDER_NOEXCEPT;

/** Where more slots begin to pay less: the point of a curve that is farthest above the straight line from k slots to
 * n_experts.
 *  @param hits  [n_experts + 1] as by larder_moe_measure_cache(), or a sum of such over layers
 *  @param out_slots  k to n_experts; n_experts when no point lies above the line
 *  @return LARDER_OK; LARDER_E_RANGE (k, n_experts); LARDER_E_INVALID (NULL).
 *  @threads any  @blocking never  @since 0.1 */
LARDER_API larder_status larder_moe_knee(const uint64_t* hits, uint32_t n_experts, uint32_t k,
                                         uint32_t* out_slots) LARDER_NOEXCEPT;

/** What to take into account for larder_moe_advise(). Zero means default; the counts are required. */
typedef struct larder_moe_advice_options {
    uint32_t struct_size;
    uint32_t n_layers;
    uint32_t n_experts;
    uint32_t k;
    uint64_t n_tokens;
    uint64_t
        total_slots;  /**< expert slots that there are for all layers, k * n_layers at least; 0: as many as it takes */
    uint64_t load_ns; /**< time to load one expert; 0: times are unknown */
    uint64_t step_ns; /**< time of one token in one layer with all experts at hand; required with load_ns */
    double max_slowdown; /**< over all experts at hand that is put up with, loads not hidden; default 2 */
    double min_lift;     /**< times unknown: the lift below which a cache is not worth it; default 0.1 */
} larder_moe_advice_options;

#define LARDER_MOE_ADVICE_OPTIONS_INIT                                                                                 \
    { sizeof(larder_moe_advice_options), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

typedef int32_t larder_moe_verdict;
enum {
    LARDER_MOE_OFFLOAD = 1,
    LARDER_MOE_KEEP_WHOLE = 2 /**< do not offload this model: hold it whole, or compute its experts where they are */
};

/** Advice. The lift is the part of the misses of a cache that keeps any experts whatever (it hits total_slots of
 * n_layers * n_experts times) which this one does not have: 0 when the recent past says nothing, 1 for no misses. */
typedef struct larder_moe_advice {
    uint32_t struct_size;
    larder_moe_verdict verdict;
    uint64_t total_slots;
    double hit_ratio;
    double lift;
    double slowdown; /**< 1 + misses * load_ns / (n_tokens * n_layers * step_ns); 0: times unknown */
} larder_moe_advice;

#define LARDER_MOE_ADVICE_INIT                                                                                         \
    { sizeof(larder_moe_advice), 0, 0, 0, 0, 0 }

/** Give each layer its number of slots, so that hits are as many as possible (exact, by dynamic programming), and say
 * whether offloading is worth it.
 *
 *  The total is total_slots if given. Otherwise, with times, the least total that keeps the slowdown within
 * max_slowdown; without, the knee of the curve of best hits. The verdict is KEEP_WHOLE when the slowdown is beyond
 * max_slowdown or the total saves less than a tenth of the experts (with times), when the lift is below min_lift
 * (without).
 *  @param hits       [n_layers][n_experts + 1], of a policy that will run: KEEP_RECENT or KEEP_FREQUENT
 *  @param out_slots  [n_layers] k to n_experts each
 *  @return LARDER_OK; LARDER_E_RANGE (a count, total_slots, hits beyond the look-ups); LARDER_E_INVALID (NULL, load_ns
 * without step_ns, hits that fall with more slots); LARDER_E_NOMEM; LARDER_E_TOO_NEW.
 *  @threads any  @blocking computes  @cost about n_layers * total_slots * n_experts ns at most; allocates 2 bytes for
 * each layer and slot of the total  @since 0.1 */
LARDER_API larder_status larder_moe_advise(larder_context* context, const larder_moe_advice_options* options,
                                           const uint64_t* hits, uint32_t* out_slots,
                                           larder_moe_advice* out) LARDER_NOEXCEPT;

/** A division of experts between two places that work at the same time. */
typedef struct larder_moe_split {
    uint32_t struct_size;
    uint32_t exact; /**< 1: no division is shorter */
    uint64_t makespan_ns;
    uint64_t in_place_ns; /**< of the two sums */
    uint64_t device_ns;
    uint64_t bound_ns; /**< no division can be shorter than this */
} larder_moe_split;

#define LARDER_MOE_SPLIT_INIT                                                                                          \
    { sizeof(larder_moe_split), 0, 0, 0, 0, 0 }

/** Which of the experts that a layer needs to compute where they lie, and which on the device, so that the later of the
 * two is done soonest (Fiddler, arXiv 2402.07033, which takes the sum of the two instead).
 *
 *  Exact, O(n log n), when device_ns takes at most two values: as it is with experts of equal size, whose time on the
 * device is a transfer, or next to nothing where they are resident already. Exact for up to 12 experts of any times, by
 * enumeration. Beyond that the problem is NP-hard: the twelve experts that decide are enumerated, and bound_ns says how
 * far from the best it may be.
 *  @param in_place_ns   [n] time of each expert where it lies; UINT64_MAX: not possible
 *  @param device_ns     [n] time of each expert on the device, its transfer included. Sums must stay below 2^62
 *  @param n             0 to 4096
 *  @param out_in_place  [n] 1: in place, 0: on the device
 *  @return LARDER_OK; LARDER_E_RANGE (n, a time); LARDER_E_INVALID (NULL).
 *  @threads any  @blocking never  @cost for 8 experts about 0.1 us with two values, 1 us otherwise; allocates nothing
 *  @since 0.1 */
LARDER_API larder_status larder_moe_split_work(const uint64_t* in_place_ns, const uint64_t* device_ns, uint32_t n,
                                               uint8_t* out_in_place, larder_moe_split* out) LARDER_NOEXCEPT;

/** The experts of each run of `item_tokens` tokens as bits: what larder_moe_regroup() takes.
 *  @param item_tokens  1: a set for each token; the last item may be shorter
 *  @param n_words      of 64 bits for each item: n_layers * n_experts bits, rounded up
 *  @param out_masks    [ceil(n_tokens / item_tokens)][n_words]; bit layer * n_experts + expert, bit 0 the lowest of
 * word
 * 0
 *  @return as larder_moe_check(); LARDER_E_RANGE also for item_tokens; LARDER_E_INVALID also for n_words.
 *  @threads any  @blocking computes  @since 0.1 */
LARDER_API larder_status larder_moe_masks(larder_context* context, const larder_moe_routing* routing,
                                          uint64_t item_tokens, uint32_t n_words, uint64_t* out_masks) LARDER_NOEXCEPT;

/** Sums over the batches of the different experts that a batch touches. */
typedef struct larder_moe_regrouping {
    uint32_t struct_size;
    uint32_t n_batches;
    uint64_t n_touched; /**< in the order found */
    uint64_t n_arrival; /**< in the order of arrival; never less */
} larder_moe_regrouping;

#define LARDER_MOE_REGROUPING_INIT                                                                                     \
    { sizeof(larder_moe_regrouping), 0, 0, 0 }

/** Batch items together that need the same experts (ExpertFlow, arXiv 2410.17954): each batch begins with the item that
 * waits longest and takes those that add fewest experts to it.
 *  @param masks      [n_items][n_words] experts of each item, known or predicted
 *  @param n_items    1 to 2^20
 *  @param batch      items of a batch, at least 1; the last one may be smaller
 *  @param out_order  [n_items] a permutation: batch b is out_order[b * batch] to out_order[(b + 1) * batch - 1]
 *  @return LARDER_OK; LARDER_E_RANGE (a count); LARDER_E_INVALID (NULL); LARDER_E_NOMEM.
 *  @threads any  @blocking computes  @cost n_items^2 / 2 comparisons at about 1 ns, and n_words ns where a batch still
 * grows  @since 0.1 */
LARDER_API larder_status larder_moe_regroup(larder_context* context, const uint64_t* masks, uint32_t n_words,
                                            uint32_t n_items, uint32_t batch, uint32_t* out_order,
                                            larder_moe_regrouping* out) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
