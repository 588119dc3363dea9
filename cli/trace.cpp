#include "trace.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <unordered_map>

namespace cli {
namespace {

struct Request {
    double timestamp;
    std::vector<uint64_t> blocks;
};

// Ids may be numbers of any size or strings; they are numbered by first appearance.
bool read_ids(const nlohmann::json& ids, std::unordered_map<std::string, uint64_t>& names, std::vector<uint64_t>& out) {
    for (auto& id : ids) {
        if (!id.is_number_integer() && !id.is_string()) return false;
        out.push_back(names.try_emplace(id.is_string() ? id.get<std::string>() : id.dump(), names.size()).first->second);
    }
    return true;
}

} // namespace

bool load_trace(const std::string& path, Trace& trace, std::string& error) {
    std::ifstream in(path);
    if (!in) return error = path + ": cannot be read", false;
    std::vector<Request> requests;
    std::unordered_map<std::string, uint64_t> names;
    std::string line;
    for (uint64_t n = 1; std::getline(in, line); ++n) {
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        auto bad = [&](const char* why) { return error = path + ":" + std::to_string(n) + ": " + why, false; };
        const auto row = nlohmann::json::parse(line, nullptr, false);
        if (row.is_discarded() || !row.is_object()) return bad("not a JSON object");
        const auto ids = row.find("hash_ids");
        if (ids == row.end() || !ids->is_array()) return bad("no array \"hash_ids\"");
        Request r{0, {}};
        if (const auto t = row.find("timestamp"); t != row.end()) {
            if (t->is_number()) r.timestamp = t->get<double>();
            else if (t->is_string()) r.timestamp = std::atof(t->get<std::string>().c_str());
            if (!std::isfinite(r.timestamp)) return bad("timestamp is not a number");
        }
        if (!read_ids(*ids, names, r.blocks)) return bad("a block id is neither an integer nor a string");
        requests.push_back(std::move(r));
    }
    if (requests.empty()) return error = path + ": has no request", false;
    std::stable_sort(requests.begin(), requests.end(), [](auto& a, auto& b) { return a.timestamp < b.timestamp; });
    for (auto& r : requests) {
        trace.blocks.insert(trace.blocks.end(), r.blocks.begin(), r.blocks.end());
        trace.ends.push_back(trace.blocks.size());
    }
    trace.n_unique = names.size();
    return true;
}

} // namespace cli
