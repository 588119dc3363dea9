// LRU and FIFO.
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

} // namespace larder
