// Plans and inventories from hostile bytes: an error or a valid plan, and a valid one survives the round trip.
#include <cstdint>
#include <vector>

#include "core/plan.h"
#include "kv/ranks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace larder;
    const ByteSpan bytes{reinterpret_cast<const std::byte*>(data), size};
    Plan plan;
    if (plan_read(bytes, plan) == LARDER_OK) {
        std::vector<std::byte> again(plan_bytes(plan.ops.size()));
        plan_write(plan, again);
        if (again.size() != size || std::memcmp(again.data(), data, size)) __builtin_trap();
    }
    uint64_t n = 0;
    if (inventory_check(bytes, larder_key{}, n) == LARDER_OK)
        for (uint64_t i = 0; i < n; ++i) inventory_at(bytes, i);
    return 0;
}
