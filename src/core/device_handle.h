// The handle of a device: counted, as arenas and stores hold it too.
#pragma once

#include "base/atomic.h"
#include "core/context.h"
#include "device/device.h"
#include "larder/device.h"

struct larder_device final : larder::Handle {
    larder_device(larder_context& c, larder::Owned<larder::Device> d)
        : Handle(larder::HandleType::device, c), device(std::move(d)) {}
    static larder_status open(larder_context& c, const larder_device_options* options, larder_device** out);

    larder_device* ref() noexcept { return refs_.fetch_add(1, larder::relaxed), this; }
    void unref() noexcept {
        if (refs_.fetch_sub(1, larder::acq_rel) == 1) context->drop_handle(this);
    }

    const larder::Owned<larder::Device> device;

  private:
    larder::atomic<uint32_t> refs_{1};
};
