#include "bench/bench.h"

#include <algorithm>
#include <ctime>
#include <memory>
#include <random>

namespace bench {

std::vector<SuiteEntry>& suites() {
    static std::vector<SuiteEntry> all;
    return all;
}

static double clock_s(clockid_t id) {
    timespec t;
    clock_gettime(id, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

double now_s() {
    return clock_s(CLOCK_MONOTONIC);
}
double thread_cpu_s() {
    return clock_s(CLOCK_THREAD_CPUTIME_ID);
}

double wall_seconds(const std::function<void()>& f) {
    const double start = now_s();
    f();
    return now_s() - start;
}

double cpu_seconds(const std::function<void()>& f) {
    const double start = thread_cpu_s();
    f();
    return thread_cpu_s() - start;
}

double percentile(std::vector<double> v, double p) {
    if (v.empty()) return 0;
    const size_t i = std::min(v.size() - 1, size_t(p * double(v.size())));
    std::nth_element(v.begin(), v.begin() + long(i), v.end());
    return v[i];
}

double median(std::vector<double> v) {
    return percentile(std::move(v), 0.5);
}

std::map<std::string, double> interleave(
    int rounds, const std::vector<std::pair<std::string, std::function<double()>>>& candidates) {
    std::map<std::string, std::vector<double>> seen;
    for (int r = 0; r < rounds; ++r)
        for (auto& [name, f] : candidates) seen[name].push_back(f());
    std::map<std::string, double> out;
    for (auto& [name, v] : seen) out[name] = median(v);
    return out;
}

void Run::row(Row r) {
    rows_.push_back(std::move(r));
}

void Run::absent(const std::string& peer, const std::string& why) {
    absent_[peer] = why;
}

double Run::pointer_chase_ns() {
    if (chase_ns_ > 0) return chase_ns_;
    struct alignas(64) Line {
        uint32_t next;
    };
    const uint32_t n = (256u << 20) / sizeof(Line);
    auto lines = std::make_unique<Line[]>(n);
    std::vector<uint32_t> order(n);
    for (uint32_t i = 0; i < n; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), std::mt19937_64(1));
    for (uint32_t i = 0; i < n; ++i) lines[order[i]].next = order[(i + 1) % n];
    const uint32_t steps = 2000000;
    std::vector<double> ns;
    uint32_t at = order[0];
    for (int r = 0; r < 3; ++r) {
        const double t = cpu_seconds([&] {
            for (uint32_t i = 0; i < steps; ++i) at = lines[at].next;
        });
        keep(at);
        ns.push_back(t / steps * 1e9);
    }
    return chase_ns_ = median(ns);
}

}  // namespace bench
