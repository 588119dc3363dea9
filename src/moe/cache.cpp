// Hit curves by a priority stack (Mattson et al., 1970): the cache of c slots is the first c entries of one list, for
// every c, because whom a policy evicts does not depend on c. All k experts of a token are placed in one pass.
#include <algorithm>

#include "base/options.h"
#include "moe/measure.h"

namespace larder {
namespace {

constexpr uint32_t recency_bits = 34;  // 2^26 tokens of 256 places
constexpr uint64_t never = (uint64_t(1) << 30) - 1;

// The worth of each expert: the policy's measure above, when it was last used below; no two are equal.
class Worth {
  public:
    Worth(const Allocator& a, std::span<const uint16_t> ids, const larder_moe_routing& r, larder_moe_keep keep,
          uint64_t lookahead)
        : ids_(ids), k_(r.k), n_tokens_(r.n_tokens), lookahead_(lookahead), keep_(keep), of_(r.n_experts, 0, a),
          next_(a) {
        if (keep == LARDER_MOE_KEEP_NEXT) find_next(a, r.n_experts);
        if (keep == LARDER_MOE_KEEP_COUNT_AHEAD)
            for (uint64_t t = 0; t < std::min(lookahead, n_tokens_); ++t) count(t, 1);
    }

    uint64_t operator[](uint16_t e) const noexcept { return of_[e]; }

    // Token t was routed; what is known is what follows it.
    void step(uint64_t t) noexcept {
        if (keep_ == LARDER_MOE_KEEP_COUNT_AHEAD) {
            count(t, -1);
            if (t + lookahead_ < n_tokens_) count(t + lookahead_, 1);
        }
        for (uint32_t j = 0; j < k_; ++j) {
            uint64_t& w = of_[ids_[t * k_ + j]];
            uint64_t measure = w >> recency_bits;
            if (keep_ == LARDER_MOE_KEEP_FREQUENT) ++measure;
            if (keep_ == LARDER_MOE_KEEP_NEXT) measure = never - next_[t * k_ + j];
            w = measure << recency_bits | t << 8 | (255 - j);
        }
    }

  private:
    void count(uint64_t t, int by) noexcept {
        for (uint32_t j = 0; j < k_; ++j) of_[ids_[t * k_ + j]] += uint64_t(int64_t(by) * (int64_t(1) << recency_bits));
    }
    void find_next(const Allocator& a, uint32_t n_experts) {
        Vec<uint32_t> later(n_experts, uint32_t(never), a);
        next_.resize(ids_.size());
        for (uint64_t i = ids_.size(); i-- > 0;) {
            next_[i] = later[ids_[i]];
            later[ids_[i]] = uint32_t(i / k_);
        }
    }

    std::span<const uint16_t> ids_;
    uint32_t k_;
    uint64_t n_tokens_, lookahead_;
    larder_moe_keep keep_;
    Vec<uint64_t> of_;
    Vec<uint32_t> next_;  // [token][k] the token that uses the expert next
};

class Stack {
  public:
    Stack(const Allocator& a, uint32_t n_experts, uint32_t k)
        : order_(a), displaced_(a), routed_(k, 0, a), routed_at_(n_experts, 0, a), n_at_depth_(n_experts + 1, 0, a) {
        order_.reserve(n_experts);
        displaced_.reserve(n_experts);
    }

    void reference(const uint16_t* ids, uint64_t token, const Worth& worth) {
        const auto more = [&worth](uint16_t x, uint16_t y) { return worth[x] > worth[y]; };
        const auto k = uint32_t(routed_.size());
        std::copy(ids, ids + k, routed_.begin());
        for (uint16_t e : routed_) routed_at_[e] = token + 1;
        std::sort(routed_.begin(), routed_.end(), more);
        uint32_t n_missing = k;  // routed ones not met yet
        displaced_.clear();      // those that a cache of the size at hand has lost, the worthiest last
        for (uint32_t at = 0; at < order_.size(); ++at) {
            if (!n_missing && at >= k) return;  // from here on the caches are as they were
            const uint16_t e = order_[at];
            const bool is_routed = routed_at_[e] == token + 1;
            if (is_routed) ++n_at_depth_[at + 1], --n_missing;
            if (at < k) {
                order_[at] = routed_[at];
                if (!is_routed) displace(e, more);
            } else if (is_routed || more(displaced_.back(), e)) {
                order_[at] = displaced_.back();
                displaced_.pop_back();
                if (!is_routed) displace(e, more);
            }
        }
        while (order_.size() < k) order_.push_back(routed_[order_.size()]);
        for (; !displaced_.empty(); displaced_.pop_back()) order_.push_back(displaced_.back());
    }

    void hits(uint64_t* out) const noexcept {
        uint64_t n = 0;
        for (size_t c = 0; c < n_at_depth_.size(); ++c) out[c] = n += n_at_depth_[c];
    }

  private:
    template <class More> void displace(uint16_t e, const More& more) {
        size_t at = displaced_.size();
        displaced_.push_back(e);
        for (; at && more(displaced_[at - 1], e); --at) displaced_[at] = displaced_[at - 1];
        displaced_[at] = e;
    }

    Vec<uint16_t> order_, displaced_, routed_;
    Vec<uint64_t> routed_at_;   // [expert] 1 + the token that used it last
    Vec<uint64_t> n_at_depth_;  // [depth] look-ups that found their expert there, from 1
};

}  // namespace

larder_status measure_cache(RoutingReader& routing, const Allocator& a, uint32_t layer, larder_moe_keep keep,
                            uint64_t lookahead, uint64_t* out_hits) {
    const larder_moe_routing& r = routing.shape();
    if (keep < LARDER_MOE_KEEP_RECENT || keep > LARDER_MOE_KEEP_NEXT)
        return fail(LARDER_E_INVALID, "keep", "%d is no policy", keep);
    const bool ahead = keep == LARDER_MOE_KEEP_COUNT_AHEAD;
    LARDER_TRY(check_range(lookahead, ahead, ahead ? uint64_t(1) << 26 : 0, "lookahead"));
    LARDER_TRY(routing.read(layer));
    Worth worth(a, routing.ids(), r, keep, lookahead);
    Stack stack(a, r.n_experts, r.k);
    for (uint64_t t = 0; t < r.n_tokens; ++t) {
        worth.step(t);
        stack.reference(routing.ids().data() + t * r.k, t, worth);
    }
    stack.hits(out_hits);
    return LARDER_OK;
}

}  // namespace larder
