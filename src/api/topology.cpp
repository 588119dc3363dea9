#include "memory/topology.h"

#include "api/guard.h"

using namespace larder;

larder_status larder_topology_create(larder_context* context, const char* text,
                                     larder_topology** out_topology) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_topology);
    *out_topology = nullptr;
    return larder_topology::create(*context, text, out_topology);
    LARDER_API_END
}

void larder_topology_destroy(larder_topology* topology) noexcept {
    if (topology && check_handle(topology, HandleType::topology, "topology") >= 0)
        topology->context->drop_handle(topology);
}

larder_status larder_topology_nodes(const larder_topology* topology, larder_memory_node* out_nodes,
                                    uint32_t node_stride, uint32_t capacity, uint32_t* out_n) noexcept {
    LARDER_API_HANDLE(topology, topology);
    LARDER_API_NONNULL(out_n);
    *out_n = uint32_t(topology->nodes().size());
    if (capacity < *out_n)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "%u nodes do not fit %u", *out_n, capacity);
    LARDER_API_NONNULL(out_nodes);
    auto* at = reinterpret_cast<std::byte*>(out_nodes);
    for (const larder_memory_node& n : topology->nodes()) {
        LARDER_TRY(write_struct(reinterpret_cast<larder_memory_node*>(at), n, "larder_memory_node"));
        at += node_stride;
    }
    return LARDER_OK;
}

larder_status larder_topology_place(const larder_topology* topology, const larder_memory_object* objects,
                                    uint32_t object_stride, uint32_t n_objects, uint64_t unit_bytes,
                                    larder_placement_part* parts, uint32_t capacity, uint32_t* out_n_parts) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(topology, topology);
    if (n_objects) LARDER_API_NONNULL(objects);
    LARDER_API_NONNULL(out_n_parts);
    if (capacity) LARDER_API_NONNULL(parts);
    Vec<larder_memory_object> all(n_objects, larder_memory_object{}, topology->context->alloc);
    const auto* at = reinterpret_cast<const std::byte*>(objects);
    for (larder_memory_object& o : all) {
        LARDER_TRY(read_options(reinterpret_cast<const larder_memory_object*>(at), o, "larder_memory_object"));
        at += object_stride;
    }
    Vec<larder_placement_part> plan(topology->context->alloc);
    LARDER_TRY(topology->place(all, unit_bytes, plan));
    *out_n_parts = uint32_t(plan.size());
    if (plan.size() > capacity)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "%zu parts do not fit %u", plan.size(), capacity);
    std::copy(plan.begin(), plan.end(), parts);
    return LARDER_OK;
    LARDER_API_END
}

larder_status larder_topology_bind(const larder_topology* topology, void* address, uint64_t n_bytes,
                                   const larder_placement_part* parts, uint32_t n_parts, uint64_t unit_bytes,
                                   larder_bind_mode mode) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(topology, topology);
    LARDER_API_NONNULL(address);
    if (n_parts) LARDER_API_NONNULL(parts);
    return topology->bind(static_cast<std::byte*>(address), n_bytes, {parts, n_parts}, unit_bytes, mode);
    LARDER_API_END
}
