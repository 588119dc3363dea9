// The CUDA plug-in: the frozen table of larder/plugin/device_v1.h over the driver API. It decides nothing; each
// function is one or two calls to the driver in the device's primary context, the one that CUDA programs of the same
// process use.
#include <cstdio>
#include <new>

#include "../kernels/gather_blocks.h"
#include "driver.h"
#include "fatbin.h"
#include "larder/device.h"
#include "larder/plugin/device_v1.h"

namespace larder_cuda {
namespace {

struct Gpu {
    const larder_device_host_v1* host;
    const Driver* d;
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction gather;
    int ordinal;
    size_t granularity;
    CUmemAllocationProp page_properties;
};

larder_status status_of(CUresult r) noexcept {
    switch (r) {
    case CUDA_SUCCESS:
        return LARDER_OK;
    case CUDA_ERROR_NOT_READY:
        return LARDER_PENDING;
    case CUDA_ERROR_OUT_OF_MEMORY:
        return LARDER_E_DEVICE_NOMEM;
    case CUDA_ERROR_INVALID_VALUE:
    case CUDA_ERROR_INVALID_HANDLE:
        return LARDER_E_INVALID;
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_INVALID_DEVICE:
        return LARDER_E_NO_DEVICE;
    case CUDA_ERROR_NOT_SUPPORTED:
        return LARDER_E_UNSUPPORTED;
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_DEINITIALIZED:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_LAUNCH_FAILED:
        return LARDER_E_DEVICE_LOST;
    default:
        return r >= CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED && r <= CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD
                   ? LARDER_E_CAPTURE
                   : LARDER_E_DEVICE;
    }
}

larder_status report(const Gpu& g, CUresult r, const char* what) noexcept {
    const larder_status s = status_of(r);
    if (s >= 0) return s;
    const char* why = nullptr;
    g.d->cuGetErrorString_(r, &why);
    char text[200];
    std::snprintf(text, sizeof text, "%s: %s", what, why ? why : "unknown error");
    g.host->fail(g.host->ctx, s, int32_t(r), text);
    return s;
}

#define LARDER_CUDA_TRY(g, call, what)                                                                                 \
    do {                                                                                                               \
        const larder_status larder_try_ = report(g, (g).d->call, what);                                                \
        if (larder_try_ < 0) return larder_try_;                                                                       \
    } while (0)

// The device's context is current while one lives.
class Current {
  public:
    explicit Current(const Gpu& g) noexcept : d_(g.d), good_(d_->cuCtxPushCurrent_(g.context) == CUDA_SUCCESS) {}
    ~Current() {
        CUcontext before;
        if (good_) d_->cuCtxPopCurrent_(&before);
    }
    Current(const Current&) = delete;

  private:
    const Driver* d_;
    const bool good_;
};

Gpu& gpu(void* d) noexcept {
    return *static_cast<Gpu*>(d);
}
CUstream stream_of(uint64_t s) noexcept {
    return reinterpret_cast<CUstream>(s);
}
CUevent event_of(uint64_t e) noexcept {
    return reinterpret_cast<CUevent>(e);
}

int32_t score() {
    return driver() ? 100 : 0;
}
int32_t count() {
    return driver() ? driver()->n_devices : 0;
}

void close_device(void* p) {
    Gpu& g = gpu(p);
    if (g.context) {
        if (g.module) {
            Current current(g);
            g.d->cuModuleUnload_(g.module);
        }
        g.d->cuDevicePrimaryCtxRelease_(g.device);
    }
    g.host->free(g.host->ctx, &g, sizeof g, alignof(Gpu));
}

larder_status start(Gpu& g) noexcept {
    LARDER_CUDA_TRY(g, cuDeviceGet_(&g.device, g.ordinal), "no such GPU");
    LARDER_CUDA_TRY(g, cuDevicePrimaryCtxRetain_(&g.context, g.device), "the GPU's context could not be made");
    g.page_properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    g.page_properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    g.page_properties.location.id = g.device;
    Current current(g);
    LARDER_CUDA_TRY(
        g, cuMemGetAllocationGranularity_(&g.granularity, &g.page_properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
        "no granularity");
    LARDER_CUDA_TRY(g, cuModuleLoadData_(&g.module, larder_cuda_fatbin), "the kernels do not fit this GPU");
    LARDER_CUDA_TRY(g, cuModuleGetFunction_(&g.gather, g.module, "larder_gather_blocks"), "a kernel is missing");
    return LARDER_OK;
}

larder_status open_device(const larder_device_host_v1* host, int32_t ordinal, void** out) {
    const Driver* d = driver();
    if (!d || ordinal < 0 || ordinal >= d->n_devices) {
        host->fail(host->ctx, LARDER_E_NO_DEVICE, 0,
                   d ? "there is no GPU of this number" : "no CUDA driver with a GPU answers");
        return LARDER_E_NO_DEVICE;
    }
    void* memory = host->alloc(host->ctx, sizeof(Gpu), alignof(Gpu));
    if (!memory) {
        host->fail(host->ctx, LARDER_E_NOMEM, 0, "the allocator gave no memory");
        return LARDER_E_NOMEM;
    }
    Gpu* g = new (memory) Gpu{};
    g->host = host;
    g->d = d;
    g->ordinal = ordinal;
    const larder_status s = start(*g);
    if (s < 0)
        close_device(g);
    else
        *out = g;
    return s;
}

void info(void* p, larder_device_info_v1* out) {
    Gpu& g = gpu(p);
    size_t bytes = 0;
    g.d->cuDeviceTotalMem_(&bytes, g.device);
    g.d->cuDeviceGetName_(out->name, sizeof out->name, g.device);
    int can_map = 0;
    g.d->cuDeviceGetAttribute_(&can_map, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, g.device);
    out->kind = LARDER_DEVICE_CUDA;
    out->ordinal = g.ordinal;
    out->host_visible = 0;
    out->can_map = uint32_t(can_map);
    out->memory_bytes = bytes;
    out->granularity_bytes = g.granularity;
}

// --- memory ---------------------------------------------------------------------------------------------

larder_status alloc(void* p, uint64_t n_bytes, uint64_t* out) {
    Gpu& g = gpu(p);
    Current current(g);
    CUdeviceptr ptr = 0;
    const larder_status s = report(g, g.d->cuMemAlloc_(&ptr, n_bytes), "no device memory");
    *out = ptr;
    return s;
}

void free_memory(void* p, uint64_t ptr, uint64_t) {
    Current current(gpu(p));
    gpu(p).d->cuMemFree_(ptr);
}

larder_status reserve(void* p, uint64_t n_bytes, uint64_t* out) {
    Gpu& g = gpu(p);
    Current current(g);
    CUdeviceptr ptr = 0;
    const larder_status s = report(g, g.d->cuMemAddressReserve_(&ptr, n_bytes, 0, 0, 0), "no device addresses");
    *out = ptr;
    return s;
}

void unreserve(void* p, uint64_t ptr, uint64_t n_bytes) {
    Current current(gpu(p));
    gpu(p).d->cuMemAddressFree_(ptr, n_bytes);
}

larder_status page_create(void* p, uint64_t n_bytes, uint64_t* out) {
    Gpu& g = gpu(p);
    Current current(g);
    CUmemGenericAllocationHandle page = 0;
    const larder_status s = report(g, g.d->cuMemCreate_(&page, n_bytes, &g.page_properties, 0), "no device memory");
    *out = page;
    return s;
}

void page_release(void* p, uint64_t page) {
    Current current(gpu(p));
    gpu(p).d->cuMemRelease_(page);
}

larder_status map(void* p, uint64_t ptr, uint64_t n_bytes, uint64_t page, uint64_t page_offset) {
    Gpu& g = gpu(p);
    Current current(g);
    LARDER_CUDA_TRY(g, cuMemMap_(ptr, n_bytes, page_offset, page, 0), "a page could not be mapped");
    CUmemAccessDesc access{};
    access.location = g.page_properties.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    const CUresult r = g.d->cuMemSetAccess_(ptr, n_bytes, &access, 1);
    if (r != CUDA_SUCCESS) g.d->cuMemUnmap_(ptr, n_bytes);
    return report(g, r, "a mapping could not be made accessible");
}

larder_status unmap(void* p, uint64_t ptr, uint64_t n_bytes) {
    Gpu& g = gpu(p);
    Current current(g);
    return report(g, g.d->cuMemUnmap_(ptr, n_bytes), "a range could not be unmapped");
}

// --- streams and events ---------------------------------------------------------------------------------

larder_status stream_create(void* p, uint64_t* out) {
    Gpu& g = gpu(p);
    Current current(g);
    CUstream s = nullptr;
    const larder_status status = report(g, g.d->cuStreamCreate_(&s, CU_STREAM_NON_BLOCKING), "no stream");
    *out = reinterpret_cast<uint64_t>(s);
    return status;
}

void stream_destroy(void* p, uint64_t s) {
    Current current(gpu(p));
    gpu(p).d->cuStreamDestroy_(stream_of(s));
}

larder_status no_event(Gpu& g) noexcept {
    g.host->fail(g.host->ctx, LARDER_E_INVALID, 0, "no such event");
    return LARDER_E_INVALID;
}

larder_status stream_wait(void* p, uint64_t s, uint64_t e) {
    Gpu& g = gpu(p);
    if (!e) return no_event(g);
    Current current(g);
    return report(g, g.d->cuStreamWaitEvent_(stream_of(s), event_of(e), 0), "a stream cannot wait");
}

larder_status event_create(void* p, uint64_t* out) {
    Gpu& g = gpu(p);
    Current current(g);
    CUevent e = nullptr;
    const larder_status s = report(g, g.d->cuEventCreate_(&e, CU_EVENT_DISABLE_TIMING), "no event");
    *out = reinterpret_cast<uint64_t>(e);
    return s;
}

void event_destroy(void* p, uint64_t e) {
    Current current(gpu(p));
    gpu(p).d->cuEventDestroy_(event_of(e));
}

larder_status event_record(void* p, uint64_t e, uint64_t s) {
    Gpu& g = gpu(p);
    if (!e) return no_event(g);
    Current current(g);
    return report(g, g.d->cuEventRecord_(event_of(e), stream_of(s)), "an event cannot be recorded");
}

larder_status event_query(void* p, uint64_t e) {
    Gpu& g = gpu(p);
    if (!e) return no_event(g);
    Current current(g);
    return report(g, g.d->cuEventQuery_(event_of(e)), "earlier work failed");
}

larder_status event_wait(void* p, uint64_t e) {
    Gpu& g = gpu(p);
    if (!e) return no_event(g);
    Current current(g);
    return report(g, g.d->cuEventSynchronize_(event_of(e)), "earlier work failed");
}

larder_status pinned_alloc(void* p, uint64_t n_bytes, void** out_host, uint64_t* out_ptr) {
    Gpu& g = gpu(p);
    Current current(g);
    LARDER_CUDA_TRY(g, cuMemHostAlloc_(out_host, n_bytes, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP),
                    "no pinned memory");
    CUdeviceptr ptr = 0;
    const CUresult r = g.d->cuMemHostGetDevicePointer_(&ptr, *out_host, 0);
    if (r != CUDA_SUCCESS) g.d->cuMemFreeHost_(*out_host);
    *out_ptr = ptr;
    return report(g, r, "pinned memory is not mapped");
}

void pinned_free(void* p, void* host) {
    Current current(gpu(p));
    gpu(p).d->cuMemFreeHost_(host);
}

larder_status stream_wait_u32(void* p, uint64_t s, uint64_t ptr, uint32_t value) {
    Gpu& g = gpu(p);
    Current current(g);
    return report(g, g.d->cuStreamWaitValue32_(stream_of(s), ptr, value, CU_STREAM_WAIT_VALUE_GEQ),
                  "a stream cannot wait");
}

// --- work -----------------------------------------------------------------------------------------------

larder_status copy_in(void* p, uint64_t dst, const void* src, uint64_t n_bytes, uint64_t s) {
    Gpu& g = gpu(p);
    Current current(g);
    return n_bytes ? report(g, g.d->cuMemcpyHtoDAsync_(dst, src, n_bytes, stream_of(s)), "a copy to the device failed")
                   : LARDER_OK;
}

larder_status copy_out(void* p, void* dst, uint64_t src, uint64_t n_bytes, uint64_t s) {
    Gpu& g = gpu(p);
    Current current(g);
    return n_bytes
               ? report(g, g.d->cuMemcpyDtoHAsync_(dst, src, n_bytes, stream_of(s)), "a copy from the device failed")
               : LARDER_OK;
}

larder_status copy(void* p, uint64_t dst, uint64_t src, uint64_t n_bytes, uint64_t s) {
    Gpu& g = gpu(p);
    Current current(g);
    return n_bytes ? report(g, g.d->cuMemcpyDtoDAsync_(dst, src, n_bytes, stream_of(s)), "a copy on the device failed")
                   : LARDER_OK;
}

larder_status fill_zero(void* p, uint64_t dst, uint64_t n_bytes, uint64_t s) {
    Gpu& g = gpu(p);
    Current current(g);
    return n_bytes ? report(g, g.d->cuMemsetD8Async_(dst, 0, n_bytes, stream_of(s)), "a fill failed") : LARDER_OK;
}

larder_status gather(void* p, const larder_device_gather_v1* v, uint64_t s) {
    namespace tile = larder::tile;
    Gpu& g = gpu(p);
    if ((v->pool | v->packed | v->block_bytes | v->pool_stride_bytes) % 16 || v->table % 4 ||
        v->pool_stride_bytes < v->block_bytes) {
        g.host->fail(g.host->ctx, LARDER_E_INVALID, 0,
                     "addresses, sizes and strides of blocks must be multiples of 16, and blocks must not overlap");
        return LARDER_E_INVALID;
    }
    tile::GatherArgs args{reinterpret_cast<unsigned char*>(v->pool),
                          reinterpret_cast<unsigned char*>(v->packed),
                          reinterpret_cast<const int32_t*>(v->table),
                          v->block_bytes,
                          v->pool_stride_bytes,
                          v->n_blocks,
                          v->scatter};
    const uint64_t n_tiles = tile::gather_tiles(args);
    if (n_tiles == 0) return LARDER_OK;
    if (n_tiles > 0x7fffffffu) {
        g.host->fail(g.host->ctx, LARDER_E_INVALID, 0, "too many blocks for one gather");
        return LARDER_E_INVALID;
    }
    void* parameters[] = {&args};
    Current current(g);
    return report(g,
                  g.d->cuLaunchKernel_(g.gather, unsigned(n_tiles), 1, 1, tile::gather_threads, 1, 1, 0, stream_of(s),
                                       parameters, nullptr),
                  "the gather kernel could not be started");
}

constexpr larder_device_table_v1 table{
    1,
    sizeof(larder_device_table_v1),
    "cuda",
    score,
    count,
    open_device,
    close_device,
    info,
    alloc,
    free_memory,
    reserve,
    unreserve,
    page_create,
    page_release,
    map,
    unmap,
    stream_create,
    stream_destroy,
    stream_wait,
    event_create,
    event_destroy,
    event_record,
    event_query,
    event_wait,
    copy_in,
    copy_out,
    copy,
    fill_zero,
    gather,
    pinned_alloc,
    pinned_free,
    stream_wait_u32,
};

}  // namespace
}  // namespace larder_cuda

extern "C" __attribute__((visibility("default"))) const larder_device_table_v1* larder_device_plugin_v1(void);
const larder_device_table_v1* larder_device_plugin_v1(void) {
    return &larder_cuda::table;
}
