// Dividing experts between computing in place and on the device.
#pragma once

#include <span>

#include "base/result.h"
#include "larder/moe.h"

namespace larder {

larder_status split_work(std::span<const uint64_t> in_place_ns, std::span<const uint64_t> device_ns,
                         uint8_t* out_in_place, larder_moe_split& out) noexcept;

}  // namespace larder
