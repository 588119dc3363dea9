// LRU, FIFO, LRU without the ends of requests, SIEVE.
#pragma once

#include "store/policy/policy.h"
#include "store/policy/slot_list.h"

namespace larder {

class FifoPolicy : public Policy {
  public:
    explicit FifoPolicy(const Allocator& a) : list_(a) {}
    void reserve(size_t n) override { list_.reserve(n); }
    void admit(uint32_t slot, const Reference&) override { list_.push_back(slot); }
    void touch(uint32_t, const Reference&) override {}
    void remove(uint32_t slot) noexcept override { list_.remove(slot); }
    uint32_t evict() override { return list_.pop_front(); }

  protected:
    SlotList list_;
};

class LruPolicy final : public FifoPolicy {
  public:
    using FifoPolicy::FifoPolicy;
    void touch(uint32_t slot, const Reference&) override { list_.move_to_back(slot); }
};

// The end of a request goes before all else until it is asked for again: as a rule it is a partial block, which the
// next turn of the conversation fills and thereby renames.
class LruLeafPolicy final : public Policy {
  public:
    explicit LruLeafPolicy(const Allocator& a) : leaves_(a), rest_(a), is_leaf_(a) {}
    void reserve(size_t n) override {
        if (n <= is_leaf_.size()) return;
        leaves_.reserve(n);
        rest_.reserve(n);
        is_leaf_.resize(n);
    }
    void admit(uint32_t slot, const Reference& r) override {
        is_leaf_[slot] = r.last;
        (r.last ? leaves_ : rest_).push_back(slot);
    }
    void touch(uint32_t slot, const Reference&) override {
        remove(slot);
        is_leaf_[slot] = false;
        rest_.push_back(slot);
    }
    void extended(uint32_t slot) override {
        if (is_leaf_[slot]) touch(slot, {});
    }
    void remove(uint32_t slot) noexcept override { (is_leaf_[slot] ? leaves_ : rest_).remove(slot); }
    uint32_t evict() override { return leaves_.size() ? leaves_.pop_front() : rest_.pop_front(); }

  private:
    SlotList leaves_, rest_;
    Vec<bool> is_leaf_;
};

// SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi, NSDI 2024): a hand walks from the old to the new, spares what was used
// since it came by, and evicts the first that was not. Nothing moves.
class SievePolicy final : public Policy {
  public:
    explicit SievePolicy(const Allocator& a) : list_(a), used_(a) {}
    void reserve(size_t n) override {
        if (n <= used_.size()) return;
        list_.reserve(n);
        used_.resize(n);
    }
    void admit(uint32_t slot, const Reference&) override {
        used_[slot] = false;
        list_.push_back(slot);
    }
    void touch(uint32_t slot, const Reference&) override { used_[slot] = true; }
    void remove(uint32_t slot) noexcept override {
        if (slot == hand_) hand_ = list_.next(slot);
        list_.remove(slot);
    }
    uint32_t evict() override {
        if (!list_.size()) return no_victim;
        for (;;) {
            if (hand_ == SlotList::none) hand_ = list_.front();
            const uint32_t slot = hand_;
            if (!used_[slot]) {
                remove(slot);
                return slot;
            }
            used_[slot] = false;
            hand_ = list_.next(slot);
        }
    }

  private:
    SlotList list_;
    Vec<bool> used_;
    uint32_t hand_ = SlotList::none;  // none: at the oldest
};

}  // namespace larder
