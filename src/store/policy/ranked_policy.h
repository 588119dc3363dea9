// Policies that evict the least rank: a binary heap with positions, so that a rank can change in place. Ties go by the
// smaller id.
#pragma once

#include <algorithm>

#include "store/policy/policy.h"

namespace larder {

struct Rank {
    uint64_t major = 0, minor = 0, id = 0;
    auto operator<=>(const Rank&) const = default;
};

// Ranker: Rank rank(uint32_t slot, const Reference&), called at each reference; gone(slot), and before it evicted(rank)
// if that is why.
template <class Ranker> class RankedPolicy final : public Policy {
  public:
    explicit RankedPolicy(const Allocator& a) : ranker_(a), heap_(a), at_(a), ranks_(a) {}
    void reserve(size_t n) override {
        if (n <= at_.size()) return;
        heap_.reserve(n);
        at_.resize(n, absent);
        ranks_.resize(n);
        ranker_.reserve(n);
    }
    void admit(uint32_t slot, const Reference& r) override {
        ranks_[slot] = ranker_.rank(slot, r);
        at_[slot] = uint32_t(heap_.size());
        heap_.push_back(slot);
        sift_up(at_[slot]);
    }
    void touch(uint32_t slot, const Reference& r) override {
        ranks_[slot] = ranker_.rank(slot, r);
        settle(at_[slot]);
    }
    void remove(uint32_t slot) noexcept override {
        const uint32_t i = at_[slot], last = heap_.back();
        heap_.pop_back();
        at_[slot] = absent;
        ranker_.gone(slot);
        if (last == slot) return;
        place(i, last);
        settle(i);
    }
    uint32_t evict() override {
        if (heap_.empty()) return no_victim;
        const uint32_t slot = heap_.front();
        ranker_.evicted(ranks_[slot]);
        remove(slot);
        return slot;
    }

  private:
    static constexpr uint32_t absent = UINT32_MAX;
    void place(uint32_t i, uint32_t slot) noexcept { heap_[i] = slot, at_[slot] = i; }
    void settle(uint32_t i) noexcept {
        const uint32_t slot = heap_[i];
        sift_up(i);
        sift_down(at_[slot]);
    }
    void sift_up(uint32_t i) noexcept {
        const uint32_t slot = heap_[i];
        for (; i && ranks_[slot] < ranks_[heap_[(i - 1) / 2]]; i = (i - 1) / 2) place(i, heap_[(i - 1) / 2]);
        place(i, slot);
    }
    void sift_down(uint32_t i) noexcept {
        const uint32_t slot = heap_[i], n = uint32_t(heap_.size());
        for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
            if (child + 1 < n && ranks_[heap_[child + 1]] < ranks_[heap_[child]]) ++child;
            if (!(ranks_[heap_[child]] < ranks_[slot])) break;
            place(i, heap_[child]);
        }
        place(i, slot);
    }

    Ranker ranker_;
    Vec<uint32_t> heap_;  // slots, the least rank first
    Vec<uint32_t> at_;    // of a slot: its place in the heap
    Vec<Rank> ranks_;
};

struct Ranker {
    void gone(uint32_t) noexcept {}
    void evicted(const Rank&) noexcept {}
};

// Belady's MIN: the farthest next use goes first, what is never used again before all others. What was just admitted
// may be the one that goes: that is the right not to admit.
struct BeladyRanker : Ranker {
    explicit BeladyRanker(const Allocator&) {}
    void reserve(size_t) {}
    Rank rank(uint32_t, const Reference& r) noexcept { return {UINT64_MAX - r.next_use, 0, r.id}; }
};

// Least often used. Counts outlive a stay in the cache: the owner gives a thing the same slot each time.
struct LfuRanker : Ranker {
    explicit LfuRanker(const Allocator& a) : counts_(a) {}
    void reserve(size_t n) { counts_.resize(n); }
    Rank rank(uint32_t slot, const Reference& r) noexcept { return {++counts_[slot], r.now, r.id}; }

  private:
    Vec<uint64_t> counts_;
};

// LRU-2 (O'Neil, O'Neil, Weikum, SIGMOD 1993): the oldest second last request goes first, what had only one before all
// others. Times outlive a stay in the cache: the owner gives a thing the same slot each time.
struct Lru2Ranker : Ranker {
    explicit Lru2Ranker(const Allocator& a) : times_(a) {}
    void reserve(size_t n) { times_.resize(n); }
    Rank rank(uint32_t slot, const Reference& r) noexcept {
        Times& t = times_[slot];
        if (t.last != r.now + 1) t = {r.now + 1, t.last};  // 0: never
        return {t.before, t.last, r.id};
    }

  private:
    struct Times {
        uint64_t last = 0, before = 0;
    };
    Vec<Times> times_;
};

// GDSF (Cherkasova, HPL-98-69R1), cost 1 each: uses per byte, on top of an age that grows with each eviction.
struct GdsfRanker : Ranker {
    explicit GdsfRanker(const Allocator& a) : uses_(a) {}
    void reserve(size_t n) { uses_.resize(n); }
    Rank rank(uint32_t slot, const Reference& r) noexcept {
        // Fixed point: 2^-32 of one use of one byte.
        return {age_ + (uint64_t(++uses_[slot]) << 32) / std::max<uint64_t>(1, r.n_bytes), r.now, r.id};
    }
    void evicted(const Rank& rank) noexcept { age_ = rank.major; }
    void gone(uint32_t slot) noexcept { uses_[slot] = 0; }

  private:
    Vec<uint32_t> uses_;  // in this stay
    uint64_t age_ = 0;
};

}  // namespace larder
