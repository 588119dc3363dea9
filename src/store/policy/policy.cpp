#include "store/policy/policy.h"

#include <iterator>

#include "store/policy/list_policies.h"
#include "store/policy/ranked_policy.h"

namespace larder {
namespace {

template <class P>
Owned<Policy> make(const Allocator& a) {
    return make_owned<P>(a, a);
}

constexpr PolicyRow table[] = {
    {LARDER_POLICY_LRU, "lru", "least recently used", true, false, false, make<LruPolicy>},
    {LARDER_POLICY_LRU_TAIL, "lru-tail", "LRU that touches a request's last block first", true, true, false, make<LruPolicy>},
    {LARDER_POLICY_FIFO, "fifo", "oldest first", true, false, false, make<FifoPolicy>},
    {LARDER_POLICY_LFU, "lfu", "least often used, counts kept for ever", false, false, false, make<RankedPolicy<LfuRanker>>},
    {LARDER_POLICY_BELADY, "belady", "farthest next use: the best possible, knows the future", false, false, true,
     make<RankedPolicy<BeladyRanker>>},
};

} // namespace

const PolicyRow* policy_row(uint32_t index) noexcept { return index < std::size(table) ? &table[index] : nullptr; }

const PolicyRow* find_policy(larder_policy p) noexcept {
    for (const PolicyRow& row : table)
        if (row.policy == p) return &row;
    return nullptr;
}

} // namespace larder
