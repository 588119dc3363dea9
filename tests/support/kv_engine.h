// A tiny engine for tests of kv: its "model" is a deterministic function of the token prefix, so every byte of K and V
// that is served can be checked. Uses the C ABI only.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "larder/larder.h"
#include "support/cmocka.h"

#define OK(expr)                                                                                                       \
    do {                                                                                                               \
        const larder_status kv_engine_status_ = (expr);                                                                \
        if (kv_engine_status_ != LARDER_OK) {                                                                          \
            larder_error_info kv_engine_info_ = LARDER_ERROR_INFO_INIT;                                                \
            larder_last_error(&kv_engine_info_);                                                                       \
            print_message("%s:%d: %s -> %s (%s: %s)\n", __FILE__, __LINE__, #expr,                                     \
                          larder_status_name(kv_engine_status_), kv_engine_info_.field, kv_engine_info_.message);      \
            _fail(__FILE__, __LINE__);                                                                                 \
        }                                                                                                              \
    } while (0)

namespace kvtest {

inline uint64_t mix(uint64_t x) {
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

struct Shape {
    uint32_t n_layers = 2, block_tokens = 4, n_kv_heads = 2, k_dim = 4, v_dim = 6, scale_bytes = 0;
    uint32_t state_bytes = 0, checkpoint_tokens = 8;  // of a second, RECURRENT group of two layers
};

inline larder_status try_make_layout(larder_context* c, const Shape& s, const char* digest, larder_layout** out) {
    larder_layer_group groups[2] = {LARDER_LAYER_GROUP_INIT, LARDER_LAYER_GROUP_INIT};
    larder_layer_group& g = groups[0];
    g.n_layers = s.n_layers;
    g.block_tokens = s.block_tokens;
    g.n_kv_heads = s.n_kv_heads;
    g.k_dim = s.k_dim;
    g.v_dim = s.v_dim;
    g.scale_bytes = s.scale_bytes;
    larder_layout_options o = LARDER_LAYOUT_OPTIONS_INIT;
    const uint32_t state_layers[] = {s.n_layers, s.n_layers + 1};
    groups[1].kind = LARDER_GROUP_RECURRENT;
    groups[1].layers = state_layers;
    groups[1].n_layers = 2;
    groups[1].state_bytes = s.state_bytes;
    groups[1].checkpoint_tokens = s.checkpoint_tokens;
    o.n_groups = s.state_bytes ? 2 : 1;
    o.groups = groups;
    o.group_stride = sizeof g;
    o.model_digest = {digest, std::strlen(digest)};
    return larder_layout_create(c, &o, out);
}

inline larder_layout* make_layout(larder_context* c, const Shape& s, const char* digest = "test") {
    larder_layout* l = nullptr;
    OK(try_make_layout(c, s, digest, &l));
    return l;
}

// The state after a prefix; the K and V of its last token follow from it.
inline uint64_t prefix_hash(const int32_t* tokens, uint64_t n, uint64_t seed = 1) {
    for (uint64_t i = 0; i < n; ++i) seed = mix(seed * 31 + uint64_t(uint32_t(tokens[i])) + 1);
    return seed;
}

// A row of one token in one tensor of one layer, heads [first_head, first_head + n_heads). Small f16 values, so that
// lossy codecs meet ordinary data.
inline void model_row(uint64_t hash, uint32_t layer, uint32_t plane, uint32_t first_head, uint32_t n_heads,
                      uint32_t dim, uint16_t* out) {
    for (uint32_t h = 0; h < n_heads; ++h)
        for (uint32_t d = 0; d < dim; ++d) {
            const uint64_t r =
                mix(hash ^ (uint64_t(layer) << 40 | uint64_t(plane) << 36 | uint64_t(first_head + h) << 16 | d));
            out[h * dim + d] = uint16_t((r & 0x83ff) | 0x3800 | (r >> 20 & 0x0400));
        }
}

// One kv with its layer views.
struct Cache {
    larder_kv* kv = nullptr;
    Shape shape;
    std::vector<larder_kv_layer_view> layers;
    larder_kv_layer_view states[2] = {LARDER_KV_LAYER_VIEW_INIT, LARDER_KV_LAYER_VIEW_INIT};

    void open(larder_context* c, larder_layout* l, const larder_kv_options& o, const Shape& s) {
        shape = s;
        OK(larder_kv_open(c, l, &o, &kv));
        read_views();
    }
    void read_views() {
        layers.assign(shape.n_layers, LARDER_KV_LAYER_VIEW_INIT);
        for (uint32_t i = 0; i < shape.n_layers; ++i) OK(larder_kv_get_layer(kv, 0, i, &layers[i]));
        for (uint32_t i = 0; shape.state_bytes && i < 2; ++i) OK(larder_kv_get_layer(kv, 1, i, &states[i]));
    }
    void close() {
        larder_kv_close(kv);
        kv = nullptr;
    }

    uint16_t* row(uint32_t layer, uint32_t plane, int64_t block, uint32_t token) const {
        const larder_kv_layer_view& v = layers[layer];
        char* base = static_cast<char*>(plane ? v.v : v.k);
        return reinterpret_cast<uint16_t*>(base +
                                           uint64_t(block) * (plane ? v.v_block_stride_bytes : v.k_block_stride_bytes) +
                                           token * (plane ? v.v_token_stride_bytes : v.k_token_stride_bytes));
    }
    unsigned char* scale_row(uint32_t layer, int64_t slot) const {
        const larder_kv_layer_view& v = layers[layer];
        return static_cast<unsigned char*>(v.scales) +
               uint64_t(slot / shape.block_tokens) * v.scale_block_stride_bytes +
               uint64_t(slot % shape.block_tokens) * v.scale_token_stride_bytes;
    }
    void write_token(int64_t slot, uint64_t hash) const {
        for (uint32_t l = 0; l < shape.n_layers; ++l)
            for (uint32_t i = 0; i < shape.scale_bytes; ++i)
                scale_row(l, slot)[i] = uint8_t(hash >> (8 * i % 56)) ^ uint8_t(l);
        for (uint32_t l = 0; l < shape.n_layers; ++l)
            for (uint32_t p = 0; p < 2; ++p)
                model_row(hash, l, p, 0, shape.n_kv_heads, p ? shape.v_dim : shape.k_dim,
                          row(l, p, slot / shape.block_tokens, uint32_t(slot % shape.block_tokens)));
    }
    bool token_is(int64_t slot, uint64_t hash) const {
        for (uint32_t l = 0; l < shape.n_layers; ++l)
            for (uint32_t i = 0; i < shape.scale_bytes; ++i)
                if (scale_row(l, slot)[i] != (uint8_t(hash >> (8 * i % 56)) ^ uint8_t(l))) return false;
        uint16_t want[256];
        for (uint32_t l = 0; l < shape.n_layers; ++l)
            for (uint32_t p = 0; p < 2; ++p) {
                const uint32_t n = shape.n_kv_heads * (p ? shape.v_dim : shape.k_dim);
                model_row(hash, l, p, 0, shape.n_kv_heads, p ? shape.v_dim : shape.k_dim, want);
                if (std::memcmp(want, row(l, p, slot / shape.block_tokens, uint32_t(slot % shape.block_tokens)), n * 2))
                    return false;
            }
        return true;
    }

    // The state behind a prefix: bytes that follow from its hash; zeros before the first token.
    int32_t state_slot(larder_seq seq) const {
        int32_t slot = -1;
        larder_kv_view_options o = LARDER_KV_VIEW_OPTIONS_INIT;
        o.group = 1;
        o.dst = &slot;
        o.dst_stride = 1;
        OK(larder_kv_view(kv, &seq, 1, &o));
        return slot;
    }
    unsigned char* state_bytes(uint32_t layer, int32_t slot) const {
        return static_cast<unsigned char*>(states[layer].k) + uint64_t(slot) * states[layer].k_block_stride_bytes;
    }
    static unsigned char state_byte(uint64_t hash, uint32_t layer, uint32_t i) {
        return hash ? uint8_t(mix(hash + layer * 4096 + i)) : 0;
    }
    void write_state(larder_seq seq, uint64_t hash) const {
        const int32_t slot = state_slot(seq);
        assert_true(slot > 0);
        for (uint32_t l = 0; l < 2; ++l)
            for (uint32_t i = 0; i < shape.state_bytes; ++i) state_bytes(l, slot)[i] = state_byte(hash, l, i);
    }
    void check_state(larder_seq seq, uint64_t hash) const {
        const int32_t slot = state_slot(seq);
        for (uint32_t l = 0; l < 2; ++l)
            for (uint32_t i = 0; i < shape.state_bytes; ++i)
                if (state_bytes(l, slot)[i] != state_byte(hash, l, i)) {
                    print_message("state of layer %u is wrong at byte %u\n", l, i);
                    _fail(__FILE__, __LINE__);
                }
    }

    std::vector<int64_t> slots(larder_seq seq, uint64_t first, uint64_t n) const {
        std::vector<int64_t> out(n);
        if (!n) return out;
        larder_kv_seq_info i = info(seq);
        std::vector<int64_t> row(i.n_reserved - first);
        larder_kv_view_options o = LARDER_KV_VIEW_OPTIONS_INIT;
        o.format = LARDER_KV_VIEW_SLOT_MAPPING;
        o.dst = row.data();
        o.dst_stride = row.size();
        o.first_token = &first;
        OK(larder_kv_view(kv, &seq, 1, &o));
        assert_true(row.size() >= n);
        out.assign(row.begin(), row.begin() + ptrdiff_t(n));
        return out;
    }
    larder_kv_seq_info info(larder_seq seq) const {
        larder_kv_seq_info i = LARDER_KV_SEQ_INFO_INIT;
        OK(larder_kv_seq_get_info(kv, seq, &i));
        return i;
    }
    larder_kv_info info() const {
        larder_kv_info i = LARDER_KV_INFO_INIT;
        OK(larder_kv_get_info(kv, &i));
        return i;
    }

    larder_kv_match_info match(const std::vector<int32_t>& tokens, bool all = true) const {
        larder_kv_query q = LARDER_KV_QUERY_INIT;
        q.tokens = tokens.data();
        q.n_tokens = tokens.size();
        if (all) q.max_match_tokens = UINT64_MAX;
        larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
        OK(larder_kv_match(kv, &q, &m));
        return m;
    }
    // Begin and wait; what is computed is checked.
    larder_seq begin(const std::vector<int32_t>& tokens, uint64_t* n_computed = nullptr, bool all = true) const {
        const larder_kv_match_info m = match(tokens, all);
        larder_seq seq = 0;
        OK(larder_kv_begin(kv, m.lease, nullptr, nullptr, 0, &seq, nullptr));
        check(seq, tokens);
        if (n_computed) *n_computed = info(seq).n_computed;
        return seq;
    }
    // Every computed token of the sequence holds what the model gives for `tokens`.
    void check(larder_seq seq, const std::vector<int32_t>& tokens, uint64_t seed = 1) const {
        const uint64_t n = info(seq).n_computed;
        assert_true(n <= tokens.size());
        const std::vector<int64_t> at = slots(seq, 0, n);
        uint64_t h = seed;
        for (uint64_t i = 0; i < n; ++i) {
            h = prefix_hash(&tokens[i], 1, h);
            if (token_is(at[i], h)) continue;
            print_message("token %llu of %llu is wrong\n", (unsigned long long)i, (unsigned long long)n);
            _fail(__FILE__, __LINE__);
        }
        // After a commit that failed the state is ahead; the same commit again would take it.
        if (shape.state_bytes && info(seq).n_reserved == n) check_state(seq, n ? h : 0);
    }
    // Compute and commit tokens[n_computed .. n); with states, up to each checkpoint by itself.
    larder_status try_compute(larder_seq seq, const std::vector<int32_t>& tokens, uint64_t n, uint64_t seed = 1) const {
        while (shape.state_bytes && info(seq).n_computed / shape.checkpoint_tokens < n / shape.checkpoint_tokens) {
            const uint64_t next = (info(seq).n_computed / shape.checkpoint_tokens + 1) * shape.checkpoint_tokens;
            const larder_status s = compute_to(seq, tokens, next, seed);
            if (s != LARDER_OK || next == n) return s;
        }
        return compute_to(seq, tokens, n, seed);
    }
    larder_status compute_to(larder_seq seq, const std::vector<int32_t>& tokens, uint64_t n, uint64_t seed) const {
        const uint64_t done = info(seq).n_computed;
        if (done >= n) return LARDER_OK;
        const larder_status s = larder_kv_reserve(kv, seq, n - done, 0);
        if (s != LARDER_OK) return s;
        const std::vector<int64_t> at = slots(seq, done, n - done);
        uint64_t h = prefix_hash(tokens.data(), done, seed);
        for (uint64_t i = done; i < n; ++i) {
            h = prefix_hash(&tokens[i], 1, h);
            write_token(at[i - done], h);
        }
        if (shape.state_bytes) write_state(seq, h);
        return larder_kv_commit(kv, seq, tokens.data() + done, n - done);
    }
    void compute(larder_seq seq, const std::vector<int32_t>& tokens, uint64_t n) const {
        OK(try_compute(seq, tokens, n));
    }
    // One whole request.
    uint64_t serve(const std::vector<int32_t>& tokens) const {
        uint64_t n = 0;
        const larder_seq seq = begin(tokens, &n, false);
        compute(seq, tokens, tokens.size());
        check(seq, tokens);
        OK(larder_kv_end(kv, seq));
        return n;
    }
};

inline std::vector<int32_t> prompt(uint32_t id, uint32_t n, uint32_t shared = 0) {
    std::vector<int32_t> t(n);
    for (uint32_t i = 0; i < n; ++i) t[i] = int32_t(mix((i < shared ? 0 : uint64_t(id) << 32) + i) % 50021);
    return t;
}

}  // namespace kvtest
