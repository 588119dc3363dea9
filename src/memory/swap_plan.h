// Which copies move some sequences out of an arena, and what they cost by a model.
#pragma once

#include <span>

#include "larder/swap.h"
#include "memory/arena.h"

namespace larder {

// info: copy_ns and bandwidth are the caller's; the rest is filled in.
larder_status plan_swap(larder_arena& arena, uint32_t group, std::span<const larder_swap_seq> seqs,
                        Vec<larder_swap_run>& out, larder_swap_plan_info& info);

}  // namespace larder
