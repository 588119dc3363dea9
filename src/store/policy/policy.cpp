#include "store/policy/policy.h"

#include <iterator>

#include "store/policy/auto_policy.h"
#include "store/policy/ghost_policies.h"
#include "store/policy/list_policies.h"
#include "store/policy/ranked_policy.h"

namespace larder {
namespace {

template <class P> Owned<Policy> make(const Allocator& a) {
    return make_owned<P>(a, a);
}

constexpr PolicyRow table[] = {
    {LARDER_POLICY_LRU, "lru", "least recently used", true, false, false, make<LruPolicy>},
    {LARDER_POLICY_LRU_TAIL, "lru-tail", "LRU that touches a request's last block first", true, true, false,
     make<LruPolicy>},
    {LARDER_POLICY_FIFO, "fifo", "oldest first", true, false, false, make<FifoPolicy>},
    {LARDER_POLICY_LFU, "lfu", "least often used, counts kept for ever", false, false, false,
     make<RankedPolicy<LfuRanker>>},
    {LARDER_POLICY_BELADY, "belady", "farthest next use: the best possible, knows the future", false, false, true,
     make<RankedPolicy<BeladyRanker>>},
    {LARDER_POLICY_S3_FIFO, "s3-fifo", "two FIFO queues, a small one for what is new", true, false, false,
     make<S3FifoPolicy>},
    {LARDER_POLICY_ARC, "arc", "recency and frequency in a balance that adapts", true, false, false, make<ArcPolicy>},
    {LARDER_POLICY_LRU_2, "lru-2", "oldest second last request, times kept for ever", false, false, false,
     make<RankedPolicy<Lru2Ranker>>},
    {LARDER_POLICY_GDSF, "gdsf", "fewest uses per byte, with ageing", true, false, false,
     make<RankedPolicy<GdsfRanker>>},
    {LARDER_POLICY_2Q, "2q", "FIFO for what is new, LRU for what came back", true, false, false, make<TwoQPolicy>},
    {LARDER_POLICY_LRU_LEAF, "lru-leaf", "lru-tail that gives up the end of a request first", false, true, false,
     make<LruLeafPolicy>},
    {LARDER_POLICY_AUTO, "auto", "the best of lru-leaf, arc, s3-fifo, lfu, lru-2 and gdsf, by trial", false, true,
     false, make<AutoPolicy>},
};

}  // namespace

const PolicyRow* policy_row(uint32_t index) noexcept {
    return index < std::size(table) ? &table[index] : nullptr;
}

const PolicyRow* find_policy(larder_policy p) noexcept {
    for (const PolicyRow& row : table)
        if (row.policy == p) return &row;
    return nullptr;
}

}  // namespace larder
