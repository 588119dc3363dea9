#include "store/policy/auto_policy.h"

#include <algorithm>
#include <iterator>

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

AutoPolicy::AutoPolicy(const Allocator& a, size_t limit)
    : candidates_(a), shades_(a), free_shades_(a), shade_of_(a), limit_(limit) {
    for (const larder_policy p : candidate_rows) {
        const PolicyRow* row = find_policy(p);
        candidates_.push_back({row->make(a), row->make(a)});
    }
}

void AutoPolicy::reserve(size_t n) {
    for (Candidate& c : candidates_) c.order->reserve(n);
    // No two shadows need to agree, each keeps to the limit, and the histories of LFU and LRU-2 reach as far back as
    // there are slots.
    const size_t old = shades_.size();
    const size_t n_shades = std::max(old, std::min(candidates_.size() * n, 4 * candidates_.size() * limit_) + 1);
    if (n_shades == old) return;
    for (Candidate& c : candidates_) c.shadow->reserve(n_shades);
    shade_of_.reserve(n_shades);
    free_shades_.reserve(n_shades);
    shades_.resize(n_shades);
    for (size_t i = n_shades; i-- > old;) free_shades_.push_back(uint32_t(i));
}

void AutoPolicy::admit(uint32_t slot, const Reference& r) {
    refer(r, true);
    for (Candidate& c : candidates_) c.order->admit(slot, r);
    ++n_held_;
}

void AutoPolicy::touch(uint32_t slot, const Reference& r) {
    refer(r, true);
    for (Candidate& c : candidates_) c.order->touch(slot, r);
}

// Who kept it until now had the merit; from now on the owner keeps it.
void AutoPolicy::foresee(uint32_t, const Reference& r) {
    const uint32_t shade = sampled(r.id) ? shade_of_.find(r.id) : IdMap::none;
    if (shade == IdMap::none) return;
    for (size_t i = 0; i < candidates_.size(); ++i) candidates_[i].score += shades_[shade].in >> i & 1;
}

void AutoPolicy::readmit(uint32_t slot, const Reference& r) {
    refer(r, false);
    for (Candidate& c : candidates_) c.order->readmit(slot, r);
    ++n_held_;
}

void AutoPolicy::witness(const Reference& r, bool expected) {
    refer(r, !expected);
}

void AutoPolicy::extended(uint32_t slot) {
    for (Candidate& c : candidates_) c.order->extended(slot);
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
    trim();
    return slot;
}

bool AutoPolicy::sampled(uint64_t id) const noexcept {
    return (mix64(id) & ((uint64_t(1) << thinning_) - 1)) == 0;
}

void AutoPolicy::refer(const Reference& r, bool counts) {
    if (++n_recent_ > half_life * n_held_) {
        for (Candidate& c : candidates_) c.score /= 2;
        n_recent_ = 0;
    }
    if (!sampled(r.id)) return;
    uint32_t shade = shade_of_.find(r.id);
    if (shade == IdMap::none) {
        if (free_shades_.empty()) trim();  // much was removed, and nothing evicted
        if (free_shades_.empty()) return;
        shade = free_shades_.back();
        free_shades_.pop_back();
        shades_[shade] = {r.id, 0};
        shade_of_.insert(r.id, shade);
    }
    for (size_t i = 0; i < candidates_.size(); ++i) {
        Candidate& c = candidates_[i];
        if (shades_[shade].in >> i & 1) {
            c.score += counts;
            c.shadow->touch(shade, r);
            continue;
        }
        c.shadow->admit(shade, r);
        shades_[shade].in |= 1u << i;
        ++c.n_shadow;
    }
    // Until something is evicted all shadows hold the same.
    const size_t most = evicting_ ? 2 * limit_ : limit_;
    for (size_t i = 0; i < candidates_.size(); ++i)
        while (candidates_[i].n_shadow > most) thin_out();
}

void AutoPolicy::leave(size_t candidate, uint32_t shade) noexcept {
    --candidates_[candidate].n_shadow;
    if (shades_[shade].in &= ~(1u << candidate)) return;
    shade_of_.erase(shades_[shade].id);
    free_shades_.push_back(shade);
}

void AutoPolicy::thin_out() noexcept {
    ++thinning_;
    for (uint32_t shade = 0; shade < shades_.size(); ++shade)
        for (size_t i = 0; i < candidates_.size(); ++i) {
            if (!(shades_[shade].in >> i & 1) || sampled(shades_[shade].id)) continue;
            candidates_[i].shadow->remove(shade);
            leave(i, shade);
        }
}

void AutoPolicy::trim() noexcept {
    for (size_t i = 0; i < candidates_.size(); ++i)
        for (Candidate& c = candidates_[i]; c.n_shadow > n_held_ >> thinning_;) leave(i, c.shadow->evict());
}

void AutoPolicy::choose_leader() noexcept {
    size_t best = leader_;
    for (size_t i = 0; i < candidates_.size(); ++i)
        if (candidates_[i].score > candidates_[best].score) best = i;
    if (candidates_[best].score * 100 > candidates_[leader_].score * lead_percent) leader_ = best;
}

}  // namespace larder
