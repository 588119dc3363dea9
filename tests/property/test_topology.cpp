// Plans of placement against exhaustive search, shares of stripes, the text form, a fake sysfs, and binding where the
// system binds.
#include "support/cmocka.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/hash.h"
#include "larder/larder.h"
#include "os/posix.h"
#include "support/seed.h"
#include "support/temp_dir.h"

using larder::Rng;

namespace {

constexpr uint64_t unit = 4096;

struct Bed {
    larder_context* context = nullptr;
    larder_topology* t = nullptr;
    std::vector<larder_memory_node> nodes;

    explicit Bed(const std::string& text) {
        assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
        assert_int_equal(larder_topology_create(context, text.c_str(), &t), LARDER_OK);
        uint32_t n = 0;
        assert_int_equal(larder_topology_nodes(t, nullptr, 0, 0, &n), LARDER_E_BUFFER_TOO_SMALL);
        nodes.assign(n, LARDER_MEMORY_NODE_INIT);
        assert_int_equal(larder_topology_nodes(t, nodes.data(), sizeof nodes[0], n, &n), LARDER_OK);
    }
    ~Bed() {
        larder_topology_destroy(t);
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
    larder_status place(const std::vector<larder_memory_object>& o, std::vector<larder_placement_part>& parts) const {
        uint32_t n = 0;
        parts.resize(o.size() * nodes.size());
        const larder_status s = larder_topology_place(t, o.data(), sizeof(larder_memory_object), uint32_t(o.size()),
                                                      unit, parts.data(), uint32_t(parts.size()), &n);
        parts.resize(s < 0 ? 0 : n);
        return s;
    }
    const larder_memory_node& node(uint32_t id) const {
        return *std::find_if(nodes.begin(), nodes.end(), [&](auto& n) { return n.id == id; });
    }
};

larder_memory_object object(larder_access a, uint64_t n_units, uint64_t reads = 0) {
    larder_memory_object o = LARDER_MEMORY_OBJECT_INIT;
    o.access = a;
    o.n_bytes = n_units * unit;
    o.reads_per_s = reads;
    return o;
}

std::string line(uint32_t id, uint64_t n_units, uint64_t latency, uint64_t bandwidth, bool cpus) {
    char text[200];
    std::snprintf(text, sizeof text, "node %u bytes %llu latency %llu bandwidth %llu%s\n", id,
                  (unsigned long long)(n_units * unit), (unsigned long long)latency, (unsigned long long)bandwidth,
                  cpus ? " cpus" : "");
    return text;
}

// Every object is there in full, every node has the room, parts are grouped.
void check_plan(const Bed& bed, const std::vector<larder_memory_object>& o,
                const std::vector<larder_placement_part>& parts) {
    std::vector<uint64_t> bytes(o.size(), 0);
    for (const larder_memory_node& n : bed.nodes) {
        uint64_t units = 0;
        for (auto& p : parts)
            if (p.node == n.id) units += (p.n_bytes + unit - 1) / unit;
        assert_true(units * unit <= n.free_bytes);
    }
    for (size_t i = 0; i < parts.size(); ++i) {
        assert_true(parts[i].n_bytes > 0);
        if (i) assert_true(parts[i].object >= parts[i - 1].object);
        bytes[parts[i].object] += parts[i].n_bytes;
    }
    for (size_t i = 0; i < o.size(); ++i) assert_int_equal(bytes[i], o[i].n_bytes);
}

double cost(const Bed& bed, const std::vector<larder_memory_object>& o,
            const std::vector<larder_placement_part>& parts) {
    double sum = 0;
    for (auto& p : parts)
        sum += double(o[p.object].reads_per_s) * double(p.n_bytes) / double(o[p.object].n_bytes) *
               double(bed.node(p.node).latency_ns);
    return sum;
}

// The least cost over all ways to lay units on nodes.
double exhaustive(const Bed& bed, const std::vector<larder_memory_object>& o, std::vector<uint64_t>& left,
                  size_t object, uint64_t rest, size_t node) {
    if (object == o.size()) return 0;
    const uint64_t all = o[object].n_bytes / unit;
    if (node == bed.nodes.size()) {
        if (rest) return INFINITY;
        return object + 1 == o.size() ? 0 : exhaustive(bed, o, left, object + 1, o[object + 1].n_bytes / unit, 0);
    }
    double best = INFINITY;
    for (uint64_t n = 0; n <= std::min(rest, left[node]); ++n) {
        left[node] -= n;
        const double here =
            double(o[object].reads_per_s) * double(n) / double(all) * double(bed.nodes[node].latency_ns);
        best = std::min(best, here + exhaustive(bed, o, left, object, rest - n, node + 1));
        left[node] += n;
    }
    return best;
}

void against_exhaustive_search(void**) {
    Rng rng(test_seed());
    for (uint64_t round = 0; round < test_rounds(300); ++round) {
        std::string text;
        const uint32_t n_nodes = uint32_t(1 + rng.below(3));
        for (uint32_t i = 0; i < n_nodes; ++i)
            text += line(i * 3, 1 + rng.below(8), 80 + rng.below(300), 1 + rng.below(100), rng.below(2));
        const Bed bed(text);
        std::vector<larder_memory_object> o;
        for (uint64_t i = 0; i < 1 + rng.below(4); ++i)
            o.push_back(object(LARDER_ACCESS_LATENCY, 1 + rng.below(5), rng.below(1000)));
        std::vector<uint64_t> left;
        for (auto& n : bed.nodes) left.push_back(n.free_bytes / unit);
        const double best = exhaustive(bed, o, left, 0, o[0].n_bytes / unit, 0);
        std::vector<larder_placement_part> parts;
        const larder_status s = bed.place(o, parts);
        assert_int_equal(s, std::isinf(best) ? LARDER_E_NOSPACE : LARDER_OK);
        if (s < 0) continue;
        check_plan(bed, o, parts);
        assert_true(std::fabs(cost(bed, o, parts) - best) <= 1e-9 * (best + 1));
    }
}

void stripes_by_bandwidth(void**) {
    Rng rng(test_seed());
    for (uint64_t round = 0; round < test_rounds(300); ++round) {
        std::string text = line(0, 1000, 100, 200, true);
        const uint32_t n_far = uint32_t(1 + rng.below(4));
        double bandwidth = 0;
        for (uint32_t i = 1; i <= n_far; ++i) {
            const uint64_t b = 1 + rng.below(60);
            bandwidth += double(b);
            text += line(i, 1000, 250, b, false);
        }
        const Bed bed(text);
        const uint64_t n = 1 + rng.below(1000);
        std::vector<larder_placement_part> parts;
        std::vector<larder_memory_object> o{object(LARDER_ACCESS_STREAM, n)};
        o[0].n_bytes -= rng.below(unit);
        assert_int_equal(bed.place(o, parts), LARDER_OK);
        check_plan(bed, o, parts);
        for (auto& p : parts) {
            assert_int_not_equal(p.node, 0);  // near memory is not needed
            const double share = double(n) * double(bed.node(p.node).bandwidth_bytes_per_s) / bandwidth;
            assert_true(std::fabs(double(p.n_bytes) / unit - share) <= 2);
        }
        // What is more than the far nodes hold goes near.
        o = {object(LARDER_ACCESS_STREAM, 1000 * n_far + n)};
        const larder_status s = bed.place(o, parts);
        assert_int_equal(s, LARDER_OK);
        check_plan(bed, o, parts);
        for (auto& p : parts) assert_int_equal(p.n_bytes, (p.node ? 1000 : n) * unit);
        o = {object(LARDER_ACCESS_STREAM, 1000 * n_far + 1001)};
        assert_int_equal(bed.place(o, parts), LARDER_E_NOSPACE);
    }
}

// The paper's claim in the model: what processors touch stays near, and costs what it would with near memory alone;
// interleaving everything pays a quarter of the far latency at least.
void better_than_interleave(void**) {
    const Bed bed(line(0, 100, 100, 100, true) + line(1, 300, 400, 30, false));
    const std::vector<larder_memory_object> o{object(LARDER_ACCESS_STREAM, 200), object(LARDER_ACCESS_LATENCY, 60, 900),
                                              object(LARDER_ACCESS_LATENCY, 40, 100)};
    std::vector<larder_placement_part> parts;
    assert_int_equal(bed.place(o, parts), LARDER_OK);
    check_plan(bed, o, parts);
    const double near_only = 1000 * 100.0, interleaved = 1000 * (100 + 400) / 2.0;
    assert_true(cost(bed, o, parts) <= 1.03 * near_only);
    assert_true(interleaved >= 1.15 * cost(bed, o, parts));
}

void text_form(void**) {
    const Bed bed(
        "# two sockets and a card\n\n  node 2 bytes 3G latency 250 bandwidth 24G # the card\n"
        "node 0 bytes 2G free 1G latency 90 bandwidth 100G cpus\nnode 1 cpus bytes 2G latency 90 bandwidth 1T");
    assert_int_equal(bed.nodes.size(), 3);
    for (uint32_t i = 0; i < 3; ++i) assert_int_equal(bed.nodes[i].id, i);  // nearest first
    assert_int_equal(bed.nodes[0].free_bytes, 1ull << 30);
    assert_int_equal(bed.nodes[1].free_bytes, 2ull << 30);
    assert_int_equal(bed.nodes[1].bandwidth_bytes_per_s, 1ull << 40);
    assert_true(bed.nodes[0].has_cpus && bed.nodes[1].has_cpus && !bed.nodes[2].has_cpus);
    const struct {
        const char* text;
        larder_status want;
    } bad[] = {{"", LARDER_E_RANGE},
               {"node 0 bytes 1G latency 9", LARDER_E_RANGE},
               {"node 0 bytes 1G latency 9 bandwidth 0", LARDER_E_RANGE},
               {"bytes 1G", LARDER_E_INVALID},
               {"node 0 bytes", LARDER_E_INVALID},
               {"node 0 bytes 1X latency 9 bandwidth 1", LARDER_E_INVALID},
               {"node 0 bytes 99999999999999999999 latency 9 bandwidth 1", LARDER_E_INVALID},
               {"node 0 bytes 99999999T latency 9 bandwidth 1", LARDER_E_INVALID},
               {"node 0 speed 3", LARDER_E_INVALID},
               {"node 1024 bytes 1 latency 1 bandwidth 1", LARDER_E_INVALID},
               {"node 0 bytes 1 latency 1 bandwidth 1\nnode 0 bytes 1 latency 1 bandwidth 1", LARDER_E_INVALID}};
    for (auto& b : bad) {
        larder_topology* t = nullptr;
        assert_int_equal(larder_topology_create(bed.context, b.text, &t), b.want);
        assert_null(t);
    }
}

void write_file(const std::string& root, const std::string& path, const std::string& text) {
    const std::filesystem::path p = root + path;
    std::filesystem::create_directories(p.parent_path());
    std::ofstream(p) << text;
}

void sysfs(void**) {
    const TempDir dir;
    const std::string root = dir.path(), d = "/sys/devices/system/node/";
    write_file(root, d + "online", "0,2-3\n");
    write_file(root, d + "has_memory", "0,3\n");
    write_file(root, d + "has_cpu", "0,2\n");
    write_file(root, d + "node0/meminfo",
               "Node 0 MemTotal:  1000 kB\nNode 0 MemFree:  400 kB\nNode 0 FilePages: 100 kB\n");
    write_file(root, d + "node0/distance", "10 21 17\n");
    write_file(root, d + "node3/meminfo", "Node 3 MemTotal:  5000 kB\nNode 3 MemFree:  5000 kB\n");
    write_file(root, d + "node3/distance", "17 24 10\n");
    const larder::Allocator a;
    auto nodes = larder::read_memory_nodes(a, root.c_str());
    assert_true(nodes.ok());
    assert_int_equal(nodes->size(), 2);
    assert_int_equal((*nodes)[0].free_bytes, 500 * 1024);
    assert_true((*nodes)[0].has_cpus && (*nodes)[0].estimated);
    assert_int_equal((*nodes)[0].latency_ns, 100);
    assert_int_equal((*nodes)[1].id, 3);
    assert_int_equal((*nodes)[1].latency_ns, 170);  // from node 0; nodes without processors do not count
    assert_false((*nodes)[1].has_cpus);
    write_file(root, d + "node3/access0/initiators/read_latency", "230\n");
    write_file(root, d + "node3/access0/initiators/read_bandwidth", "24000\n");
    nodes = larder::read_memory_nodes(a, root.c_str());
    assert_true(nodes.ok());
    assert_false((*nodes)[1].estimated);
    assert_int_equal((*nodes)[1].latency_ns, 230);
    assert_int_equal((*nodes)[1].bandwidth_bytes_per_s, 24000ull << 20);
    assert_int_equal(larder::read_memory_nodes(a, "/nonexistent").status(), LARDER_E_UNSUPPORTED);
}

void binding(void**) {
    larder_context* c = nullptr;
    larder_topology* t = nullptr;
    assert_int_equal(larder_context_create(nullptr, &c), LARDER_OK);
    const larder_status made = larder_topology_create(c, nullptr, &t);
    if (made < 0) {
        print_message("SKIPPED: the system tells nothing of its memory nodes\n");
        assert_int_equal(made, LARDER_E_UNSUPPORTED);
        assert_int_equal(larder_context_destroy(c), LARDER_OK);
        return;
    }
    larder_memory_node nodes[64];
    for (auto& n : nodes) n.struct_size = sizeof n;
    uint32_t n_nodes = 0, n_parts = 0;
    assert_int_equal(larder_topology_nodes(t, nodes, sizeof nodes[0], 64, &n_nodes), LARDER_OK);
    const uint64_t page = uint64_t(sysconf(_SC_PAGESIZE)), n_bytes = 64 * page;
    auto* p = static_cast<char*>(
        mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    larder_memory_object o = LARDER_MEMORY_OBJECT_INIT;
    o.access = LARDER_ACCESS_LATENCY;
    o.n_bytes = n_bytes;
    larder_placement_part parts[64];
    assert_int_equal(larder_topology_place(t, &o, sizeof o, 1, page, parts, 64, &n_parts), LARDER_OK);
    for (larder_bind_mode mode : {LARDER_BIND_IN_ORDER, LARDER_BIND_STRIPED, LARDER_BIND_INTERLEAVED}) {
        const larder_status s = larder_topology_bind(t, p, n_bytes, parts, n_parts, page, mode);
        if (s == LARDER_E_PERMISSION || s == LARDER_E_UNSUPPORTED) {
            print_message("SKIPPED: this process may not bind memory\n");
            continue;
        }
        assert_int_equal(s, LARDER_OK);
        int policy = -1;
        unsigned long mask[16] = {};
        if (syscall(SYS_get_mempolicy, &policy, mask, 1024, p, 2 /* MPOL_F_ADDR */) == 0) {
            assert_true(mode == LARDER_BIND_INTERLEAVED ? policy == 3 || policy == 6 : policy == 2);
            assert_true(mask[parts[0].node / 64] >> parts[0].node % 64 & 1);
        }
        std::fill(p, p + n_bytes, 'x');
    }
    larder_placement_part nowhere = parts[0];
    nowhere.node = 1000;
    assert_int_equal(larder_topology_bind(t, p, n_bytes, &nowhere, 1, page, LARDER_BIND_IN_ORDER), LARDER_E_NOT_FOUND);
    assert_int_equal(larder_topology_bind(t, p + 1, page, parts, n_parts, page, LARDER_BIND_IN_ORDER),
                     LARDER_E_INVALID);
    assert_int_equal(larder_topology_bind(t, p, 2 * n_bytes, parts, n_parts, page, LARDER_BIND_STRIPED),
                     LARDER_E_INVALID);
    assert_int_equal(larder_topology_bind(t, p, n_bytes, parts, n_parts, page, 9), LARDER_E_INVALID);
    assert_int_equal(larder_topology_bind(t, p, n_bytes, parts, n_parts, 5000, LARDER_BIND_STRIPED), LARDER_E_RANGE);
    munmap(p, n_bytes);
    larder_topology_destroy(t);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(against_exhaustive_search),
        cmocka_unit_test(stripes_by_bandwidth),
        cmocka_unit_test(better_than_interleave),
        cmocka_unit_test(text_form),
        cmocka_unit_test(sysfs),
        cmocka_unit_test(binding),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
