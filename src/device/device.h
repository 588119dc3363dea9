// The device seam: accelerator memory, copies, streams and events behind one class.
//
// Implementations: host (plain memory, streams run at once), simulated (device/sim_device.h: granularity, streams as
// queues on the system's clock, bandwidth and latency model, injectable errors, a check of event ordering) and plug-ins
// loaded from liblarder-cuda.so through the frozen table of larder/plugin/device_v1.h. Internally synchronised.
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

using DevicePtr = uint64_t;  // an address in the device's space; on a host-visible device a CPU address
using StreamId = uint64_t;   // 0: the default stream. The caller's native stream on CUDA.
using EventId = uint64_t;
using GateId = uint64_t;

// Whole blocks between a pool and a packed array, by a table of int32 block numbers in device memory; a negative number
// is skipped.
struct BlockGather {
    DevicePtr pool = 0;
    DevicePtr packed = 0;
    DevicePtr table = 0;
    uint64_t block_bytes = 0;        // multiples of 16, as all addresses and the stride
    uint64_t pool_stride_bytes = 0;  // at least block_bytes
    uint32_t n_blocks = 0;
    bool scatter = false;  // false: pool to packed
};

class Device {
  public:
    virtual ~Device() = default;
    virtual const DeviceInfo& info() const noexcept = 0;

    virtual Result<DevicePtr> alloc(uint64_t n_bytes) = 0;
    virtual void free(DevicePtr p, uint64_t n_bytes) noexcept = 0;
    // Virtual memory: address range, physical pages, and their mapping. Sizes are multiples of the granularity. unmap()
    // takes ranges as they were mapped; a page stays alive until it was released and is mapped nowhere.
    virtual Result<DevicePtr> reserve(uint64_t n_bytes) = 0;
    virtual void unreserve(DevicePtr p, uint64_t n_bytes) noexcept = 0;
    virtual Result<uint64_t> page_create(uint64_t n_bytes) = 0;  // a physical handle
    virtual void page_release(uint64_t page) noexcept = 0;
    virtual larder_status map(DevicePtr p, uint64_t n_bytes, uint64_t page, uint64_t page_offset) = 0;
    virtual larder_status unmap(DevicePtr p, uint64_t n_bytes) = 0;

    virtual Result<StreamId> stream_create() = 0;
    virtual void stream_destroy(StreamId s) noexcept = 0;
    virtual Result<EventId> event_create() = 0;
    virtual void event_destroy(EventId e) noexcept = 0;
    virtual larder_status event_record(EventId e, StreamId s) = 0;
    virtual larder_status stream_wait(StreamId s, EventId e) = 0;
    // LARDER_OK when all work before the record is done (or nothing was recorded), LARDER_PENDING otherwise.
    virtual larder_status event_query(EventId e) = 0;
    virtual larder_status event_wait(EventId e) = 0;
    // A gate holds streams until the host opens it, once; opening gives it back. Host streams cannot be held:
    // E_UNSUPPORTED.
    virtual Result<GateId> gate_create() = 0;
    virtual void gate_open(GateId gate) noexcept = 0;
    virtual larder_status stream_wait_gate(StreamId s, GateId gate) = 0;

    // Ordered in the stream; host buffers belong to the copy until it is done.
    virtual larder_status copy_in(DevicePtr dst, const void* src, uint64_t n_bytes, StreamId s) = 0;
    virtual larder_status copy_out(void* dst, DevicePtr src, uint64_t n_bytes, StreamId s) = 0;
    virtual larder_status copy(DevicePtr dst, DevicePtr src, uint64_t n_bytes, StreamId s) = 0;
    virtual larder_status fill_zero(DevicePtr dst, uint64_t n_bytes, StreamId s) = 0;
    virtual larder_status gather(const BlockGather& g, StreamId s) = 0;
};

// What open_device() may be told about a simulated one; zero means default.
struct SimDeviceOptions {
    uint64_t memory_bytes = 0;
    uint64_t granularity_bytes = 0;
    uint64_t bandwidth_bytes_per_s = 0;
    uint64_t latency_ns = 0;
};

// "host", "sim", "cuda", "cuda:N". E_NO_DEVICE when it is not here.
Result<Owned<Device>> open_device(const Allocator& a, Os& os, const char* name, const SimDeviceOptions& sim);

Owned<Device> make_host_device(const Allocator& a, Os& os);
// Devices of the CUDA plug-in; 0 without plug-in or driver.
uint32_t n_cuda_devices() noexcept;

}  // namespace larder
