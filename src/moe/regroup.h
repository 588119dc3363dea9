// Batching items that need the same experts.
#pragma once

#include "base/alloc.h"
#include "larder/moe.h"

namespace larder {

void regroup(const Allocator& a, const uint64_t* masks, uint32_t n_words, uint32_t n_items, uint32_t batch,
             uint32_t* out_order, larder_moe_regrouping& out);

}  // namespace larder
