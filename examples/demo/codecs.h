// What each codec preset costs in size and does to the model, measured on text that the model was
// not trained on.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/model.h"

namespace demo {

struct CodecResult {
    std::string name, description;
    bool exact = false;
    bool measured = false;  // false: `why` says why not
    std::string why;
    double bits_per_value = 0;                // of keys and values, side data included
    double compression = 0;                   // against fp16
    double encode_mb_s = 0, decode_mb_s = 0;  // fp16 bytes
    double logit_difference = 0;              // the largest, over all scored positions and the vocabulary
    uint64_t n_logits_different = 0;          // bit by bit
    double perplexity = 0;
};

struct CodecReport {
    uint32_t n_windows = 0, prompt_tokens = 0, scored_tokens = 0;  // scored per window
    double plain_perplexity = 0;                                   // with the fp16 cache itself
    std::vector<CodecResult> presets;

    // Per cent by which the preset raises perplexity.
    double change(const CodecResult& r) const { return 100 * (r.perplexity / plain_perplexity - 1); }
};

// For each of n_windows windows spread over the text, or as many as it has: the keys and values of
// a prompt go through the codec, then the tokens that follow are scored with what came back.
// Presets that use a profile get one learnt from `calibration`, prompts that are not part of the
// text.
CodecReport measure_codecs(const engine::Model& model, int32_t beginning, std::span<const int32_t> text,
                           const std::vector<std::vector<int32_t>>& calibration, uint32_t n_windows);

}  // namespace demo
