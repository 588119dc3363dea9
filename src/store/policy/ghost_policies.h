// Policies of two lists and a memory of what went: 2Q, ARC, S3-FIFO. The capacity that their papers speak of is what is
// held when room is asked for, so they need not be told it and follow it when it changes.
#pragma once

#include <algorithm>

#include "store/policy/ghost_list.h"
#include "store/policy/policy.h"

namespace larder {

class TwoListPolicy : public Policy {
  public:
    explicit TwoListPolicy(const Allocator& a) : young_(a), old_(a), facts_(a) {}
    void reserve(size_t n) override {
        if (n <= facts_.size()) return;
        young_.reserve(n);
        old_.reserve(n);
        facts_.resize(n);
    }
    void remove(uint32_t slot) noexcept override { list_of(slot).remove(slot); }

  protected:
    struct Facts {
        uint64_t id;
        bool old;
        uint8_t uses;
    };
    void enter(uint32_t slot, uint64_t id, bool old) noexcept {
        facts_[slot] = {id, old, 0};
        list_of(slot).push_back(slot);
    }
    SlotList& list_of(uint32_t slot) noexcept { return facts_[slot].old ? old_ : young_; }
    void make_old(uint32_t slot) noexcept {
        list_of(slot).remove(slot);
        facts_[slot].old = true;
        old_.push_back(slot);
    }
    uint64_t id(uint32_t slot) const noexcept { return facts_[slot].id; }
    size_t held() const noexcept { return young_.size() + old_.size(); }

    SlotList young_, old_;
    Vec<Facts> facts_;
};

// 2Q, full version (Johnson and Shasha, VLDB 1994), Kin 25 %, Kout 50 %.
class TwoQPolicy final : public TwoListPolicy {
  public:
    explicit TwoQPolicy(const Allocator& a) : TwoListPolicy(a), ghosts_(a) {}
    void reserve(size_t n) override { TwoListPolicy::reserve(n), ghosts_.reserve(n); }
    void admit(uint32_t slot, const Reference& r) override { enter(slot, r.id, ghosts_.take(r.id) != GhostList::none); }
    void touch(uint32_t slot, const Reference&) override {
        if (facts_[slot].old) old_.move_to_back(slot);
    }
    uint32_t evict() override {
        if (!held()) return no_victim;
        const uint32_t slot = old_.size() && young_.size() <= held() / 4 ? old_.front() : young_.front();
        evicted(slot);
        return slot;
    }
    void evicted(uint32_t slot) noexcept override {
        const size_t n = held();
        remove(slot);
        if (facts_[slot].old) return;
        ghosts_.push(id(slot));
        ghosts_.trim(n / 2);
    }

  private:
    GhostList ghosts_;
};

// ARC (Megiddo and Modha, FAST 2003): the target for what was seen once moves towards the list whose ghosts are asked
// for.
class ArcPolicy final : public TwoListPolicy {
  public:
    explicit ArcPolicy(const Allocator& a) : TwoListPolicy(a), young_ghosts_(a), old_ghosts_(a) {}
    void reserve(size_t n) override { TwoListPolicy::reserve(n), young_ghosts_.reserve(n), old_ghosts_.reserve(n); }
    void admit(uint32_t slot, const Reference& r) override {
        const size_t n_young = young_ghosts_.size(), n_old = old_ghosts_.size();
        const bool was_young = young_ghosts_.take(r.id) != GhostList::none;
        const bool was_old = !was_young && old_ghosts_.take(r.id) != GhostList::none;
        if (was_young) target_ = std::min(target_ + std::max<size_t>(1, n_old / n_young), capacity_);
        if (was_old) target_ -= std::min(target_, std::max<size_t>(1, n_young / n_old));
        enter(slot, r.id, was_young || was_old);
    }
    void touch(uint32_t slot, const Reference&) override { make_old(slot); }
    uint32_t evict() override {
        if (!held()) return no_victim;
        const bool young = young_.size() && (young_.size() > target_ || !old_.size());
        const uint32_t slot = young ? young_.front() : old_.front();
        evicted(slot);
        return slot;
    }
    void evicted(uint32_t slot) noexcept override {
        remove(slot);
        (facts_[slot].old ? old_ghosts_ : young_ghosts_).push(id(slot));
        capacity_ = held();
        young_ghosts_.trim(capacity_ - std::min(capacity_, young_.size()));
        old_ghosts_.trim(capacity_ - std::min(capacity_, young_ghosts_.size()));
    }

  private:
    GhostList young_ghosts_, old_ghosts_;
    size_t target_ = 0, capacity_ = 0;  // of the young; what was left after the last eviction
};

// S3-FIFO (Yang, Zhang, Qiu, Yue, Vinayak, SOSP 2023): a small queue of 10 % filters what is asked for once out of the
// main one.
class S3FifoPolicy final : public TwoListPolicy {
  public:
    explicit S3FifoPolicy(const Allocator& a) : TwoListPolicy(a), ghosts_(a) {}
    void reserve(size_t n) override { TwoListPolicy::reserve(n), ghosts_.reserve(n); }
    void admit(uint32_t slot, const Reference& r) override { enter(slot, r.id, ghosts_.take(r.id) != GhostList::none); }
    void touch(uint32_t slot, const Reference&) override {
        uint8_t& uses = facts_[slot].uses;
        uses = std::min(3, uses + 1);
    }
    uint32_t evict() override {
        if (!held()) return no_victim;
        const size_t small = small_share(held());
        for (;;) {
            if (young_.size() >= small || !old_.size()) {
                const uint32_t slot = young_.front();
                if (facts_[slot].uses > 1) {
                    facts_[slot].uses = 0;
                    make_old(slot);
                    continue;
                }
                evicted(slot);
                return slot;
            }
            const uint32_t slot = old_.front();
            if (!facts_[slot].uses) return old_.pop_front();
            --facts_[slot].uses;
            old_.move_to_back(slot);
        }
    }
    void evicted(uint32_t slot) noexcept override {
        const size_t n = held();
        remove(slot);
        if (facts_[slot].old) return;
        ghosts_.push(id(slot));
        ghosts_.trim(n - small_share(n));
    }

  private:
    static size_t small_share(size_t n) noexcept { return std::max<size_t>(1, n / 10); }
    GhostList ghosts_;
};

}  // namespace larder
