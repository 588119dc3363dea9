// Free lists of small integers: block numbers, table nodes. Lock-free between CPUs, no allocation after construction.
//
// Each CPU has a short stack (memory/cpu_stacks.h). The stacks exchange chains of up to `chain_slots` integers with one
// global lock-free stack (index and tag in one word, so that a head that went and came back is told apart). Slots never
// used so far come from a rising counter: a new pool is ready without touching memory, and its first slots are
// neighbours.
#pragma once

#include <cstdint>
#include <span>

#include "memory/cpu_stacks.h"

namespace larder {

// An array of atomics, zero at first, from the context's allocator.
template <class T> class AtomicArray {
  public:
    AtomicArray(const Allocator& a, size_t n)
        : a_(a), n_(n), v_(static_cast<atomic<T>*>(a.alloc(bytes(), alignof(atomic<T>)))) {
        for (size_t i = 0; i < n; ++i) new (&v_[i]) atomic<T>();
    }
    ~AtomicArray() { a_.free(v_, bytes(), alignof(atomic<T>)); }
    AtomicArray(const AtomicArray&) = delete;
    atomic<T>& operator[](size_t i) noexcept { return v_[i]; }
    const atomic<T>& operator[](size_t i) const noexcept { return v_[i]; }
    size_t size() const noexcept { return n_; }

  private:
    size_t bytes() const noexcept { return (n_ ? n_ : 1) * sizeof(atomic<T>); }
    Allocator a_;
    size_t n_;
    atomic<T>* v_;
};

class SlotPool {
  public:
    static constexpr uint32_t none = UINT32_MAX;
    static constexpr uint32_t chain_slots = CpuStacks::capacity / 2;

    // Hands out first .. end-1; with `empty` only what add() brought.
    SlotPool(const Allocator& a, uint32_t first, uint32_t end, const Cpus& cpus, bool empty = false);
    // Up to chain_slots new ones.
    void add(uint32_t first, uint32_t n) noexcept;

    // All of `out`, or nothing and false. Slots given last come first; slots never given come in rising order.
    bool take(std::span<uint32_t> out) noexcept {
        if (out.size() <= chain_slots && stacks_.pop(out)) [[likely]]
            return true;
        return take_slowly(out);
    }
    void give(std::span<const uint32_t> slots) noexcept {
        if (slots.size() <= chain_slots && stacks_.push(slots)) [[likely]]
            return;
        give_slowly(slots);
    }

    uint32_t take_one() noexcept {
        uint32_t slot = stacks_.pop_one();
        if (slot == none) [[unlikely]]
            take_slowly({&slot, 1});
        return slot;
    }
    void give_one(uint32_t slot) noexcept {
        if (!stacks_.push_one(slot)) [[unlikely]]
            give_slowly({&slot, 1});
    }

    uint32_t capacity() const noexcept { return end_ - first_; }
    // Sums over stacks: exact when nobody is inside.
    uint64_t n_taken() const noexcept { return stacks_.n_popped() + uint64_t(n_moved_.load(relaxed)); }
    uint64_t n_free() const noexcept {
        return stacks_.n_items() + n_chained_.load(relaxed) + (end_ - fresh_.load(relaxed));
    }

    // Every free slot once. Nobody may be inside.
    template <class F> void for_each_free(F f) const {
        stacks_.for_each(f);
        for (uint32_t c = head_index(head_.load(acquire)); c != none; c = chain_next_[c].load(relaxed))
            for (uint32_t s = c; s != none; s = link_[s]) f(s);
        for (uint32_t s = fresh_.load(relaxed); s < end_; ++s) f(s);
    }

  private:
    static uint32_t head_index(uint64_t head) noexcept { return uint32_t(head); }

    bool take_slowly(std::span<uint32_t> out) noexcept;
    void give_slowly(std::span<const uint32_t> slots) noexcept;
    uint32_t refill(std::span<uint32_t> out) noexcept;
    uint32_t take_fresh(uint32_t n, uint32_t& first) noexcept;
    void gather() noexcept;
    void keep(std::span<const uint32_t> slots) noexcept;
    void push_chain(std::span<const uint32_t> slots) noexcept;
    uint32_t pop_chain() noexcept;

    const uint32_t first_, end_;
    CpuStacks stacks_;
    alignas(64) atomic<uint64_t> head_;
    atomic<uint64_t> n_chained_{0};
    atomic<int64_t> n_moved_{0};  // taken past the stacks, less what left a stack without being taken
    atomic<uint32_t> gathering_{0};
    alignas(64) atomic<uint32_t> fresh_;
    Vec<uint32_t> link_;                // next within a chain; belongs to whoever holds the slot
    AtomicArray<uint32_t> chain_next_;  // next chain, indexed by a chain's first slot
};

}  // namespace larder
