#include "store/policy/auto_policy.h"

#include "base/hash.h"

namespace larder {
namespace {

// The first leads until another is better. No row of the rest is good everywhere: frequency wins in a small cache,
// recency in a large one.
constexpr larder_policy candidate_rows[] = {LARDER_POLICY_LRU_LEAF, LARDER_POLICY_ARC,   LARDER_POLICY_S3_FIFO,
                                            LARDER_POLICY_LFU,      LARDER_POLICY_LRU_2, LARDER_POLICY_GDSF};
// A leader is replaced for a lead of more than 1 %: noise is not worth a mixed cache.
constexpr uint64_t lead_percent = 101;
// Scores lose half their weight each time that the cache could have been filled twice.
constexpr uint64_t half_life = 2;

}  // namespace

AutoPolicy::AutoPolicy(const Allocator& a, size_t limit) : candidates_(a), ids_(a), limit_(limit) {
    for (const larder_policy p : candidate_rows) {
        const PolicyRow* row = find_policy(p);
        candidates_.push_back({row->make(a), row->make(a), Vec<bool>(a)});
    }
}

void AutoPolicy::reserve(size_t n) {
    if (n <= ids_.size()) return;
    for (Candidate& c : candidates_) {
        c.order->reserve(n);
        c.shadow->reserve(n);
        c.in_shadow.resize(n);
    }
    ids_.resize(n);
}

void AutoPolicy::admit(uint32_t slot, const Reference& r) {
    ids_[slot] = r.id;
    refer(slot, r);
    for (Candidate& c : candidates_) c.order->admit(slot, r);
    ++n_held_;
}

void AutoPolicy::touch(uint32_t slot, const Reference& r) {
    refer(slot, r);
    for (Candidate& c : candidates_) c.order->touch(slot, r);
}

void AutoPolicy::remove(uint32_t slot) noexcept {
    for (Candidate& c : candidates_) c.order->remove(slot);
    --n_held_;
}

void AutoPolicy::evicted(uint32_t slot) noexcept {
    for (Candidate& c : candidates_) c.order->evicted(slot);
    --n_held_;
}

uint32_t AutoPolicy::evict() {
    if (!n_held_) return no_victim;
    evicting_ = true;
    choose_leader();
    const uint32_t slot = candidates_[leader_].order->evict();
    for (size_t i = 0; i < candidates_.size(); ++i)
        if (i != leader_) candidates_[i].order->evicted(slot);
    --n_held_;
    for (Candidate& c : candidates_)
        for (; c.n_shadow > n_held_ >> thinning_; --c.n_shadow) c.in_shadow[c.shadow->evict()] = false;
    return slot;
}

bool AutoPolicy::sampled(uint64_t id) const noexcept {
    return (mix64(id) & ((uint64_t(1) << thinning_) - 1)) == 0;
}

void AutoPolicy::refer(uint32_t slot, const Reference& r) {
    if (++n_recent_ > half_life * n_held_) {
        for (Candidate& c : candidates_) c.score /= 2;
        n_recent_ = 0;
    }
    if (!sampled(r.id)) return;
    for (Candidate& c : candidates_) {
        if (c.in_shadow[slot]) {
            ++c.score;
            c.shadow->touch(slot, r);
            continue;
        }
        c.shadow->admit(slot, r);
        c.in_shadow[slot] = true;
        ++c.n_shadow;
    }
    // Until something is evicted all shadows hold the same.
    while (!evicting_ && candidates_[0].n_shadow > limit_) thin_out();
}

void AutoPolicy::thin_out() noexcept {
    ++thinning_;
    for (Candidate& c : candidates_)
        for (uint32_t slot = 0; slot < ids_.size(); ++slot) {
            if (!c.in_shadow[slot] || sampled(ids_[slot])) continue;
            c.shadow->remove(slot);
            c.in_shadow[slot] = false;
            --c.n_shadow;
        }
}

void AutoPolicy::choose_leader() noexcept {
    size_t best = leader_;
    for (size_t i = 0; i < candidates_.size(); ++i)
        if (candidates_[i].score > candidates_[best].score) best = i;
    if (candidates_[best].score * 100 > candidates_[leader_].score * lead_percent) leader_ = best;
}

}  // namespace larder
