#include "store/policy/hinted_policy.h"

namespace larder {
namespace {

// Of parked slots; what the row holds stands before the first of the default priority that is foreseen.
constexpr uint64_t major(uint8_t priority, bool foreseen) noexcept {
    return uint64_t(priority) * 2 + foreseen;
}

}  // namespace

void HintedPolicy::expect_hints() {
    parked_.reserve(n_slots_);
    hints_ = true;
}

void HintedPolicy::reserve(size_t n) {
    inner_->reserve(n);
    if (hints_) parked_.reserve(n);
    n_slots_ = n;
}

bool HintedPolicy::parks(const Reference& r) const noexcept {
    if (!hints_) return false;
    return r.priority != Reference::default_priority || (r.next_use != Reference::unknown && !row_.foresees);
}

void HintedPolicy::park(uint32_t slot, const Reference& r) noexcept {
    const bool foreseen = r.next_use != Reference::unknown;
    parked_.set(slot, {major(r.priority, foreseen), foreseen ? Reference::unknown - r.next_use : r.now, r.id});
}

void HintedPolicy::admit(uint32_t slot, const Reference& r) {
    if (!parks(r)) return inner_->admit(slot, r);
    inner_->witness(r, false);
    park(slot, r);
}

void HintedPolicy::touch(uint32_t slot, const Reference& r) {
    const bool was_parked = parked_.holds(slot);
    if (!parks(r)) {
        if (!was_parked) return inner_->touch(slot, r);
        parked_.remove(slot);
        return inner_->readmit(slot, r);
    }
    inner_->witness(r, was_parked);
    if (!was_parked) inner_->remove(slot);
    park(slot, r);
}

void HintedPolicy::foresee(uint32_t slot, const Reference& r) {
    if (!hints_) return;
    if (!parked_.holds(slot)) {
        inner_->foresee(slot, r);
        if (row_.foresees) return;
        inner_->remove(slot);
    } else {
        const Rank& rank = parked_.rank(slot);
        // The time of an earlier use that did not come is of no account.
        const uint64_t known = rank.major & 1 ? Reference::unknown - rank.minor : Reference::unknown;
        if (known > r.now && known <= r.next_use) return;
    }
    park(slot, r);
}

void HintedPolicy::extended(uint32_t slot) {
    if (!parked_.holds(slot)) inner_->extended(slot);
}

void HintedPolicy::remove(uint32_t slot) noexcept {
    parked_.holds(slot) ? parked_.remove(slot) : inner_->remove(slot);
}

uint32_t HintedPolicy::evict() {
    const bool below =
        !parked_.empty() && parked_.rank(parked_.front()).major < major(Reference::default_priority, false);
    const uint32_t slot = below ? no_victim : inner_->evict();
    if (slot != no_victim || parked_.empty()) return slot;
    return parked_.pop();
}

}  // namespace larder
