// Who has which blocks of an arena that several processes share. It lies at the head of the shared memory.
//
// Blocks are owned in chunks. A chunk's word is 0 or the ticket of the process that has it; tickets are never used
// twice, so an exchange that expects a dead process's ticket cannot hit a living one's chunk, however late it comes.
// Nothing here has to be undone when a process dies at any instruction: its seat and its chunks keep its ticket until
// another process finds that it is gone. What a hostile peer writes here can take blocks away, but never leads outside
// the mapping: sizes and places are our own copies.
#pragma once

#include "base/atomic.h"
#include "base/ids.h"
#include "core/layout.h"
#include "memory/slot_pool.h"
#include "os/os.h"

namespace larder {

// What all processes must agree on.
struct SharedTerms {
    larder_key identity{};  // of the layout
    uint32_t flags = 0;     // those that move strides
    uint32_t order = 0;
    uint32_t n_tp = 0;
    uint32_t v_rank = 0;
};

class SharedRecord {
  public:
    static constexpr uint32_t max_processes = 64;
    static constexpr uint32_t max_chunk_blocks = 64;
    static_assert(max_chunk_blocks <= SlotPool::chain_slots);
    struct Chunk {
        uint32_t first = 0, n = 0;
    };

    static uint64_t bytes_for(std::span<const uint64_t> n_blocks) noexcept;
    // Read what the maker wrote; the caller maps enough for the head of it. n_blocks gets one entry per group.
    static constexpr uint64_t head_bytes = 4096;
    static larder_status read_head(const std::byte* at, uint64_t file_bytes, uint32_t n_groups, SharedTerms& out,
                                   Vec<uint64_t>& n_blocks);

    SharedRecord(const Allocator& a, Os& os, std::byte* at, std::span<const uint64_t> n_blocks);
    ~SharedRecord() { leave(); }
    SharedRecord(const SharedRecord&) = delete;
    void write_head(const SharedTerms& terms) noexcept;  // the maker, before anybody joins
    larder_status enter() noexcept;

    // A chunk that nobody has; n 0: there is none.
    Chunk claim(uint32_t group) noexcept;
    // Free the chunks and seats of the dead. Returns the number of blocks.
    uint64_t reap() noexcept;
    uint64_t n_unclaimed(uint32_t group) const noexcept;

  private:
    struct Seat {
        // Occupation number above, process number below; 0 below: free.
        atomic<uint64_t> word;
        atomic<uint64_t> start_time;  // 0 while the seat changes hands: then only the process number counts
    };
    struct Head;
    struct Group {
        uint32_t n_blocks, chunk_blocks, n_chunks;
        atomic<uint32_t>* owners;
    };
    static uint32_t chunk_blocks(uint64_t n_blocks) noexcept;
    static uint32_t n_chunks(uint64_t n_blocks) noexcept;
    static uint32_t ticket(uint64_t word, uint32_t seat) noexcept { return uint32_t(word >> 32) << 6 | seat; }
    Chunk chunk(const Group& g, uint32_t i) const noexcept;
    uint64_t release_all(uint32_t of) noexcept;
    void leave() noexcept;

    Os& os_;
    Head* head_;
    Vec<Group> groups_;
    uint32_t seat_ = UINT32_MAX, ticket_ = 0;
};

}  // namespace larder
