// The benchmark harness: suites measure Larder beside peers in the same run and report ratios.
//
// A suite is one file bench/suite_NAME.cpp:
//
//     BENCH_SUITE(index, "ordered map and prefix index") {
//         auto t = bench::interleave(run.rounds(), {{"larder", [&] { ... return seconds; }}, {"tbb", ...}});
//         run.row({.name = "get-uniform", .metric = "throughput", .unit = "Mop/s", .larder = n / t["larder"] / 1e6,
//                  .peers = {{"tbb", n / t["tbb"] / 1e6}}});
//     }
//
// A peer that this machine lacks is reported with run.absent("tbb", "why"): it prints 'not measured' and fails nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace bench {

struct Row {
    std::string name;    // the case
    std::string metric;  // what was measured
    std::string unit;
    double larder = 0;
    std::map<std::string, double> peers;  // same unit
    std::string note;
};

class Run {
  public:
    Run(std::string suite, bool quick) : suite_(std::move(suite)), quick_(quick) {}

    bool quick() const { return quick_; }
    // Rounds for interleave(): enough for a median.
    int rounds() const { return quick_ ? 3 : 5; }
    // Problem sizes: full in a long run, small in a quick one.
    template <class T> T size(T full, T small) const { return quick_ ? small : full; }
    void row(Row r);
    void absent(const std::string& peer, const std::string& why);
    // Nanoseconds of one dependent load over 256 MiB with 4 KiB pages: this machine's yardstick for absolute times,
    // measured once per run.
    double pointer_chase_ns();

    const std::string& suite() const { return suite_; }
    const std::vector<Row>& rows() const { return rows_; }
    const std::map<std::string, std::string>& absent_peers() const { return absent_; }

  private:
    std::string suite_;
    bool quick_;
    std::vector<Row> rows_;
    std::map<std::string, std::string> absent_;
    double chase_ns_ = 0;
};

struct SuiteEntry {
    const char* name;
    const char* what;
    void (*fn)(Run&);
};
std::vector<SuiteEntry>& suites();
struct Register {
    Register(const char* name, const char* what, void (*fn)(Run&)) { suites().push_back({name, what, fn}); }
};

double now_s();         // wall clock
double thread_cpu_s();  // CPU time of the calling thread: steadier than wall time on a shared machine

// Time one call in wall seconds (or CPU seconds of this thread).
double wall_seconds(const std::function<void()>& f);
double cpu_seconds(const std::function<void()>& f);

// Run every candidate once per round, in turn, and give the median of what each returned. Candidates return seconds (or
// any figure).
std::map<std::string, double> interleave(
    int rounds, const std::vector<std::pair<std::string, std::function<double()>>>& candidates);

double median(std::vector<double> v);
double percentile(std::vector<double> v, double p);  // p in 0..1

// Keep the compiler from removing a computation.
template <class T> inline void keep(const T& v) {
    asm volatile("" : : "g"(&v) : "memory");
}

}  // namespace bench

#define BENCH_SUITE(name, what)                                                                                        \
    static void suite_##name(::bench::Run& run);                                                                       \
    static const ::bench::Register register_##name(#name, what, suite_##name);                                         \
    static void suite_##name([[maybe_unused]] ::bench::Run& run)
