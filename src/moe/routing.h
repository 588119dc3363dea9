// Reading and checking recorded routing, one layer at a time.
#pragma once

#include <span>

#include "base/alloc.h"
#include "base/result.h"
#include "larder/moe.h"

namespace larder {

class RoutingReader {
  public:
    RoutingReader(const Allocator& a) noexcept : ids_(a), seen_(a) {}

    // Check everything about `user` but the numbers themselves. any_experts: n_experts may be 0.
    larder_status open(const larder_moe_routing* user, bool any_experts);
    // The experts of one layer, [token][k]; valid until the next call.
    larder_status read(uint32_t layer);

    const larder_moe_routing& shape() const noexcept { return r_; }
    std::span<const uint16_t> ids() const noexcept { return ids_; }
    uint32_t n_experts_seen() const noexcept { return n_seen_; }  // 1 + the largest number read so far

  private:
    template <class T> larder_status read_as(uint32_t layer);

    larder_moe_routing r_ = LARDER_MOE_ROUTING_INIT;
    uint32_t n_seen_ = 0;
    Vec<uint16_t> ids_;
    Vec<uint64_t> seen_;  // [expert] 1 + the last place, over all layers, where it stood
};

}  // namespace larder
