#include "memory/page_space.h"

namespace larder {

PageSpace::PageSpace(larder_context& c, larder_device* device) noexcept
    : os_(c.os), device_(device ? device->ref() : nullptr),
      map_flags_(c.param(LARDER_PARAM_HUGE_PAGES) && c.os.topology().huge_pages ? map_flag::huge : 0) {}

PageSpace::~PageSpace() {
    if (base_ && device_) device_->device->unreserve(base_, n_bytes_);
    if (base_ && !device_) os_.release(reinterpret_cast<std::byte*>(base_), n_bytes_);
    if (device_) device_->unref();
}

uint64_t PageSpace::granularity_bytes() const noexcept {
    return device_ ? device_->device->info().granularity_bytes : os_.topology().page_bytes;
}

larder_status PageSpace::reserve(uint64_t n_bytes, uint64_t align) {
    if (device_) {
        LARDER_ASSIGN(base_, device_->device->reserve(n_bytes));
    } else {
        LARDER_ASSIGN(std::byte * p, os_.reserve(n_bytes, align));
        base_ = reinterpret_cast<DevicePtr>(p);
    }
    n_bytes_ = n_bytes;
    return LARDER_OK;
}

larder_status PageSpace::back(uint64_t offset, uint64_t n_bytes, uint64_t& page) {
    if (!device_) {
        LARDER_TRY(os_.commit(reinterpret_cast<std::byte*>(base_ + offset), n_bytes, map_flags_));
        page = 1;
        return LARDER_OK;
    }
    LARDER_ASSIGN(const uint64_t made, device_->device->page_create(n_bytes));
    larder_status mapped;
    try {
        mapped = device_->device->map(base_ + offset, n_bytes, made, 0);
    } catch (const std::bad_alloc&) {
        mapped = fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    }
    if (mapped < 0) {
        device_->device->page_release(made);
        return mapped;
    }
    page = made + 1;  // a device may number its pages from 0
    return LARDER_OK;
}

larder_status PageSpace::unback(uint64_t offset, uint64_t n_bytes, uint64_t page) noexcept {
    if (!device_) return os_.decommit(reinterpret_cast<std::byte*>(base_ + offset), n_bytes);
    LARDER_TRY(device_->device->unmap(base_ + offset, n_bytes));
    device_->device->page_release(page - 1);
    return LARDER_OK;
}

}  // namespace larder
