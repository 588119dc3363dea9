#include "demo/larder_cache.h"

#include <algorithm>

namespace demo {

namespace {

constexpr uint32_t block_tokens = 16;

}  // namespace

LarderCache::LarderCache(const engine::Model& model, const CacheOptions& options) {
    larder_context* context = nullptr;
    check(larder_context_create(nullptr, &context), "larder_context_create");
    context_.reset(context);
    open_layout(model);
    open_kv(options);
    find_layers(model.shape.n_layers);
    table_.resize((model.shape.context + block_tokens - 1) / block_tokens);
    view_.blocks = table_.data();
}

void LarderCache::open_layout(const engine::Model& model) {
    const engine::Shape& s = model.shape;
    larder_layer_group group = LARDER_LAYER_GROUP_INIT;
    group.n_layers = s.n_layers;
    group.block_tokens = block_tokens;
    group.n_kv_heads = s.n_kv_heads;
    group.k_dim = group.v_dim = s.head_dim;
    // What was computed with other weights must never be found.
    const std::string weights = std::to_string(model.n_parameters()) + "/" + std::to_string(model.crc32c);
    larder_layout_options options = LARDER_LAYOUT_OPTIONS_INIT;
    options.n_groups = 1;
    options.groups = &group;
    options.group_stride = sizeof group;
    options.rope_base = s.theta;
    options.model_digest = {weights.data(), weights.size()};
    options.vocab_size = s.vocab;
    larder_layout* layout = nullptr;
    check(larder_layout_create(context_.get(), &options, &layout), "larder_layout_create");
    layout_.reset(layout);
}

void LarderCache::open_kv(const CacheOptions& o) {
    larder_kv_options options = LARDER_KV_OPTIONS_INIT;
    options.n_blocks = o.n_blocks;
    options.host_bytes = o.host_bytes;
    options.directory = o.directory.c_str();
    options.file_bytes = o.file_bytes;
    options.segment_bytes = 1 << 20;
    options.codec = o.codec.c_str();
    larder_kv* kv = nullptr;
    check(larder_kv_open(context_.get(), layout_.get(), &options, &kv), "larder_kv_open");
    kv_.reset(kv);
}

void LarderCache::find_layers(uint32_t n_layers) {
    for (uint32_t l = 0; l < n_layers; ++l) {
        larder_kv_layer_view v = LARDER_KV_LAYER_VIEW_INIT;
        check(larder_kv_get_layer(kv_.get(), 0, l, &v), "larder_kv_get_layer");
        view_.layers.push_back({static_cast<std::byte*>(v.k), static_cast<std::byte*>(v.v)});
        view_.k_block_stride = v.k_block_stride_bytes;
        view_.v_block_stride = v.v_block_stride_bytes;
        view_.k_token_stride = v.k_token_stride_bytes;
        view_.v_token_stride = v.v_token_stride_bytes;
        view_.block_tokens = v.block_tokens;
    }
}

uint32_t LarderCache::begin(std::span<const int32_t> prompt) {
    larder_kv_query query = LARDER_KV_QUERY_INIT;
    query.tokens = prompt.data();
    query.n_tokens = prompt.size();
    larder_kv_match_info found = LARDER_KV_MATCH_INFO_INIT;
    check(larder_kv_match(kv_.get(), &query, &found), "larder_kv_match");
    check(larder_kv_begin(kv_.get(), found.lease, nullptr, nullptr, 0, &seq_, nullptr), "larder_kv_begin");
    larder_kv_seq_info info = LARDER_KV_SEQ_INFO_INIT;
    check(larder_kv_seq_get_info(kv_.get(), seq_, &info), "larder_kv_seq_get_info");
    // begin may find less than match did: what was lost is the end of the prefix.
    match_.arena = std::min(found.n_tokens_arena, info.n_computed);
    match_.host = std::min(found.n_tokens_host, info.n_computed - match_.arena);
    match_.file = info.n_computed - match_.arena - match_.host;
    return uint32_t(info.n_computed);
}

const engine::KvView& LarderCache::reserve(uint32_t n) {
    check(larder_kv_reserve(kv_.get(), seq_, n, 0), "larder_kv_reserve");
    larder_kv_view_options options = LARDER_KV_VIEW_OPTIONS_INIT;
    options.format = LARDER_KV_VIEW_BLOCK_TABLE;
    options.dst = table_.data();
    options.dst_stride = table_.size();
    check(larder_kv_view(kv_.get(), &seq_, 1, &options), "larder_kv_view");
    return view_;
}

void LarderCache::commit(std::span<const int32_t> tokens) {
    check(larder_kv_commit(kv_.get(), seq_, tokens.data(), tokens.size()), "larder_kv_commit");
}

void LarderCache::end() {
    check(larder_kv_end(kv_.get(), seq_), "larder_kv_end");
    seq_ = 0;
}

void LarderCache::flush() {
    check(larder_kv_flush(kv_.get(), nullptr, 0, nullptr), "larder_kv_flush");
}

larder_stats LarderCache::stats() const {
    larder_stats s = {};
    s.struct_size = sizeof s;
    check(larder_context_stats(context_.get(), &s), "larder_context_stats");
    return s;
}

}  // namespace demo
