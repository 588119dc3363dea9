// Text to tokens and back, for the two kinds of tokenizer file that come with the models.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace engine {

class Tokenizer {
  public:
    virtual ~Tokenizer() = default;
    // Without a token for the beginning.
    virtual std::vector<int32_t> encode(std::string_view text) const = 0;
    virtual std::string decode(std::span<const int32_t> tokens) const = 0;
    virtual uint32_t vocab() const = 0;
    // The token that stands before every text.
    virtual int32_t beginning() const = 0;
};

// Byte pairs, format "bpe1" (docs/formats/kvlm1.md), or the tokenizer.bin of llama2.c, which does
// not state its vocabulary: `vocab` is the model's. Throws Error naming the file and what is wrong
// with it.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path, uint32_t vocab);

}  // namespace engine
