#include "core/stats_text.h"

#include <cstdio>

namespace larder {
namespace {

struct Row {
    const char* name;
    const char* kind;
    const char* help;
};

constexpr Row rows[] = {
#define LARDER_STATS_ROW(name, kind, help) {#name, #kind, help},
    LARDER_STATS_MAP(LARDER_STATS_ROW)
#undef LARDER_STATS_ROW
};

}  // namespace

larder_stats stats_snapshot(const Stats& stats) noexcept {
    larder_stats s{};
    s.struct_size = sizeof s;
    s.version = 1;
    const StatSums sums = stats.sums();
#define LARDER_STATS_GET(name, kind, help) s.name = sums[size_t(Stat::name)];
    LARDER_STATS_MAP(LARDER_STATS_GET)
#undef LARDER_STATS_GET
    return s;
}

Result<String> stats_text(const Allocator& a, const Stats& stats, larder_stats_format format) {
    const bool json = format == LARDER_STATS_JSON;
    if (!json && format != LARDER_STATS_PROMETHEUS)
        return fail(LARDER_E_INVALID, "format", "there is no statistics format %d", format);
    String text(json ? "{" : "", a);
    char line[512];
    for (size_t i = 0; i < Stats::n_stats; ++i) {
        const Row& r = rows[i];
        const unsigned long long v = stats.get(Stat(i));
        if (json)
            std::snprintf(line, sizeof line, "%s\"%s\":%llu", i ? "," : "", r.name, v);
        else
            std::snprintf(line, sizeof line, "# HELP larder_%s %s\n# TYPE larder_%s %s\nlarder_%s %llu\n", r.name,
                          r.help, r.name, r.kind[0] == 'C' ? "counter" : "gauge", r.name, v);
        text += line;
    }
    if (json) text += "}";
    return text;
}

}  // namespace larder
