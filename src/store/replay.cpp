#include "store/replay.h"

#include <algorithm>

#include "base/hash.h"
#include "base/options.h"
#include "store/policy/policy.h"

namespace larder {
namespace {

constexpr uint64_t max_references = uint64_t(1) << 40;

// A trace with blocks numbered 0, 1, 2, ... in order of appearance: slots for the policy.
struct Dense {
    explicit Dense(const Allocator& a) : slots(a), ids(a), next_use(a) {}
    Vec<uint32_t> slots;     // of each reference
    Vec<uint64_t> ids;       // of each slot: the trace's own id
    Vec<uint64_t> next_use;  // of each reference: the next request that asks for its block; filled for policies that
                             // know the future
};

larder_status check_trace(const larder_replay_trace& t) noexcept {
    if (t.n_requests && !t.ends) return fail(LARDER_E_INVALID, "ends", "ends is NULL");
    uint64_t end = 0;
    for (uint64_t r = 0; r < t.n_requests; ++r) {
        if (t.ends[r] < end)
            return fail(LARDER_E_INVALID, "ends", "ends[%llu] is less than the one before it", (unsigned long long)r);
        end = t.ends[r];
    }
    if (end > max_references)
        return fail(LARDER_E_RANGE, "ends", "ends says %llu references; there may be 2^40", (unsigned long long)end);
    return end && !t.blocks ? fail(LARDER_E_INVALID, "blocks", "blocks is NULL") : LARDER_OK;
}

larder_status number_blocks(const larder_replay_trace& t, uint64_t n, const Allocator& a, Dense& out) {
    // Open addressing, half full at most.
    uint64_t size = 1024;
    Vec<uint32_t> table(size, UINT32_MAX, a);
    out.slots.resize(n);
    for (uint64_t i = 0; i < n; ++i) {
        uint64_t at = mix64(t.blocks[i]) & (size - 1);
        while (table[at] != UINT32_MAX && out.ids[table[at]] != t.blocks[i]) at = (at + 1) & (size - 1);
        if (table[at] == UINT32_MAX) {
            if (out.ids.size() >= UINT32_MAX - 1)
                return fail(LARDER_E_RANGE, "blocks", "the trace has too many different blocks");
            table[at] = uint32_t(out.ids.size());
            out.ids.push_back(t.blocks[i]);
        }
        out.slots[i] = table[at];
        if (out.ids.size() * 2 <= size) continue;
        size *= 2;
        table.assign(size, UINT32_MAX);
        for (uint32_t s = 0; s < out.ids.size(); ++s) {
            uint64_t to = mix64(out.ids[s]) & (size - 1);
            while (table[to] != UINT32_MAX) to = (to + 1) & (size - 1);
            table[to] = s;
        }
    }
    return LARDER_OK;
}

void find_next_uses(const larder_replay_trace& t, const Allocator& a, Dense& d) {
    d.next_use.resize(d.slots.size());
    Vec<uint64_t> coming(d.ids.size(), UINT64_MAX, a);
    for (uint64_t r = t.n_requests; r-- > 0;) {
        const uint64_t begin = r ? t.ends[r - 1] : 0;
        // Two passes: another reference in the same request is not a next use.
        for (uint64_t i = begin; i < t.ends[r]; ++i) d.next_use[i] = coming[d.slots[i]];
        for (uint64_t i = begin; i < t.ends[r]; ++i) coming[d.slots[i]] = r;
    }
}

void run(const larder_replay_trace& t, const Dense& d, const PolicyRow& row, Policy& policy, uint64_t capacity,
         Vec<bool>& held, larder_replay_result& out) {
    uint64_t n_held = 0;
    for (uint64_t r = 0; r < t.n_requests; ++r) {
        const uint64_t begin = r ? t.ends[r - 1] : 0, end = t.ends[r];
        bool leading = true;
        for (uint64_t i = begin; i < end; ++i) {
            const bool hit = held[d.slots[i]];
            out.n_hits += hit;
            leading = leading && hit;
            out.n_prefix_hits += leading;
        }
        for (uint64_t k = begin; k < end; ++k) {
            const uint64_t i = row.tail_first ? end - 1 - (k - begin) : k;
            const uint32_t slot = d.slots[i];
            const Reference ref{d.ids[slot], r, d.next_use.empty() ? UINT64_MAX : d.next_use[i], 1, i + 1 == end};
            if (held[slot]) {
                policy.touch(slot, ref);
                continue;
            }
            policy.admit(slot, ref);
            held[slot] = true;
            ++n_held;
        }
        for (; n_held > capacity; --n_held) {
            held[policy.evict()] = false;
            ++out.n_evictions;
        }
    }
}

}  // namespace

larder_status replay(larder_context& c, const larder_replay_trace& t, larder_policy id, uint64_t capacity_blocks,
                     larder_replay_result& out) {
    const PolicyRow* row = find_policy(id);
    if (!row) return fail(LARDER_E_NOT_FOUND, "policy", "there is no policy %u", id);
    LARDER_TRY(check_range(capacity_blocks, 1, UINT64_MAX, "capacity_blocks"));
    LARDER_TRY(check_trace(t));
    out = LARDER_REPLAY_RESULT_INIT;
    const uint64_t start = c.os.now_ns();
    Dense d(c.alloc);
    out.n_references = t.n_requests ? t.ends[t.n_requests - 1] : 0;
    LARDER_TRY(number_blocks(t, out.n_references, c.alloc, d));
    out.n_unique = d.ids.size();
    if (row->knows_future) find_next_uses(t, c.alloc, d);
    const Owned<Policy> policy = row->make(c.alloc);
    policy->reserve(d.ids.size());
    Vec<bool> held(d.ids.size(), false, c.alloc);
    run(t, d, *row, *policy, capacity_blocks, held, out);
    out.elapsed_ns = c.os.now_ns() - start;
    return LARDER_OK;
}

}  // namespace larder
