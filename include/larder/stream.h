/** @file stream.h
 *  @brief Streams: K and V of a range of tokens as one self-describing, checksummed, randomly readable byte string.
 *
 *  A stream states its own layout identity, content key, token range, shape, codec chain and quality, so it can be kept
 * in a file, sent, or read by a later version. It is divided into extents, one for each (layer, K or V, token chunk),
 * each with a CRC32C of its own: a reader decodes any layers and tokens without touching the rest. The format is
 * docs/formats/stream.md.
 *
 *  Nothing here keeps state: a stream is the caller's bytes. Every function is total: whatever the bytes are, it
 * answers with a status, reads nothing outside them and writes nothing outside the views. With a caller's workspace,
 * encoding and decoding allocate nothing.
 *
 *  Levels: a chain with "refine=2" makes streams of three quality levels in one object. The first is the chain without
 * refinement, to the last bit; each further one spends one bit per value and halves the quantizer's cells. Levels lie
 * one after the other, so that reading less of the stream is reading a coarser one.
 *
 *  Generations: larder_stream_append() continues a stream with further tokens without touching what is there. All verbs
 * take a stream with all its generations, and count tokens through them.
 *
 *  Statuses for stored bytes: LARDER_E_FORMAT (not a stream, or a stage that this library does not know and may not
 * skip), LARDER_E_VERSION (a newer major version), LARDER_E_TRUNCATED (shorter than it says), LARDER_E_CORRUPT (a
 * checksum or invariant does not hold), LARDER_E_IDENTITY (another layout or content than asked for),
 * LARDER_E_MISSING_PROFILE (names a profile that was not given). Below "the stored-data codes".
 */
#ifndef LARDER_STREAM_H
#define LARDER_STREAM_H

#include "larder/codec.h"

LARDER_EXTERN_C_BEGIN

/** Where K or V of one layer lies. Element d of head h of token t is at
 *  token_address(t) + h * head_stride + d * element size, where token_address(t) is base + t * token_stride, or with
 * pages pages[t / page_tokens] + page_offset + (t % page_tokens) * token_stride. Token 0 is the first token of the
 * stream (encode) or of the selection (decode). Elements need no alignment. */
typedef struct larder_stream_plane {
    void* base;            /**< used when pages is NULL; only read by encoding */
    void* const* pages;    /**< one address per page, or NULL. The same array may serve all layers, by page_offset */
    uint64_t page_offset;  /**< bytes from a page's address to this plane's first token */
    uint64_t token_stride; /**< bytes; 0: n_kv_heads * head_stride */
    uint64_t head_stride;  /**< bytes; 0: dim * element size */
    uint32_t page_tokens;  /**< tokens per page, at least 1 when pages is given */
    uint32_t reserved0;
} larder_stream_plane;

#define LARDER_STREAM_PLANE_INIT                                                                                       \
    { 0, 0, 0, 0, 0, 0, 0 }

/** What a stream is about. Copied into its header; nothing is derived from it. */
typedef struct larder_stream_identity {
    larder_key layout;    /**< larder_layout_identity() */
    larder_key content;   /**< content key of the tokens, chosen by the caller */
    uint64_t first_token; /**< position of the stream's first token in its sequence */
    larder_rope rope;     /**< state of the keys given; default LARDER_ROPE_POST */
    uint32_t reserved0;
} larder_stream_identity;

#define LARDER_STREAM_IDENTITY_INIT                                                                                    \
    { {{0}}, {{0}}, 0, 0, 0 }

/** What to encode. */
typedef struct larder_stream_source {
    uint32_t struct_size;
    uint32_t plane_stride; /**< sizeof(larder_stream_plane) of the caller */
    larder_stream_shape shape;
    larder_stream_identity identity;
    const larder_stream_plane* planes; /**< [2 * n_layers]: K of layer 0, V of layer 0, K of layer 1, ...; V planes are
                                          ignored when v_dim is 0. Borrowed */
    const float* saliency; /**< [n_tokens] or NULL: how much each token was attended to; chains with mixed precision
                              give salient tokens more bits and refuse NULL. Borrowed */
} larder_stream_source;

#define LARDER_STREAM_SOURCE_INIT                                                                                      \
    {                                                                                                                  \
        sizeof(larder_stream_source), sizeof(larder_stream_plane), LARDER_STREAM_SHAPE_INIT,                           \
            LARDER_STREAM_IDENTITY_INIT, 0, 0                                                                          \
    }

/** Encode into the caller's buffer.
 *  Lossy chains treat NaN as zero and clamp infinities to the largest finite value; lossless keeps every bit.
 *  @param out        at least larder_codec_sizes() bytes
 *  @param workspace  at least larder_codec_sizes() bytes of scratch, any alignment; NULL with workspace_bytes 0: taken
 * from the context's allocator
 *  @param out_n_bytes  the stream's length
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (capacity or workspace_bytes); LARDER_E_INVALID (a NULL plane, saliency
 * missing or not finite); LARDER_E_RANGE; LARDER_E_UNSUPPORTED (see larder_codec_sizes()); LARDER_E_TOO_NEW;
 * LARDER_E_NOMEM.
 *  @threads const: one codec, many threads  @blocking computes  @cost one pass over the tensors  @since 0.1 */
LARDER_API larder_status larder_stream_encode(const larder_codec* codec, const larder_stream_source* source, void* out,
                                              uint64_t capacity, void* workspace, uint64_t workspace_bytes,
                                              uint64_t* out_n_bytes) LARDER_NOEXCEPT;

/** What a stream says about itself. */
typedef struct larder_stream_info {
    uint32_t struct_size;
    larder_quality quality;
    larder_stream_shape shape;
    larder_stream_identity identity;
    uint64_t n_bytes;          /**< of the whole stream */
    uint64_t payload_bytes;    /**< of the extents, the rest being headers, index and profile */
    uint64_t decode_workspace; /**< scratch that larder_stream_decode() uses */
    uint32_t chunk_tokens;
    uint32_t n_chunks;    /**< token chunks */
    uint32_t has_profile; /**< 0 none, 1 embedded, 2 named by profile_hash */
    uint32_t reserved0;
    larder_key profile_hash;
    char chain[128];        /**< the codec chain as text, NUL-terminated */
    uint32_t n_levels;      /**< quality levels, 1 to 5: the fewest that a generation has */
    uint32_t n_generations; /**< at least 1 */
} larder_stream_info;

#define LARDER_STREAM_INFO_INIT                                                                                        \
    {                                                                                                                  \
        sizeof(larder_stream_info), 0, LARDER_STREAM_SHAPE_INIT, LARDER_STREAM_IDENTITY_INIT, 0, 0, 0, 0, 0, 0, 0,     \
            {{0}}, "", 0, 0                                                                                            \
    }

/** Read and check everything but the payload. The bytes may be the whole stream, or its beginning up to the payload
 * (then a missing rest is not an error, and only the generations that the bytes reach count). Of several generations,
 * tokens, bytes and chunks are added up, the workspace is the largest, the content key is the last one's, quality is
 * the worst; chain and profile are the first one's.
 *  @return LARDER_OK; the stored-data codes except IDENTITY and MISSING_PROFILE; LARDER_E_INVALID.
 *  @threads any  @blocking never  @cost a few hundred bytes  @since 0.1 */
LARDER_API larder_status larder_stream_inspect(larder_span stream, larder_stream_info* out) LARDER_NOEXCEPT;

/** One extent. */
typedef struct larder_stream_extent {
    uint64_t offset;      /**< from the stream's first byte */
    uint64_t n_bytes;     /**< as stored, padding included */
    uint32_t crc32c;      /**< over those bytes */
    uint32_t first_token; /**< relative to the stream */
    uint32_t n_tokens;
    uint32_t level; /**< 0: the base */
} larder_stream_extent;

/** Where the extents of a selection lie, on all levels: what must be read to decode it. Needs only the beginning of the
 * stream.
 *  @param out_extents  [capacity], in the order of the stream: level, layer, K before V, chunk. May be NULL when
 * capacity is 0
 *  @param out_n        how many there are
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (out_n is set); LARDER_E_RANGE (selection outside the stream); the
 * stored-data codes; LARDER_E_INVALID.
 *  @threads any  @blocking never  @since 0.1 */
LARDER_API larder_status larder_stream_plan_read(larder_span stream, uint32_t first_layer, uint32_t n_layers,
                                                 uint32_t first_token, uint32_t n_tokens,
                                                 larder_stream_extent* out_extents, uint32_t capacity,
                                                 uint32_t* out_n) LARDER_NOEXCEPT;

/** A part of a stream, for larder_stream_plan_ranges(). */
typedef struct larder_stream_selection {
    uint32_t struct_size;
    uint32_t first_layer, n_layers; /**< n_layers 0: all from first_layer on */
    uint32_t first_token, n_tokens; /**< n_tokens 0: all from first_token on */
    uint32_t first_level, n_levels; /**< n_levels 0: all from first_level on; 1 from 0: the base alone */
    uint32_t reserved0;
    uint64_t max_gap; /**< ranges with at most so many bytes between them become one */
} larder_stream_selection;

#define LARDER_STREAM_SELECTION_INIT                                                                                   \
    { sizeof(larder_stream_selection), 0, 0, 0, 0, 0, 0, 0, 0 }

/** A range of bytes. */
typedef struct larder_stream_range {
    uint64_t offset; /**< from the stream's first byte */
    uint64_t n_bytes;
} larder_stream_range;

/** The reads that bring a selection: layers x tokens x levels as few ranges of bytes, ascending. With the base decoded,
 * first_level 1 asks for what a refinement needs. Needs only the beginning of the stream (its generations' headers and
 * indexes).
 *  @param selection   NULL: everything
 *  @param out_ranges  [capacity]; may be NULL when capacity is 0
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (out_n is set); LARDER_E_RANGE (selection outside the stream); the
 * stored-data codes; LARDER_E_INVALID; LARDER_E_TOO_NEW.
 *  @threads any  @blocking never  @cost one look at each index entry  @since 0.1 */
LARDER_API larder_status larder_stream_plan_ranges(larder_span stream, const larder_stream_selection* selection,
                                                   larder_stream_range* out_ranges, uint32_t capacity,
                                                   uint32_t* out_n) LARDER_NOEXCEPT;

/** What a level costs and what it loses. */
typedef struct larder_stream_level {
    uint32_t struct_size;
    uint32_t level;            /**< 0: the base */
    uint64_t n_bytes;          /**< of the stream cut down to this level, everything counted */
    uint64_t payload_bytes;    /**< of this level's own extents */
    double bits_per_value;     /**< of the stream cut down to this level */
    double max_error_in_cells; /**< of a value that its code reaches, in units of the base quantizer's step: 0.5 for the
                                  base, half of that for each further level; 0 for exact chains, and for block, sparse
                                  and separable ones, whose cells have many sizes */
} larder_stream_level;

#define LARDER_STREAM_LEVEL_INIT                                                                                       \
    { sizeof(larder_stream_level), 0, 0, 0, 0, 0 }

/** Describe one level. Needs only the beginning of the stream.
 *  @return LARDER_OK; LARDER_E_NOT_FOUND (past the last level); the stored-data codes; LARDER_E_INVALID.
 *  @threads any  @blocking never  @since 0.1 */
LARDER_API larder_status larder_stream_describe_level(larder_span stream, uint32_t level,
                                                      larder_stream_level* out) LARDER_NOEXCEPT;

/** Encode further tokens as a new generation. What is written is to be stored right behind the stream's last byte; the
 * stream itself is only read. Codec and profile may be others than before; layers, heads, dimensions, dtypes, layout
 * identity and key state must be the same, and source->identity.first_token must be where the stream ends.
 * source->identity.content is the key of all tokens up to the new end.
 *  @param stream   the whole stream, with its generations
 *  @param out      at least larder_codec_sizes() bytes of the new tokens' shape
 *  @return as larder_stream_encode(); the stored-data codes for stream; LARDER_E_IDENTITY (another layout, shape or
 * position than the stream's).
 *  @threads const: one codec, many threads  @blocking computes  @since 0.1 */
LARDER_API larder_status larder_stream_append(const larder_codec* codec, larder_span stream,
                                              const larder_stream_source* source, void* out, uint64_t capacity,
                                              void* workspace, uint64_t workspace_bytes,
                                              uint64_t* out_n_bytes) LARDER_NOEXCEPT;

/** Cut a stream down to its first levels. Nothing is decoded: the result is, byte for byte, what encoding with so many
 * levels would have given. Generations stay.
 *  @param n_levels  1: the base alone. A stream that has fewer is copied
 *  @param out       may be NULL when capacity is 0, to ask for the size; must not overlap the stream
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (out_n_bytes is set); LARDER_E_RANGE (n_levels 0); the stored-data
 * codes; LARDER_E_INVALID.
 *  @threads any  @blocking never  @cost copies what stays and checks it  @since 0.1 */
LARDER_API larder_status larder_stream_truncate(larder_span stream, uint32_t n_levels, void* out, uint64_t capacity,
                                                uint64_t* out_n_bytes) LARDER_NOEXCEPT;

/** Encode a stream anew with another codec, as one generation. The tensors are decoded at the highest level into memory
 * of the codec's context, all of them. Layout, content, position and key state stay.
 *  @param profiles  [n_profiles] that the stream may name. Borrowed
 *  @param saliency  [tokens of the stream] or NULL, as in larder_stream_source
 *  @param out       at least larder_codec_sizes() bytes of the stream's shape
 *  @return as larder_stream_decode() and larder_stream_encode().
 *  @threads const: one codec, many threads  @blocking computes  @since 0.1 */
LARDER_API larder_status larder_stream_transcode(const larder_codec* codec, larder_span stream,
                                                 const larder_profile* const* profiles, uint32_t n_profiles,
                                                 const float* saliency, void* out, uint64_t capacity,
                                                 uint64_t* out_n_bytes) LARDER_NOEXCEPT;

/** Check a whole stream without decoding it: header, index, each extent's CRC32C, trailer.
 *  @param expect_layout, expect_content  NULL: not compared
 *  @return LARDER_OK; the stored-data codes; LARDER_E_INVALID.
 *  @threads any  @blocking never  @cost reads every byte once  @since 0.1 */
LARDER_API larder_status larder_stream_verify(larder_span stream, const larder_key* expect_layout,
                                              const larder_key* expect_content) LARDER_NOEXCEPT;

/** Accept a stream whose end is missing or torn. The highest level of which every extent is there and right is decoded,
 * and the result is LARDER_PARTIAL: whatever was written is verified. Tokens of a generation whose base is not whole do
 * not exist then. */
#define LARDER_STREAM_ALLOW_PARTIAL 1u

/** What to decode, and to where. */
typedef struct larder_stream_target {
    uint32_t struct_size;
    uint32_t plane_stride;                 /**< sizeof(larder_stream_plane) of the caller */
    uint32_t first_layer, n_layers;        /**< n_layers 0: all from first_layer on */
    uint32_t first_token, n_tokens;        /**< relative to the stream; n_tokens 0: all from first_token on */
    const larder_stream_plane* planes;     /**< [2 * n_layers] of the selection: K, V, K, V, ...; a plane with base and
                                              pages NULL is left out. Borrowed */
    const larder_profile* const* profiles; /**< [n_profiles] that streams may name. Borrowed */
    uint32_t n_profiles;
    uint32_t reserved0;
    const larder_key* expect_layout;  /**< NULL: any */
    const larder_key* expect_content; /**< NULL: any */
    void* workspace;                  /**< NULL: from the context's allocator */
    uint64_t workspace_bytes;         /**< at least larder_stream_info.decode_workspace when workspace is given */
    uint32_t n_levels;                /**< 1: the base alone, 2: with one refinement, ...; 0: all there are */
    uint32_t flags;                   /**< LARDER_STREAM_ALLOW_PARTIAL */
    uint32_t* out_n_levels;           /**< NULL, or set to the levels decoded: the fewest of a generation */
} larder_stream_target;

#define LARDER_STREAM_TARGET_INIT                                                                                      \
    { sizeof(larder_stream_target), sizeof(larder_stream_plane), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** Decode a selection into strided or paged memory. Verifies header, index, trailer and every extent that it reads
 * before using it; on an error some of the selection may have been written.
 *  @return LARDER_OK; LARDER_PARTIAL (LARDER_STREAM_ALLOW_PARTIAL: verified, but not all of the stream is there); the
 * stored-data codes; LARDER_E_RANGE (selection outside the stream); LARDER_E_BUFFER_TOO_SMALL (workspace_bytes);
 * LARDER_E_INVALID (a page size of zero, a reserved field); LARDER_E_TOO_NEW; LARDER_E_NOMEM.
 *  @threads any  @blocking computes  @since 0.1 */
LARDER_API larder_status larder_stream_decode(larder_context* context, larder_span stream,
                                              const larder_stream_target* target) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
