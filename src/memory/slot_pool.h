// Free lists of small integers: block numbers, table nodes. Lock-free between CPUs, no allocation after construction.
//
// Each CPU has a stripe, a short stack under a one-word lock that is hardly ever contended. Stripes exchange chains of
// `chain_slots` integers with one global lock-free stack (index and tag in one word, so that a head that went and came
// back is told apart). Slots never used so far come from a rising counter: a new pool is ready without touching memory,
// and its first slots are neighbours.
#pragma once

#include <cstdint>
#include <span>

#include "base/alloc.h"
#include "base/atomic.h"

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
#if defined(LARDER_SCHEDULE_EXPLORER)
    static constexpr uint32_t chain_slots = 2;  // so that a few steps reach the global stack
#else
    static constexpr uint32_t chain_slots = 64;
#endif

    // Hands out first .. end-1.
    SlotPool(const Allocator& a, uint32_t first, uint32_t end, uint32_t n_cpus);

    // All of `out`, or nothing and false. Slots given last come first; slots never given come in rising order.
    bool take(std::span<uint32_t> out) noexcept;
    void give(std::span<const uint32_t> slots) noexcept;

    uint32_t capacity() const noexcept {
        return end_ - first_;
    }
    // Sums over stripes: exact when nobody is inside.
    uint64_t n_taken() const noexcept;  // since construction
    uint64_t n_given() const noexcept;
    uint64_t n_free() const noexcept {
        return capacity() - (n_taken() - n_given());
    }

    // Every free slot once. Nobody may be inside.
    template <class F> void for_each_free(F f) const {
        for (size_t i = 0; i <= stripe_mask_; ++i)
            for (uint32_t k = 0; k < stripes_[i].n; ++k) f(stripes_[i].slots[k]);
        for (uint32_t c = head_index(head_.load(acquire)); c != none; c = chain_next_[c].load(relaxed))
            for (uint32_t s = c; s != none; s = link_[s]) f(s);
        for (uint32_t s = fresh_.load(relaxed); s < end_; ++s) f(s);
    }

  private:
    struct alignas(64) Stripe {
        atomic<uint32_t> locked{0};
        uint32_t n = 0;
        atomic<uint64_t> taken{0}, given{0};  // written under the lock only
        uint32_t slots[2 * chain_slots];
    };
    static uint32_t head_index(uint64_t head) noexcept {
        return uint32_t(head);
    }

    Stripe& lock_stripe() noexcept;
    static void unlock(Stripe& s) noexcept {
        s.locked.store(0, release);
    }
    uint32_t fill(Stripe& s, std::span<uint32_t> out) noexcept;
    uint32_t steal(std::span<uint32_t> out) noexcept;
    uint32_t take_fresh(uint32_t n, uint32_t& first) noexcept;
    void push_chain(std::span<const uint32_t> slots) noexcept;
    uint32_t pop_chain() noexcept;
    void give_locked(Stripe& s, std::span<const uint32_t> slots) noexcept;

    const uint32_t first_, end_;
    const uint32_t stripe_mask_;
    alignas(64) atomic<uint64_t> head_;
    alignas(64) atomic<uint32_t> fresh_;
    Vec<Stripe> stripes_;
    Vec<uint32_t> link_;                // next within a chain; belongs to whoever holds the slot
    AtomicArray<uint32_t> chain_next_;  // next chain, indexed by a chain's first slot
};

}  // namespace larder
