// larder-bench SUITE [--quick] [--json FILE] [--check]
#include <CLI/CLI.hpp>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "bench/bench.h"
#include "larder/larder.h"

using nlohmann::json;

namespace {

std::string number(double v) {
    std::ostringstream s;
    if (v != 0 && (std::abs(v) < 0.01 || std::abs(v) >= 1e6))
        s << std::scientific << std::setprecision(2) << v;
    else
        s << std::fixed << std::setprecision(std::abs(v) < 10 ? 3 : 1) << v;
    return s.str();
}

json to_json(const bench::Run& run) {
    json rows = json::array();
    for (auto& r : run.rows()) {
        json ratio = json::object();
        for (auto& [peer, v] : r.peers)
            if (v != 0) ratio[peer] = r.larder / v;
        rows.push_back({{"suite", run.suite()},
                        {"case", r.name},
                        {"metric", r.metric},
                        {"unit", r.unit},
                        {"larder", r.larder},
                        {"peers", r.peers},
                        {"ratio", ratio}});
        if (!r.note.empty()) rows.back()["note"] = r.note;
    }
    return rows;
}

void print(const bench::Run& run) {
    std::cout << std::left << std::setw(34) << "case" << std::setw(18) << "metric" << std::setw(10) << "unit"
              << std::right << std::setw(10) << "larder"
              << "   peers (larder/peer)\n";
    for (auto& r : run.rows()) {
        std::cout << std::left << std::setw(34) << r.name << std::setw(18) << r.metric << std::setw(10) << r.unit
                  << std::right << std::setw(10) << number(r.larder) << "  ";
        for (auto& [peer, v] : r.peers)
            std::cout << " " << peer << " " << number(v) << " (" << number(v ? r.larder / v : 0) << "x)";
        if (!r.note.empty()) std::cout << "  " << r.note;
        std::cout << "\n";
    }
    for (auto& [peer, why] : run.absent_peers()) std::cout << peer << ": not measured (" << why << ")\n";
}

// A target: {suite, case, metric, peer, min | max}: bounds on larder/peer; without peer, on the figure itself.
struct Verdict {
    int checked = 0, short_of = 0, not_measured = 0;
};

Verdict check(const json& rows, const json& targets, const std::string& suite) {
    Verdict v;
    for (auto& t : targets) {
        if (t.at("suite") != suite) continue;
        const json* row = nullptr;
        for (auto& r : rows)
            if (r["case"] == t["case"] && r["metric"] == t["metric"]) row = &r;
        const std::string peer = t.value("peer", "");
        const std::string name =
            t["case"].get<std::string>() + " " + t["metric"].get<std::string>() + (peer.empty() ? "" : " vs " + peer);
        if (!row || (!peer.empty() && !(*row)["ratio"].contains(peer))) {
            std::cout << "not measured: " << name << "\n";
            ++v.not_measured;
            continue;
        }
        ++v.checked;
        const double got = peer.empty() ? (*row)["larder"].get<double>() : (*row)["ratio"][peer].get<double>();
        const bool low = t.contains("min") && got < t["min"].get<double>();
        const bool high = t.contains("max") && got > t["max"].get<double>();
        if (!low && !high) continue;
        ++v.short_of;
        std::cout << "falls short: " << name << ": " << number(got) << ", asked " << (low ? "at least " : "at most ")
                  << number(t[low ? "min" : "max"].get<double>()) << "\n";
    }
    std::cout << suite << ": " << v.checked - v.short_of << " of " << v.checked << " targets reached, "
              << v.not_measured << " not measured\n";
    return v;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Measure Larder beside its peers in the same run. Ratios count; absolute figures belong to this "
                 "machine and hour."};
    std::string suite, json_file, targets_file = LARDER_BENCH_TARGETS;
    bool quick = false, do_check = false, list = false;
    app.add_option("suite", suite, "which suite; see --list");
    app.add_flag("--quick", quick, "smaller sizes, fewer rounds");
    app.add_flag("--check", do_check, "compare with the targets; exit 1 when one falls short");
    app.add_flag("--list", list, "list the suites");
    app.add_option("--json", json_file, "write the rows to FILE (- for standard output)");
    app.add_option("--targets", targets_file, "the targets file");
    CLI11_PARSE(app, argc, argv);
    if (list || suite.empty()) {
        for (auto& s : bench::suites()) std::cout << std::left << std::setw(10) << s.name << s.what << "\n";
        return suite.empty() && !list ? 2 : 0;
    }
    for (auto& s : bench::suites()) {
        if (s.name != suite) continue;
        bench::Run run(suite, quick);
        s.fn(run);
        const json rows = to_json(run);
        if (json_file == "-")
            std::cout << rows.dump(2) << "\n";
        else
            print(run);
        if (!json_file.empty() && json_file != "-") std::ofstream(json_file) << rows.dump(2) << "\n";
        if (!do_check) return 0;
        std::ifstream in(targets_file);
        const json targets = json::parse(in, nullptr, false);
        if (targets.is_discarded()) return std::cerr << targets_file << ": not readable as JSON\n", 2;
        return check(rows, targets, suite).short_of ? 1 : 0;
    }
    std::cerr << "no suite '" << suite << "'; --list shows them\n";
    return 2;
}
