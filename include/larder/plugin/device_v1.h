/** @file device_v1.h
 *  @brief What a device plug-in (liblarder-cuda.so) offers to the library. Version 1, frozen: a later version is
 * another header and another symbol.
 *
 *  A plug-in is a shared library with one exported function, larder_device_plugin_v1(). The library opens it with
 * RTLD_NOW | RTLD_LOCAL, refuses a table of another version, and keeps it open. No function may throw, print or exit.
 * Statuses are those of larder/status.h; a failing function calls host->fail with its own code and one sentence before
 * it returns. Functions are called from any thread at once.
 */
#ifndef LARDER_PLUGIN_DEVICE_V1_H
#define LARDER_PLUGIN_DEVICE_V1_H

#include "larder/status.h"

LARDER_EXTERN_C_BEGIN

/** What the library lends to the plug-in; valid until close() of the device it was given with. */
typedef struct larder_device_host_v1 {
    uint32_t struct_size;
    uint32_t reserved0;
    void* ctx;
    void* (*alloc)(void* ctx, uint64_t n_bytes, uint64_t align); /**< NULL: no memory */
    void (*free)(void* ctx, void* ptr, uint64_t n_bytes, uint64_t align);
    void (*fail)(void* ctx, larder_status status, int32_t device_code,
                 const char* message); /**< detail for larder_last_error() */
} larder_device_host_v1;

typedef struct larder_device_info_v1 {
    int32_t kind; /**< larder_device_kind */
    int32_t ordinal;
    uint32_t host_visible;
    uint32_t can_map;
    uint64_t memory_bytes;
    uint64_t granularity_bytes;
    char name[64];
} larder_device_info_v1;

/** Move whole blocks between a pool and a packed array by a table of block numbers (int32, in device memory; a negative
 * number is skipped). */
typedef struct larder_device_gather_v1 {
    uint64_t pool;              /**< device address of block 0 */
    uint64_t packed;            /**< device address of the packed array: block i of the table lies at i * block_bytes */
    uint64_t table;             /**< device address of int32[n_blocks] */
    uint64_t block_bytes;       /**< a multiple of 16; all addresses and the stride as well */
    uint64_t pool_stride_bytes; /**< between blocks of the pool, at least block_bytes */
    uint32_t n_blocks;
    uint32_t scatter; /**< 0: pool to packed; 1: packed to pool */
} larder_device_gather_v1;

/** `d` is what open() gave. Meanings are those of the functions of the same names in larder/device.h. */
typedef struct larder_device_table_v1 {
    uint32_t version; /**< 1 */
    uint32_t struct_size;
    const char* name;       /**< what stands before the colon of a device name, such as "cuda" */
    int32_t (*score)(void); /**< 0: of no use on this machine; otherwise the higher the better */
    int32_t (*count)(void); /**< devices; 0 without a driver */
    larder_status (*open)(const larder_device_host_v1* host, int32_t ordinal, void** out_device);
    void (*close)(void* d);
    void (*info)(void* d, larder_device_info_v1* out);
    larder_status (*alloc)(void* d, uint64_t n_bytes, uint64_t* out_ptr);
    void (*free)(void* d, uint64_t ptr, uint64_t n_bytes);
    larder_status (*reserve)(void* d, uint64_t n_bytes, uint64_t* out_ptr);
    void (*unreserve)(void* d, uint64_t ptr, uint64_t n_bytes);
    larder_status (*page_create)(void* d, uint64_t n_bytes, uint64_t* out_page);
    void (*page_release)(void* d, uint64_t page);
    larder_status (*map)(void* d, uint64_t ptr, uint64_t n_bytes, uint64_t page, uint64_t page_offset);
    larder_status (*unmap)(void* d, uint64_t ptr, uint64_t n_bytes);
    larder_status (*stream_create)(void* d, uint64_t* out_stream);
    void (*stream_destroy)(void* d, uint64_t stream);
    larder_status (*stream_wait)(void* d, uint64_t stream, uint64_t event);
    larder_status (*event_create)(void* d, uint64_t* out_event);
    void (*event_destroy)(void* d, uint64_t event);
    larder_status (*event_record)(void* d, uint64_t event, uint64_t stream);
    larder_status (*event_query)(void* d, uint64_t event);
    larder_status (*event_wait)(void* d, uint64_t event);
    larder_status (*copy_in)(void* d, uint64_t dst, const void* src, uint64_t n_bytes, uint64_t stream);
    larder_status (*copy_out)(void* d, void* dst, uint64_t src, uint64_t n_bytes, uint64_t stream);
    larder_status (*copy)(void* d, uint64_t dst, uint64_t src, uint64_t n_bytes, uint64_t stream);
    larder_status (*fill_zero)(void* d, uint64_t dst, uint64_t n_bytes, uint64_t stream);
    larder_status (*gather)(void* d, const larder_device_gather_v1* g, uint64_t stream);
    /** Host memory that the device can read while the host writes it. */
    larder_status (*pinned_alloc)(void* d, uint64_t n_bytes, void** out_host, uint64_t* out_ptr);
    void (*pinned_free)(void* d, void* host);
    /** The stream goes on once (int32_t)(*ptr - value) >= 0; ptr is the device's address of a pinned uint32_t. */
    larder_status (*stream_wait_u32)(void* d, uint64_t stream, uint64_t ptr, uint32_t value);
} larder_device_table_v1;

/** The one symbol of a plug-in. Returns a table in static storage. */
typedef const larder_device_table_v1* (*larder_device_plugin_v1_fn)(void);
#define LARDER_DEVICE_PLUGIN_V1_SYMBOL "larder_device_plugin_v1"

LARDER_EXTERN_C_END
#endif
