#include "expert/policy.h"

#include <algorithm>
#include <limits>

#include "expert/forecast.h"

namespace larder {

namespace {

class LruExperts final : public ExpertPolicy {
  public:
    // Steps are counted by each layer for itself: between layers only distances compare.
    double worth(uint32_t e, const ExpertRecords& r, double) const noexcept override {
        return double(r.uses[e].last) - double(r.step);
    }
};

class LfuExperts final : public ExpertPolicy {
  public:
    double worth(uint32_t e, const ExpertRecords& r, double) const noexcept override { return r.uses[e].n; }
};

class HobbitExperts final : public ExpertPolicy {
  public:
    double worth(uint32_t e, const ExpertRecords& r, double nearness) const noexcept override {
        const ExpertUse& u = r.uses[e];
        const double t = double(std::max<uint64_t>(r.step - r.first_step, 1));
        const double recency = u.last > r.first_step ? double(u.last - r.first_step) / t : 0;
        return (recency + u.n_sequence / t + u.n_fine / t + nearness) / 4;
    }
};

class MoeInfinityExperts final : public ExpertPolicy {
  public:
    double worth(uint32_t e, const ExpertRecords& r, double nearness) const noexcept override {
        const double n = double(std::max<uint64_t>(r.n_sequence, 1));
        // What the sequence has not used yet still goes by its layer.
        return (r.uses[e].n_sequence / n + 1e-6) * nearness;
    }
};

class BeladyExperts final : public ExpertPolicy {
  public:
    BeladyExperts(const Allocator& a, uint32_t n_experts, const ExpertFuture& f)
        : next_(f.ids.size(), 0, a), due_(n_experts, never, a) {
        for (size_t i = f.ids.size(); i-- > 0;) {
            next_[i] = due_[f.ids[i]];
            due_[f.ids[i]] = i / f.k;
        }
    }
    void learn(std::span<const uint32_t> step) noexcept override {
        for (uint32_t e : step) due_[e] = next_[at_++];
    }
    double worth(uint32_t e, const ExpertRecords&, double) const noexcept override { return -double(due_[e]); }

  private:
    static constexpr uint64_t never = std::numeric_limits<uint64_t>::max();
    Vec<uint64_t> next_;  // of each reference: the token that refers to the same expert next
    Vec<uint64_t> due_;   // of each expert
    size_t at_ = 0;
};

class FutureCountExperts final : public ExpertPolicy {
  public:
    FutureCountExperts(const Allocator& a, uint32_t n_experts, const ExpertFuture& f)
        : f_(f), counts_(n_experts, 0, a) {
        end_ = size_t(std::min<uint64_t>(f.lookahead, f.ids.size() / f.k)) * f.k;
        for (uint32_t e : f.ids.first(end_)) ++counts_[e];
    }
    void learn(std::span<const uint32_t> step) noexcept override {
        for (uint32_t e : step) --counts_[e];
        for (size_t i = 0; i < step.size() && end_ < f_.ids.size(); ++i) ++counts_[f_.ids[end_++]];
    }
    double worth(uint32_t e, const ExpertRecords&, double) const noexcept override { return counts_[e]; }

  private:
    const ExpertFuture f_;
    Vec<uint32_t> counts_;  // in the window
    size_t end_;            // of the window
};

template <class P> Owned<ExpertPolicy> plain(const Allocator& a, uint32_t, const ExpertFuture*) {
    return make_owned<P>(a);
}
Owned<ExpertPolicy> forecast(const Allocator& a, uint32_t n_experts, const ExpertFuture*) {
    return make_owned<ForecastPolicy>(a, a, n_experts);
}
template <class P> Owned<ExpertPolicy> oracle(const Allocator& a, uint32_t n_experts, const ExpertFuture* future) {
    return make_owned<P>(a, a, n_experts, *future);
}

constexpr ExpertPolicyRow rows[] = {
    {LARDER_EXPERT_LRU, "lru", "not used for longest", true, false, plain<LruExperts>},
    {LARDER_EXPERT_LFU, "lfu", "least often used", true, false, plain<LfuExperts>},
    {LARDER_EXPERT_HOBBIT, "hobbit", "recency, frequency, precision and layer in the sequence", true, false,
     plain<HobbitExperts>},
    {LARDER_EXPERT_MOE_INFINITY, "moe-infinity", "share of the sequence's uses, by nearness of the layer", true, false,
     plain<MoeInfinityExperts>},
    {LARDER_EXPERT_AUTO, "auto", "expected use soon, learned from rates and from what follows what", true, true,
     forecast},
    {LARDER_EXPERT_BELADY, "belady", "farthest next use; knows the future", false, true, oracle<BeladyExperts>},
    {LARDER_EXPERT_FUTURE_COUNT, "future-count", "fewest uses in a window to come; knows the future", false, true,
     oracle<FutureCountExperts>},
};

}  // namespace

std::span<const ExpertPolicyRow> expert_policies() noexcept {
    return rows;
}

const ExpertPolicyRow* find_expert_policy(larder_expert_policy policy) noexcept {
    for (const ExpertPolicyRow& row : rows)
        if (row.policy == policy) return &row;
    return nullptr;
}

}  // namespace larder
