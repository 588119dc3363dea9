// `larder replay TRACE`: hit ratio by capacity, by the eviction code that the store runs.
#include <algorithm>
#include <charconv>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <unordered_set>

#include "chart.h"
#include "cli.h"
#include "larder/replay.h"
#include "trace.h"

namespace cli {
namespace {

struct Args {
    std::string trace, csv, svg;
    std::vector<uint64_t> capacities;
    std::vector<std::string> policies{"lru", "fifo", "belady"};
    uint64_t lookahead = 0;
    bool what_if = false;
};

struct Cell {
    std::string policy;
    uint64_t capacity;
    larder_replay_result result;
    double block() const { return double(result.n_hits) / double(std::max<uint64_t>(result.n_references, 1)); }
    double prefix() const { return double(result.n_prefix_hits) / double(std::max<uint64_t>(result.n_references, 1)); }
};

bool find_policy(const std::string& name, larder_policy& out) {
    larder_policy_info info = LARDER_POLICY_INFO_INIT;
    for (uint32_t i = 0; larder_policy_get(i, &info) == LARDER_OK; ++i)
        if (name == info.name) return out = info.policy, true;
    return false;
}

std::vector<std::string> every_policy() {
    larder_policy_info info = LARDER_POLICY_INFO_INIT;
    std::vector<std::string> names;
    for (uint32_t i = 0; larder_policy_get(i, &info) == LARDER_OK; ++i) names.emplace_back(info.name);
    return names;
}

std::string known_policies() {
    std::string names;
    for (const std::string& name : every_policy()) names += (names.empty() ? "" : ", ") + name;
    return names;
}

std::vector<uint64_t> default_capacities(uint64_t n_unique) {
    std::vector<uint64_t> c;
    for (double f : {0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8})
        if (const auto n = uint64_t(double(n_unique) * f); n && (c.empty() || n != c.back())) c.push_back(n);
    if (c.empty()) c.push_back(1);
    return c;
}

void print_table(const Trace& t, const Args& a, const std::vector<Cell>& cells) {
    std::cout << t.ends.size() << " requests, " << t.blocks.size() << " block references, " << t.n_unique
              << " blocks; an endless cache hits " << std::fixed << std::setprecision(4)
              << 1 - double(t.n_unique) / double(std::max<size_t>(t.blocks.size(), 1)) << "\n\n"
              << std::setw(10) << "capacity" << std::setw(9) << "% unique";
    for (auto& p : a.policies)
        std::cout << " | " << std::left << std::setw(15) << p + " block" << std::setw(7) << "prefix" << std::right;
    std::cout << "\n";
    for (size_t i = 0; i < a.capacities.size(); ++i) {
        std::cout << std::setw(10) << a.capacities[i] << std::setw(8) << std::setprecision(1)
                  << 100 * double(a.capacities[i]) / double(std::max<uint64_t>(t.n_unique, 1)) << "%"
                  << std::setprecision(4);
        for (size_t p = 0; p < a.policies.size(); ++p) {
            const Cell& c = cells[i * a.policies.size() + p];
            std::cout << " | " << std::left << std::setw(15) << c.block() << std::setw(7) << c.prefix() << std::right;
        }
        std::cout << "\n";
    }
}

void write_csv(std::ostream& out, const std::vector<Cell>& cells) {
    out << "policy,capacity_blocks,references,block_hits,prefix_hits,block_ratio,prefix_ratio\n";
    for (auto& c : cells)
        out << c.policy << "," << c.capacity << "," << c.result.n_references << "," << c.result.n_hits << ","
            << c.result.n_prefix_hits << "," << c.block() << "," << c.prefix() << "\n";
}

void write_svg(std::ostream& out, const Args& a, const std::vector<Cell>& cells) {
    std::vector<Series> series;
    for (size_t p = 0; p < a.policies.size(); ++p) {
        Series block{a.policies[p] + ", block", {}, false}, prefix{a.policies[p] + ", prefix", {}, true};
        for (size_t i = 0; i < a.capacities.size(); ++i) {
            const Cell& c = cells[i * a.policies.size() + p];
            block.points.emplace_back(double(c.capacity), c.block());
            prefix.points.emplace_back(double(c.capacity), c.prefix());
        }
        series.push_back(std::move(block));
        series.push_back(std::move(prefix));
    }
    out << line_chart("Hit ratio by capacity", "capacity, blocks", "hit ratio", series);
}

nlohmann::json to_json(const Trace& t, const std::vector<Cell>& cells) {
    nlohmann::json rows = nlohmann::json::array();
    for (auto& c : cells)
        rows.push_back({{"policy", c.policy},
                        {"capacity_blocks", c.capacity},
                        {"references", c.result.n_references},
                        {"block_hits", c.result.n_hits},
                        {"prefix_hits", c.result.n_prefix_hits},
                        {"block_ratio", c.block()},
                        {"prefix_ratio", c.prefix()}});
    return {{"requests", t.ends.size()}, {"references", t.blocks.size()}, {"unique", t.n_unique}, {"rows", rows}};
}

bool save(const std::string& path, const std::string& text) {
    std::ofstream out(path);
    out << text;
    return bool(out.flush());
}

const char* name_of(larder_policy policy) {
    larder_policy_info info = LARDER_POLICY_INFO_INIT;
    for (uint32_t i = 0; larder_policy_get(i, &info) == LARDER_OK; ++i)
        if (info.policy == policy) return info.name;
    return "?";
}

int32_t take_request(void* ctx, const larder_recorded_request* r) {
    Trace& t = *static_cast<Trace*>(ctx);
    t.blocks.insert(t.blocks.end(), r->blocks, r->blocks + r->n_blocks);
    t.ends.push_back(t.blocks.size());
    return 0;
}

// The recorded decisions done again, and the requests as a trace. exit_ok, or what was reported.
int load_record(const Options& o, larder_context* context, const std::string& path, Trace& t) {
    larder_record_report r = LARDER_RECORD_REPORT_INIT;
    const larder_status status = larder_replay_record(context, path.c_str(), take_request, &t, &r);
    if (status < 0) return report(o, status, path);
    if (r.n_differences)
        return report(o, exit_failure,
                      path + ": operation " + std::to_string(r.first_difference) + ": " + name_of(r.policy) +
                          " now decides otherwise than when this was recorded");
    if (!o.json)
        std::cout << "recorded with " << name_of(r.policy) << " in " << r.capacity_bytes << " bytes: " << r.n_operations
                  << " operations, " << r.n_evictions << " evictions, each as it was"
                  << (r.torn ? "; the end is torn" : "") << "\n";
    t.n_unique = std::unordered_set<uint64_t>(t.blocks.begin(), t.blocks.end()).size();
    return t.ends.empty() ? report(o, exit_input, path + ": has no request") : exit_ok;
}

int replay(const Options& o, Args a) {
    if (a.what_if) a.policies = every_policy();
    std::vector<larder_policy> policies;
    for (auto& name : a.policies) {
        policies.emplace_back();
        if (!find_policy(name, policies.back()))
            return report(o, exit_usage, "no policy '" + name + "'; there are " + known_policies());
    }
    Trace t;
    std::string error;
    auto context = make_context();
    if (!context) return report(o, LARDER_E_SYSTEM, "no context");
    if (is_record(a.trace)) {
        if (const int code = load_record(o, context.get(), a.trace, t)) return code;
    } else if (!load_trace(a.trace, t, error)) {
        return report(o, exit_input, error);
    }
    if (a.capacities.empty()) a.capacities = default_capacities(t.n_unique);
    larder_replay_trace trace = LARDER_REPLAY_TRACE_INIT;
    trace.blocks = t.blocks.data();
    trace.ends = t.ends.data();
    trace.n_requests = t.ends.size();
    std::vector<Cell> cells;
    {
        Progress progress(o, "replaying", a.capacities.size() * policies.size());
        for (uint64_t capacity : a.capacities)
            for (size_t p = 0; p < policies.size(); ++p) {
                Cell c{a.policies[p], capacity, LARDER_REPLAY_RESULT_INIT};
                larder_replay_options options = LARDER_REPLAY_OPTIONS_INIT;
                options.policy = policies[p];
                options.capacity_blocks = capacity;
                options.lookahead_requests = a.lookahead;
                if (const larder_status s = larder_replay_run(context.get(), &trace, &options, &c.result); s < 0)
                    return report(o, s, a.trace);
                cells.push_back(std::move(c));
                progress.at(cells.size());
            }
    }
    std::ostringstream csv, svg;
    write_csv(csv, cells);
    write_svg(svg, a, cells);
    if (!a.csv.empty() && !save(a.csv, csv.str())) return report(o, exit_failure, a.csv + ": cannot be written");
    if (!a.svg.empty() && !save(a.svg, svg.str())) return report(o, exit_failure, a.svg + ": cannot be written");
    if (o.json)
        std::cout << to_text(to_json(t, cells)) << "\n";
    else
        print_table(t, a, cells);
    return exit_ok;
}

}  // namespace

namespace {

// Digits alone: what does not fit 64 bits is refused and not cut.
std::string check_capacity(const std::string& text) {
    uint64_t v = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
    return error == std::errc() && end == text.data() + text.size() && v
               ? std::string()
               : "'" + text + "' is not a number of blocks (1 to 2^64 - 1)";
}

}  // namespace

void add_replay(CLI::App& app, Options& o, int& code) {
    auto* sub = app.add_subcommand(
        "replay", "replay a prefix trace: hit ratio by capacity and policy, per block and per leading prefix");
    auto a = std::make_shared<Args>();
    sub->add_option("trace", a->trace,
                    "one JSON object per line with timestamp and hash_ids (Mooncake format), or what a store recorded")
        ->required();
    sub->add_option("-c,--capacity", a->capacities,
                    "capacities in blocks; default: 1 % to 80 % of the different blocks")
        ->check(CLI::Validator(check_capacity, "COUNT"))
        ->delimiter(',');
    sub->add_option("-p,--policy", a->policies, "policies: " + known_policies())->delimiter(',')->capture_default_str();
    sub->add_option("-w,--lookahead", a->lookahead, "requests known ahead, as by a scheduler's queue; default 0");
    sub->add_flag("--what-if", a->what_if,
                  "every policy of the table: what would a cache of another size, or with another policy, have hit?");
    sub->add_option("--csv", a->csv, "write the counts to FILE");
    sub->add_option("--svg", a->svg, "draw the curves to FILE");
    sub->callback([&o, &code, a] { code = replay(o, *a); });
}

}  // namespace cli
