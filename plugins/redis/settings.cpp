#include "settings.h"

#include <charconv>
#include <cstdarg>
#include <cstdio>

namespace larder_redis {

larder_status fail(const Host& host, larder_status status, int os_errno, const char* format, ...) noexcept {
    char message[256];
    va_list args;
    va_start(args, format);
    std::vsnprintf(message, sizeof message, format, args);
    va_end(args);
    host.fail(host.ctx, status, os_errno, message);
    return status;
}

namespace {

struct TextRow {
    const char* name;
    Text Settings::*field;
};
constexpr TextRow text_rows[] = {
    {"user", &Settings::user},         {"password", &Settings::password}, {"prefix", &Settings::prefix},
    {"tls_ca", &Settings::tls_ca},     {"tls_cert", &Settings::tls_cert}, {"tls_key", &Settings::tls_key},
    {"tls_name", &Settings::tls_name},
};
struct FlagRow {
    const char* name;
    bool Settings::*field;
};
constexpr FlagRow flag_rows[] = {{"replicas", &Settings::replicas}, {"tls", &Settings::tls}};
struct NumberRow {
    const char* name;
    uint64_t Settings::*field;
    uint64_t unit, least, most;
};
constexpr uint64_t ms = 1000000;
constexpr NumberRow number_rows[] = {
    {"part_bytes", &Settings::part_bytes, 1, 256 << 10, 1 << 20},
    {"window_bytes", &Settings::window_bytes, 1, 64 << 10, 64 << 20},
    {"connections", &Settings::connections, 1, 1, 64},
    {"connect_timeout_ms", &Settings::connect_timeout_ns, ms, 1, 60000},
    {"patience_ms", &Settings::patience_ns, ms, 1, 10000},
    {"backoff_ms", &Settings::backoff_ns, ms, 1, 60000},
    {"max_backoff_ms", &Settings::max_backoff_ns, ms, 1, 600000},
    {"hedge_us", &Settings::hedge_ns, 1000, 0, 10000000},
};

bool read_number(std::string_view value, uint64_t& out) noexcept {
    const auto r = std::from_chars(value.data(), value.data() + value.size(), out);
    return r.ec == std::errc() && r.ptr == value.data() + value.size();
}

larder_status read_nodes(const Host& host, std::string_view value, Vec<Text>& out) {
    while (!value.empty()) {
        const size_t n = std::min(value.find(','), value.size());
        if (n) out.emplace_back(value.substr(0, n), HostAlloc<char>(host));
        value.remove_prefix(std::min(n + 1, value.size()));
    }
    return out.empty() ? fail(host, LARDER_E_INVALID, 0, "the setting 'nodes' names none") : LARDER_OK;
}

// PENDING: not a setting of these tables.
larder_status read_row(const Host& host, Settings& s, std::string_view name, std::string_view value) {
    for (const TextRow& row : text_rows) {
        if (name != row.name) continue;
        (s.*row.field).assign(value);
        return LARDER_OK;
    }
    for (const FlagRow& row : flag_rows) {
        if (name != row.name) continue;
        s.*row.field = value == "yes";
        if (value == "yes" || value == "no") return LARDER_OK;
        return fail(host, LARDER_E_INVALID, 0, "the setting '%s' is yes or no", row.name);
    }
    for (const NumberRow& row : number_rows) {
        if (name != row.name) continue;
        uint64_t v = 0;
        if (!read_number(value, v)) return fail(host, LARDER_E_INVALID, 0, "the setting '%s' is a number", row.name);
        if (v < row.least || v > row.most)
            return fail(host, LARDER_E_RANGE, 0, "the setting '%s' is %llu to %llu", row.name,
                        (unsigned long long)row.least, (unsigned long long)row.most);
        s.*row.field = v * row.unit;
        return LARDER_OK;
    }
    return LARDER_PENDING;
}

}  // namespace

larder_status Settings::read(const Host& host, const larder_remote_setting_v1* pairs, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) {
        const std::string_view name = pairs[i].name ? pairs[i].name : "", value = pairs[i].value ? pairs[i].value : "";
        larder_status status = read_row(host, *this, name, value);
        if (status == LARDER_PENDING && name == "nodes") {
            status = read_nodes(host, value, nodes);
        } else if (status == LARDER_PENDING && name == "cluster") {
            if (value != "auto" && value != "yes" && value != "no")
                return fail(host, LARDER_E_INVALID, 0, "the setting 'cluster' is auto, yes or no");
            cluster = value == "auto" ? ClusterMode::by_asking : value == "yes" ? ClusterMode::yes : ClusterMode::no;
            status = LARDER_OK;
        } else if (status == LARDER_PENDING && name == "protocol") {
            if (value != "2" && value != "3")
                return fail(host, LARDER_E_INVALID, 0, "the setting 'protocol' is 2 or 3");
            protocol = value == "2" ? 2 : 3;
            status = LARDER_OK;
        } else if (status == LARDER_PENDING) {
            return fail(host, LARDER_E_INVALID, 0, "there is no setting '%.40s'", name.data());
        }
        if (status < 0) return status;
    }
    if (nodes.empty()) nodes.emplace_back("127.0.0.1:6379", HostAlloc<char>(host));
    if (prefix.empty() || prefix.size() > 64 || prefix.find_first_of("{}") != Text::npos)
        return fail(host, LARDER_E_INVALID, 0, "the setting 'prefix' has 1 to 64 bytes, without braces");
    if (password.size() > 1024 || user.size() > 256)
        return fail(host, LARDER_E_RANGE, 0, "the settings 'user' and 'password' have at most 256 and 1024 bytes");
    if (!user.empty() && password.empty())
        return fail(host, LARDER_E_INVALID, 0, "the setting 'user' needs a 'password'");
    return LARDER_OK;
}

}  // namespace larder_redis
