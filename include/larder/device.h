/** @file device.h
 *  @brief Devices: accelerator memory, streams, events and copies, the same for host memory, a simulated accelerator
 * and CUDA.
 *
 *  Three names are known. "host": plain memory, a copy is done when its call returns. "sim": a simulated accelerator
 * with its own memory, a granularity, and streams that take time; what an engine does wrong with streams and events
 * goes wrong on it as well, without a GPU. "cuda:0", "cuda:1", ...: a GPU, through liblarder-cuda.so, which is opened
 * when it is first asked for. Machines without the plug-in or without a driver answer LARDER_E_NO_DEVICE, which is no
 * failure of the library.
 *
 *  Addresses are numbers of 64 bits in the device's space. On a host-visible device they are CPU addresses; on CUDA
 * they are CUdeviceptr. A stream of 0 is the default stream; on CUDA any CUstream or cudaStream_t of the same device
 * may be given as a number.
 *
 *  Work on a stream is ordered. Between streams, and between a stream and the host, only events order. Host memory
 * given to a copy belongs to the copy until an event recorded behind it is done.
 */
#ifndef LARDER_DEVICE_H
#define LARDER_DEVICE_H

#include "larder/context.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_device larder_device;

/** An address in a device's memory. */
typedef uint64_t larder_device_ptr;
/** A stream; 0 is the default one. */
typedef uint64_t larder_stream_id;
/** An event of a device. */
typedef uint64_t larder_event_id;

typedef int32_t larder_device_kind;
enum { LARDER_DEVICE_HOST = 1, LARDER_DEVICE_SIMULATED = 2, LARDER_DEVICE_CUDA = 3 };

/** Options of larder_device_open(). Zero means default. The sim_ fields are for "sim" only and must be zero otherwise.
 */
typedef struct larder_device_options {
    uint32_t struct_size;
    uint32_t reserved0;
    const char* name;                   /**< "host" (default), "sim", "cuda" (the same as "cuda:0") or "cuda:N" */
    uint64_t sim_memory_bytes;          /**< default 1 GiB */
    uint64_t sim_granularity_bytes;     /**< unit of mapping, a power of two of at least 4096; default 2 MiB */
    uint64_t sim_bandwidth_bytes_per_s; /**< between host and device, default 25e9; copies within the device are ten
                                           times as fast */
    uint64_t sim_latency_ns;            /**< of each operation on a stream, default 5000 */
} larder_device_options;

#define LARDER_DEVICE_OPTIONS_INIT                                                                                     \
    { sizeof(larder_device_options), 0, 0, 0, 0, 0, 0 }

/** Open a device.
 *  @return LARDER_OK; LARDER_E_NO_DEVICE (no plug-in, no driver, no GPU of that number; the message says which);
 * LARDER_E_INVALID (name, a sim_ field with another device, out_device NULL); LARDER_E_RANGE (a sim_ field);
 * LARDER_E_UNSUPPORTED (a plug-in of another version); LARDER_E_DEVICE; LARDER_E_NOMEM; LARDER_E_TOO_NEW.
 *  @threads internally synchronised  @blocking opening the plug-in and the driver may take seconds the first time
 * @since 0.1 */
LARDER_API larder_status larder_device_open(larder_context* context, const larder_device_options* options,
                                            larder_device** out_device) LARDER_NOEXCEPT;

/** Give the caller's hold back. What was made with the device keeps it open. Memory, streams and events that were made
 * by the calls of this header must be gone. NULL is allowed.  @threads internally synchronised  @blocking waits for
 * work in flight  @since 0.1 */
LARDER_API void larder_device_close(larder_device* device) LARDER_NOEXCEPT;

/** What a device is. */
typedef struct larder_device_info {
    uint32_t struct_size;
    larder_device_kind kind;
    int32_t ordinal;
    uint32_t host_visible; /**< 1: the CPU may follow its addresses */
    uint32_t can_map;      /**< 1: address ranges can be reserved and mapped piece by piece */
    uint32_t reserved0;
    uint64_t memory_bytes;      /**< in all */
    uint64_t granularity_bytes; /**< unit of mapping */
    char name[64];              /**< such as "NVIDIA H100 80GB HBM3"; NUL-terminated */
} larder_device_info;

#define LARDER_DEVICE_INFO_INIT                                                                                        \
    { sizeof(larder_device_info), 0, 0, 0, 0, 0, 0, 0, "" }

/** @return LARDER_OK; LARDER_E_INVALID.  @threads const  @since 0.1 */
LARDER_API larder_status larder_device_get_info(const larder_device* device, larder_device_info* out) LARDER_NOEXCEPT;

/** Allocate device memory, at least 256-byte aligned. Contents are arbitrary.
 *  @return LARDER_OK; LARDER_E_DEVICE_NOMEM; LARDER_E_DEVICE_LOST; LARDER_E_DEVICE; LARDER_E_INVALID (n_bytes 0, NULL).
 *  @threads internally synchronised  @blocking may wait for the device  @since 0.1 */
LARDER_API larder_status larder_device_alloc(larder_device* device, uint64_t n_bytes,
                                             larder_device_ptr* out_ptr) LARDER_NOEXCEPT;

/** Free device memory; n_bytes as allocated. No work on it may be in flight. 0 is allowed.  @threads internally
 * synchronised  @since 0.1 */
LARDER_API void larder_device_free(larder_device* device, larder_device_ptr ptr, uint64_t n_bytes) LARDER_NOEXCEPT;

/** Make a stream.  @return LARDER_OK; LARDER_E_DEVICE_LOST; LARDER_E_DEVICE; LARDER_E_INVALID.  @threads internally
 * synchronised  @since 0.1 */
LARDER_API larder_status larder_device_stream_create(larder_device* device,
                                                     larder_stream_id* out_stream) LARDER_NOEXCEPT;

/** Destroy a stream of larder_device_stream_create(); its work goes to its end.  @threads internally synchronised
 * @since 0.1 */
LARDER_API void larder_device_stream_destroy(larder_device* device, larder_stream_id stream) LARDER_NOEXCEPT;

/** Work given to the stream from now on starts after what was recorded in the event is done. An event that was never
 * recorded holds nothing up.
 *  @return LARDER_OK; LARDER_E_DEVICE_LOST; LARDER_E_DEVICE; LARDER_E_INVALID (no such stream or event).  @threads
 * internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_device_stream_wait(larder_device* device, larder_stream_id stream,
                                                   larder_event_id event) LARDER_NOEXCEPT;

/** Make an event.  @return LARDER_OK; LARDER_E_DEVICE_LOST; LARDER_E_DEVICE; LARDER_E_INVALID.  @threads internally
 * synchronised  @since 0.1 */
LARDER_API larder_status larder_device_event_create(larder_device* device, larder_event_id* out_event) LARDER_NOEXCEPT;

/** Destroy an event.  @threads internally synchronised  @since 0.1 */
LARDER_API void larder_device_event_destroy(larder_device* device, larder_event_id event) LARDER_NOEXCEPT;

/** The event now stands for all work given to the stream so far.
 *  @return LARDER_OK; LARDER_E_DEVICE_LOST; LARDER_E_DEVICE; LARDER_E_INVALID.  @threads internally synchronised
 * @blocking never  @since 0.1 */
LARDER_API larder_status larder_device_event_record(larder_device* device, larder_event_id event,
                                                    larder_stream_id stream) LARDER_NOEXCEPT;

/** @return LARDER_OK when all that was recorded is done, LARDER_PENDING otherwise; LARDER_E_DEVICE_LOST;
 * LARDER_E_DEVICE; LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_device_event_query(larder_device* device, larder_event_id event) LARDER_NOEXCEPT;

/** Wait on the host until all that was recorded is done.
 *  @return LARDER_OK; LARDER_E_DEVICE_LOST; LARDER_E_DEVICE; LARDER_E_INVALID.  @threads internally synchronised
 * @blocking waits for the device  @since 0.1 */
LARDER_API larder_status larder_device_event_wait(larder_device* device, larder_event_id event) LARDER_NOEXCEPT;

/** Copy host memory to the device, in stream order. The source belongs to the copy until it is done.
 *  @return LARDER_OK (given to the stream); LARDER_E_DEVICE_LOST; LARDER_E_DEVICE; LARDER_E_INVALID (NULL, no such
 * stream, outside the device's memory; on the host device, which may be given any memory of the process: a range that
 * begins in memory of the device and ends outside it).
 *  @threads internally synchronised  @blocking never, except that CUDA may stage pageable memory  @since 0.1 */
LARDER_API larder_status larder_device_copy_in(larder_device* device, larder_device_ptr dst, const void* src,
                                               uint64_t n_bytes, larder_stream_id stream) LARDER_NOEXCEPT;

/** Copy device memory to the host, in stream order; otherwise as larder_device_copy_in().
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_device_copy_out(larder_device* device, void* dst, larder_device_ptr src,
                                                uint64_t n_bytes, larder_stream_id stream) LARDER_NOEXCEPT;

/** Copy within the device, in stream order. The ranges must not overlap. Otherwise as larder_device_copy_in().
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_device_copy(larder_device* device, larder_device_ptr dst, larder_device_ptr src,
                                            uint64_t n_bytes, larder_stream_id stream) LARDER_NOEXCEPT;

/** Fill with zeros, in stream order. Otherwise as larder_device_copy_in().
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_device_fill_zero(larder_device* device, larder_device_ptr dst, uint64_t n_bytes,
                                                 larder_stream_id stream) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
