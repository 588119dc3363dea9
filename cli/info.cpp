// `larder info`: version, what this machine offers, and what the library found of it.
#include <iomanip>
#include <iostream>

#include "cli.h"

namespace cli {
namespace {

const char* isa_name(uint32_t level) {
    static constexpr const char* names[] = {"scalar", "AVX2", "AVX-512"};
    return level < 3 ? names[level] : "?";
}

void line(const char* name, const std::string& value) {
    std::cout << std::left << std::setw(22) << name << value << "\n";
}

int info(const Options& o) {
    auto context = make_context();
    if (!context) return report(o, LARDER_E_SYSTEM, "no context");
    larder_capabilities c = LARDER_CAPABILITIES_INIT;
    const larder_status s = larder_context_capabilities(context.get(), &c);
    if (s < 0) return report(o, s, "capabilities");
    if (o.json) {
        std::cout << to_text({{"version", larder_version_string()},
                              {"n_cpus", c.n_cpus},
                              {"n_numa_nodes", c.n_numa_nodes},
                              {"isa", isa_name(c.isa_level)},
                              {"io_uring", c.io_uring != 0},
                              {"huge_pages", c.huge_pages != 0},
                              {"memfd", c.memfd != 0},
                              {"crc32c_hardware", c.crc32c_hardware != 0},
                              {"cuda", c.cuda_plugin != 0},
                              {"debug_handles", c.debug_handles != 0},
                              {"page_bytes", c.page_bytes},
                              {"memory_bytes", c.memory_bytes},
                              {"memlock_bytes", c.memlock_bytes}})
                  << "\n";
        return exit_ok;
    }
    line("Larder", larder_version_string());
    line("processors", std::to_string(c.n_cpus) + " usable, " + isa_name(c.isa_level));
    line("NUMA nodes", std::to_string(c.n_numa_nodes));
    line("memory", human_bytes(c.memory_bytes));
    line("lockable memory", c.memlock_bytes == UINT64_MAX ? "no limit" : human_bytes(c.memlock_bytes));
    line("huge pages", c.huge_pages ? "yes" : "no");
    line("shared memory (memfd)", c.memfd ? "yes" : "no");
    line("io_uring", c.io_uring ? "works" : "blocked or absent: reads and writes go through threads");
    line("CRC32C", c.crc32c_hardware ? "by instruction" : "by table");
    line("CUDA", c.cuda_plugin ? "device found" : "no plug-in, driver or device");
    line("debug handles", c.debug_handles ? "on" : "off");
    return exit_ok;
}

}  // namespace

void add_info(CLI::App& app, Options& o, int& code) {
    auto* sub = app.add_subcommand("info", "version, features found, devices, io_uring, NUMA");
    sub->callback([&] { code = info(o); });
}

}  // namespace cli
