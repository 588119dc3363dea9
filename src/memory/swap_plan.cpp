#include "memory/swap_plan.h"

#include <algorithm>

namespace larder {
namespace {

// The numbers of the blocks that one sequence has to move.
larder_status add_blocks(larder_arena& arena, uint32_t group, uint32_t block_tokens, const larder_swap_seq& s,
                         Vec<int32_t>& out) {
    uint64_t n_runs = 0;
    const larder_status counted = arena.seq_runs(s.seq, group, {}, &n_runs);
    if (counted < 0 && counted != LARDER_E_BUFFER_TOO_SMALL) return counted;
    Vec<larder_arena_run> runs(n_runs, larder_arena_run{}, arena.context->alloc);
    LARDER_TRY(arena.seq_runs(s.seq, group, runs, &n_runs));
    const uint64_t n_saved = s.n_saved_tokens / block_tokens;
    for (const larder_arena_run& run : runs)
        for (uint32_t i = 0; i < run.n_blocks; ++i)
            if (run.entry + i >= n_saved) out.push_back(run.first + int32_t(i));
    return LARDER_OK;
}

// Copies that one run takes.
uint64_t copies_per_run(larder_arena& arena, uint32_t group, uint64_t block_bytes) {
    uint32_t n_layers = 0;
    uint64_t n = 0;
    larder_arena_layer v;
    for (; arena.layer_view(group, n_layers, v) >= 0; ++n_layers) {
        // PAGE_FIRST: from block to block it is the whole block, of which this layer is a part.
        if (n_layers == 0 && v.k_block_stride >= block_bytes && arena.layer_view(group, 1, v) >= 0) return 1;
        n += 1 + (v.v_base != nullptr) + (v.scale_base != nullptr);
    }
    return n;
}

}  // namespace

larder_status plan_swap(larder_arena& arena, uint32_t group, std::span<const larder_swap_seq> seqs,
                        Vec<larder_swap_run>& out, larder_swap_plan_info& info) {
    larder_arena_group_state state;
    LARDER_TRY(arena.group_query(group, state));
    Vec<int32_t> blocks(arena.context->alloc);
    for (const larder_swap_seq& s : seqs) LARDER_TRY(add_blocks(arena, group, state.block_tokens, s, blocks));
    std::sort(blocks.begin(), blocks.end());
    blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
    for (size_t i = 0; i < blocks.size(); ++i) {
        if (i && blocks[i] == blocks[i - 1] + 1)
            ++out.back().n_blocks;
        else
            out.push_back({blocks[i], 1, i});
    }
    if (!info.copy_ns) info.copy_ns = 10000;
    if (!info.bandwidth_bytes_per_s) info.bandwidth_bytes_per_s = 25000000000u;
    const uint64_t per_run = copies_per_run(arena, group, state.block_bytes);
    info.n_runs = uint32_t(out.size());
    info.n_blocks = blocks.size();
    info.n_bytes = blocks.size() * state.block_bytes;
    info.n_copies = out.size() * per_run;
    const double transfer_ns = double(info.n_bytes) * 1e9 / double(info.bandwidth_bytes_per_s);
    info.modelled_ns = uint64_t(double(info.n_copies) * double(info.copy_ns) + transfer_ns);
    info.by_blocks_ns = uint64_t(double(info.n_blocks * per_run) * double(info.copy_ns) + transfer_ns);
    return LARDER_OK;
}

}  // namespace larder
