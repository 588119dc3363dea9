// Answer a prompt: take what the cache has, compute the rest, then token after token.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/decoder.h"
#include "engine/kv_cache.h"

namespace engine {

struct Answer {
    std::vector<int32_t> tokens;
    std::vector<float> logits;    // [tokens][vocab]: what each token was chosen from
    uint32_t n_cached = 0;        // tokens of the prompt that were not computed again
    uint64_t first_token_ns = 0;  // from the request to its first token
};

inline constexpr uint32_t prefill_chunk = 128;

// n_out tokens, each the most likely one. on_token may be empty.
Answer generate(Decoder& decoder, KvCache& cache, std::span<const int32_t> prompt, uint32_t n_out,
                const std::function<void()>& on_token = {});

}  // namespace engine
