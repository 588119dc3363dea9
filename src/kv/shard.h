// Which part of each block one rank holds: heads by tensor parallelism, layers by pipeline stage, tokens by context
// parallelism (token t of a block lies on rank t mod n_cp).
#pragma once

#include "core/layout.h"

namespace larder {

struct Shard {
    uint32_t tp = 0, n_tp = 1;
    uint32_t cp = 0, n_cp = 1;
    uint32_t first_layer = 0, end_layer = UINT32_MAX;  // numbers of the model's layers

    // Of the first n tokens of a block, how many this rank holds.
    uint32_t local_tokens(uint32_t n) const noexcept { return (n + n_cp - 1 - cp) / n_cp; }
    bool has_layer(uint32_t model_layer) const noexcept {
        return model_layer >= first_layer && model_layer < end_layer;
    }
    bool whole() const noexcept { return n_tp == 1 && n_cp == 1 && !first_layer && end_layer == UINT32_MAX; }
};

// The planner's keys name states as well: of the state behind a block, from the block's key.
larder_key state_key(const larder_key& block) noexcept;
// Tokens between two checkpoints of the RECURRENT groups: the largest of theirs, in whole blocks. 0: there are none.
uint64_t checkpoint_tokens_of(const larder_layout& layout) noexcept;
// Bytes of a state slot over all RECURRENT groups.
uint64_t state_bytes_of(const larder_layout& layout) noexcept;
// Tokens of a block of the planner: the largest of the groups' blocks. A group of smaller blocks has several of its own
// in each.
uint32_t block_tokens_of(const larder_layout& layout) noexcept;
// Bytes of such a block over all groups but the RECURRENT ones, unsharded.
Result<uint64_t> block_bytes_of(const larder_layout& layout) noexcept;
// All groups must be of kinds and sizes that planner and worker can treat, and n_blocks of them within int32 numbers.
larder_status check_groups(const larder_layout& layout, uint32_t n_tp, uint32_t n_cp, uint64_t n_blocks) noexcept;
// The layers of stage pp of n_pp: the stages' numbers differ by one at most, the earlier ones have fewer.
void split_layers(const larder_layout& layout, uint32_t pp, uint32_t n_pp, Shard& out) noexcept;
// Records of one rank's shard are another rank's only when both have the same part.
larder_key shard_identity(const larder_layout& layout, const Shard& shard) noexcept;

}  // namespace larder
