// Gather and scatter of KV blocks by a block table: whole blocks between a pool and a packed array.
//
// The packed array is cut into tiles of equal size, one for each thread block, whatever the size of a KV block, so that
// few large blocks and many small ones load the machine alike. A tile first brings the table entries that it needs to
// shared memory, then each thread moves vectors of 16 bytes, neighbours beside each other.
#pragma once

#include "../tile/tile.h"

namespace larder::tile {

struct GatherArgs {
    unsigned char* pool;
    unsigned char* packed;
    const int32_t* table;  // [n_blocks]; negative: skipped
    uint64_t block_bytes;  // a multiple of 16
    uint64_t pool_stride_bytes;
    uint32_t n_blocks;
    uint32_t scatter;  // 0: pool to packed; 1: packed to pool
};

inline constexpr int gather_threads = 256;
inline constexpr int gather_vectors_per_thread = 4;
inline constexpr int gather_tile_vectors = gather_threads * gather_vectors_per_thread;
// A tile begins and ends inside of a block: at most one more than it has vectors.
inline constexpr int gather_table_entries = gather_tile_vectors + 1;

LARDER_TILE uint64_t gather_vectors(const GatherArgs& a) {
    return a.n_blocks * (a.block_bytes / 16);
}
LARDER_TILE uint64_t gather_tiles(const GatherArgs& a) {
    return (gather_vectors(a) + gather_tile_vectors - 1) / gather_tile_vectors;
}

// Called by the threads of a block of gather_threads; `numbers` is Block::Shared<int32_t, gather_table_entries>.
template <class Block, class Numbers>
LARDER_TILE void gather_blocks(Block& block, Numbers& numbers, const GatherArgs& a) {
    const uint64_t per_block = a.block_bytes / 16, all = gather_vectors(a);
    const uint64_t first = uint64_t(block.index()) * gather_tile_vectors;
    const uint64_t end = first + gather_tile_vectors < all ? first + gather_tile_vectors : all;
    const uint64_t first_block = first / per_block;
    const int n_entries = int((end - 1) / per_block - first_block) + 1;

    block.phase([&](int thread) {
        for (int i = thread; i < n_entries; i += gather_threads)
            numbers.store(thread, i, a.table[first_block + uint64_t(i)]);
    });
    block.phase([&](int thread) {
        for (uint64_t v = first + uint64_t(thread); v < end; v += gather_threads) {
            const uint64_t which = v / per_block, at = (v - which * per_block) * 16;
            const int32_t number = numbers.load(thread, int(which - first_block));
            if (number < 0) continue;
            auto* in_pool = reinterpret_cast<Vector16*>(a.pool + uint64_t(number) * a.pool_stride_bytes + at);
            auto* in_packed = reinterpret_cast<Vector16*>(a.packed + which * a.block_bytes + at);
            if (a.scatter)
                *in_pool = *in_packed;
            else
                *in_packed = *in_pool;
        }
    });
}

}  // namespace larder::tile
