// Eviction policies: one interface, one table, the same code in the store's tiers and in replay.
#pragma once

#include "base/alloc.h"
#include "larder/replay.h"

namespace larder {

// What a policy may know of a reference.
struct Reference {
    uint64_t id = 0;              // names the thing beyond its stay in the cache: for ghosts, counts and ties
    uint64_t now = 0;             // grows with time; all references of one request share it
    uint64_t next_use = unknown;  // when it is asked for again, as far as the future is known
    uint64_t n_bytes = 1;
    uint8_t score = 0;                    // worth that the owner gives it, larger is dearer: SRRIP favours what has any
    uint8_t priority = default_priority;  // 0 to 100: the lowest goes first
    bool last = false;                    // the end of its request, or of all sequences that are known

    static constexpr uint64_t unknown = UINT64_MAX;
    static constexpr uint8_t default_priority = 50;
};

// Keeps an order over slots: small numbers that the owner gives to what it holds. Not synchronised.
class Policy {
  public:
    virtual ~Policy() = default;
    // Slots below n will be used; nothing allocates afterwards unless noted.
    virtual void reserve(size_t n) = 0;
    virtual void admit(uint32_t slot, const Reference& r) = 0;
    virtual void touch(uint32_t slot, const Reference& r) = 0;
    // It will be asked for at r.next_use, which was not known so far, or not that it is so soon.
    virtual void foresee(uint32_t, const Reference&) {}
    // As admit() and touch(), but this use was foreseen: nobody's merit.
    virtual void readmit(uint32_t slot, const Reference& r) { admit(slot, r), touch(slot, r); }
    // A use of what is held but not in this order. expected: it was foreseen.
    virtual void witness(const Reference&, bool expected) { (void)expected; }
    // Something follows what was admitted as the last.
    virtual void extended(uint32_t) {}
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
    bool online;        // does not need to know the whole future
    bool tail_first;    // a request's blocks are touched last to first
    bool foresees;      // makes its own use of next uses; for the others HintedPolicy does
    bool knows_future;  // of everything, for replay
    Owned<Policy> (*make)(const Allocator& a);
};

// The table, in the order of larder_policy_get(). NULL past its end.
const PolicyRow* policy_row(uint32_t index) noexcept;
const PolicyRow* find_policy(larder_policy p) noexcept;

}  // namespace larder
