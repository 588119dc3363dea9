// What recorded routing says about caching experts: segments and hit curves.
#pragma once

#include <span>

#include "moe/routing.h"

namespace larder {

// The reader is open; layers are read by these.
larder_status measure_segments(RoutingReader& routing, const Allocator& a, uint32_t first_layer, uint32_t n_layers,
                               uint32_t segment_tokens, larder_moe_segments& out);
larder_status measure_cache(RoutingReader& routing, const Allocator& a, uint32_t layer, larder_moe_keep keep,
                            uint64_t lookahead, uint64_t* out_hits);
larder_status regroup_masks(RoutingReader& routing, uint64_t item_tokens, uint32_t n_words, uint64_t* out_masks);

}  // namespace larder
