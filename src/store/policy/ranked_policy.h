// Policies that evict the least rank: LFU, LRU-2, GDSF, Belady.
#pragma once

#include <algorithm>

#include "store/policy/ghost_list.h"
#include "store/policy/policy.h"
#include "store/policy/slot_heap.h"

namespace larder {

// Ranker: Rank rank(uint32_t slot, const Reference&), called at each reference; gone(slot), and before it evicted(rank)
// if that is why.
template <class Ranker> class RankedPolicy final : public Policy {
  public:
    explicit RankedPolicy(const Allocator& a) : ranker_(a), heap_(a) {}
    void reserve(size_t n) override {
        heap_.reserve(n);
        ranker_.reserve(n);
    }
    void admit(uint32_t slot, const Reference& r) override { heap_.set(slot, ranker_.rank(slot, r)); }
    void touch(uint32_t slot, const Reference& r) override { heap_.set(slot, ranker_.rank(slot, r)); }
    void remove(uint32_t slot) noexcept override {
        heap_.remove(slot);
        ranker_.gone(slot);
    }
    uint32_t evict() override {
        const uint32_t slot = heap_.front();
        if (slot == SlotHeap::none) return no_victim;
        ranker_.evicted(heap_.rank(slot));
        remove(slot);
        return slot;
    }

  private:
    Ranker ranker_;
    SlotHeap heap_;
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
    Rank rank(uint32_t, const Reference& r) noexcept { return {Reference::unknown - r.next_use, 0, r.id}; }
};

// Facts of a thing that outlive its stay in the cache: of as many that are gone as there are slots.
template <class Facts> class Biography {
  public:
    explicit Biography(const Allocator& a) : now_(a), ids_(a), ghosts_(a), then_(a) {}
    void reserve(size_t n) {
        if (n <= now_.size()) return;
        ids_.resize(n);
        then_.resize(n);
        ghosts_.reserve(n);
        now_.resize(n);  // the last: what threw is done again
    }
    // The facts of what is in the slot; new facts if it never was here, as far as is remembered.
    Facts& of(uint32_t slot, uint64_t id) noexcept {
        Facts& f = now_[slot];
        if (f.known()) return f;
        ids_[slot] = id;
        const uint32_t ghost = ghosts_.take(id);
        if (ghost != GhostList::none) f = then_[ghost];
        return f;
    }
    void gone(uint32_t slot) noexcept {
        then_[ghosts_.push(ids_[slot])] = now_[slot];
        now_[slot] = {};
    }

  private:
    Vec<Facts> now_;  // by slot
    Vec<uint64_t> ids_;
    GhostList ghosts_;
    Vec<Facts> then_;  // by the ghost's place
};

// Least often used; ties: least recently used.
struct LfuRanker : Ranker {
    explicit LfuRanker(const Allocator& a) : uses_(a) {}
    void reserve(size_t n) { uses_.reserve(n); }
    Rank rank(uint32_t slot, const Reference& r) noexcept { return {++uses_.of(slot, r.id).n, r.now, r.id}; }
    void gone(uint32_t slot) noexcept { uses_.gone(slot); }

  private:
    struct Uses {
        uint64_t n = 0;
        bool known() const noexcept { return n != 0; }
    };
    Biography<Uses> uses_;
};

// LRU-2 (O'Neil, O'Neil, Weikum, SIGMOD 1993): the oldest second last request goes first, what had only one before all
// others.
struct Lru2Ranker : Ranker {
    explicit Lru2Ranker(const Allocator& a) : times_(a) {}
    void reserve(size_t n) { times_.reserve(n); }
    Rank rank(uint32_t slot, const Reference& r) noexcept {
        Times& t = times_.of(slot, r.id);
        if (t.last != r.now + 1) t = {r.now + 1, t.last};
        return {t.before, t.last, r.id};
    }
    void gone(uint32_t slot) noexcept { times_.gone(slot); }

  private:
    struct Times {
        uint64_t last = 0, before = 0;  // counted from 1; 0: never
        bool known() const noexcept { return last != 0; }
    };
    Biography<Times> times_;
};

// GDSF (Cherkasova, HPL-98-69R1), cost 1 each: uses per byte, on top of an age that grows with each eviction.
struct GdsfRanker : Ranker {
    explicit GdsfRanker(const Allocator& a) : uses_(a) {}
    void reserve(size_t n) {
        if (n > uses_.size()) uses_.resize(n);
    }
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
