// The device seam: accelerator memory, copies, streams and events behind one class.
//
// Implementations: host (plain memory, streams run at once), simulated (granularity, streams as queues on a virtual clock, bandwidth and latency model,
// injectable errors) and plug-ins loaded from liblarder-cuda.so through the frozen table of larder/plugin/device_v1.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/alloc.h"
#include "base/result.h"
#include "os/os.h"

namespace larder {

enum class DeviceKind : int32_t { host = 1, simulated = 2, cuda = 3 };

struct DeviceInfo {
    DeviceKind kind = DeviceKind::host;
    int32_t ordinal = 0;
    char name[64] = "";
    uint64_t memory_bytes = 0;
    uint64_t granularity_bytes = 0;  // unit of map()
    bool host_visible = false;       // its pointers may be dereferenced by the CPU
    bool can_map = false;            // reserve/map are supported
};

using DevicePtr = uint64_t;          // an address in the device's space; on a host-visible device a CPU address
using StreamId = uint64_t;           // 0: the default stream. The caller's native stream on CUDA.
using EventId = uint64_t;

class Device {
  public:
    virtual ~Device() = default;
    virtual const DeviceInfo& info() const noexcept = 0;

    virtual Result<DevicePtr> alloc(uint64_t n_bytes) = 0;
    virtual void free(DevicePtr p, uint64_t n_bytes) noexcept = 0;
    // Virtual memory: address range, physical pages, and their mapping. Sizes are multiples of the granularity.
    virtual Result<DevicePtr> reserve(uint64_t n_bytes) = 0;
    virtual void unreserve(DevicePtr p, uint64_t n_bytes) noexcept = 0;
    virtual Result<uint64_t> page_create(uint64_t n_bytes) = 0;       // a physical handle
    virtual void page_release(uint64_t page) noexcept = 0;
    virtual larder_status map(DevicePtr p, uint64_t n_bytes, uint64_t page, uint64_t page_offset) = 0;
    virtual larder_status unmap(DevicePtr p, uint64_t n_bytes) = 0;

    virtual Result<StreamId> stream_create() = 0;
    virtual void stream_destroy(StreamId s) noexcept = 0;
    virtual Result<EventId> event_create() = 0;
    virtual void event_destroy(EventId e) noexcept = 0;
    virtual larder_status event_record(EventId e, StreamId s) = 0;
    virtual larder_status stream_wait(StreamId s, EventId e) = 0;
    // LARDER_OK when all work before the record is done, LARDER_PENDING otherwise.
    virtual larder_status event_query(EventId e) = 0;
    virtual larder_status event_wait(EventId e) = 0;

    // Ordered in the stream; host buffers belong to the copy until it is done.
    virtual larder_status copy_in(DevicePtr dst, const void* src, uint64_t n_bytes, StreamId s) = 0;
    virtual larder_status copy_out(void* dst, DevicePtr src, uint64_t n_bytes, StreamId s) = 0;
    virtual larder_status copy(DevicePtr dst, DevicePtr src, uint64_t n_bytes, StreamId s) = 0;
    virtual larder_status fill_zero(DevicePtr dst, uint64_t n_bytes, StreamId s) = 0;
};

} // namespace larder
