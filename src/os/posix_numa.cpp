// Nodes of memory: sysfs and mbind, without libnuma (its release in Debian 12 does not know weighted interleave).
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "os/posix.h"

namespace larder {
namespace {

constexpr uint32_t max_node = 1024;
constexpr int mpol_bind = 2, mpol_interleave = 3, mpol_weighted_interleave = 6;

bool read_node_file(const char* root, uint32_t node, const char* file, char* text, size_t capacity) noexcept {
    char path[640];
    const int n = std::snprintf(path, sizeof path, "%s/sys/devices/system/node/node%u/%s", root, node, file);
    return n > 0 && size_t(n) < sizeof path && read_small_file(path, text, capacity);
}

uint64_t read_node_number(const char* root, uint32_t node, const char* file) noexcept {
    char text[64];
    return read_node_file(root, node, file, text, sizeof text) ? std::strtoull(text, nullptr, 10) : 0;
}

// "Node 1 MemTotal:       1024 kB"
uint64_t meminfo_bytes(const char* text, const char* field) noexcept {
    const char* p = std::strstr(text, field);
    return p ? std::strtoull(p + std::strlen(field), nullptr, 10) * 1024 : 0;
}

// Marks the numbers of "0-1,4".
void mark_list(const char* text, bool (&marks)[max_node]) noexcept {
    while (*text >= '0' && *text <= '9') {
        char* end;
        const unsigned long first = std::strtoul(text, &end, 10);
        unsigned long last = first;
        if (*end == '-') last = std::strtoul(end + 1, &end, 10);
        for (unsigned long i = first; i <= last && i < max_node; ++i) marks[i] = true;
        text = *end == ',' ? end + 1 : end;
    }
}

// The nearest entry of the node's distance table that belongs to a node with processors; its own is 10.
uint64_t distance_to_cpus(const char* root, uint32_t node, const bool (&online)[max_node],
                          const bool (&with_cpus)[max_node]) noexcept {
    char text[4096];
    if (!read_node_file(root, node, "distance", text, sizeof text)) return 10;
    uint64_t best = UINT64_MAX;
    const char* p = text;
    // One entry for each node that is online, in order.
    for (uint32_t other = 0; other < max_node; ++other) {
        if (!online[other]) continue;
        char* end;
        const uint64_t d = std::strtoull(p, &end, 10);
        if (end == p) break;
        p = end;
        if (with_cpus[other] && d) best = std::min(best, d);
    }
    return best == UINT64_MAX ? 10 : best;
}

}  // namespace

Result<Vec<MemoryNode>> read_memory_nodes(const Allocator& a, const char* root) {
    Vec<MemoryNode> nodes(a);
    bool online[max_node] = {}, memory[max_node] = {}, cpus[max_node] = {};
    char path[640], text[8192];
    const char* dir = "/sys/devices/system/node";
    const struct {
        const char* file;
        bool (&marks)[max_node];
    } lists[] = {{"online", online}, {"has_memory", memory}, {"has_cpu", cpus}};
    for (const auto& list : lists) {
        std::snprintf(path, sizeof path, "%s%s/%s", root, dir, list.file);
        if (read_small_file(path, text, sizeof text)) mark_list(text, list.marks);
    }
    for (uint32_t id = 0; id < max_node; ++id) {
        if (!memory[id] || !read_node_file(root, id, "meminfo", text, sizeof text)) continue;
        MemoryNode n;
        n.id = id;
        n.has_cpus = cpus[id];
        n.n_bytes = meminfo_bytes(text, "MemTotal:");
        n.free_bytes = std::min(n.n_bytes, meminfo_bytes(text, "MemFree:") + meminfo_bytes(text, "FilePages:"));
        n.latency_ns = read_node_number(root, id, "access0/initiators/read_latency");
        n.bandwidth_bytes_per_s = read_node_number(root, id, "access0/initiators/read_bandwidth") << 20;
        if (!n.latency_ns || !n.bandwidth_bytes_per_s) {
            const uint64_t distance = distance_to_cpus(root, id, online, cpus);
            n.estimated = true;
            n.latency_ns = 10 * distance;
            n.bandwidth_bytes_per_s = 1000000000000u / distance;
        }
        if (n.n_bytes) nodes.push_back(n);
    }
    if (nodes.empty()) return fail(LARDER_E_UNSUPPORTED, "topology", "the system tells nothing of its memory nodes");
    return nodes;
}

Result<Vec<MemoryNode>> PosixOs::memory_nodes(const Allocator& a) {
    return read_memory_nodes(a, "");
}

larder_status PosixOs::bind_memory(std::byte* p, size_t n_bytes, std::span<const uint32_t> nodes, bool interleave) {
    constexpr size_t bits = 8 * sizeof(unsigned long);
    unsigned long mask[max_node / bits] = {};
    for (const uint32_t node : nodes) {
        if (node >= max_node) return fail(LARDER_E_NOT_FOUND, "node", "there is no memory node %u", node);
        mask[node / bits] |= 1ul << node % bits;
    }
    long r = -1;
    // One node more than there are bits: the kernel counts the last bit out.
    if (interleave) r = ::syscall(SYS_mbind, p, n_bytes, mpol_weighted_interleave, mask, max_node + 1, 0);
    if (interleave && r != 0 && errno == EINVAL)
        r = ::syscall(SYS_mbind, p, n_bytes, mpol_interleave, mask, max_node + 1, 0);
    if (!interleave) r = ::syscall(SYS_mbind, p, n_bytes, mpol_bind, mask, max_node + 1, 0);
    if (r == 0) return LARDER_OK;
    const int error = errno;
    const larder_status s = error == ENOSYS   ? LARDER_E_UNSUPPORTED
                            : error == EPERM  ? LARDER_E_PERMISSION
                            : error == ENOMEM ? LARDER_E_NOMEM
                            : error == EINVAL ? LARDER_E_NOT_FOUND
                                              : LARDER_E_INVALID;
    return fail_os(s, error, "node", "%zu bytes could not be bound to memory nodes: %s", n_bytes, std::strerror(error));
}

}  // namespace larder
