// Decoding rANS rows (docs/formats/stream.md, "Symbols") on a GPU: one warp of 32 threads for each coded extent, a
// thread for each lane.
//
// In a row every lane takes a step of its own; then those whose state fell below the floor take the next words, in the
// order of lanes. A thread finds its word by counting the lanes before it: a mask in shared memory, written in one
// phase and read in the next. Tables stand in shared memory as well, loaded once for all rows.
#pragma once

#include "../tile/tile.h"

namespace larder::tile {

inline constexpr int rans_warp = 32;
inline constexpr int rans_warp_tables = 64;  // that one launch may use
inline constexpr int rans_slots = 256;

struct RansWarpTable {
    unsigned char symbol[rans_slots];  // of each slot
    uint32_t fc[16];                   // of each symbol: start | frequency << 16
};

struct RansExtent {
    const unsigned char* words;  // 16-bit, little-endian, any alignment
    const unsigned char* ids;    // [period]
    unsigned char* symbols;      // [rows][32]
    uint32_t* state;             // [32], in and out
    uint32_t n_words, period, n_full_rows, tail_rows, tail_lanes;
    uint32_t used;     // out: words taken
    uint32_t overrun;  // out: 1 when more were wanted than there are; then what was decoded is not to be used
};

struct RansDecodeArgs {
    const RansWarpTable* tables;
    RansExtent* extents;  // one for each block of the grid
    uint32_t n_tables;    // 1 to rans_warp_tables
};

// Shared memory of one warp.
template <class Block> struct RansShared {
    explicit RansShared(Block& b) : slots(b), fc(b), below(b) {}
    typename Block::template Shared<uint32_t, rans_warp_tables * rans_slots / 4> slots;
    typename Block::template Shared<uint32_t, rans_warp_tables * 16> fc;
    typename Block::template Shared<uint32_t, 2 * rans_warp> below;  // two rows take turns
};

template <class Block, class Shared> LARDER_TILE void rans_load(Block& block, Shared& s, const RansDecodeArgs& a) {
    block.phase([&](int thread) {
        for (int i = thread; i < int(a.n_tables) * rans_slots / 4; i += rans_warp) {
            const unsigned char* p = a.tables[i / (rans_slots / 4)].symbol + i % (rans_slots / 4) * 4;
            s.slots.store(thread, i,
                          uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16 | uint32_t(p[3]) << 24);
        }
        for (int i = thread; i < int(a.n_tables) * 16; i += rans_warp)
            s.fc.store(thread, i, a.tables[i / 16].fc[i % 16]);
    });
}

// Called by the 32 threads of a block.
template <class Block, class Shared> LARDER_TILE void rans_decode(Block& block, Shared& s, const RansDecodeArgs& a) {
    RansExtent& e = a.extents[block.index()];
    rans_load(block, s, a);
    uint32_t at = 0;  // the same in every thread
    for (uint32_t r = 0; r < e.n_full_rows + e.tail_rows; ++r) {
        const int lanes = r < e.n_full_rows ? rans_warp : int(e.tail_lanes), turn = int(r % 2) * rans_warp;
        const int table = e.ids[r % e.period];
        block.phase([&](int thread) {
            uint32_t low = 0;
            if (thread < lanes) {
                const uint32_t x = e.state[thread], slot = x & 255;
                const uint32_t y = s.slots.load(thread, (table * rans_slots + int(slot)) / 4) >> slot % 4 * 8 & 255;
                const uint32_t fc = s.fc.load(thread, table * 16 + int(y));
                const uint32_t next = (fc >> 16) * (x >> 8) + slot - (fc & 0xffff);
                e.symbols[r * rans_warp + uint32_t(thread)] = (unsigned char)y;
                e.state[thread] = next;
                low = next < 0x10000u;
            }
            s.below.store(thread, turn + thread, low);
        });
        uint32_t wanted = 0;
        block.phase([&](int thread) {
            uint32_t before = 0, all = 0;
            for (int l = 0; l < rans_warp; ++l) {
                const uint32_t low = s.below.load(thread, turn + l);
                before += l < thread ? low : 0;
                all += low;
            }
            if (s.below.load(thread, turn + thread) && at + before < e.n_words) {
                const unsigned char* p = e.words + 2 * uint64_t(at + before);
                e.state[thread] = e.state[thread] << 16 | uint32_t(p[0]) | uint32_t(p[1]) << 8;
            }
            wanted = all;
        });
        at += wanted;
        if (at > e.n_words) break;
    }
    block.phase([&](int thread) {
        if (thread) return;
        e.used = at;
        e.overrun = at > e.n_words;
    });
}

}  // namespace larder::tile
