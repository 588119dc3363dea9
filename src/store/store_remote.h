// What a store keeps for its remote tier. Under the table mutex, except for the tier itself and for `write` and what
// belongs to it, which only the task touches while it is scheduled.
#pragma once

#include "core/scheduler.h"
#include "store/tiers/remote_tier.h"

namespace larder {

struct RemoteState {
    RemoteState(const Allocator& a, Owned<RemoteTier> t) : tier(std::move(t)), queue(a), held(a), copies(a) {}
    struct Turn : Task {
        larder_store* store = nullptr;
    };

    const Owned<RemoteTier> tier;
    Deque<larder_key> queue;  // to be written, oldest first
    uint64_t n_dropped = 0;
    bool scheduled = false;
    Turn turn;

    Owned<RemoteWrite> write;      // on its way
    Vec<uint32_t> held;            // objects whose RAM it reads
    Deque<Vec<std::byte>> copies;  // of those that RAM does not have in a few pieces
};

// A get that no local tier can answer.
struct RemoteGet {
    const larder_store_get_item* item;
    larder_store_get_result* result;
};

}  // namespace larder
