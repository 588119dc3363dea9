#include "memory/topology.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/options.h"

using namespace larder;

namespace {

larder_status check_unit(uint64_t& unit_bytes) {
    if (!unit_bytes) unit_bytes = uint64_t(2) << 20;
    LARDER_TRY(check_range(unit_bytes, 4096, uint64_t(1) << 30, "unit_bytes"));
    return std::has_single_bit(unit_bytes) ? LARDER_OK
                                           : fail(LARDER_E_RANGE, "unit_bytes", "unit_bytes %llu is no power of two",
                                                  (unsigned long long)unit_bytes);
}

// Units of one object by node, as it is planned.
struct Plan {
    Plan(const Allocator& a, std::span<const larder_memory_node> n, uint64_t unit_bytes)
        : nodes(n), left(n.size(), 0, a), taken(n.size(), 0, a) {
        for (size_t i = 0; i < n.size(); ++i) left[i] = n[i].free_bytes / unit_bytes;
    }
    uint64_t fill(uint64_t n_units) noexcept;
    uint64_t stripe(uint64_t n_units, bool with_cpus) noexcept;

    std::span<const larder_memory_node> nodes;
    Vec<uint64_t> left, taken;
};

// From the nearest node on; returns what found no room.
uint64_t Plan::fill(uint64_t n_units) noexcept {
    for (size_t i = 0; i < left.size() && n_units; ++i) {
        const uint64_t n = std::min(left[i], n_units);
        left[i] -= n;
        taken[i] += n;
        n_units -= n;
    }
    return n_units;
}

// In proportion to bandwidth, over the nodes of one kind that have room; a node that fills up leaves its share to the
// others. Returns what found no room.
uint64_t Plan::stripe(uint64_t n_units, bool with_cpus) noexcept {
    for (;;) {
        double bandwidth = 0;
        uint64_t room = 0;
        for (size_t i = 0; i < left.size(); ++i)
            if (bool(nodes[i].has_cpus) == with_cpus && left[i])
                bandwidth += double(nodes[i].bandwidth_bytes_per_s), room += left[i];
        if (!room || !n_units) return n_units;
        // Where the last whole unit of the shares so far ends: rounding never adds up.
        const uint64_t want = n_units;
        double ahead = 0;
        uint64_t given = 0;
        bool filled = false;
        for (size_t i = 0; i < left.size(); ++i) {
            if (bool(nodes[i].has_cpus) != with_cpus || !left[i]) continue;
            ahead += double(nodes[i].bandwidth_bytes_per_s);
            const uint64_t end =
                ahead >= bandwidth ? want : std::min(want, uint64_t(double(want) * (ahead / bandwidth) + 0.5));
            const uint64_t share = end - std::min(end, given), n = std::min(left[i], share);
            given = std::max(given, end);
            filled |= n < share;
            left[i] -= n;
            taken[i] += n;
            n_units -= n;
        }
        if (!filled) return n_units;
    }
}

}  // namespace

larder_topology::larder_topology(larder_context& c, Vec<larder_memory_node> nodes)
    : Handle(HandleType::topology, c), nodes_(std::move(nodes)) {
    std::sort(nodes_.begin(), nodes_.end(), [](const larder_memory_node& a, const larder_memory_node& b) {
        return a.latency_ns != b.latency_ns ? a.latency_ns < b.latency_ns : a.id < b.id;
    });
}

larder_status larder_topology::create(larder_context& c, const char* text, larder_topology** out) {
    Vec<larder_memory_node> nodes(c.alloc);
    if (text) {
        LARDER_TRY(parse_topology(text, nodes));
    } else {
        LARDER_ASSIGN(const Vec<MemoryNode> found, c.os.memory_nodes(c.alloc));
        for (const MemoryNode& n : found)
            nodes.push_back({sizeof(larder_memory_node), n.id, n.has_cpus, n.estimated, n.n_bytes, n.free_bytes,
                             n.latency_ns, n.bandwidth_bytes_per_s});
    }
    LARDER_TRY(check_range(nodes.size(), 1, 64, "nodes"));
    for (const larder_memory_node& n : nodes)
        if (!n.n_bytes || !n.latency_ns || !n.bandwidth_bytes_per_s)
            return fail(LARDER_E_RANGE, "text", "node %u has no bytes, latency or bandwidth", n.id);
    *out = c.make_handle<larder_topology>(c, std::move(nodes));
    return LARDER_OK;
}

larder_status larder_topology::place(std::span<const larder_memory_object> objects, uint64_t unit_bytes,
                                     Vec<larder_placement_part>& out) const {
    LARDER_TRY(check_unit(unit_bytes));
    for (const larder_memory_object& o : objects) {
        LARDER_TRY(check_range(o.n_bytes, 1, uint64_t(1) << 50, "n_bytes"));
        if (o.access != LARDER_ACCESS_LATENCY && o.access != LARDER_ACCESS_STREAM)
            return fail(LARDER_E_INVALID, "access", "%d is no access pattern", o.access);
    }
    // The densest first, streams last.
    Vec<uint32_t> order(objects.size(), 0, context->alloc);
    std::iota(order.begin(), order.end(), 0u);
    auto units = [&](uint32_t i) { return (objects[i].n_bytes + unit_bytes - 1) / unit_bytes; };
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
        if (objects[a].access != objects[b].access) return objects[a].access < objects[b].access;
        if (objects[a].access == LARDER_ACCESS_STREAM) return false;
        return (unsigned __int128)objects[a].reads_per_s * units(b) >
               (unsigned __int128)objects[b].reads_per_s * units(a);
    });
    Plan plan(context->alloc, nodes_, unit_bytes);
    Vec<uint64_t> all(objects.size() * nodes_.size(), 0, context->alloc);
    for (const uint32_t i : order) {
        uint64_t rest = units(i);
        std::fill(plan.taken.begin(), plan.taken.end(), uint64_t(0));
        if (objects[i].access == LARDER_ACCESS_LATENCY)
            rest = plan.fill(rest);
        else
            rest = plan.stripe(plan.stripe(rest, false), true);
        if (rest)
            return fail(LARDER_E_NOSPACE, "objects", "object %u has no room for %llu of its bytes", i,
                        (unsigned long long)(rest * unit_bytes));
        std::copy(plan.taken.begin(), plan.taken.end(), all.begin() + ptrdiff_t(i * nodes_.size()));
    }
    for (uint32_t i = 0; i < objects.size(); ++i) {
        uint64_t rest = objects[i].n_bytes;  // the last unit may be a part of one
        for (size_t k = 0; k < nodes_.size(); ++k) {
            const uint64_t n = std::min(rest, all[i * nodes_.size() + k] * unit_bytes);
            if (n) out.push_back({i, nodes_[k].id, n});
            rest -= n;
        }
    }
    return LARDER_OK;
}

larder_status larder_topology::bind(std::byte* p, uint64_t n_bytes, std::span<const larder_placement_part> parts,
                                    uint64_t unit_bytes, larder_bind_mode mode) const {
    LARDER_TRY(check_unit(unit_bytes));
    Os& os = context->os;
    const uint64_t page = os.topology().page_bytes;
    if (reinterpret_cast<uintptr_t>(p) % page || !n_bytes)
        return fail(LARDER_E_INVALID, "address", "the address is no multiple of the page, or there are no bytes");
    if (mode < LARDER_BIND_IN_ORDER || mode > LARDER_BIND_INTERLEAVED)
        return fail(LARDER_E_INVALID, "mode", "%d is no mode", mode);
    LARDER_ASSIGN(const Vec<MemoryNode> here, os.memory_nodes(context->alloc));
    Vec<uint32_t> ids(context->alloc);
    uint64_t covered = 0;
    for (const larder_placement_part& part : parts) {
        auto known = [&](const auto& n) { return n.id == part.node; };
        if (std::none_of(nodes_.begin(), nodes_.end(), known) || std::none_of(here.begin(), here.end(), known))
            return fail(LARDER_E_NOT_FOUND, "parts", "this machine or topology has no memory node %u", part.node);
        covered += std::min(part.n_bytes, UINT64_MAX - covered);
        ids.push_back(part.node);
    }
    if (covered < n_bytes)
        return fail(LARDER_E_INVALID, "parts", "the parts are %llu bytes, the memory %llu", (unsigned long long)covered,
                    (unsigned long long)n_bytes);
    auto round = [&](uint64_t n) { return (n + page - 1) / page * page; };
    if (mode == LARDER_BIND_INTERLEAVED) return os.bind_memory(p, round(n_bytes), ids, true);
    if (mode == LARDER_BIND_STRIPED) return bind_striped(p, n_bytes, parts, unit_bytes);
    for (uint64_t at = 0, i = 0; at < n_bytes; ++i) {
        const uint64_t n = std::min(round(parts[i].n_bytes), round(n_bytes) - at);
        if (n) LARDER_TRY(os.bind_memory(p + at, n, {&ids[i], 1}, false));
        at += n;
    }
    return LARDER_OK;
}

// Each piece goes to the node that is furthest behind its share, so that any stretch of pieces is balanced.
larder_status larder_topology::bind_striped(std::byte* p, uint64_t n_bytes,
                                            std::span<const larder_placement_part> parts, uint64_t unit_bytes) const {
    const uint64_t page = context->os.topology().page_bytes;
    const uint64_t n_units = (n_bytes + unit_bytes - 1) / unit_bytes;
    const uint64_t piece_bytes = std::max((n_units + 1023) / 1024 * unit_bytes, page);
    uint64_t total = 0;
    for (const larder_placement_part& part : parts) total += part.n_bytes;
    Vec<uint64_t> given(parts.size(), 0, context->alloc);
    for (uint64_t at = 0; at < n_bytes;) {
        const uint64_t n = std::min(piece_bytes, (n_bytes - at + page - 1) / page * page);
        size_t best = 0;
        double behind = -1e300;
        for (size_t i = 0; i < parts.size(); ++i) {
            const double d = double(parts[i].n_bytes) / double(total) * double(at + n) - double(given[i]);
            if (d > behind) behind = d, best = i;
        }
        LARDER_TRY(context->os.bind_memory(p + at, n, {&parts[best].node, 1}, false));
        given[best] += n;
        at += n;
    }
    return LARDER_OK;
}
