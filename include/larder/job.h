/** @file job.h
 *  @brief Asynchronous work: jobs and the queues that report their completion.
 *
 *  A call that starts work takes (queue, user_data, out_job) and answers one of three, never two of them:
 *  LARDER_OK: it is already done, there is no job and there will be no completion; LARDER_PENDING: a job was made and
 * exactly one completion will arrive on the queue; an error: nothing was started and no completion will arrive.
 *
 *  A cancelled job still completes (with LARDER_E_CANCELLED or with what it had reached). Until its completion has been
 * taken from the queue, the buffers given to it are not the caller's.
 */
#ifndef LARDER_JOB_H
#define LARDER_JOB_H

#include "larder/device.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_queue larder_queue;

/** Options of larder_queue_create(). */
typedef struct larder_queue_options {
    uint32_t struct_size;
    uint32_t reserved0;
    uint32_t max_jobs; /**< jobs alive at once, 1 to 65536, default 1024; beyond it a submit returns LARDER_E_BUSY */
    uint32_t reserved1;
} larder_queue_options;

#define LARDER_QUEUE_OPTIONS_INIT                                                                                      \
    { sizeof(larder_queue_options), 0, 0, 0 }

/** One finished job. */
typedef struct larder_completion {
    larder_job job;
    uint64_t user_data;   /**< as given to the submitting call */
    larder_status status; /**< LARDER_OK, LARDER_PARTIAL or an error */
    uint32_t n_failed;    /**< items that failed; larder_job_errors() names them until max_jobs further completions were
                             taken */
    uint64_t n_bytes;     /**< moved */
} larder_completion;

/** Create a completion queue.
 *  @return LARDER_OK; LARDER_E_INVALID; LARDER_E_RANGE (max_jobs); LARDER_E_TOO_NEW; LARDER_E_NOMEM; LARDER_E_SYSTEM
 * (no eventfd).
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_queue_create(larder_context* context, const larder_queue_options* options,
                                             larder_queue** out_queue) LARDER_NOEXCEPT;

/** Destroy a queue: its jobs are cancelled and waited for; completions that were not taken are lost. NULL is allowed.
 *  @threads no other call on this queue may run  @blocking waits for running jobs  @since 0.1 */
LARDER_API void larder_queue_destroy(larder_queue* queue) LARDER_NOEXCEPT;

/** Take finished jobs.
 *  @param out    array of n elements, each `stride` bytes apart: sizeof(larder_completion) of the caller, 8 to 4096.
 *                Members that do not fit are left out
 *  @param out_n  receives how many were taken, 0 to n.
 *  @return LARDER_OK (out_n may be 0); LARDER_E_INVALID; LARDER_E_FORKED.
 *  @threads internally synchronised  @blocking never with workers; with n_workers 0 runs ready work  @since 0.1 */
LARDER_API larder_status larder_queue_poll(larder_queue* queue, larder_completion* out, uint32_t stride, uint32_t n,
                                           uint32_t* out_n) LARDER_NOEXCEPT;

/** As poll, but wait until at least one job is finished.
 *  @param timeout_ns  0: as poll; UINT64_MAX: for ever.
 *  @return LARDER_OK; LARDER_E_TIMEOUT (out_n is 0); LARDER_E_NOT_FOUND when the queue has no job at all, so waiting
 * would never end; LARDER_E_INVALID; LARDER_E_FORKED.
 *  @threads internally synchronised  @blocking up to timeout_ns  @since 0.1 */
LARDER_API larder_status larder_queue_wait(larder_queue* queue, larder_completion* out, uint32_t stride, uint32_t n,
                                           uint64_t timeout_ns, uint32_t* out_n) LARDER_NOEXCEPT;

/** A file descriptor (eventfd) that is readable while completions wait to be taken; for poll, epoll and io_uring.
 *  The queue owns it; do not read, write or close it. With n_workers 0 it becomes readable only after a progress call.
 *  @return LARDER_OK; LARDER_E_INVALID; LARDER_E_UNSUPPORTED (simulated operating system).  @threads any  @since 0.1 */
LARDER_API larder_status larder_queue_fd(larder_queue* queue, int32_t* out_fd) LARDER_NOEXCEPT;

/** Wait for one job without taking its completion.
 *  @return the job's own status once finished; LARDER_E_TIMEOUT; LARDER_E_STALE (its completion was taken already, or
 * no such job).
 *  @threads internally synchronised  @blocking up to timeout_ns; with n_workers 0 runs the work  @since 0.1 */
LARDER_API larder_status larder_job_wait(larder_queue* queue, larder_job job, uint64_t timeout_ns) LARDER_NOEXCEPT;

/** Wait until every layer up to and including `layer` has arrived, so that the engine may compute it while later layers
 * still load. Jobs without layers count as one layer.
 *  @return LARDER_OK; an error that the job met at or before this layer; LARDER_E_TIMEOUT; LARDER_E_RANGE (no such
 * layer); LARDER_E_STALE.
 *  @threads internally synchronised  @blocking up to timeout_ns  @since 0.1 */
LARDER_API larder_status larder_job_wait_layer(larder_queue* queue, larder_job job, uint32_t layer,
                                               uint64_t timeout_ns) LARDER_NOEXCEPT;

/** As wait_layer, but it is a stream of a device that waits: work given to the stream from now on starts after the
 * layer has arrived, and the calling thread goes on at once. Should the job fail before that layer, the stream is
 * released all the same, since nothing else could release it: what its kernels read is then not the layer, and the
 * job's status says so before the results may be used. The host device has no streams that could be held: with one, the
 * calling thread waits as in larder_job_wait_layer().
 *  @param device  of the same context; kept open until the layer has arrived.
 *  @return LARDER_OK; an error that the job has met at or before this layer; LARDER_E_RANGE (no such layer);
 * LARDER_E_STALE; LARDER_E_INVALID (device, stream; a device of
 * another context); LARDER_E_DEVICE, LARDER_E_DEVICE_LOST, LARDER_E_UNSUPPORTED (a device whose streams cannot wait for
 * the host); LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking never, but with the host device  @since 0.1 */
LARDER_API larder_status larder_job_stream_wait(larder_queue* queue, larder_job job, uint32_t layer,
                                                larder_device* device, larder_stream_id stream) LARDER_NOEXCEPT;

/** Ask a job to stop. It completes all the same; work that is past its point of no return goes to its end.
 *  @return LARDER_OK (asked, or finished already); LARDER_E_STALE.  @threads internally synchronised  @blocking never
 * @since 0.1 */
LARDER_API larder_status larder_job_cancel(larder_queue* queue, larder_job job) LARDER_NOEXCEPT;

/** One failed item of a job. */
typedef struct larder_job_error {
    uint64_t item; /**< index into the arrays that the submitting call was given */
    larder_status status;
    uint32_t reserved0;
} larder_job_error;

/** Which items of a job failed, first failures first; at most 256 are kept for a job.
 *  @param stride  sizeof(larder_job_error)
 *  @return LARDER_OK; LARDER_PARTIAL when more failed than fit into out; LARDER_E_STALE.
 *  @threads internally synchronised  @since 0.1 */
LARDER_API larder_status larder_job_errors(larder_queue* queue, larder_job job, larder_job_error* out, uint32_t stride,
                                           uint32_t n, uint32_t* out_n) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
