/** @file adapter.h
 *  @brief Adapters as checksummed byte strings: matrices of few bits per weight, and modules that share no weight.
 *
 *  CODED holds matrices at 1, 2 or 4 bits per weight: each is normalised by its own mean and deviation, and a weight
 * becomes the nearest of the medians of the normal distribution's cells (precision redundancy, arXiv 2307.16867). At
 * 1 bit a weight is mean +- 0.6745 deviations. It is meant for adapters trained that way; other adapters lose what the
 * rounding loses.
 *
 *  MODULES holds an optional base and several sparse modules of the same matrices, of which no two have a weight in
 * common (MoSA, arXiv 2312.02923). One map per matrix says whose each weight is, so that a set of modules can be merged
 * while loading, and can never count a weight twice.
 *
 *  The functions keep no state, allocate nothing, and are total: whatever the bytes are, they answer with a status. The
 * bytes are docs/formats/adapter.md.
 */
#ifndef LARDER_ADAPTER_H
#define LARDER_ADAPTER_H

#include "larder/context.h"

LARDER_EXTERN_C_BEGIN

typedef int32_t larder_adapter_kind;
enum { LARDER_ADAPTER_CODED = 1, LARDER_ADAPTER_MODULES = 2 };

#define LARDER_ADAPTER_MAX_MODULES 255

/** One matrix to store. */
typedef struct larder_adapter_matrix {
    uint32_t struct_size;
    uint32_t rows, cols; /**< at least 1; at most 2^28 weights */
    uint32_t reserved0;
    const char* name;    /**< 1 to 255 bytes, unlike those of the other matrices. Copied */
    const float* values; /**< [rows * cols], finite. CODED: the weights. MODULES: what every merge begins with, or NULL:
                            zeros; of all matrices or of none */
    const uint8_t* const* masks; /**< MODULES: [n_modules], each ceil(rows * cols / 8) bytes: bit i % 8 of byte i / 8
                                    set where the module has weight i. NULL for CODED */
    const float* const* modules; /**< MODULES: [n_modules], each [rows * cols], read where the mask says so. NULL for
                                    CODED */
} larder_adapter_matrix;

#define LARDER_ADAPTER_MATRIX_INIT                                                                                     \
    { sizeof(larder_adapter_matrix), 0, 0, 0, 0, 0, 0, 0 }

/** Options of larder_adapter_encode(). */
typedef struct larder_adapter_options {
    uint32_t struct_size;
    larder_adapter_kind kind; /**< default CODED */
    uint32_t bits;            /**< CODED: 1, 2 or 4; default 1 */
    uint32_t n_modules;       /**< MODULES: 1 to LARDER_ADAPTER_MAX_MODULES */
    larder_key identity;      /**< of the model and adapter, chosen by the caller; compared when it is read */
} larder_adapter_options;

#define LARDER_ADAPTER_OPTIONS_INIT                                                                                    \
    {                                                                                                                  \
        sizeof(larder_adapter_options), 0, 0, 0, {                                                                     \
            { 0 }                                                                                                      \
        }                                                                                                              \
    }

/** Write an adapter.
 *  @param matrices  [n_matrices], 1 to 65536, at a stride of matrices[0].struct_size. Borrowed
 *  @param out       may be NULL when capacity is 0, to ask for the size
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (out_n_bytes is set); LARDER_E_INVALID (a value that is not finite, a
 * name, two modules that share a weight: the message says which); LARDER_E_RANGE; LARDER_E_TOO_NEW.
 *  @threads any  @blocking computes  @since 0.1 */
LARDER_API larder_status larder_adapter_encode(const larder_adapter_options* options,
                                               const larder_adapter_matrix* matrices, uint32_t n_matrices, void* out,
                                               uint64_t capacity, uint64_t* out_n_bytes) LARDER_NOEXCEPT;

/** What an adapter says about itself. */
typedef struct larder_adapter_info {
    uint32_t struct_size;
    larder_adapter_kind kind;
    uint32_t n_matrices;
    uint32_t bits;      /**< CODED */
    uint32_t n_modules; /**< MODULES */
    uint32_t has_base;  /**< MODULES: 1 when every merge begins with stored values */
    uint64_t n_bytes;
    larder_key identity;
} larder_adapter_info;

#define LARDER_ADAPTER_INFO_INIT                                                                                       \
    {                                                                                                                  \
        sizeof(larder_adapter_info), 0, 0, 0, 0, 0, 0, {                                                               \
            { 0 }                                                                                                      \
        }                                                                                                              \
    }

/** Read and check header and directory; the matrices may be missing.
 *  @return LARDER_OK; LARDER_E_FORMAT; LARDER_E_VERSION; LARDER_E_TRUNCATED; LARDER_E_CORRUPT; LARDER_E_INVALID.
 *  @threads any  @blocking never  @since 0.1 */
LARDER_API larder_status larder_adapter_inspect(larder_span adapter, larder_adapter_info* out) LARDER_NOEXCEPT;

/** One stored matrix. */
typedef struct larder_adapter_entry {
    uint32_t struct_size;
    uint32_t rows, cols;
    uint32_t crc32c;  /**< over its bytes */
    uint64_t offset;  /**< from the adapter's first byte */
    uint64_t n_bytes; /**< as stored */
    char name[256];   /**< NUL-terminated */
} larder_adapter_entry;

#define LARDER_ADAPTER_ENTRY_INIT                                                                                      \
    { sizeof(larder_adapter_entry), 0, 0, 0, 0, 0, "" }

/** Describe a matrix.
 *  @return as larder_adapter_inspect(); LARDER_E_NOT_FOUND (index past the last one).
 *  @threads any  @blocking never  @since 0.1 */
LARDER_API larder_status larder_adapter_entry_at(larder_span adapter, uint32_t index,
                                                 larder_adapter_entry* out) LARDER_NOEXCEPT;

/** Decode one matrix, or merge modules of it: the base, or zeros, plus the weights of the chosen modules. The matrix's
 * checksum is verified first, and that its map gives every module exactly the weights that are stored for it; nothing
 * is written otherwise.
 *  @param expect_identity  NULL: not compared
 *  @param modules    MODULES: [n_modules] module numbers, each at most once; NULL: all. NULL for CODED
 *  @param out        [rows * cols]
 *  @param n_weights  rows * cols
 *  @return as larder_adapter_entry_at(); LARDER_E_IDENTITY; LARDER_E_INVALID (a module named twice); LARDER_E_RANGE (a
 * module that is not there); LARDER_E_BUFFER_TOO_SMALL (n_weights).
 *  @threads any  @blocking computes  @since 0.1 */
LARDER_API larder_status larder_adapter_decode(larder_span adapter, uint32_t index, const larder_key* expect_identity,
                                               const uint32_t* modules, uint32_t n_modules, float* out,
                                               uint64_t n_weights) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
