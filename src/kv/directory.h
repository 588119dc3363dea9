// What the planner knows of the tiers below the arena.
#pragma once

#include "base/hash.h"
#include "larder/kv.h"

namespace larder {

struct StoredAt {
    uint32_t tiers = 0;          // LARDER_KV_IN_HOST | LARDER_KV_IN_FILE; 0: not there, or too coarse
    larder_quality quality = 0;  // of what is there, also when it is too coarse
};

class TierDirectory {
  public:
    virtual ~TierDirectory() = default;
    // May be wrong about what was just evicted: the load finds out.
    virtual StoredAt find(const larder_key& key, larder_quality min_quality) noexcept = 0;
    // All ranks have stored it, or a rank could not read it.
    virtual void stored(const larder_key& key, larder_quality quality) = 0;
    virtual void lost(const larder_key& key) noexcept = 0;
    // A rank went; one came with a directory.
    virtual void rank_lost(uint32_t rank) noexcept = 0;
    virtual void rank_has(uint32_t rank, const larder_key& key, larder_quality quality) = 0;
};

}  // namespace larder
