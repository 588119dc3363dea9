/** @file layout.h
 *  @brief What one token's cache looks like: layer groups, shapes, element types, and the identity made of them.
 *
 *  A model has one layout. Its layers are divided into groups that share block size, shape and life cycle: full
 * attention, sliding windows with sinks, multi-head latent attention, recurrent state. The layout's identity, a 256-bit
 * digest over everything here, is the root of every content key and stands in every stored record: a block of another
 * model or shape is refused, never reinterpreted.
 */
#ifndef LARDER_LAYOUT_H
#define LARDER_LAYOUT_H

#include "larder/context.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_layout larder_layout;

typedef int32_t larder_dtype;
enum {
    LARDER_DTYPE_F16 = 1,
    LARDER_DTYPE_BF16 = 2,
    LARDER_DTYPE_F32 = 3,
    LARDER_DTYPE_F8_E4M3 = 4,
    LARDER_DTYPE_F8_E5M2 = 5,
    LARDER_DTYPE_I8 = 6,
    LARDER_DTYPE_U8 = 7
};

typedef int32_t larder_group_kind;
enum {
    LARDER_GROUP_FULL = 1,      /**< attention over all tokens */
    LARDER_GROUP_WINDOW = 2,    /**< attention over n_sinks first and `window` last tokens */
    LARDER_GROUP_LATENT = 3,    /**< multi-head latent attention: one shared vector per token, v_dim 0, REPLICATED */
    LARDER_GROUP_RECURRENT = 4, /**< state of state_bytes per sequence, checkpointed each checkpoint_tokens */
    LARDER_GROUP_INDEX = 5      /**< a side pool of a sparse-attention index: k_dim per token, v_dim 0 */
};

/** When a prefix counts as found in this group. */
typedef int32_t larder_hit_rule;
enum {
    LARDER_HIT_ALL = 1 /**< every block of the prefix */,
    LARDER_HIT_TRAILING = 2 /**< the blocks that the window, or the last checkpoint, needs */
};

typedef int32_t larder_shard;
enum { LARDER_SHARD_SPLIT = 1 /**< kv heads divided over tensor-parallel ranks */, LARDER_SHARD_REPLICATED = 2 };

typedef int32_t larder_group_role;
enum { LARDER_ROLE_TARGET = 1, LARDER_ROLE_DRAFT = 2 /**< of a speculative draft model */ };

/** One layer group. */
typedef struct larder_layer_group {
    uint32_t struct_size;
    larder_group_kind kind; /**< default LARDER_GROUP_FULL */
    const uint32_t* layers; /**< [n_layers], ascending model layer numbers, each at most 65535; borrowed during the
                               call. NULL: 0 .. n_layers-1 */
    uint32_t n_layers;      /**< 1 to 4096 */
    uint32_t block_tokens;  /**< tokens of a block, a power of two 1 to 4096; default 16 */
    uint32_t n_kv_heads;    /**< 1 to 4096, over all ranks */
    uint32_t k_dim;         /**< elements per head of K (or of the latent vector), 1 to 65536; 0 only for RECURRENT */
    uint32_t v_dim;         /**< elements per head of V, 0 to 65536; 0 for LATENT, INDEX and RECURRENT */
    larder_dtype k_dtype;   /**< default LARDER_DTYPE_F16 */
    larder_dtype v_dtype;   /**< default k_dtype */
    uint32_t scale_bytes;   /**< engine's own scales per token and layer, stored behind K and V; default 0 */
    uint32_t window;        /**< WINDOW: tokens seen, at least 1; otherwise 0 */
    uint32_t n_sinks;       /**< WINDOW: first tokens always kept; otherwise 0 */
    uint64_t state_bytes;   /**< RECURRENT: per sequence and layer; otherwise 0 */
    uint32_t checkpoint_tokens; /**< RECURRENT: a state is kept each so many tokens; otherwise 0 */
    larder_hit_rule hit_rule;   /**< default ALL; TRAILING for WINDOW and RECURRENT */
    larder_shard shard;         /**< default SPLIT; REPLICATED for LATENT */
    larder_group_role role;     /**< default TARGET */
} larder_layer_group;

#define LARDER_LAYER_GROUP_INIT                                                                                        \
    { sizeof(larder_layer_group), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** How faithful stored K and V are to what was computed. What was computed on top of approximate data is approximate
 * too. */
typedef int32_t larder_quality;
enum {
    LARDER_QUALITY_EXACT = 1,      /**< bit-identical, NaN payloads and signed zeros included */
    LARDER_QUALITY_APPROXIMATE = 2 /**< went through a lossy codec, or was computed after such a prefix */
};

typedef int32_t larder_rope;
enum {
    LARDER_ROPE_POST = 1 /**< keys are cached after rotation */,
    LARDER_ROPE_PRE = 2 /**< before */,
    LARDER_ROPE_NONE = 3
};

/** Options of larder_layout_create(). */
typedef struct larder_layout_options {
    uint32_t struct_size;
    uint32_t n_groups;                /**< 1 to 64 */
    const larder_layer_group* groups; /**< array with group_stride bytes between elements; borrowed during the call */
    uint32_t group_stride;            /**< sizeof(larder_layer_group) of the caller */
    larder_rope rope;                 /**< default POST */
    double rope_base;                 /**< default 10000 */
    larder_span model_digest; /**< anything that names the weights (a file's SHA-256, a revision string); part of the
                                 identity; at most 65536 bytes, may be empty */
    larder_span tokenizer_digest; /**< likewise for the tokenizer; may be empty */
    uint32_t vocab_size;          /**< tokens are 0 .. vocab_size-1; 0: any int32 that is not negative */
    uint32_t reserved0;
} larder_layout_options;

#define LARDER_LAYOUT_OPTIONS_INIT                                                                                     \
    { sizeof(larder_layout_options), 0, 0, 0, 0, 0, {0, 0}, {0, 0}, 0, 0 }

/** Create a layout. Everything is copied; a layout never changes.
 *  @return LARDER_OK; LARDER_E_INVALID or LARDER_E_RANGE with the field's name; LARDER_E_TOO_NEW; LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_layout_create(larder_context* context, const larder_layout_options* options,
                                              larder_layout** out_layout) LARDER_NOEXCEPT;

/** Give the caller's hold back. What was made with the layout keeps it alive. NULL is allowed.  @threads internally
 * synchronised  @since 0.1 */
LARDER_API void larder_layout_destroy(larder_layout* layout) LARDER_NOEXCEPT;

/** Sizes that follow from a layout, for one group and one rank of n_tp. */
typedef struct larder_group_info {
    uint32_t struct_size;
    larder_group_kind kind;
    uint32_t n_layers;
    uint32_t block_tokens;
    uint32_t n_kv_heads; /**< of this rank */
    uint32_t reserved0;
    uint64_t k_token_bytes; /**< K of one token and layer */
    uint64_t v_token_bytes;
    uint64_t layer_block_bytes; /**< one block of one layer: K [block_tokens][n_kv_heads][k_dim], then V
                                   [block_tokens][n_kv_heads][v_dim], then the scales */
    uint64_t block_bytes;       /**< one block over the group's layers */
} larder_group_info;

#define LARDER_GROUP_INFO_INIT                                                                                         \
    { sizeof(larder_group_info), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** @param n_tp  tensor-parallel ranks that share the kv heads, at least 1; must divide n_kv_heads of a SPLIT group.
 *  @return LARDER_OK; LARDER_E_RANGE (group, n_tp); LARDER_E_INVALID.  @threads const  @since 0.1 */
LARDER_API larder_status larder_layout_group_info(const larder_layout* layout, uint32_t group, uint32_t n_tp,
                                                  larder_group_info* out) LARDER_NOEXCEPT;

/** The identity: BLAKE2b-256 over every field above in a frozen order (docs/formats/keys.md).
 *  @return LARDER_OK; LARDER_E_INVALID.  @threads const  @since 0.1 */
LARDER_API larder_status larder_layout_identity(const larder_layout* layout, larder_key* out_identity) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
