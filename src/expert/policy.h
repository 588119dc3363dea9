// Which expert goes: every policy says what an expert is worth keeping for, and the least worth goes.
//
// The rows serve the live cache and the replay. A cache holds few experts in a layer and looks for a victim only when
// it is about to load megabytes, so all that are held are compared anew each time: no order is kept up to date.
#pragma once

#include <span>

#include "base/alloc.h"
#include "larder/expert.h"

namespace larder {

// What a layer remembers of one expert.
struct ExpertUse {
    uint64_t last = 0;        // step of its last use, from 1; 0: never
    uint32_t n = 0;           // uses
    uint32_t n_sequence = 0;  // of these in the present sequence ...
    uint32_t n_fine = 0;      // ... and of those in the finest precision
};

// What a layer remembers of all.
struct ExpertRecords {
    std::span<const ExpertUse> uses;  // [n_experts]
    uint64_t step = 0;                // choices so far
    uint64_t first_step = 0;          // before the present sequence
    uint64_t n_sequence = 0;          // uses of all experts in it
};

// The choices of one layer to come, for those policies that know them.
struct ExpertFuture {
    std::span<const uint32_t> ids;  // [n_tokens][k]
    uint32_t k = 0;
    uint64_t lookahead = 0;
};

class ExpertPolicy {
  public:
    virtual ~ExpertPolicy() = default;
    // Told of every choice, in order. In a cache this comes late, when a victim is wanted.
    virtual void learn(std::span<const uint32_t>) noexcept {}
    // The next choice does not follow the last one: some between were not told.
    virtual void skip() noexcept {}
    // nearness: 1 for the layer that is used next, less for those used later.
    virtual double worth(uint32_t expert, const ExpertRecords& records, double nearness) const noexcept = 0;
};

struct ExpertPolicyRow {
    larder_expert_policy policy;
    const char* name;
    const char* description;
    bool online;
    bool learns;  // learn() wants to be called
    Owned<ExpertPolicy> (*make)(const Allocator& a, uint32_t n_experts, const ExpertFuture* future);
};

std::span<const ExpertPolicyRow> expert_policies() noexcept;
const ExpertPolicyRow* find_expert_policy(larder_expert_policy policy) noexcept;

}  // namespace larder
