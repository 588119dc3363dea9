// Memory nodes and the planner behind larder/topology.h.
#pragma once

#include <span>

#include "core/context.h"
#include "larder/topology.h"

struct larder_topology final : larder::Handle {
    larder_topology(larder_context& c, larder::Vec<larder_memory_node> nodes);
    static larder_status create(larder_context& c, const char* text, larder_topology** out);

    // Nearest first.
    std::span<const larder_memory_node> nodes() const noexcept { return nodes_; }
    larder_status place(std::span<const larder_memory_object> objects, uint64_t unit_bytes,
                        larder::Vec<larder_placement_part>& out) const;
    larder_status bind(std::byte* p, uint64_t n_bytes, std::span<const larder_placement_part> parts,
                       uint64_t unit_bytes, larder_bind_mode mode) const;

  private:
    larder_status bind_striped(std::byte* p, uint64_t n_bytes, std::span<const larder_placement_part> parts,
                               uint64_t unit_bytes) const;

    larder::Vec<larder_memory_node> nodes_;
};

namespace larder {

// The text form of larder_topology_create().
larder_status parse_topology(const char* text, Vec<larder_memory_node>& out);

}  // namespace larder
