// `larder experts analyze TRACE`: is a mixture of experts fit for offloading, and with how many slots per layer?
#include <algorithm>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <sstream>

#include "chart.h"
#include "cli.h"
#include "larder/moe.h"

namespace cli {
namespace {

struct Args {
    std::string trace, type, order = "tokens", csv, svg;
    uint32_t n_layers = 0, n_experts = 0, k = 0;
    uint64_t sequence = 0, lookahead = 64, total_slots = 0;
    std::vector<uint32_t> segments{4, 16, 64, 256};
    double load_us = 0, step_us = 0, max_slowdown = 2, min_lift = 0.1;
};

struct Kept {
    larder_moe_keep keep;
    const char* name;
};
constexpr Kept policies[] = {{LARDER_MOE_KEEP_RECENT, "lru"},
                             {LARDER_MOE_KEEP_FREQUENT, "lfu"},
                             {LARDER_MOE_KEEP_COUNT_AHEAD, "sch"},
                             {LARDER_MOE_KEEP_NEXT, "belady"}};

struct Analysis {
    std::vector<char> bytes;
    larder_moe_routing routing = LARDER_MOE_ROUTING_INIT;
    std::vector<std::vector<uint64_t>> hits;            // [policy]: [layer][slots]
    std::vector<std::vector<larder_moe_segments>> srp;  // [segment length]: one for each layer, then of the model
    std::vector<uint32_t> knees, slots;                 // [layer]
    larder_moe_advice advice = LARDER_MOE_ADVICE_INIT;

    uint32_t row() const { return routing.n_experts + 1; }
    double ratio(size_t policy, uint32_t layer, uint32_t c) const {
        return double(hits[policy][layer * row() + c]) / double(routing.n_tokens * routing.k);
    }
    double ratio(size_t policy, uint32_t c) const {
        double sum = 0;
        for (uint32_t l = 0; l < routing.n_layers; ++l) sum += ratio(policy, l, c);
        return sum / routing.n_layers;
    }
};

// By the flag, or as the file's name ends.
larder_moe_type find_type(const Args& a) {
    const std::string& t = a.type.empty() ? a.trace.substr(a.trace.find_last_of('.') + 1) : a.type;
    return t == "u8" ? LARDER_MOE_U8 : t == "i16" ? LARDER_MOE_I16 : t == "i32" ? LARDER_MOE_I32 : 0;
}

// What is wrong with the numbers in a file is the file's fault, not that of an argument.
int report_routing(const Options& o, larder_status s, const Args& a) {
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    larder_last_error(&e);
    if (std::string(e.field) == "ids") return report(o, exit_input, a.trace + ": " + e.message);
    return report(o, s, a.trace);
}

int read_routing(const Options& o, larder_context* context, const Args& a, Analysis& out) {
    larder_moe_routing& r = out.routing;
    r.type = find_type(a);
    if (!r.type) return report(o, exit_usage, "--type is needed: the file's name ends neither in u8, i16 nor i32");
    std::ifstream in(a.trace, std::ios::binary);
    if (!in) return report(o, exit_input, a.trace + ": cannot be read");
    out.bytes.assign(std::istreambuf_iterator<char>(in), {});
    const uint64_t unit = uint64_t(a.n_layers) * a.k * (r.type == LARDER_MOE_I32 ? 4 : uint64_t(r.type));
    if (out.bytes.empty() || out.bytes.size() % unit)
        return report(o, exit_input,
                      a.trace + ": " + std::to_string(out.bytes.size()) + " bytes are not whole tokens of " +
                          std::to_string(unit) + " bytes (layers x topk x type)");
    r.order = a.order == "layers" ? LARDER_MOE_LAYERS_FIRST : LARDER_MOE_TOKENS_FIRST;
    r.n_layers = a.n_layers;
    r.n_experts = a.n_experts;
    r.k = a.k;
    r.n_tokens = out.bytes.size() / unit;
    r.n_bytes = out.bytes.size();
    r.ids = out.bytes.data();
    r.sequence_tokens = a.sequence;
    uint32_t n_seen = 0;
    if (const larder_status s = larder_moe_check(context, &r, &n_seen); s < 0) return report_routing(o, s, a);
    if (!r.n_experts) r.n_experts = n_seen;
    return exit_ok;
}

larder_status measure_caches(larder_context* context, const Args& a, Analysis& out, Progress& progress,
                             uint64_t& done) {
    const uint32_t n_layers = out.routing.n_layers;
    for (const Kept& policy : policies) {
        std::vector<uint64_t>& h = out.hits.emplace_back(uint64_t(n_layers) * out.row());
        for (uint32_t l = 0; l < n_layers; ++l) {
            const uint64_t lookahead = policy.keep == LARDER_MOE_KEEP_COUNT_AHEAD ? a.lookahead : 0;
            const larder_status s =
                larder_moe_measure_cache(context, &out.routing, l, policy.keep, lookahead, &h[uint64_t(l) * out.row()]);
            if (s < 0) return s;
            progress.at(++done);
        }
    }
    return LARDER_OK;
}

larder_status measure_segments(larder_context* context, const Args& a, Analysis& out, Progress& progress,
                               uint64_t& done) {
    const uint32_t n_layers = out.routing.n_layers;
    for (uint32_t m : a.segments) {
        auto& rows = out.srp.emplace_back(n_layers + 1, larder_moe_segments LARDER_MOE_SEGMENTS_INIT);
        for (uint32_t l = 0; l <= n_layers; ++l) {
            const bool model = l == n_layers;
            const larder_status s =
                larder_moe_measure_segments(context, &out.routing, model ? 0 : l, model ? n_layers : 1, m, &rows[l]);
            if (s < 0) return s;
            progress.at(done += model ? n_layers : 1);
        }
    }
    return LARDER_OK;
}

// By what the better of LRU and LFU hits.
larder_status advise(larder_context* context, const Args& a, Analysis& out) {
    const larder_moe_routing& r = out.routing;
    std::vector<uint64_t> better = out.hits[0];
    for (size_t i = 0; i < better.size(); ++i) better[i] = std::max(better[i], out.hits[1][i]);
    out.knees.resize(r.n_layers);
    out.slots.resize(r.n_layers);
    for (uint32_t l = 0; l < r.n_layers; ++l)
        if (const larder_status s = larder_moe_knee(&better[uint64_t(l) * out.row()], r.n_experts, r.k, &out.knees[l]);
            s < 0)
            return s;
    larder_moe_advice_options o = LARDER_MOE_ADVICE_OPTIONS_INIT;
    o.n_layers = r.n_layers;
    o.n_experts = r.n_experts;
    o.k = r.k;
    o.n_tokens = r.n_tokens;
    o.total_slots = a.total_slots;
    o.load_ns = uint64_t(a.load_us * 1000);
    o.step_ns = uint64_t(a.step_us * 1000);
    o.max_slowdown = a.max_slowdown;
    o.min_lift = a.min_lift;
    return larder_moe_advise(context, &o, better.data(), out.slots.data(), &out.advice);
}

// Few enough rows for a screen: from k up in steps that grow.
std::vector<uint32_t> shown_slots(const Analysis& x) {
    std::vector<uint32_t> c;
    for (uint32_t at = x.routing.k; at < x.routing.n_experts; at += std::max(1u, at / 4)) c.push_back(at);
    c.push_back(x.routing.n_experts);
    return c;
}

void print_layers(const Args& a, const Analysis& x) {
    std::cout << "\nlayer";
    for (uint32_t m : a.segments) std::cout << std::setw(9) << "SRP " + std::to_string(m);
    std::cout << "   knee  slots     lru     lfu\n";
    for (uint32_t l = 0; l < x.routing.n_layers; ++l) {
        std::cout << std::setw(5) << l;
        for (auto& rows : x.srp) std::cout << std::setw(9) << rows[l].srp;
        std::cout << std::setw(7) << x.knees[l] << std::setw(7) << x.slots[l] << std::setw(8)
                  << x.ratio(0, l, x.slots[l]) << std::setw(8) << x.ratio(1, l, x.slots[l]) << "\n";
    }
}

void print_table(const Args& a, const Analysis& x) {
    const larder_moe_routing& r = x.routing;
    std::cout << std::fixed << std::setprecision(3) << r.n_tokens << " tokens, " << r.n_layers << " layers, "
              << r.n_experts << " experts, top " << r.k << "\n\nsegment     SRP  size ratio\n";
    for (size_t i = 0; i < a.segments.size(); ++i)
        std::cout << std::setw(7) << a.segments[i] << std::setw(8) << x.srp[i].back().srp << std::setw(12)
                  << x.srp[i].back().size_ratio << "\n";
    std::cout << "\nhit ratio with the same number of slots in each layer (sch: " << a.lookahead << " tokens ahead)\n"
              << "slots    any";
    for (const Kept& p : policies) std::cout << std::setw(8) << p.name;
    std::cout << "\n";
    for (uint32_t c : shown_slots(x)) {
        std::cout << std::setw(5) << c << std::setw(7) << double(c) / r.n_experts;
        for (size_t p = 0; p < std::size(policies); ++p) std::cout << std::setw(8) << x.ratio(p, c);
        std::cout << "\n";
    }
    print_layers(a, x);
    const larder_moe_advice& v = x.advice;
    const uint64_t all = uint64_t(r.n_layers) * r.n_experts;
    std::cout << "\n"
              << (v.verdict == LARDER_MOE_OFFLOAD ? "Offload: " : "Do not offload this model: ") << "with "
              << v.total_slots << " of " << all << " experts in slots, the better of lru and lfu hits " << v.hit_ratio
              << "; any others as many would hit " << double(v.total_slots) / double(all) << " (lift " << v.lift << ")";
    if (v.slowdown > 0) std::cout << "; slowdown " << v.slowdown << ", loads not hidden";
    std::cout << ".\n";
}

nlohmann::json to_json(const Args& a, const Analysis& x) {
    const larder_moe_routing& r = x.routing;
    nlohmann::json segments = nlohmann::json::array(), caches = nlohmann::json::array();
    for (size_t i = 0; i < a.segments.size(); ++i)
        for (uint32_t l = 0; l <= r.n_layers; ++l) {
            const larder_moe_segments& s = x.srp[i][l];
            nlohmann::json row = {
                {"tokens", a.segments[i]}, {"srp", s.srp}, {"size_ratio", s.size_ratio}, {"threshold", s.threshold}};
            row["layer"] = l < r.n_layers ? nlohmann::json(l) : nlohmann::json();
            segments.push_back(std::move(row));
        }
    for (size_t p = 0; p < std::size(policies); ++p)
        for (uint32_t l = 0; l < r.n_layers; ++l) {
            const auto begin = x.hits[p].begin() + int64_t(l) * x.row();
            caches.push_back(
                {{"policy", policies[p].name}, {"layer", l}, {"hits", std::vector<uint64_t>(begin, begin + x.row())}});
        }
    const bool offload = x.advice.verdict == LARDER_MOE_OFFLOAD;
    return {{"tokens", r.n_tokens},
            {"layers", r.n_layers},
            {"experts", r.n_experts},
            {"topk", r.k},
            {"segments", segments},
            {"caches", caches},
            {"knees", x.knees},
            {"advice",
             {{"verdict", offload ? "offload" : "keep whole"},
              {"slots", x.slots},
              {"total_slots", x.advice.total_slots},
              {"hit_ratio", x.advice.hit_ratio},
              {"lift", x.advice.lift},
              {"slowdown", x.advice.slowdown}}}};
}

std::string to_csv(const Analysis& x) {
    std::ostringstream out;
    out << "policy,layer,slots,references,hits\n";
    for (size_t p = 0; p < std::size(policies); ++p)
        for (uint32_t l = 0; l < x.routing.n_layers; ++l)
            for (uint32_t c = 1; c < x.row(); ++c)
                out << policies[p].name << "," << l << "," << c << "," << x.routing.n_tokens * x.routing.k << ","
                    << x.hits[p][uint64_t(l) * x.row() + c] << "\n";
    return out.str();
}

std::string to_svg(const Analysis& x) {
    std::vector<Series> series;
    for (size_t p = 0; p < std::size(policies); ++p) {
        series.push_back({policies[p].name, {}, p % 2 == 1});
        for (uint32_t c = x.routing.k; c <= x.routing.n_experts; ++c)
            series.back().points.emplace_back(c, x.ratio(p, c));
    }
    series.push_back({"any experts", {}, false});
    for (uint32_t c = x.routing.k; c <= x.routing.n_experts; ++c)
        series.back().points.emplace_back(c, double(c) / x.routing.n_experts);
    return line_chart("Expert cache: hit ratio by slots", "slots per layer", "hit ratio", series);
}

bool save(const std::string& path, const std::string& text) {
    std::ofstream out(path);
    out << text;
    return bool(out.flush());
}

int analyze(const Options& o, const Args& a) {
    auto context = make_context();
    if (!context) return report(o, LARDER_E_SYSTEM, "no context");
    Analysis x;
    if (const int code = read_routing(o, context.get(), a, x)) return code;
    {
        Progress progress(o, "analysing", uint64_t(a.n_layers) * (std::size(policies) + 2 * a.segments.size()));
        uint64_t done = 0;
        larder_status s = measure_caches(context.get(), a, x, progress, done);
        if (s >= 0) s = measure_segments(context.get(), a, x, progress, done);
        if (s >= 0) s = advise(context.get(), a, x);
        if (s < 0) return report_routing(o, s, a);
    }
    if (!a.csv.empty() && !save(a.csv, to_csv(x))) return report(o, exit_failure, a.csv + ": cannot be written");
    if (!a.svg.empty() && !save(a.svg, to_svg(x))) return report(o, exit_failure, a.svg + ": cannot be written");
    if (o.json)
        std::cout << to_json(a, x).dump(2) << "\n";
    else
        print_table(a, x);
    return exit_ok;
}

}  // namespace

void add_experts(CLI::App& app, Options& o, int& code) {
    auto* group = app.add_subcommand("experts", "mixtures of experts")->require_subcommand(1);
    auto* sub = group->add_subcommand(
        "analyze", "from recorded routing: does a cache of experts pay, and how many slots does each layer need");
    auto a = std::make_shared<Args>();
    sub->add_option("trace", a->trace, "expert numbers, little-endian, without a header")->required();
    sub->add_option("-l,--layers", a->n_layers, "layers with experts")->required()->check(CLI::PositiveNumber);
    sub->add_option("-k,--topk", a->k, "experts of a token in a layer")->required()->check(CLI::PositiveNumber);
    sub->add_option("-t,--type", a->type, "of a number; default: as the file's name ends")
        ->check(CLI::IsMember({"u8", "i16", "i32"}));
    sub->add_option("--order", a->order, "tokens: [token][layer][k]; layers: [layer][token][k]")
        ->check(CLI::IsMember({"tokens", "layers"}))
        ->capture_default_str();
    sub->add_option("-e,--experts", a->n_experts, "experts of a layer; default: one more than the largest number");
    sub->add_option("--sequence", a->sequence, "tokens of a text: no segment reaches across; default: one text");
    sub->add_option("--segments", a->segments, "tokens of a segment, for SRP")->delimiter(',')->capture_default_str();
    sub->add_option("--lookahead", a->lookahead, "tokens that SCH knows ahead")->capture_default_str();
    sub->add_option("--slots", a->total_slots, "expert slots that there are, all layers together; default: the advice");
    auto* load =
        sub->add_option("--load-us", a->load_us, "microseconds to load one expert")->check(CLI::PositiveNumber);
    auto* step = sub->add_option("--step-us", a->step_us, "microseconds of a token in a layer with its experts at hand")
                     ->check(CLI::PositiveNumber);
    load->needs(step), step->needs(load);
    sub->add_option("--max-slowdown", a->max_slowdown, "put up with at most, where times are given")
        ->capture_default_str();
    sub->add_option("--min-lift", a->min_lift, "worth it from here on, where no times are given")
        ->capture_default_str();
    sub->add_option("--csv", a->csv, "write the curves to FILE");
    sub->add_option("--svg", a->svg, "draw the curves to FILE");
    sub->callback([&o, &code, a] { code = analyze(o, *a); });
}

}  // namespace cli
