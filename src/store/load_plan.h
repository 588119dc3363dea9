// Load or recompute: a pure function of what is known of each block.
#pragma once

#include <span>

#include "larder/store.h"

namespace larder {

// Of a block of the prefix: what it costs to load (no_load: it cannot be loaded) and to compute, given all before it.
struct BlockCost {
    static constexpr uint64_t no_load = UINT64_MAX;
    uint64_t load_ns = no_load;
    uint64_t compute_ns = 0;
};

// How many blocks of the front to load, the rest being computed after them; the time that all takes. Of equal plans
// the one that loads more.
struct LoadPlan {
    size_t n_load = 0;
    uint64_t total_ns = 0;
};
inline LoadPlan plan_load(std::span<const BlockCost> blocks, uint64_t wait_ns) noexcept {
    uint64_t compute = 0;
    for (const BlockCost& b : blocks) compute += b.compute_ns;
    LoadPlan best{0, compute};
    uint64_t load = wait_ns;
    for (size_t k = 0; k < blocks.size() && blocks[k].load_ns != BlockCost::no_load; ++k) {
        load += blocks[k].load_ns;
        compute -= blocks[k].compute_ns;
        if (load + compute <= best.total_ns) best = {k + 1, load + compute};
    }
    return best;
}

}  // namespace larder
