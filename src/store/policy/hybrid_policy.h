// Static worth and known next uses together, with a buffer for victims that will be used: the cache of LSM-GNN (Park et
// al., 2024).
#pragma once

#include <algorithm>

#include "store/policy/policy.h"
#include "store/policy/slot_heap.h"

namespace larder {

// Of all that is held, first goes what has no known next use, then what is used far from now, then what is used soon;
// within each the least score, then the farthest or oldest. A victim with a known next use moves into the buffer, an
// eighth of the room at most, from which the farthest goes.
class HybridPolicy final : public Policy {
  public:
    explicit HybridPolicy(const Allocator& a) : order_(a), times_(a), buffer_(a), facts_(a) {}
    void reserve(size_t n) override {
        if (n <= facts_.size()) return;
        order_.reserve(n);
        times_.reserve(n);
        buffer_.reserve(n);
        facts_.resize(n);
    }
    void admit(uint32_t slot, const Reference& r) override {
        facts_[slot] = {r.id, r.next_use, r.now, r.score};
        place(slot, r.now);
    }
    void touch(uint32_t slot, const Reference& r) override {
        facts_[slot] = {r.id, r.next_use, r.now, r.score};
        place(slot, r.now);
    }
    void foresee(uint32_t slot, const Reference& r) override {
        Facts& f = facts_[slot];
        if (f.next_use > now_ && r.next_use >= f.next_use) return;
        f.next_use = r.next_use;
        place(slot, r.now);
    }
    void remove(uint32_t slot) noexcept override {
        for (SlotHeap* heap : {&order_, &times_, &buffer_})
            if (heap->holds(slot)) heap->remove(slot);
    }
    uint32_t evict() override {
        while (!order_.empty()) {
            const uint32_t slot = order_.front();
            const Facts& f = facts_[slot];
            remove(slot);
            if (f.next_use == Reference::unknown || f.next_use <= now_) return slot;
            buffer_.set(slot, {Reference::unknown - f.next_use, 0, f.id});
            if (buffer_.size() > 1 + (order_.size() + buffer_.size()) / 8) return buffer_.pop();
        }
        const uint32_t slot = buffer_.pop();
        return slot == SlotHeap::none ? no_victim : slot;
    }

  private:
    enum Group : uint64_t { unused, far, near };
    struct Facts {
        uint64_t id, next_use, last_use;
        uint8_t score;
    };
    // An eighth of how far ahead is known counts as soon.
    bool is_near(uint64_t next_use) const noexcept { return next_use <= now_ + window_ / 8; }
    void place(uint32_t slot, uint64_t now) noexcept {
        remove(slot);
        const Facts& f = facts_[slot];
        now_ = std::max(now_, now);
        if (f.next_use != Reference::unknown && f.next_use > now_) window_ = std::max(window_, f.next_use - now_);
        rank(slot);
        // Time goes on: far becomes near, and what was to be used and was not is unused.
        while (!times_.empty() && times_.rank(times_.front()).major <= now_) rank(times_.pop());
    }
    void rank(uint32_t slot) noexcept {
        const Facts& f = facts_[slot];
        const bool known = f.next_use != Reference::unknown && f.next_use > now_;
        const Group group = !known ? unused : is_near(f.next_use) ? near : far;
        if (known) times_.set(slot, {group == far ? f.next_use - window_ / 8 : f.next_use, 0, f.id});
        order_.set(slot, {uint64_t(group) << 8 | f.score, known ? Reference::unknown - f.next_use : f.last_use, f.id});
    }

    SlotHeap order_, times_, buffer_;  // times_: when the group changes
    Vec<Facts> facts_;
    uint64_t now_ = 0, window_ = 0;  // window_: the farthest that was known ahead
};

}  // namespace larder
