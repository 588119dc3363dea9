#include "cli.h"

#include <unistd.h>

#include <cstdio>
#include <iostream>

namespace cli {

ContextPtr make_context() {
    larder_context* c = nullptr;
    larder_context_create(nullptr, &c);
    return {c, [](larder_context* p) { larder_context_destroy(p); }};
}

int report(const Options& o, larder_status status, const std::string& what) {
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    larder_last_error(&e);
    if (o.json)
        std::cout << to_text({{"error",
                               {{"status", larder_status_name(status)},
                                {"what", what},
                                {"field", e.field},
                                {"message", e.message},
                                {"errno", e.os_errno}}}})
                  << "\n";
    else
        std::cerr << "larder: " << what << ": " << e.message << " (" << larder_status_name(status) << ")\n";
    const bool stored = status <= -400 && status > -500;
    return stored || status == LARDER_E_NOT_FOUND                   ? exit_input
           : status == LARDER_E_INVALID || status == LARDER_E_RANGE ? exit_usage
                                                                    : exit_failure;
}

int report(const Options& o, Exit code, const std::string& message) {
    if (o.json)
        std::cout << to_text({{"error", {{"message", message}}}}) << "\n";
    else
        std::cerr << "larder: " << message << "\n";
    return code;
}

std::string to_text(const nlohmann::json& j) {
    return j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string human_bytes(uint64_t n) {
    static constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = double(n);
    size_t u = 0;
    while (v >= 1024 && u < 6) v /= 1024, ++u;
    char text[32];
    std::snprintf(text, sizeof text, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return text;
}

std::string hex(const uint8_t* p, size_t n) {
    std::string s;
    char two[3];
    for (size_t i = 0; i < n; ++i) std::snprintf(two, sizeof two, "%02x", p[i]), s += two;
    return s;
}

Progress::Progress(const Options& o, std::string label, uint64_t total)
    : on_(!o.quiet && !o.json && total && isatty(2)), label_(std::move(label)), total_(total) {}

Progress::~Progress() {
    if (on_ && last_ >= 0) std::fprintf(stderr, "\r\033[K");
}

void Progress::at(uint64_t done) {
    if (!on_) return;
    const int percent = int(done >= total_ ? 100 : done * 100 / total_);
    if (percent == last_) return;
    last_ = percent;
    const std::string bar(size_t(percent) / 4, '#');
    std::fprintf(stderr, "\r%s [%-25s] %3d %%", label_.c_str(), bar.c_str(), percent);
    std::fflush(stderr);
}

}  // namespace cli
