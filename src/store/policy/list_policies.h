// LRU, FIFO, and LRU without the ends of requests.
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
    void remove(uint32_t slot) noexcept override { (is_leaf_[slot] ? leaves_ : rest_).remove(slot); }
    uint32_t evict() override { return leaves_.size() ? leaves_.pop_front() : rest_.pop_front(); }

  private:
    SlotList leaves_, rest_;
    Vec<bool> is_leaf_;
};

}  // namespace larder
