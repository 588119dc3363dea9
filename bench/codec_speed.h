// Parts of the suite `codec` that are about speed alone.
#pragma once

#include <vector>

#include "bench/bench.h"

namespace bench {

// Lossless streams of a cache that is far larger than the processor's caches, F16 and BF16, beside memcpy.
// planes: F16, [layer][K|V] of n_tokens tokens and 256 channels.
void lossless_from_memory(Run& run, const std::vector<std::vector<uint16_t>>& planes, const char* name);
// 4-bit codes in groups of 32, beside loops written from the definition of ggml's q4_0.
void four_bits(Run& run, const std::vector<std::vector<uint16_t>>& planes);
// Decoding into the pages of an arena, beside decoding and then copying.
void decode_into_pages(Run& run, const std::vector<std::vector<uint16_t>>& planes);

}  // namespace bench
