// Slots by rank, the least first: a binary heap with positions, so that a rank can change in place.
#pragma once

#include <compare>

#include "base/alloc.h"

namespace larder {

// Ties go by the smaller id.
struct Rank {
    uint64_t major = 0, minor = 0, id = 0;
    auto operator<=>(const Rank&) const = default;
};

class SlotHeap {
  public:
    static constexpr uint32_t none = UINT32_MAX;
    explicit SlotHeap(const Allocator& a) : heap_(a), at_(a), ranks_(a) {}

    void reserve(size_t n) {
        if (n <= at_.size()) return;
        heap_.reserve(n);
        ranks_.resize(n);
        at_.resize(n, none);
    }
    bool empty() const noexcept { return heap_.empty(); }
    size_t size() const noexcept { return heap_.size(); }
    bool holds(uint32_t slot) const noexcept { return slot < at_.size() && at_[slot] != none; }
    const Rank& rank(uint32_t slot) const noexcept { return ranks_[slot]; }
    // Of an empty heap: none.
    uint32_t front() const noexcept { return heap_.empty() ? none : heap_.front(); }

    // Enters the slot, or moves it to a new rank.
    void set(uint32_t slot, const Rank& rank) noexcept {
        ranks_[slot] = rank;
        if (at_[slot] == none) {
            at_[slot] = uint32_t(heap_.size());
            heap_.push_back(slot);
        }
        settle(at_[slot]);
    }
    void remove(uint32_t slot) noexcept {
        const uint32_t i = at_[slot], last = heap_.back();
        heap_.pop_back();
        at_[slot] = none;
        if (last == slot) return;
        place(i, last);
        settle(i);
    }
    uint32_t pop() noexcept {
        const uint32_t slot = front();
        if (slot != none) remove(slot);
        return slot;
    }

  private:
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

    Vec<uint32_t> heap_;  // slots
    Vec<uint32_t> at_;    // of a slot: its place in the heap
    Vec<Rank> ranks_;
};

}  // namespace larder
