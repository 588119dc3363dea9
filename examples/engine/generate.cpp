#include "engine/generate.h"

#include <algorithm>
#include <chrono>

#include "engine/error.h"

namespace engine {

namespace {

// Computes the tokens that follow the first `position`, and returns the logits of the last.
std::span<const float> advance(Decoder& decoder, KvCache& cache, std::span<const int32_t> tokens, uint32_t position) {
    std::span<const float> logits;
    for (size_t done = 0; done < tokens.size();) {
        const auto part = tokens.subspan(done, std::min<size_t>(prefill_chunk, tokens.size() - done));
        const KvView& view = cache.reserve(uint32_t(part.size()));
        const Slice slice{part, position + uint32_t(done), &view};
        logits = decoder.step({&slice, 1});
        cache.commit(part);
        done += part.size();
    }
    return logits;
}

}  // namespace

Answer generate(Decoder& decoder, KvCache& cache, std::span<const int32_t> prompt, uint32_t n_out,
                const std::function<void()>& on_token) {
    if (prompt.empty()) throw Error("an empty prompt");
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    Answer answer;
    answer.n_cached = cache.begin(prompt);
    std::span<const float> logits = advance(decoder, cache, prompt.subspan(answer.n_cached), answer.n_cached);
    for (uint32_t i = 0; i < n_out; ++i) {
        const int32_t token = greatest(logits);
        answer.tokens.push_back(token);
        if (i == 0) answer.first_token_ns = uint64_t(std::chrono::nanoseconds(Clock::now() - start).count());
        answer.logits.insert(answer.logits.end(), logits.begin(), logits.end());
        if (on_token) on_token();
        if (i + 1 < n_out) logits = advance(decoder, cache, {&token, 1}, uint32_t(prompt.size()) + i);
    }
    cache.end();
    return answer;
}

}  // namespace engine
