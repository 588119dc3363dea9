// What moving conversations out of fast memory costs: single blocks against runs.
#pragma once

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "base/hash.h"
#include "bench/bench.h"
#include "bench/memory_bed.h"

namespace {

// 32 KiB per block, layer and plane (8 heads of 128 in fp16, 16 tokens), 10 us per copy and 25 GB/s: the model of
// FastSwitch's evaluation.
struct SwapModel {
    double mean_run = 0, seconds = 0;
};

struct Conversation {
    uint64_t n_prompt, n_answer;  // tokens
};

// Conversations live together, grow in turn by a block and end when they are answered; each is moved out once, at its
// end.
SwapModel swap_model(uint32_t run_blocks, const std::vector<Conversation>& conversations, uint32_t n_together,
                     uint32_t n_blocks) {
    larder_arena_options o = paged(n_blocks);
    o.run_blocks = run_blocks;
    o.max_seqs = 64;
    Bed bed(o);
    larder::Rng rng(7);
    struct Seq {
        larder_seq id;
        uint64_t left;  // tokens
    };
    std::vector<Seq> seqs;
    size_t next = 0;
    auto begin = [&](Seq& s) {
        const Conversation& c = conversations[next++];
        s.left = c.n_answer;
        larder_arena_seq_create(bed.arena, &s.id);
        return larder_arena_seq_append(bed.arena, s.id, c.n_prompt, nullptr, 0, nullptr) >= 0;
    };
    SwapModel m;
    uint64_t n_runs = 0, n_moved = 0;
    std::vector<larder_arena_run> runs(n_blocks);
    auto end = [&](const Seq& s) {
        uint64_t n = 0;
        larder_arena_seq_runs(bed.arena, s.id, 0, runs.data(), runs.size(), &n);
        n_runs += n;
        for (uint64_t i = 0; i < n; ++i) {
            n_moved += runs[i].n_blocks;
            m.seconds += 10e-6 + runs[i].n_blocks * 32768 / 25e9;
        }
        larder_arena_seq_destroy(bed.arena, s.id);
    };
    while (next < conversations.size() || !seqs.empty()) {
        while (seqs.size() < n_together && next < conversations.size()) {
            seqs.push_back({});
            if (begin(seqs.back())) continue;
            // Full: the new one waits, as it would in a scheduler.
            larder_arena_seq_destroy(bed.arena, seqs.back().id);
            seqs.pop_back();
            --next;
            break;
        }
        const size_t at = rng.below(seqs.size());
        const uint64_t step = seqs[at].left < 16 ? seqs[at].left : 16;
        const bool full = step && larder_arena_seq_append(bed.arena, seqs[at].id, step, nullptr, 0, nullptr) < 0;
        seqs[at].left -= step;
        if (seqs[at].left && !full) continue;
        end(seqs[at]);  // answered, or preempted
        seqs[at] = seqs.back();
        seqs.pop_back();
    }
    m.mean_run = double(n_moved) / double(n_runs);
    return m;
}

std::vector<Conversation> made_up_conversations() {
    larder::Rng rng(7);
    std::vector<Conversation> c(300);
    for (auto& x : c) x = {16 * (1 + rng.below(60)), 16 * (100 + rng.below(300))};
    return c;
}

// Lengths of a published trace of requests (Mooncake, FAST 2025), in the order of arrival.
std::vector<Conversation> recorded_conversations(size_t n) {
    std::vector<Conversation> c;
    const char* dir = std::getenv("LARDER_SHARED_DIR");
    std::ifstream in(std::string(dir ? dir : ".") + "/data/traces/mooncake_conversation_trace.jsonl");
    auto field = [](const std::string& line, const char* name) -> uint64_t {
        const size_t at = line.find(name);
        return at == std::string::npos ? 0 : std::strtoull(line.c_str() + at + std::strlen(name), nullptr, 10);
    };
    for (std::string line; c.size() < n && std::getline(in, line);)
        if (const Conversation x{field(line, "\"input_length\":"), field(line, "\"output_length\":")}; x.n_prompt)
            c.push_back(x);
    return c;
}

void swap_rows(bench::Run& run, const std::string& suffix, const std::vector<Conversation>& c, uint32_t n_together,
               uint32_t n_blocks) {
    const SwapModel single = swap_model(0, c, n_together, n_blocks), runs = swap_model(64, c, n_together, n_blocks);
    run.row({.name = "swap-run" + suffix,
             .metric = "mean run of adjacent blocks",
             .unit = "blocks",
             .larder = runs.mean_run,
             .peers = {{"single blocks", single.mean_run}},
             .note = "run_blocks 64"});
    run.row({.name = "swap-time" + suffix,
             .metric = "modelled time to move a conversation, per layer and plane",
             .unit = "s",
             .larder = runs.seconds,
             .peers = {{"single blocks", single.seconds}},
             .note = "10 us per copy, 25 GB/s"});
}

void swaps(bench::Run& run) {
    swap_rows(run, "", made_up_conversations(), 48, 16384);
    const auto recorded = recorded_conversations(run.size<size_t>(4000, 1000));
    if (recorded.empty())
        run.absent("recorded trace", "LARDER_SHARED_DIR does not name the reference data");
    else
        swap_rows(run, "-trace", recorded, 32, 32768);
}

}  // namespace
