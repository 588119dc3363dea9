// The conversation, led in a child process that is killed in the middle and started again on the
// same directory.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "demo/larder_cache.h"
#include "demo/scenario.h"
#include "engine/model.h"

namespace demo {

// Bytes that crossed the border of the arena and of the disk.
struct Traffic {
    uint64_t arena_out = 0;  // fp16 bytes that left the arena
    uint64_t encoded = 0;    // what they became
    uint64_t arena_in = 0;   // fp16 bytes that came back
    uint64_t disk_written = 0;
    uint64_t disk_read = 0;

    Traffic& operator+=(const Traffic& other);
    double compression() const { return encoded ? double(arena_out) / double(encoded) : 0; }
};

// One answered request, with Larder and, in the same process with the same engine, without.
struct Outcome {
    uint32_t request = 0;
    uint32_t n_prompt = 0;
    uint32_t n_arena = 0, n_host = 0,
             n_file = 0;                   // tokens of the prompt that were not computed again, by where they were
    uint32_t n_tokens_different = 0;       // of the answer, from the run without Larder
    uint32_t n_logits_different = 0;       // of answer_tokens * vocab, compared bit by bit
    uint64_t larder_ns = 0, plain_ns = 0;  // time to first token
    std::array<int32_t, answer_tokens> answer = {};
    Traffic traffic;

    uint32_t n_cached() const { return n_arena + n_host + n_file; }
    uint32_t n_computed() const { return n_prompt - n_cached(); }
};

struct Conversation {
    std::vector<Outcome> outcomes;         // [n_requests]
    std::array<Traffic, n_turns> flushes;  // at the end of each turn, not in any outcome
    uint32_t restarted_at = 0;             // the first request of the second process
    bool killed = false;                   // by SIGKILL, as planned
    uint64_t reopen_ns = 0;                // the second process's time to open the directory
};

// Told how far the conversation has come, 0 to 1, and what is going on; and of what happens once.
class Watcher {
  public:
    virtual ~Watcher() = default;
    virtual void progress(double part, const std::string& what) = 0;
    virtual void event(const std::string& what) = 0;
};

// Throws engine::Error when a child fails, with its message.
Conversation converse(const engine::Model& model, const Scenario& scenario, const CacheOptions& cache,
                      Watcher& watcher);

// The prompt of a request: the document and all that was said before, then the question.
std::vector<int32_t> prompt_of(const Scenario& scenario, const std::vector<Outcome>& before, uint32_t request);

}  // namespace demo
