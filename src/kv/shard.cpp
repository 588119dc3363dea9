#include "kv/shard.h"

#include <algorithm>

namespace larder {

namespace {
bool recurrent(const LayerGroup& g) noexcept {
    return g.info.kind == LARDER_GROUP_RECURRENT;
}
}  // namespace

larder_key state_key(const larder_key& block) noexcept {
    static constexpr char domain[] = "larder state 1";
    return Blake2b().add(domain, sizeof domain).add(block.bytes, sizeof block.bytes).finish();
}

uint32_t block_tokens_of(const larder_layout& layout) noexcept {
    uint32_t n = 0, n_states = 1;
    for (const auto& g : layout.groups) {
        uint32_t& largest = recurrent(g) ? n_states : n;
        largest = std::max(largest, g.info.block_tokens);
    }
    return n ? n : n_states;
}

uint64_t checkpoint_tokens_of(const larder_layout& layout) noexcept {
    const uint64_t block = block_tokens_of(layout);
    uint64_t n = 0;
    for (const auto& g : layout.groups)
        if (recurrent(g)) n = std::max<uint64_t>(n, g.info.checkpoint_tokens);
    return (n + block - 1) / block * block;
}

uint64_t state_bytes_of(const larder_layout& layout) noexcept {
    uint64_t n = 0;
    for (const auto& g : layout.groups)
        if (recurrent(g)) n += g.info.state_bytes * g.info.n_layers;
    return n;
}

Result<uint64_t> block_bytes_of(const larder_layout& layout) noexcept {
    uint64_t n_bytes = 0;
    for (uint32_t g = 0; g < layout.groups.size(); ++g) {
        if (recurrent(layout.groups[g])) continue;
        larder_group_info i;
        LARDER_TRY(layout.group_info(g, 1, i));
        n_bytes += i.block_bytes * (block_tokens_of(layout) / i.block_tokens);
    }
    return n_bytes;
}

larder_status check_groups(const larder_layout& layout, uint32_t n_tp, uint32_t n_cp, uint64_t n_blocks) noexcept {
    for (uint32_t g = 0; g < layout.groups.size(); ++g) {
        if (recurrent(layout.groups[g])) continue;
        const larder_layer_group& info = layout.groups[g].info;
        larder_group_info i;
        LARDER_TRY(layout.group_info(g, n_tp, i));
        if (info.block_tokens % n_cp)
            return fail(LARDER_E_RANGE, "n_cp", "n_cp %u does not divide the blocks of %u tokens of group %u", n_cp,
                        info.block_tokens, g);
        if ((n_blocks + 1) * (block_tokens_of(layout) / info.block_tokens) > INT32_MAX)
            return fail(LARDER_E_RANGE, "n_blocks", "%llu blocks are more than int32 numbers them in group %u",
                        (unsigned long long)n_blocks, g);
    }
    return LARDER_OK;
}

void split_layers(const larder_layout& layout, uint32_t pp, uint32_t n_pp, Shard& out) noexcept {
    if (n_pp == 1) return;
    uint32_t n = 0;
    for (const auto& g : layout.groups)
        for (uint32_t layer : g.layers) n = std::max(n, layer + 1);
    out.first_layer = uint32_t(uint64_t(n) * pp / n_pp);
    out.end_layer = uint32_t(uint64_t(n) * (pp + 1) / n_pp);
}

larder_key shard_identity(const larder_layout& layout, const Shard& s) noexcept {
    if (s.whole()) return layout.identity;
    static constexpr char heads_only[] = "larder shard 1", any[] = "larder shard 2";
    const bool simple = s.n_cp == 1 && !s.first_layer && s.end_layer == UINT32_MAX;
    Blake2b hash;
    hash.add(simple ? heads_only : any, sizeof any).add(layout.identity.bytes, sizeof layout.identity.bytes);
    hash.add_le(s.tp).add_le(s.n_tp);
    if (!simple) hash.add_le(s.cp).add_le(s.n_cp).add_le(s.first_layer).add_le(s.end_layer);
    return hash.finish();
}

}  // namespace larder
