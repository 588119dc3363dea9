/** @file codec.h
 *  @brief Codecs: how a piece of KV cache becomes a stream (stream.h), and the profiles that some of them are
 * calibrated with.
 *
 *  A codec is a chain of stages, named by one line of text: a preset such as "lossless" or "int4", or a quantizer with
 * its settings, such as "affine bits=4 axis=channel group=32 entropy=rans". Settings after a preset override it: "int8
 * group=64". larder_codec_list() enumerates the presets with the size that each gives, what it loses and what it needs.
 * The language of chains is docs/guide/streams.md.
 *
 *  A codec never changes after it was opened and may be used by many threads at once. Encoding is deterministic: the
 * same bytes on every processor and instruction set (the bytes that zstd makes excepted, which depend on zstd's
 * version), and so is decoding.
 *
 *  Reading a stream needs no codec: the stream says how it was made. Only a profile that a stream names, and does not
 * carry, must be at hand.
 */
#ifndef LARDER_CODEC_H
#define LARDER_CODEC_H

#include "larder/layout.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_codec larder_codec;
typedef struct larder_profile larder_profile;

/** What one layer of a stream holds: K and V of n_tokens tokens, [token][head][dim]. */
typedef struct larder_stream_shape {
    uint32_t struct_size;
    uint32_t n_layers;    /**< 1 to 4096 */
    uint32_t n_tokens;    /**< 1 to 2^24 */
    uint32_t n_kv_heads;  /**< 1 to 4096 */
    uint32_t k_dim;       /**< elements per head of K, 1 to 65536 */
    uint32_t v_dim;       /**< elements per head of V, 0 to 65536; 0: there is no V */
    larder_dtype k_dtype; /**< default LARDER_DTYPE_F16 */
    larder_dtype v_dtype; /**< default k_dtype */
} larder_stream_shape;

#define LARDER_STREAM_SHAPE_INIT                                                                                       \
    { sizeof(larder_stream_shape), 0, 0, 0, 0, 0, 0, 0 }

#define LARDER_CODEC_NEEDS_PROFILE 1u /**< a calibrated profile: without one the codec cannot be opened */
#define LARDER_CODEC_USES_PROFILE 2u  /**< a profile makes it smaller, but it works without */
#define LARDER_CODEC_FLOAT_ONLY 4u    /**< for F16, BF16 and F32 data only */
#define LARDER_CODEC_TAKES_INPUT                                                                                       \
    16u /**< meant for the layers' inputs (K planes of one head, v_dim 0), from which the                              \
           engine computes K and V again */
#define LARDER_CODEC_NEEDS_SALIENCY 8u /**< larder_stream_source.saliency: without it encoding is refused */

/** One preset. Filled by larder_codec_list(). */
typedef struct larder_codec_info {
    uint32_t struct_size;
    larder_quality quality;
    uint32_t needs; /**< LARDER_CODEC_* */
    uint32_t reserved0;
    double bits_per_value;   /**< with side data, for F16, 128 channels, 256 tokens; where it depends on the data, on
                                typical KV */
    const char* name;        /**< static storage */
    const char* chain;       /**< the preset written out; static storage */
    const char* description; /**< one line; static storage */
} larder_codec_info;

#define LARDER_CODEC_INFO_INIT                                                                                         \
    { sizeof(larder_codec_info), 0, 0, 0, 0, 0, 0, 0 }

/** The index-th preset.
 *  @return LARDER_OK; LARDER_E_NOT_FOUND past the last one; LARDER_E_INVALID.
 *  @threads any  @blocking never  @since 0.1 */
LARDER_API larder_status larder_codec_list(uint32_t index, larder_codec_info* out) LARDER_NOEXCEPT;

/** Options of larder_codec_open(). */
typedef struct larder_codec_options {
    uint32_t struct_size;
    uint32_t chunk_tokens; /**< tokens of an independently readable extent, 1 to 65536; default: the chain's, mostly
                              256. Random access reads whole chunks; small ones cost a few bytes each */
    const char* chain;     /**< preset or chain; NULL: "lossless". Copied */
    const larder_profile* profile; /**< may be NULL; the codec keeps a reference of its own */
    uint32_t embed_profile;        /**< 1: streams carry the profile; 0: they name it by its hash */
    uint32_t reserved0;
} larder_codec_options;

#define LARDER_CODEC_OPTIONS_INIT                                                                                      \
    { sizeof(larder_codec_options), 0, 0, 0, 0, 0 }

#define LARDER_CODEC_STAGE_FIRST_ID 0x8000u /**< of stages that programs register; up to 0xffff */

/** A stage of the program's own: it works on the bytes of each coded extent, after entropy coding, and undoes that
 * before decoding. "int4 stage=NAME" makes streams with it; they carry id and version, and only a context that has both
 * registered decodes them (inspecting, verifying and cutting them down needs neither).
 *  Callbacks are called on the threads that encode and decode, several at a time; they must not call Larder, throw or
 * longjmp. drop (may be NULL) is called once, when the context is destroyed. */
typedef struct larder_codec_stage {
    uint32_t struct_size;
    uint32_t id;      /**< LARDER_CODEC_STAGE_FIRST_ID to 0xffff; unlike those of other stages */
    uint32_t version; /**< 1 to 255 of the bytes that encode makes */
    uint32_t reserved0;
    const char* name; /**< in chains: 1 to 31 of a-z, 0-9, '-' and '_', a letter first. Copied */
    /** The most bytes that encode makes of n_bytes; at most 2 n_bytes + 65536, never less for more. */
    uint64_t (*bound)(void* ctx, uint64_t n_bytes);
    /** Any status but LARDER_OK, or no fewer bytes than the extent's elements have: the extent is stored uncoded. The
     * same input must give the same bytes. */
    larder_status (*encode)(void* ctx, const void* in, uint64_t n_bytes, void* out, uint64_t capacity,
                            uint64_t* out_n_bytes);
    /** Total: whatever the bytes are. Any status but LARDER_OK is LARDER_E_CORRUPT for the reader. */
    larder_status (*decode)(void* ctx, const void* in, uint64_t n_bytes, void* out, uint64_t capacity,
                            uint64_t* out_n_bytes);
    void* ctx;
    void (*drop)(void* ctx);
} larder_codec_stage;

#define LARDER_CODEC_STAGE_INIT                                                                                        \
    { sizeof(larder_codec_stage), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** Make a stage known to a context, for good.
 *  @return LARDER_OK; LARDER_E_EXISTS (its id or name is taken); LARDER_E_NOSPACE (16 stages); LARDER_E_INVALID (a NULL
 * callback, the name); LARDER_E_RANGE (id, version); LARDER_E_TOO_NEW. On failure drop is not called.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_codec_stage_register(larder_context* context,
                                                     const larder_codec_stage* stage) LARDER_NOEXCEPT;

/** Open a codec.
 *  @return LARDER_OK; LARDER_E_NOT_FOUND (no such preset, quantizer or setting: the message names it);
 * LARDER_E_INVALID, LARDER_E_RANGE (a setting's value); LARDER_E_MISSING_PROFILE (the chain needs one);
 * LARDER_E_TOO_NEW; LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_codec_open(larder_context* context, const larder_codec_options* options,
                                           larder_codec** out_codec) LARDER_NOEXCEPT;

/** Close a codec. NULL is allowed.  @threads no other call on this codec may run  @since 0.1 */
LARDER_API void larder_codec_close(larder_codec* codec) LARDER_NOEXCEPT;

/** What every stream of this codec is: EXACT or APPROXIMATE.
 *  @return LARDER_OK; LARDER_E_INVALID.  @threads const  @since 0.1 */
LARDER_API larder_status larder_codec_quality(const larder_codec* codec, larder_quality* out_quality) LARDER_NOEXCEPT;

/** Sizes for one shape. Both are upper limits that hold for any data.
 *  @param out_bound      bytes that larder_stream_encode() may write; may be NULL
 *  @param out_workspace  bytes of scratch that larder_stream_encode() uses; may be NULL
 *  @return LARDER_OK; LARDER_E_INVALID; LARDER_E_RANGE (a count of zero or too large, over 2^40 values);
 * LARDER_E_UNSUPPORTED (a lossy chain on integer or 8-bit float data, a dimension that the chain's groups do not
 * divide, another layer count or width than the profile's).
 *  @threads const  @blocking never  @since 0.1 */
LARDER_API larder_status larder_codec_sizes(const larder_codec* codec, const larder_stream_shape* shape,
                                            uint64_t* out_bound, uint64_t* out_workspace) LARDER_NOEXCEPT;

/** @name Profiles
 *  A profile holds what was learnt about a model from sample caches: channel means, steps and probability tables, per
 * layer and K or V. It belongs to one layout (layers, heads, dimensions), is used for every prompt of that model, and
 * is a few kilobytes. It may hold several precision levels. A profile is first calibrated (larder_profile_add() any
 * number of times, then larder_profile_finish()) or loaded, then used; it never changes afterwards.
 *  @{ */

#define LARDER_PROFILE_MAX_LEVELS 8
#define LARDER_PROFILE_NO_BASIS UINT32_MAX

/** Options of larder_profile_create(). */
typedef struct larder_profile_options {
    uint32_t struct_size;
    uint32_t n_levels;   /**< precision levels, 1 to LARDER_PROFILE_MAX_LEVELS; default 3. Level 0 is the finest */
    const double* steps; /**< [n_levels] quantizer steps in units of a channel's standard deviation, ascending, each
                            1/64 to 8; default {0.5, 1, 1.5, 2, 3, 4, 6, 8}. Borrowed during the call */
    larder_stream_shape shape; /**< of the caches to come; n_tokens does not matter */
    larder_rope rope; /**< POST: keys of samples and streams are rotated, and are coded before rotation; default NONE
                         (keys are taken as they are) */
    uint32_t rope_interleaved; /**< 1: pairs are (2i, 2i+1); 0: (i, i + k_dim/2) */
    double rope_base;          /**< default 10000 */
    uint32_t rope_dims;        /**< leading dimensions of a head that are rotated, even; default k_dim */
    uint32_t basis_heads;      /**< heads whose channels all levels but 0 decorrelate together: a divisor of n_kv_heads,
                                  at most 1024 channels; default: as many as make at most 256 channels, or one.
                                  LARDER_PROFILE_NO_BASIS: none. Every value costs one multiplication and addition per
                                  channel of a block, and the profile 2 bytes per channel and channel of a block */
} larder_profile_options;

#define LARDER_PROFILE_OPTIONS_INIT                                                                                    \
    { sizeof(larder_profile_options), 0, 0, LARDER_STREAM_SHAPE_INIT, 0, 0, 0, 0, 0 }

/** Begin a calibration.
 *  @return LARDER_OK; LARDER_E_INVALID, LARDER_E_RANGE; LARDER_E_UNSUPPORTED (not a float dtype); LARDER_E_TOO_NEW;
 * LARDER_E_NOMEM.
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_profile_create(larder_context* context, const larder_profile_options* options,
                                               larder_profile** out_profile) LARDER_NOEXCEPT;

/** Drop a profile. Codecs that use it keep it alive. NULL is allowed.  @threads internally synchronised  @since 0.1 */
LARDER_API void larder_profile_destroy(larder_profile* profile) LARDER_NOEXCEPT;

/** Say how strongly each channel is read, so that precision goes where it matters: for keys the root mean square of the
 * queries that meet the channel, for values the norm of the output projection's rows. Only ratios within a layer
 * matter. Without it all channels weigh the same. To be called before larder_profile_finish().
 *  @param kv       0: K, 1: V
 *  @param weights  [n_kv_heads * dim], each positive and finite; copied
 *  @return LARDER_OK; LARDER_E_STATE (finished already); LARDER_E_RANGE (layer, kv, n); LARDER_E_INVALID (a weight).
 *  @threads one at a time  @since 0.1 */
LARDER_API larder_status larder_profile_set_reader(larder_profile* profile, uint32_t layer, uint32_t kv,
                                                   const float* weights, uint32_t n) LARDER_NOEXCEPT;

struct larder_stream_source;
/** Learn from one sample: the same description that larder_stream_encode() takes. Memory does not grow with the number
 * of samples: 1 to 2 KB per channel, and up to 8192 whole tokens, in 256 MiB where that holds at least 512. Samples may
 * be given twice over: the probability tables are fitted in finish() from a histogram at the finest resolution.
 *  @return LARDER_OK; LARDER_E_STATE (finished already); LARDER_E_INVALID (another shape than the profile's).
 *  @threads one at a time  @blocking computes  @since 0.1 */
LARDER_API larder_status larder_profile_add(larder_profile* profile,
                                            const struct larder_stream_source* sample) LARDER_NOEXCEPT;

/** End the calibration: fix steps and tables.
 *  @return LARDER_OK; LARDER_E_STATE (finished already, or fewer than 32 tokens were seen); LARDER_E_NOMEM.
 *  @threads one at a time  @blocking computes  @since 0.1 */
LARDER_API larder_status larder_profile_finish(larder_profile* profile) LARDER_NOEXCEPT;

/** The hash that streams name it by: BLAKE2b-256 of its saved form.
 *  @return LARDER_OK; LARDER_E_STATE (not finished); LARDER_E_INVALID.  @threads const  @since 0.1 */
LARDER_API larder_status larder_profile_hash(const larder_profile* profile, larder_key* out_hash) LARDER_NOEXCEPT;

/** Write the saved form (docs/formats/stream.md).
 *  @param buffer  may be NULL when capacity is 0, to ask for the size
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (out_n_bytes is set); LARDER_E_STATE (not finished); LARDER_E_INVALID.
 *  @threads const  @since 0.1 */
LARDER_API larder_status larder_profile_save(const larder_profile* profile, void* buffer, uint64_t capacity,
                                             uint64_t* out_n_bytes) LARDER_NOEXCEPT;

/** Read the saved form; the result is finished.
 *  @return LARDER_OK; LARDER_E_FORMAT; LARDER_E_VERSION; LARDER_E_CORRUPT; LARDER_E_TRUNCATED; LARDER_E_NOMEM;
 * LARDER_E_INVALID.
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_profile_load(larder_context* context, larder_span bytes,
                                             larder_profile** out_profile) LARDER_NOEXCEPT;
/** @} */

LARDER_EXTERN_C_END
#endif
