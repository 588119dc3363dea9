#include "trace.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <variant>

namespace cli {
namespace {

struct Request {
    double timestamp;
    std::vector<uint64_t> blocks;
};

// A block id of the file. JSON numbers that are not negative arrive unsigned, so ids sort as numbers do, and text
// behind them.
using Id = std::variant<int64_t, uint64_t, std::string>;
using Names = std::unordered_map<Id, uint64_t>;

bool read_id(const nlohmann::json& id, Id& out) {
    if (id.is_string())
        out = id.get<std::string>();
    else if (id.is_number_unsigned())
        out = id.get<uint64_t>();
    else if (id.is_number_integer())
        out = id.get<int64_t>();
    else
        return false;
    return true;
}

// Numbered by first appearance until all are known.
bool read_ids(const nlohmann::json& ids, Names& names, std::vector<uint64_t>& out) {
    Id id;
    for (auto& one : ids) {
        if (!read_id(one, id)) return false;
        out.push_back(names.try_emplace(id, names.size()).first->second);
    }
    return true;
}

// Policies settle ties by the smaller id: the numbers given must have the order of the ids in the file.
std::vector<uint64_t> number_in_order(const Names& names) {
    std::vector<const Names::value_type*> sorted;
    for (auto& name : names) sorted.push_back(&name);
    std::sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->first < b->first; });
    std::vector<uint64_t> number(sorted.size());
    for (uint64_t i = 0; i < sorted.size(); ++i) number[sorted[i]->second] = i;
    return number;
}

// A number, or a text that is one whole. Absent: zero, so that such requests stay in the order of the file.
bool read_timestamp(const nlohmann::json& row, double& out) {
    const auto t = row.find("timestamp");
    if (t == row.end()) return true;
    if (t->is_string()) {
        const std::string text = t->get<std::string>();
        char* end = nullptr;
        out = std::strtod(text.c_str(), &end);
        return !text.empty() && !*end && std::isfinite(out);
    }
    if (!t->is_number()) return false;
    out = t->get<double>();
    return std::isfinite(out);
}

}  // namespace

bool load_trace(const std::string& path, Trace& trace, std::string& error) {
    std::ifstream in(path);
    std::error_code none;
    if (!in || std::filesystem::is_directory(path, none)) return error = path + ": cannot be read", false;
    std::vector<Request> requests;
    Names names;
    std::string line;
    for (uint64_t n = 1; std::getline(in, line); ++n) {
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        auto bad = [&](const char* why) { return error = path + ":" + std::to_string(n) + ": " + why, false; };
        const auto row = nlohmann::json::parse(line, nullptr, false);
        if (row.is_discarded() || !row.is_object()) return bad("not a JSON object");
        const auto ids = row.find("hash_ids");
        if (ids == row.end() || !ids->is_array()) return bad("no array \"hash_ids\"");
        Request r{0, {}};
        if (!read_timestamp(row, r.timestamp)) return bad("timestamp is not a number");
        if (!read_ids(*ids, names, r.blocks)) return bad("a block id is neither an integer of 64 bits nor a string");
        requests.push_back(std::move(r));
    }
    if (in.bad() || !in.eof()) return error = path + ": cannot be read to its end", false;
    if (requests.empty()) return error = path + ": has no request", false;
    std::stable_sort(requests.begin(), requests.end(), [](auto& a, auto& b) { return a.timestamp < b.timestamp; });
    const std::vector<uint64_t> number = number_in_order(names);
    for (auto& r : requests) {
        for (uint64_t name : r.blocks) trace.blocks.push_back(number[name]);
        trace.ends.push_back(trace.blocks.size());
    }
    trace.n_unique = names.size();
    return true;
}

bool is_record(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    char magic[8] = {};
    return in.read(magic, sizeof magic) && std::memcmp(magic, "LRDRREC1", sizeof magic) == 0;
}

}  // namespace cli
