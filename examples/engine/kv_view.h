// Where a sequence's keys and values are: all that the decoder knows of a cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace engine {

// Tokens are kept in blocks of block_tokens; token t of the sequence is in block blocks[t /
// block_tokens], at place t % block_tokens. A key or value row is fp16 [n_kv_heads][head_dim],
// without gaps.
struct KvView {
    struct LayerBase {
        std::byte* k;  // block 0, place 0
        std::byte* v;
    };
    std::vector<LayerBase> layers;
    size_t k_block_stride = 0, v_block_stride = 0;  // bytes from a block to the next
    size_t k_token_stride = 0, v_token_stride = 0;  // bytes from a token to the next, inside a block
    uint32_t block_tokens = 1;
    const int32_t* blocks = nullptr;

    std::byte* k_row(size_t layer, size_t token) const {
        return layers[layer].k + block(token) * k_block_stride + token % block_tokens * k_token_stride;
    }
    std::byte* v_row(size_t layer, size_t token) const {
        return layers[layer].v + block(token) * v_block_stride + token % block_tokens * v_token_stride;
    }

  private:
    size_t block(size_t token) const { return size_t(blocks[token / block_tokens]); }
};

}  // namespace engine
