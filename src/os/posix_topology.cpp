#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "os/posix.h"

namespace larder {
namespace {

uint32_t affinity_cpus() noexcept {
    // Machines with more than 1024 processors need a larger set; the call says so by EINVAL.
    for (int n = 1024; n <= 65536; n *= 4) {
        cpu_set_t* set = CPU_ALLOC(n);
        if (!set) break;
        const size_t n_bytes = CPU_ALLOC_SIZE(n);
        const int r = ::sched_getaffinity(0, n_bytes, set);
        const int error = errno, count = r == 0 ? CPU_COUNT_S(n_bytes, set) : 0;
        CPU_FREE(set);
        if (r == 0) return uint32_t(std::max(count, 1));
        if (error != EINVAL) break;
    }
    return uint32_t(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
}

bool read_under(const char* root, const char* path, char* buffer, size_t capacity) noexcept {
    char whole[640];
    const int n = std::snprintf(whole, sizeof whole, "%s%s", root, path);
    return n > 0 && size_t(n) < sizeof whole && read_small_file(whole, buffer, capacity);
}

struct Limits {
    uint64_t memory = UINT64_MAX;
    double cpus = 1e9;
};

bool read_number(const char* dir, const char* file, uint64_t& out) noexcept {
    char path[640], text[64];
    std::snprintf(path, sizeof path, "%s/%s", dir, file);
    if (!read_small_file(path, text, sizeof text) || text[0] < '0' || text[0] > '9') return false;
    out = std::strtoull(text, nullptr, 10);
    return true;
}

void read_v2_dir(const char* dir, Limits& l) noexcept {
    uint64_t v;
    if (read_number(dir, "memory.max", v)) l.memory = std::min(l.memory, v);
    char path[640], text[64];
    std::snprintf(path, sizeof path, "%s/cpu.max", dir);
    unsigned long long quota, period;
    if (read_small_file(path, text, sizeof text) && std::sscanf(text, "%llu %llu", &quota, &period) == 2 && period)
        l.cpus = std::min(l.cpus, double(quota) / double(period));
}

void read_v1_memory(const char* dir, Limits& l) noexcept {
    uint64_t v;
    if (read_number(dir, "memory.limit_in_bytes", v)) l.memory = std::min(l.memory, v);
}

void read_v1_cpu(const char* dir, Limits& l) noexcept {
    uint64_t quota, period;
    if (read_number(dir, "cpu.cfs_quota_us", quota) && read_number(dir, "cpu.cfs_period_us", period) && period)
        l.cpus = std::min(l.cpus, double(quota) / double(period));
}

// The group and all groups above it: each may limit.
void walk(const char* root, const char* mount, const char* group, void (*read_dir)(const char*, Limits&) noexcept,
          Limits& l) noexcept {
    char dir[600];
    const int n = std::snprintf(dir, sizeof dir, "%s%s%s", root, mount, group);
    if (n < 0 || size_t(n) >= sizeof dir) return;
    const size_t top = std::strlen(root) + std::strlen(mount);
    for (;;) {
        read_dir(dir, l);
        char* slash = std::strrchr(dir, '/');
        if (!slash || size_t(slash - dir) < top) return;
        *slash = 0;
    }
}

bool names(const char* controllers, const char* one) noexcept {
    const size_t n = std::strlen(one);
    for (const char* p = controllers; *p;) {
        const char* end = std::strchr(p, ',');
        const size_t len = end ? size_t(end - p) : std::strlen(p);
        if (len == n && !std::memcmp(p, one, n)) return true;
        p += len + (end ? 1 : 0);
    }
    return false;
}

// Lines of /proc/self/cgroup are "id:controllers:/group"; version 2 has the id 0 and no controllers.
Limits cgroup_limits(const char* root) noexcept {
    Limits l;
    char text[4096];
    if (!read_under(root, "/proc/self/cgroup", text, sizeof text)) return l;
    char* rest = nullptr;
    for (char* line = ::strtok_r(text, "\n", &rest); line; line = ::strtok_r(nullptr, "\n", &rest)) {
        char* controllers = std::strchr(line, ':');
        char* group = controllers ? std::strchr(controllers + 1, ':') : nullptr;
        if (!group) continue;
        *controllers++ = 0;
        *group++ = 0;
        // In a container the group may be named as seen from outside; the mount's own root is then what counts.
        if (!*controllers) {
            walk(root, "/sys/fs/cgroup", group, read_v2_dir, l);
            walk(root, "/sys/fs/cgroup/unified", group, read_v2_dir, l);
        }
        if (names(controllers, "memory")) walk(root, "/sys/fs/cgroup/memory", group, read_v1_memory, l);
        if (names(controllers, "cpu")) walk(root, "/sys/fs/cgroup/cpu", group, read_v1_cpu, l);
    }
    return l;
}

// "0-1,4" has three.
uint32_t count_list(const char* text) noexcept {
    uint32_t n = 0;
    while (*text >= '0' && *text <= '9') {
        char* end;
        const unsigned long first = std::strtoul(text, &end, 10);
        unsigned long last = first;
        if (*end == '-') last = std::strtoul(end + 1, &end, 10);
        n += last >= first ? uint32_t(last - first + 1) : 0;
        text = *end == ',' ? end + 1 : end;
    }
    return n;
}

bool has_huge_pages(const char* root) noexcept {
    char text[128];
    return read_under(root, "/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text) &&
           (std::strstr(text, "[always]") || std::strstr(text, "[madvise]"));
}

bool has_memfd() noexcept {
    const int fd = ::memfd_create("larder-probe", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return false;
    ::close(fd);
    return true;
}

}  // namespace

Topology read_topology(const char* root) noexcept {
    Topology t;
    const Limits l = cgroup_limits(root);
    t.n_cpus = affinity_cpus();
    // Half a processor still needs one thread.
    if (l.cpus < double(t.n_cpus)) t.n_cpus = std::max(1u, uint32_t(l.cpus + 0.999));
    t.page_bytes = uint64_t(::sysconf(_SC_PAGESIZE));
    t.memory_bytes = std::min(uint64_t(::sysconf(_SC_PHYS_PAGES)) * t.page_bytes, l.memory);
    rlimit r;
    if (::getrlimit(RLIMIT_MEMLOCK, &r) == 0) t.memlock_bytes = r.rlim_cur == RLIM_INFINITY ? UINT64_MAX : r.rlim_cur;
    char text[256];
    if (read_under(root, "/sys/devices/system/node/online", text, sizeof text))
        t.n_numa_nodes = std::max(1u, count_list(text));
    t.huge_pages = has_huge_pages(root);
    t.memfd = has_memfd();
    return t;
}

}  // namespace larder
