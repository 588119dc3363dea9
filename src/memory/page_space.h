// One range of addresses with memory behind parts of it: host memory by the system, device memory by the device seam.
#pragma once

#include "core/context.h"
#include "core/device_handle.h"

namespace larder {

class PageSpace {
  public:
    // device NULL: the system's private memory.
    PageSpace(larder_context& c, larder_device* device) noexcept;
    ~PageSpace();
    PageSpace(const PageSpace&) = delete;

    uint64_t granularity_bytes() const noexcept;
    larder_status reserve(uint64_t n_bytes, uint64_t align);
    DevicePtr base() const noexcept { return base_; }
    // Put memory behind [offset, offset + n); `page` names it for unback(). Never 0.
    larder_status back(uint64_t offset, uint64_t n_bytes, uint64_t& page);
    larder_status unback(uint64_t offset, uint64_t n_bytes, uint64_t page) noexcept;

  private:
    Os& os_;
    larder_device* const device_;
    const uint32_t map_flags_;
    DevicePtr base_ = 0;
    uint64_t n_bytes_ = 0;
};

}  // namespace larder
