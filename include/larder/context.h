/** @file context.h
 *  @brief The context: allocator, workers, tuning knobs, capabilities and statistics of one use of Larder.
 *
 *  Everything else is created from a context and must be destroyed before it. A process may have several; they share
 * nothing: handles of two contexts given to one call are LARDER_E_INVALID.
 */
#ifndef LARDER_CONTEXT_H
#define LARDER_CONTEXT_H

#include "larder/status.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_context larder_context;

/** Severity of a log line. */
typedef int32_t larder_log_level;
enum { LARDER_LOG_ERROR = 1, LARDER_LOG_WARNING = 2, LARDER_LOG_INFO = 3, LARDER_LOG_DEBUG = 4 };

/** Receives log lines. The library itself never prints. fn may be called from any thread, also from a worker, and must
 * not call Larder, throw or longjmp. No path, key or token text is ever in a line. drop (may be NULL) is called once
 * when the context goes. */
typedef struct larder_log_sink {
    void (*fn)(void* ctx, larder_log_level level, const char* line);
    void* ctx;
    void (*drop)(void* ctx);
} larder_log_sink;

#define LARDER_CONTEXT_SET_N_WORKERS 1u /**< n_workers is given, also when 0 */

/** Options of larder_context_create(). Zero means default. */
typedef struct larder_context_options {
    uint32_t struct_size;
    uint32_t set_mask;  /**< LARDER_CONTEXT_SET_* */
    uint32_t n_workers; /**< threads for jobs: 0 to 64, default 2. 0: jobs advance only inside progress, poll and wait
                           calls. Results never depend on it. */
    uint32_t log_level; /**< the most talkative larder_log_level delivered; default LARDER_LOG_WARNING */
    const larder_allocator* allocator; /**< copied; NULL: the C library's */
    larder_log_sink log;               /**< fn NULL: no log */
    uint64_t seed;                     /**< for ids and sampling; 0: from the system */
} larder_context_options;

#define LARDER_CONTEXT_OPTIONS_INIT                                                                                    \
    { sizeof(larder_context_options), 0, 0, 0, 0, {0, 0, 0}, 0 }

/** Create a context.
 *  @param options  NULL: all defaults. Copied.
 *  @param out_context  receives the handle, owned by the caller until larder_context_destroy().
 *  @return LARDER_OK; LARDER_E_INVALID (out_context NULL, an allocator without both functions, a reserved field not
 * zero); LARDER_E_RANGE (n_workers above 64, log_level above 4); LARDER_E_TOO_NEW; LARDER_E_NOMEM; LARDER_E_SYSTEM (no
 * thread could be started).
 *  @threads any  @blocking starts n_workers threads  @since 0.1 */
LARDER_API larder_status larder_context_create(const larder_context_options* options,
                                               larder_context** out_context) LARDER_NOEXCEPT;

/** Destroy a context. Jobs that are still queued are cancelled, running ones are waited for. Objects made from the
 * context must be gone; what is still alive is leaked, not freed under its user, and larder_context_destroy() then
 * returns LARDER_E_BUSY and does nothing.
 *  @return LARDER_OK (also for NULL); LARDER_E_BUSY with the kind of object in the message.
 *  @threads no other call on this context may run  @blocking waits for running jobs  @since 0.1 */
LARDER_API larder_status larder_context_destroy(larder_context* context) LARDER_NOEXCEPT;

/** Advance queued work on the calling thread: with n_workers 0 the only engine besides poll and wait, otherwise a
 * helping hand.
 *  @param max_tasks  at most so many tasks are run; 0: all that are ready now.
 *  @return LARDER_OK when nothing is left to do, LARDER_PENDING when work remains; LARDER_E_FORKED.
 *  @threads internally synchronised  @blocking may do I/O  @since 0.1 */
LARDER_API larder_status larder_context_progress(larder_context* context, uint32_t max_tasks) LARDER_NOEXCEPT;

/** Sticky tuning knobs. The environment variable LARDER_<NAME> is read once, when the context is created, and is
 * overridden by larder_context_set_u64(). */
typedef int32_t larder_param;
enum {
    LARDER_PARAM_IO_DEPTH = 1,   /**< requests in flight per I/O ring; LARDER_IO_DEPTH */
    LARDER_PARAM_IO_URING = 2,   /**< 1: use io_uring where it works, 0: pread/pwrite threads; LARDER_IO_URING */
    LARDER_PARAM_HUGE_PAGES = 3, /**< 1: ask for huge pages; LARDER_HUGE_PAGES */
    LARDER_PARAM_ISA_LEVEL =
        4, /**< 0 scalar, 1 AVX2, 2 AVX-512: the highest that is used; LARDER_ISA_LEVEL. Bits never depend on it. */
    LARDER_PARAM_VERIFY_LOADS =
        5 /**< 1: re-verify checksums after a load reached its destination; LARDER_VERIFY_LOADS */
};

/** Set a knob for objects created from now on.
 *  @return LARDER_OK; LARDER_E_NOT_FOUND (no such knob); LARDER_E_RANGE (outside the bounds).
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_context_set_u64(larder_context* context, larder_param param,
                                                uint64_t value) LARDER_NOEXCEPT;

/** Read a knob.  @return LARDER_OK; LARDER_E_NOT_FOUND; LARDER_E_INVALID (NULL).  @threads internally synchronised
 * @since 0.1 */
LARDER_API larder_status larder_context_get_u64(larder_context* context, larder_param param,
                                                uint64_t* out_value) LARDER_NOEXCEPT;

/** Bounds and default of a knob. Any out pointer may be NULL. Needs no context.
 *  @return LARDER_OK; LARDER_E_NOT_FOUND.  @threads any  @since 0.1 */
LARDER_API larder_status larder_param_bounds(larder_param param, uint64_t* out_min, uint64_t* out_max,
                                             uint64_t* out_default) LARDER_NOEXCEPT;

/** What this machine and build offer, found when the context was created. */
typedef struct larder_capabilities {
    uint32_t struct_size;
    uint32_t n_cpus; /**< usable by this process (affinity and cgroup) */
    uint32_t n_numa_nodes;
    uint32_t isa_level;       /**< 0 scalar, 1 AVX2, 2 AVX-512 (VBMI) */
    uint32_t io_uring;        /**< 1: set-up and a test request succeeded */
    uint32_t huge_pages;      /**< 1: anonymous huge pages by madvise or always */
    uint32_t memfd;           /**< 1: shared memory by file descriptor */
    uint32_t crc32c_hardware; /**< 1: instruction used */
    uint32_t cuda_plugin;     /**< 1: liblarder-cuda.so loaded and a device answered */
    uint32_t debug_handles;   /**< 1: use after destroy is detected (debug builds) */
    uint64_t page_bytes;      /**< of the system */
    uint64_t memory_bytes;    /**< physical memory or the cgroup's limit, whichever is less */
    uint64_t memlock_bytes;   /**< RLIMIT_MEMLOCK, UINT64_MAX: none */
} larder_capabilities;

#define LARDER_CAPABILITIES_INIT                                                                                       \
    { sizeof(larder_capabilities), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_context_capabilities(larder_context* context, larder_capabilities* out) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
