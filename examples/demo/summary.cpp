#include "demo/summary.h"

#include <algorithm>
#include <ctime>
#include <fstream>

#include "demo/format.h"

namespace demo {

namespace {

double median(std::vector<double> v) {
    if (v.empty()) return 0;
    std::sort(v.begin(), v.end());
    const size_t half = v.size() / 2;
    return v.size() % 2 ? v[half] : (v[half - 1] + v[half]) / 2;
}

TurnRow row_of(std::string label, const Outcome* first, const Outcome* last) {
    TurnRow row;
    row.label = std::move(label);
    std::vector<double> larder, plain;
    for (const Outcome* o = first; o != last; ++o) {
        ++row.n_requests;
        row.n_prompt += o->n_prompt;
        row.n_arena += o->n_arena;
        row.n_host += o->n_host;
        row.n_file += o->n_file;
        row.n_computed += o->n_computed();
        row.traffic += o->traffic;
        larder.push_back(double(o->larder_ns) * 1e-6);
        plain.push_back(double(o->plain_ns) * 1e-6);
    }
    row.larder_ms = median(larder);
    row.plain_ms = median(plain);
    return row;
}

std::vector<TurnRow> turn_rows(const Conversation& c) {
    std::vector<TurnRow> rows;
    const Outcome* all = c.outcomes.data();
    for (uint32_t turn = 0; turn < n_turns; ++turn) {
        const uint32_t begin = turn * n_users, end = begin + n_users;
        if (c.restarted_at > begin && c.restarted_at < end) {
            rows.push_back(row_of(format("%u, until the kill", turn + 1), all + begin, all + c.restarted_at));
            rows.push_back(row_of(format("%u, restarted", turn + 1), all + c.restarted_at, all + end));
        } else {
            rows.push_back(row_of(format("%u", turn + 1), all + begin, all + end));
        }
        rows.back().traffic += c.flushes[turn];
    }
    return rows;
}

std::vector<Check> checks_of(const Summary& s) {
    const Conversation& c = s.conversation;
    uint64_t tokens = 0, logits = 0, tokens_after = 0, logits_after = 0;
    for (size_t i = 0; i < c.outcomes.size(); ++i) {
        const Outcome& o = c.outcomes[i];
        tokens += o.n_tokens_different;
        logits += o.n_logits_different;
        if (i < c.restarted_at) continue;
        tokens_after += o.n_tokens_different;
        logits_after += o.n_logits_different;
    }
    const uint64_t n_tokens = uint64_t(n_requests) * answer_tokens, n_logits = n_tokens * s.shape.vocab;
    const Outcome& first_after = c.outcomes[c.restarted_at];
    std::vector<Check> checks;
    checks.push_back({"every generated token is the one of the run without Larder", tokens == 0,
                      grouped(tokens) + " of " + grouped(n_tokens) + " differ"});
    checks.push_back({"every logit is bit-identical to the run without Larder", logits == 0,
                      grouped(logits) + " of " + grouped(n_logits) + " differ"});
    checks.push_back({"the process was killed in the middle of an answer, by SIGKILL", c.killed,
                      format("request %u of %u", killed_request + 1, n_requests)});
    checks.push_back({"what was stored before the kill was found again", first_after.n_file > 0,
                      format("%u of %u prompt tokens of the first request came from the file tier", first_after.n_file,
                             first_after.n_prompt)});
    checks.push_back({"nothing wrong was served after the kill",
                      tokens_after == 0 && logits_after == 0 && c.restarted_at < n_requests,
                      format("of %u requests, ", n_requests - c.restarted_at) + grouped(tokens_after) + " tokens and " +
                          grouped(logits_after) + " logits differ"});
    checks.push_back({"every tier served", s.total.n_arena > 0 && s.total.n_host > 0 && s.total.n_file > 0,
                      "tokens from arena " + grouped(s.total.n_arena) + ", RAM " + grouped(s.total.n_host) + ", file " +
                          grouped(s.total.n_file)});
    uint64_t inexact = 0, n_exact = 0;
    for (const CodecResult& r : s.codecs.presets)
        if (r.exact) {
            ++n_exact;
            inexact += !r.measured || r.n_logits_different > 0;
        }
    checks.push_back({"lossless presets give back every logit", n_exact > 0 && inexact == 0,
                      grouped(n_exact - inexact) + " of " + grouped(n_exact) + " presets"});
    return checks;
}

}  // namespace

bool Summary::good() const {
    return std::all_of(checks.begin(), checks.end(), [](const Check& c) { return c.holds; });
}

void summarize(Summary& s) {
    s.turns = turn_rows(s.conversation);
    s.total =
        row_of("all", s.conversation.outcomes.data(), s.conversation.outcomes.data() + s.conversation.outcomes.size());
    for (const Traffic& t : s.conversation.flushes) s.total.traffic += t;
    s.checks = checks_of(s);
}

std::string machine_name() {
    std::ifstream info("/proc/cpuinfo");
    std::string line, name = "unknown processor";
    unsigned n = 0;
    while (std::getline(info, line)) {
        if (line.rfind("processor", 0) == 0) ++n;
        const size_t colon = line.find(": ");
        if (line.rfind("model name", 0) == 0 && colon != line.npos) name = line.substr(colon + 2);
    }
    return n ? format("%s, %u CPUs", name.c_str(), n) : name;
}

std::string today() {
    const std::time_t now = std::time(nullptr);
    char text[32] = "";
    std::tm parts = {};
    if (::gmtime_r(&now, &parts)) std::strftime(text, sizeof text, "%Y-%m-%d", &parts);
    return text;
}

}  // namespace demo
