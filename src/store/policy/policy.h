// Eviction policies: one interface, one table, the same code in the store's tiers and in replay.
#pragma once

#include "base/alloc.h"
#include "larder/replay.h"

namespace larder {

// What a policy may know of a reference.
struct Reference {
    uint64_t id = 0;                 // names the thing beyond its stay in the cache: for ghosts, counts and ties
    uint64_t now = 0;                // grows with time; all references of one request share it
    uint64_t next_use = UINT64_MAX;  // when it is asked for again, where the future is known
    uint64_t n_bytes = 1;
    bool last = false;  // the end of its request, where requests are known
};

// Keeps an order over slots: small numbers that the owner gives to what it holds. Not synchronised.
class Policy {
  public:
    virtual ~Policy() = default;
    // Slots below n will be used; nothing allocates afterwards unless noted.
    virtual void reserve(size_t n) = 0;
    virtual void admit(uint32_t slot, const Reference& r) = 0;
    virtual void touch(uint32_t slot, const Reference& r) = 0;
    // Gone for another reason than eviction.
    virtual void remove(uint32_t slot) noexcept = 0;
    // Evicted, but by another's choice.
    virtual void evicted(uint32_t slot) noexcept { remove(slot); }
    // Choose, forget and return a slot; no_victim when empty.
    virtual uint32_t evict() = 0;
    static constexpr uint32_t no_victim = UINT32_MAX;
};

struct PolicyRow {
    larder_policy policy;
    const char* name;
    const char* description;
    bool online;      // needs neither the future nor the past of what is not held
    bool tail_first;  // a request's blocks are touched last to first
    bool knows_future;
    Owned<Policy> (*make)(const Allocator& a);
};

// The table, in the order of larder_policy_get(). NULL past its end.
const PolicyRow* policy_row(uint32_t index) noexcept;
const PolicyRow* find_policy(larder_policy p) noexcept;

}  // namespace larder
