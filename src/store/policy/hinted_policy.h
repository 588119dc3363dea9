// What the owner knows and a row of the table does not: next uses, priorities.
#pragma once

#include "store/policy/policy.h"
#include "store/policy/slot_heap.h"

namespace larder {

// Around any row. What has a known next use or another priority than the default is parked: it stands in an order of
// its own, by priority, then what has no known next use before what has, the farthest first. The row decides about all
// the rest, which stands in this order where the default priority without a next use does. A slot comes back to the
// row when it is used, as something used twice. Of a queue of requests known ahead this is the oracle: what will be
// asked for is kept before all that will not.
class HintedPolicy final : public Policy {
  public:
    HintedPolicy(const Allocator& a, const PolicyRow& row) : row_(row), inner_(row.make(a)), parked_(a) {}

    // To be called before the first reference with a hint in it: most stores never get one.
    void expect_hints();
    void reserve(size_t n) override;
    void admit(uint32_t slot, const Reference& r) override;
    void touch(uint32_t slot, const Reference& r) override;
    void foresee(uint32_t slot, const Reference& r) override;
    void extended(uint32_t slot) override;
    void remove(uint32_t slot) noexcept override;
    uint32_t evict() override;

  private:
    bool parks(const Reference& r) const noexcept;
    void park(uint32_t slot, const Reference& r) noexcept;

    const PolicyRow& row_;
    Owned<Policy> inner_;
    SlotHeap parked_;
    size_t n_slots_ = 0;
    bool hints_ = false;
};

}  // namespace larder
