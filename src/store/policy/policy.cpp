#include "store/policy/policy.h"

#include <iterator>

#include "store/policy/auto_policy.h"
#include "store/policy/ghost_policies.h"
#include "store/policy/hybrid_policy.h"
#include "store/policy/lirs_policy.h"
#include "store/policy/list_policies.h"
#include "store/policy/ranked_policy.h"
#include "store/policy/segmented_policies.h"
#include "store/policy/srrip_policy.h"

namespace larder {
namespace {

template <class P> Owned<Policy> make(const Allocator& a) {
    return make_owned<P>(a, a);
}

// online, tail_first, foresees, knows_future
constexpr PolicyRow table[] = {
    {LARDER_POLICY_LRU, "lru", "least recently used", true, false, false, false, make<LruPolicy>},
    {LARDER_POLICY_LRU_TAIL, "lru-tail", "LRU that touches a request's last block first", true, true, false, false,
     make<LruPolicy>},
    {LARDER_POLICY_FIFO, "fifo", "oldest first", true, false, false, false, make<FifoPolicy>},
    {LARDER_POLICY_LFU, "lfu", "least often used, also before its last eviction", true, false, false, false,
     make<RankedPolicy<LfuRanker>>},
    {LARDER_POLICY_BELADY, "belady", "farthest next use: the best possible, knows the future", false, false, true, true,
     make<RankedPolicy<BeladyRanker>>},
    {LARDER_POLICY_S3_FIFO, "s3-fifo", "two FIFO queues, a small one for what is new", true, false, false, false,
     make<S3FifoPolicy>},
    {LARDER_POLICY_ARC, "arc", "recency and frequency in a balance that adapts", true, false, false, false,
     make<ArcPolicy>},
    {LARDER_POLICY_LRU_2, "lru-2", "oldest second last request, also before its last eviction", true, false, false,
     false, make<RankedPolicy<Lru2Ranker>>},
    {LARDER_POLICY_GDSF, "gdsf", "fewest uses per byte, with ageing", true, false, false, false,
     make<RankedPolicy<GdsfRanker>>},
    {LARDER_POLICY_2Q, "2q", "FIFO for what is new, LRU for what came back", true, false, false, false,
     make<TwoQPolicy>},
    {LARDER_POLICY_LRU_LEAF, "lru-leaf", "lru-tail that gives up the end of a request first", true, true, false, false,
     make<LruLeafPolicy>},
    {LARDER_POLICY_AUTO, "auto", "the best of lru-leaf, arc, s3-fifo, lfu, lru-2 and gdsf, by trial", true, true, false,
     false, make<AutoPolicy>},
    {LARDER_POLICY_SLRU, "slru", "LRU of what was used once and of what was used again, 80 % for these", true, false,
     false, false, make<SlruPolicy>},
    {LARDER_POLICY_SIEVE, "sieve", "a hand that spares once what was used since it came by", true, false, false, false,
     make<SievePolicy>},
    {LARDER_POLICY_W_TINY_LFU, "w-tinylfu", "a small LRU before an SLRU that takes what is asked for more often", true,
     false, false, false, make<WTinyLfuPolicy>},
    {LARDER_POLICY_LIRS, "lirs", "shortest distance between the last two uses", true, false, false, false,
     make<LirsPolicy>},
    {LARDER_POLICY_SRRIP, "srrip", "two-bit predictions of the next use; what has a score is favoured under pressure",
     true, false, false, false, make<SrripPolicy>},
    {LARDER_POLICY_HYBRID, "hybrid", "scores and known next uses, with a buffer for victims that will be used", true,
     false, true, false, make<HybridPolicy>},
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
