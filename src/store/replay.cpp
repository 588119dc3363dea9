#include "store/replay.h"

#include <algorithm>

#include "base/hash.h"
#include "base/options.h"
#include "store/policy/hinted_policy.h"

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

class Run {
  public:
    Run(const larder_replay_trace& t, const Dense& d, const PolicyRow& row, Policy& policy,
        const larder_replay_options& o, larder_replay_result& out, const Allocator& a)
        : t_(t), d_(d), row_(row), policy_(policy), capacity_(o.capacity_blocks), lookahead_(o.lookahead_requests),
          held_(d.ids.size(), false, a), out_(out) {}

    void all() {
        for (uint64_t r = 0; r < t_.n_requests; ++r) {
            judge(r);
            if (lookahead_ && lookahead_ < t_.n_requests - r) foresee(r);
            refer(r);
            for (; n_held_ > capacity_; --n_held_) {
                held_[policy_.evict()] = false;
                ++out_.n_evictions;
            }
        }
    }

  private:
    uint64_t begin(uint64_t r) const noexcept { return r ? t_.ends[r - 1] : 0; }
    void judge(uint64_t r) {
        bool leading = true;
        for (uint64_t i = begin(r); i < t_.ends[r]; ++i) {
            const bool hit = held_[d_.slots[i]];
            out_.n_hits += hit;
            leading = leading && hit;
            out_.n_prefix_hits += leading;
        }
    }
    // One more of the coming requests is known.
    void foresee(uint64_t r) {
        const uint64_t later = r + lookahead_;
        for (uint64_t i = begin(later); i < t_.ends[later]; ++i)
            if (held_[d_.slots[i]]) policy_.foresee(d_.slots[i], {.id = t_.blocks[i], .now = r, .next_use = later});
    }
    void refer(uint64_t r) {
        const uint64_t first = begin(r), end = t_.ends[r];
        for (uint64_t k = first; k < end; ++k) {
            const uint64_t i = row_.tail_first ? end - 1 - (k - first) : k;
            const uint32_t slot = d_.slots[i];
            const Reference ref{.id = d_.ids[slot],
                                .now = r,
                                .next_use = next_use(r, i),
                                .score = t_.scores ? t_.scores[i] : uint8_t(0),
                                .last = i + 1 == end && i != first};
            if (held_[slot]) {
                policy_.touch(slot, ref);
                continue;
            }
            policy_.admit(slot, ref);
            held_[slot] = true;
            ++n_held_;
        }
    }
    uint64_t next_use(uint64_t r, uint64_t i) const noexcept {
        if (d_.next_use.empty()) return Reference::unknown;
        const uint64_t next = d_.next_use[i];
        return row_.knows_future || (next != Reference::unknown && next - r <= lookahead_) ? next : Reference::unknown;
    }

    const larder_replay_trace& t_;
    const Dense& d_;
    const PolicyRow& row_;
    Policy& policy_;
    const uint64_t capacity_, lookahead_;
    uint64_t n_held_ = 0;
    Vec<bool> held_;
    larder_replay_result& out_;
};

}  // namespace

larder_status replay(larder_context& c, const larder_replay_trace& t, const larder_replay_options& o,
                     larder_replay_result& out) {
    const PolicyRow* row = find_policy(o.policy);
    if (!row) return fail(LARDER_E_NOT_FOUND, "policy", "there is no policy %u", o.policy);
    LARDER_TRY(check_range(o.capacity_blocks, 1, UINT64_MAX, "capacity_blocks"));
    LARDER_TRY(check_trace(t));
    out = LARDER_REPLAY_RESULT_INIT;
    const uint64_t start = c.os.now_ns();
    Dense d(c.alloc);
    out.n_references = t.n_requests ? t.ends[t.n_requests - 1] : 0;
    LARDER_TRY(number_blocks(t, out.n_references, c.alloc, d));
    out.n_unique = d.ids.size();
    const bool hints = o.lookahead_requests && !row->knows_future;
    if (hints || row->knows_future) find_next_uses(t, c.alloc, d);
    Owned<Policy> policy;
    if (hints) {
        auto hinted = make_owned<HintedPolicy>(c.alloc, c.alloc, *row);
        hinted->expect_hints();
        policy = std::move(hinted);
    } else {
        policy = row->make(c.alloc);
    }
    policy->reserve(d.ids.size());
    Run(t, d, *row, *policy, o, out, c.alloc).all();
    out.elapsed_ns = c.os.now_ns() - start;
    return LARDER_OK;
}

}  // namespace larder
