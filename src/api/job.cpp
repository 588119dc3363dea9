#include "larder/job.h"

#include "api/guard.h"
#include "core/job.h"

using namespace larder;

larder_status larder_queue_create(larder_context* context, const larder_queue_options* options,
                                  larder_queue** out_queue) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_queue);
    *out_queue = nullptr;
    larder_queue_options o;
    LARDER_TRY(read_options(options, o, "larder_queue_options"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    LARDER_TRY(check_reserved(o.reserved1, "reserved1"));
    if (!o.max_jobs) o.max_jobs = 1024;
    LARDER_TRY(check_range(o.max_jobs, 1, 65536, "max_jobs"));
    LARDER_ASSIGN(OsHandle event, context->os.event_fd());
    try {
        *out_queue = context->make_handle<larder_queue>(*context, o.max_jobs, event);
    } catch (...) {
        context->os.close(event);
        throw;
    }
    return LARDER_OK;
    LARDER_API_END
}

void larder_queue_destroy(larder_queue* queue) noexcept {
    if (!queue || check_handle(queue, HandleType::queue, "queue") < 0) return;
    queue->context->drop_handle(queue);
}

larder_status larder_queue_poll(larder_queue* queue, larder_completion* out, uint32_t stride, uint32_t n,
                                uint32_t* out_n) noexcept {
    return larder_queue_wait(queue, out, stride, n, 0, out_n);
}

larder_status larder_queue_wait(larder_queue* queue, larder_completion* out, uint32_t stride, uint32_t n,
                                uint64_t timeout_ns, uint32_t* out_n) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(queue, queue);
    LARDER_API_NONNULL(out_n);
    LARDER_API_NONNULL(out);
    LARDER_TRY(check_range(stride, 8, 4096, "stride"));
    LARDER_TRY(check_range(n, 1, UINT32_MAX, "n"));
    return queue->poll(out, stride, n, timeout_ns, out_n);
    LARDER_API_END
}

larder_status larder_queue_fd(larder_queue* queue, int32_t* out_fd) noexcept {
    LARDER_API_HANDLE(queue, queue);
    LARDER_API_NONNULL(out_fd);
    if (queue->context->os.is_simulated())
        return fail(LARDER_E_UNSUPPORTED, "queue", "a simulated system has no descriptors");
    *out_fd = queue->event().value;
    return LARDER_OK;
}

larder_status larder_job_wait(larder_queue* queue, larder_job job, uint64_t timeout_ns) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(queue, queue);
    return queue->wait(job, timeout_ns);
    LARDER_API_END
}

larder_status larder_job_wait_layer(larder_queue* queue, larder_job job, uint32_t layer, uint64_t timeout_ns) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(queue, queue);
    return queue->wait_layer(job, layer, timeout_ns);
    LARDER_API_END
}

larder_status larder_job_cancel(larder_queue* queue, larder_job job) noexcept {
    LARDER_API_HANDLE(queue, queue);
    return queue->cancel(job);
}

larder_status larder_job_errors(larder_queue* queue, larder_job job, larder_job_error* out, uint32_t stride, uint32_t n,
                                uint32_t* out_n) noexcept {
    LARDER_API_HANDLE(queue, queue);
    LARDER_API_NONNULL(out_n);
    if (n) LARDER_API_NONNULL(out);
    LARDER_TRY(check_range(stride, 8, 4096, "stride"));
    return queue->errors(job, out, stride, n, out_n);
}

larder_status larder_job_stream_wait(larder_queue* queue, larder_job job, uint32_t layer, larder_device* device,
                                     larder_stream_id stream) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(queue, queue);
    LARDER_API_HANDLE_OF(queue->context, device, device);
    return queue->stream_wait(job, layer, *device, stream);
    LARDER_API_END
}
