// Free blocks as runs (FastSwitch's dynamic block groups, Shen et al. 2024): a sequence's blocks lie next to each
// other, so that moving it is a few large copies.
//
// A binary buddy system over block numbers: a run of 2^k blocks aligned to 2^k is split when a smaller one is asked
// for, and merged with its free buddy when it comes back. A sequence reserves a whole run and uses it block by block;
// what it has not used yet is free for others once nothing else is (the tail is split off). One lock: this pool is for
// engines that swap, where a block costs tens of nanoseconds against milliseconds of copying.
#pragma once

#include <mutex>
#include <span>

#include "base/alloc.h"

namespace larder {

class RunPool {
  public:
    static constexpr uint32_t none = UINT32_MAX;
    static constexpr uint32_t max_order = 12;  // runs of up to 4096 blocks

    // Hands out first .. end-1. Reservations are numbered 0 .. n_owners-1 and ask for run_blocks at a time (a power of
    // two up to 2^max_order).
    RunPool(const Allocator& a, uint32_t first, uint32_t end, uint32_t n_owners, uint32_t run_blocks);

    // All of `out`, or nothing and false. owner none: from the smallest free runs, so that large ones stay whole.
    bool take(std::span<uint32_t> out, uint32_t owner) noexcept;
    void give(std::span<const uint32_t> blocks) noexcept;
    // The owner needs no more.
    void release(uint32_t owner) noexcept;

    uint64_t n_taken() const noexcept;  // since construction
    uint64_t n_free() const noexcept;   // reserved tails included

    // Every free block once. Nobody may be inside.
    template <class F> void for_each_free(F f) const {
        for (uint32_t k = 0; k <= max_order; ++k)
            for (uint32_t b = heads_[k]; b != none; b = next_[b])
                for (uint32_t i = 0; i < 1u << k; ++i) f(b + i);
        for (const Tail& t : tails_)
            for (uint32_t b = t.next; b < t.end; ++b) f(b);
    }

  private:
    struct Tail {  // reserved and not used yet
        uint32_t next = 0, end = 0;
    };
    static constexpr uint8_t not_free = 0xff;

    void insert(uint32_t block, uint32_t order) noexcept;
    void unlink(uint32_t block, uint32_t order) noexcept;
    void give_one(uint32_t block) noexcept;
    void give_range(uint32_t from, uint32_t end) noexcept;
    uint32_t pop(uint32_t order) noexcept;
    bool take_smallest(uint32_t& out) noexcept;
    bool refill(Tail& t, uint32_t want) noexcept;
    bool split_tail(Tail& t) noexcept;

    mutable std::mutex mutex_;
    const uint32_t first_, end_, run_blocks_;
    uint32_t heads_[max_order + 1];
    Vec<uint32_t> next_, prev_;  // of the free list, by a run's first block
    Vec<uint8_t> order_;         // of the free run that begins here, or not_free
    Vec<Tail> tails_;
    uint32_t steal_from_ = 0;  // whose tail is split next
    uint64_t n_free_ = 0, n_taken_ = 0;
};

}  // namespace larder
