// LIRS (Jiang and Zhang, SIGMETRICS 2002): what was asked for twice within a short time, measured in other things asked
// for between, stays; 1 % of the room is for all the rest.
#pragma once

#include <algorithm>

#include "store/policy/id_map.h"
#include "store/policy/policy.h"
#include "store/policy/slot_list.h"

namespace larder {

// The stack S of the paper holds entries, some of which are of things that are gone; the queue Q holds slots.
class LirsPolicy final : public Policy {
  public:
    explicit LirsPolicy(const Allocator& a)
        : stack_(a), entries_(a), free_(a), ghosts_(a), ghost_ids_(a), queue_(a), slots_(a) {}
    void reserve(size_t n) override {
        const size_t old = entries_.size();
        if (2 * n <= old) return;
        stack_.reserve(2 * n);
        ghosts_.reserve(2 * n);
        free_.reserve(2 * n);
        ghost_ids_.reserve(n);
        queue_.reserve(n);
        slots_.resize(n);
        entries_.resize(2 * n);
        for (size_t i = 2 * n; i-- > old;) free_.push_back(uint32_t(i));
    }
    void admit(uint32_t slot, const Reference& r) override {
        const uint32_t ghost = ghost_ids_.find(r.id);
        // Until something was evicted there is room for everything in the part of short distance.
        const bool low = ghost != IdMap::none || !full_ || !n_low_;
        if (ghost != IdMap::none) forget(ghost);
        slots_[slot] = {r.id, none, low};
        n_low_ += low;
        push(slot);
        if (!low) queue_.push_back(slot);
    }
    void touch(uint32_t slot, const Reference&) override {
        Slot& s = slots_[slot];
        const bool in_stack = s.entry != none;
        if (!s.low && !in_stack && n_low_) {
            push(slot);
            return queue_.move_to_back(slot);
        }
        if (!s.low) queue_.remove(slot), s.low = true, ++n_low_;
        in_stack ? stack_.move_to_back(s.entry) : push(slot);
        prune();
    }
    void remove(uint32_t slot) noexcept override {
        Slot& s = slots_[slot];
        if (s.low)
            --n_low_;
        else
            queue_.remove(slot);
        if (s.entry != none) release(s.entry);
        prune();
    }
    uint32_t evict() override {
        const size_t held = n_low_ + queue_.size();
        if (!held) return no_victim;
        full_ = true;
        while (n_low_ > held - std::max<size_t>(1, held / 100)) demote();
        const uint32_t slot = queue_.front();
        evicted(slot);
        return slot;
    }
    void evicted(uint32_t slot) noexcept override {
        full_ = true;
        const Slot s = slots_[slot];
        if (s.low || s.entry == none) return remove(slot);
        // Its place in the stack outlives it.
        queue_.remove(slot);
        entries_[s.entry] = {s.id, none};
        ghost_ids_.insert(s.id, s.entry);
        ghosts_.push_back(s.entry);
        while (ghosts_.size() > slots_.size()) forget(ghosts_.front());
        prune();
    }

  private:
    static constexpr uint32_t none = SlotList::none;
    struct Entry {
        uint64_t id;
        uint32_t slot;  // none: it is gone
    };
    struct Slot {
        uint64_t id;
        uint32_t entry;  // in the stack; none: not in it
        bool low;        // of short distance
    };
    void push(uint32_t slot) noexcept {
        const uint32_t i = free_.back();
        free_.pop_back();
        entries_[i] = {slots_[slot].id, slot};
        slots_[slot].entry = i;
        stack_.push_back(i);
    }
    void release(uint32_t entry) noexcept {
        stack_.remove(entry);
        free_.push_back(entry);
    }
    void forget(uint32_t ghost) noexcept {
        ghost_ids_.erase(entries_[ghost].id);
        ghosts_.remove(ghost);
        release(ghost);
    }
    // At the bottom of the stack is always one of short distance.
    void prune() noexcept {
        for (uint32_t i; (i = stack_.front()) != none;) {
            const uint32_t slot = entries_[i].slot;
            if (slot == none) {
                forget(i);
                continue;
            }
            if (slots_[slot].low) return;
            slots_[slot].entry = none;
            release(i);
        }
    }
    void demote() noexcept {
        const uint32_t i = stack_.front(), slot = entries_[i].slot;
        slots_[slot].low = false;
        slots_[slot].entry = none;
        --n_low_;
        release(i);
        queue_.push_back(slot);
        prune();
    }

    SlotList stack_;  // entries, the least recent first
    Vec<Entry> entries_;
    Vec<uint32_t> free_;
    SlotList ghosts_;  // entries of what is gone, by the time it went; at most as many as there are slots
    IdMap ghost_ids_;
    SlotList queue_;  // slots that may go
    Vec<Slot> slots_;
    size_t n_low_ = 0;
    bool full_ = false;
};

}  // namespace larder
