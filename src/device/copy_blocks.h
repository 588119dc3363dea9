// Arithmetic of Device::gather that every implementation on the host shares.
#pragma once

#include "device/device.h"

namespace larder {

inline larder_status check_gather(const BlockGather& g) noexcept {
    if ((g.pool | g.packed | g.block_bytes | g.pool_stride_bytes) % 16 || g.table % 4)
        return fail(LARDER_E_INVALID, "block_bytes", "addresses, sizes and strides of blocks must be multiples of 16");
    if (g.pool_stride_bytes < g.block_bytes)
        return fail(LARDER_E_INVALID, "pool_stride_bytes", "blocks of the pool overlap");
    return LARDER_OK;
}

struct BlockMove {
    DevicePtr to = 0, from = 0;
    uint64_t n_bytes = 0;  // 0: skipped
};

inline BlockMove block_move(const BlockGather& g, uint32_t i, int32_t block) noexcept {
    if (block < 0) return {};
    const DevicePtr in_pool = g.pool + uint64_t(block) * g.pool_stride_bytes, packed = g.packed + i * g.block_bytes;
    return g.scatter ? BlockMove{in_pool, packed, g.block_bytes} : BlockMove{packed, in_pool, g.block_bytes};
}

}  // namespace larder
