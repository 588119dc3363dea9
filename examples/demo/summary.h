// The figures of a run, made ready for the terminal and for the report.
#pragma once

#include <string>
#include <vector>

#include "demo/codecs.h"
#include "demo/conversation.h"

namespace demo {

// One line of the table: a turn, or what of it happened in one process.
struct TurnRow {
    std::string label;
    uint32_t n_requests = 0;
    uint64_t n_prompt = 0, n_arena = 0, n_host = 0, n_file = 0, n_computed = 0;  // tokens
    double larder_ms = 0, plain_ms = 0;                                          // median time to first token
    Traffic traffic;

    double speed_up() const { return larder_ms > 0 ? plain_ms / larder_ms : 0; }
};

struct Check {
    std::string claim;
    bool holds = false;
    std::string detail;
};

struct Summary {
    std::string model_name, machine, date;
    uint64_t n_parameters = 0;
    engine::Shape shape;
    CacheOptions cache;
    Conversation conversation;
    CodecReport codecs;

    std::vector<TurnRow> turns;
    std::vector<Check> checks;
    TurnRow total;
    double seconds = 0;

    // Text of one request, for the curious.
    std::string sample_question, sample_answer;

    bool good() const;
};

// Fills turns, total and checks from conversation and codecs.
void summarize(Summary& summary);

std::string machine_name();
std::string today();

void print_tables(const Summary& summary);

// One self-contained page. Throws engine::Error when it cannot be written.
void write_report(const Summary& summary, const std::string& path);

}  // namespace demo
