// A model of a few thousand random weights, as the bytes of a kvlm1 file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "engine/half.h"
#include "engine/model.h"

struct TinyModel {
    int32_t dim = 40, hidden = 72, layers = 2, heads = 6, kv_heads = 2, head_dim = 10, vocab = 67, context = 200;
    int32_t experts = 0, topk = 0, theta = 10000;
    bool checksum = true;

    std::vector<std::byte> file(uint64_t seed = 1) const {
        std::vector<std::byte> out;
        const auto put = [&](const void* p, size_t n) {
            const auto* b = static_cast<const std::byte*>(p);
            out.insert(out.end(), b, b + n);
        };
        const auto halves = [&](int32_t n_out, int32_t n_in) {
            for (int64_t i = 0; i < int64_t(n_out) * n_in; ++i) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                const uint16_t h = engine::float_to_half((float(seed >> 40) * 0x1p-24f - 0.5f) * 0.8f);
                put(&h, 2);
            }
        };
        const auto ones = [&](int32_t n) {
            const float one = 1.0f;
            for (int32_t i = 0; i < n; ++i) put(&one, 4);
        };
        put("KVLM0001", 8);
        for (int32_t x : {dim, hidden, layers, heads, kv_heads, head_dim, vocab, context, experts, topk, theta})
            put(&x, 4);
        halves(vocab, dim);
        for (int32_t l = 0; l < layers; ++l) {
            ones(dim);
            halves(heads * head_dim, dim);
            halves(kv_heads * head_dim, dim);
            halves(kv_heads * head_dim, dim);
            halves(dim, heads * head_dim);
            ones(dim);
            for (int32_t e = 0; e < experts * dim; ++e) {  // the router
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                const float f = float(seed >> 40) * 0x1p-24f - 0.5f;
                put(&f, 4);
            }
            const int32_t n_feeds = experts ? experts : 1;
            halves(n_feeds * hidden, dim);
            halves(n_feeds * hidden, dim);
            halves(n_feeds * dim, hidden);
        }
        ones(dim);
        if (checksum) {
            const uint32_t crc = engine::crc32c(out);
            put("CRC4", 4);
            put(&crc, 4);
        }
        return out;
    }
};
