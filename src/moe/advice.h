// How many slots each layer gets, and whether offloading pays.
#pragma once

#include "base/alloc.h"
#include "larder/moe.h"

namespace larder {

uint32_t knee(const uint64_t* hits, uint32_t n_experts, uint32_t k) noexcept;
larder_status advise(const larder_moe_advice_options& options, const Allocator& a, const uint64_t* hits,
                     uint32_t* out_slots, larder_moe_advice& out);

}  // namespace larder
