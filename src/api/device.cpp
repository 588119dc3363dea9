#include "larder/device.h"

#include <cstring>

#include "api/guard.h"
#include "core/device_handle.h"

using namespace larder;

larder_status larder_device_open(larder_context* context, const larder_device_options* options,
                                 larder_device** out_device) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_device);
    *out_device = nullptr;
    return larder_device::open(*context, options, out_device);
    LARDER_API_END
}

void larder_device_close(larder_device* device) noexcept {
    if (device && check_handle(device, HandleType::device, "device") >= 0) device->unref();
}

larder_status larder_device_get_info(const larder_device* device, larder_device_info* out) noexcept {
    LARDER_API_HANDLE(device, device);
    const DeviceInfo& d = device->device->info();
    larder_device_info info = LARDER_DEVICE_INFO_INIT;
    info.kind = larder_device_kind(d.kind);
    info.ordinal = d.ordinal;
    info.host_visible = d.host_visible;
    info.can_map = d.can_map;
    info.memory_bytes = d.memory_bytes;
    info.granularity_bytes = d.granularity_bytes;
    std::memcpy(info.name, d.name, sizeof info.name);
    return write_struct(out, info, "larder_device_info");
}

// A value of a Result to an out parameter.
template <class T> static larder_status give(const Result<T>& r, T* out) noexcept {
    if (r.ok()) *out = *r;
    return r.status();
}

larder_status larder_device_alloc(larder_device* device, uint64_t n_bytes, larder_device_ptr* out_ptr) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(device, device);
    LARDER_API_NONNULL(out_ptr);
    if (!n_bytes) return fail(LARDER_E_INVALID, "n_bytes", "n_bytes is 0");
    return give(device->device->alloc(n_bytes), out_ptr);
    LARDER_API_END
}

void larder_device_free(larder_device* device, larder_device_ptr ptr, uint64_t n_bytes) noexcept {
    if (ptr && check_handle(device, HandleType::device, "device") >= 0) device->device->free(ptr, n_bytes);
}

larder_status larder_device_stream_create(larder_device* device, larder_stream_id* out_stream) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(device, device);
    LARDER_API_NONNULL(out_stream);
    return give(device->device->stream_create(), out_stream);
    LARDER_API_END
}

void larder_device_stream_destroy(larder_device* device, larder_stream_id stream) noexcept {
    if (stream && check_handle(device, HandleType::device, "device") >= 0) device->device->stream_destroy(stream);
}

larder_status larder_device_stream_wait(larder_device* device, larder_stream_id stream,
                                        larder_event_id event) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(device, device);
    return device->device->stream_wait(stream, event);
    LARDER_API_END
}

larder_status larder_device_event_create(larder_device* device, larder_event_id* out_event) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(device, device);
    LARDER_API_NONNULL(out_event);
    return give(device->device->event_create(), out_event);
    LARDER_API_END
}

void larder_device_event_destroy(larder_device* device, larder_event_id event) noexcept {
    if (event && check_handle(device, HandleType::device, "device") >= 0) device->device->event_destroy(event);
}

larder_status larder_device_event_record(larder_device* device, larder_event_id event,
                                         larder_stream_id stream) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(device, device);
    return device->device->event_record(event, stream);
    LARDER_API_END
}

larder_status larder_device_event_query(larder_device* device, larder_event_id event) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(device, device);
    return device->device->event_query(event);
    LARDER_API_END
}

larder_status larder_device_event_wait(larder_device* device, larder_event_id event) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(device, device);
    return device->device->event_wait(event);
    LARDER_API_END
}

larder_status larder_device_copy_in(larder_device* device, larder_device_ptr dst, const void* src, uint64_t n_bytes,
                                    larder_stream_id stream) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(device, device);
    if (n_bytes) LARDER_API_NONNULL(src);
    return device->device->copy_in(dst, src, n_bytes, stream);
    LARDER_API_END
}

larder_status larder_device_copy_out(larder_device* device, void* dst, larder_device_ptr src, uint64_t n_bytes,
                                     larder_stream_id stream) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(device, device);
    if (n_bytes) LARDER_API_NONNULL(dst);
    return device->device->copy_out(dst, src, n_bytes, stream);
    LARDER_API_END
}

larder_status larder_device_copy(larder_device* device, larder_device_ptr dst, larder_device_ptr src, uint64_t n_bytes,
                                 larder_stream_id stream) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(device, device);
    return device->device->copy(dst, src, n_bytes, stream);
    LARDER_API_END
}

larder_status larder_device_fill_zero(larder_device* device, larder_device_ptr dst, uint64_t n_bytes,
                                      larder_stream_id stream) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(device, device);
    return device->device->fill_zero(dst, n_bytes, stream);
    LARDER_API_END
}
