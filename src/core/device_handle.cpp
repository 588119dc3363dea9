#include "core/device_handle.h"

#include "base/options.h"

using namespace larder;

larder_status larder_device::open(larder_context& c, const larder_device_options* options, larder_device** out) {
    larder_device_options o;
    LARDER_TRY(read_options(options, o, "larder_device_options"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    const SimDeviceOptions sim{o.sim_memory_bytes, o.sim_granularity_bytes, o.sim_bandwidth_bytes_per_s,
                               o.sim_latency_ns};
    LARDER_ASSIGN(Owned<Device> device, open_device(c.alloc, c.os, o.name ? o.name : "host", sim));
    *out = c.make_handle<larder_device>(c, std::move(device));
    return LARDER_OK;
}
