// The checksum, and the copy that checks: every extent that crosses a tier pays for one of them.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/crc32c.h"
#include "bench/bench.h"

#if LARDER_BENCH_ISAL
#include <isa-l/crc.h>
#endif

namespace {

constexpr double giga = 1e9;

template <class F> double seconds_per_call(size_t n_bytes, size_t total_bytes, F f) {
    const size_t n_calls = std::max<size_t>(1, total_bytes / n_bytes);
    return bench::cpu_seconds([&] {
               for (size_t i = 0; i < n_calls; ++i) f();
           }) /
           double(n_calls);
}

void measure(bench::Run& run, size_t n, const char* label) {
    const size_t total = run.size<size_t>(size_t(1) << 30, size_t(128) << 20);
    std::vector<unsigned char> a(n, 1), b(n, 2);
    for (size_t i = 0; i < n; ++i) a[i] = static_cast<unsigned char>(i * 2654435761u >> 11);
    std::vector<std::pair<std::string, std::function<double()>>> checks{
        {"larder", [&] { return seconds_per_call(n, total, [&] { bench::keep(larder::crc32c(0, a.data(), n)); }); }},
        {"table", [&] {
             return seconds_per_call(n, total / 16, [&] { bench::keep(larder::crc32c_portable(0, a.data(), n)); });
         }}};
    std::vector<std::pair<std::string, std::function<double()>>> copies{
        {"larder",
         [&] {
             return seconds_per_call(n, total, [&] { bench::keep(larder::crc32c_copy(0, b.data(), a.data(), n)); });
         }},
        {"memcpy",
         [&] { return seconds_per_call(n, total, [&] { std::memcpy(b.data(), a.data(), n), bench::keep(b[0]); }); }}};
#if LARDER_BENCH_ISAL
    checks.push_back({"isa-l", [&] {
                          return seconds_per_call(n, total, [&] { bench::keep(crc32_iscsi(a.data(), int(n), ~0u)); });
                      }});
    copies.push_back({"isa-l+memcpy", [&] {
                          return seconds_per_call(n, total, [&] {
                              bench::keep(crc32_iscsi(a.data(), int(n), ~0u));
                              std::memcpy(b.data(), a.data(), n), bench::keep(b[0]);
                          });
                      }});
#endif
    const auto report = [&](const char* name, const std::map<std::string, double>& t) {
        bench::Row row{.name = std::string(name) + "-" + label, .metric = "throughput", .unit = "GB/s"};
        for (auto& [who, s] : t) (who == "larder" ? row.larder : row.peers[who]) = double(n) / s / giga;
        run.row(row);
    };
    report("crc32c", bench::interleave(run.rounds(), checks));
    report("crc32c-copy", bench::interleave(run.rounds(), copies));
}

}  // namespace

BENCH_SUITE(base, "CRC32C and the copy that checks") {
    measure(run, 4096, "4K");
    measure(run, 65536, "64K");
    measure(run, size_t(64) << 20, "64M");
#if !LARDER_BENCH_ISAL
    run.absent("isa-l", "libisal-dev is not installed");
#endif
}
