// What the owner knows: coming uses, priorities.
#include "base/options.h"
#include "store/store.h"

using namespace larder;

namespace {

// The store's clock runs within a request, whose number stands above these bits.
constexpr unsigned request_shift = 20;
constexpr uint64_t max_request = (uint64_t(1) << 43) - 1;
constexpr uint64_t last_of(uint64_t request) noexcept {
    return (request + 1) << request_shift;
}

}  // namespace

Reference larder_store::reference(uint32_t slot) noexcept {
    const Object& o = objects_[slot];
    Reference r{.id = load_le<uint64_t>(o.key.bytes),
                .now = ++clock_,
                .n_bytes = o.n_bytes,
                .score = o.meta.n_tokens == 0,
                .priority = o.priority,
                .last = !o.extended};
    if (hints_.empty()) return r;
    if (const auto when = hints_.next(o.key)) r.next_use = last_of(*when);
    return r;
}

larder_status larder_store::expect_hints() {
    if (!host_) return fail(LARDER_E_STATE, "store", "the store has no host tier");
    host_policy_->expect_hints();
    return LARDER_OK;
}

// For one item: the outcome, LARDER_OUTCOME_*.
larder_outcome larder_store::hint_use(const larder_key& key, uint64_t request) {
    if (request > max_request || request < n_served_ || hints_.full()) return LARDER_OUTCOME_REJECTED;
    hints_.add(key, request);
    const uint32_t slot = objects_.slot_of(key);
    if (slot == no_slot || !objects_[slot].in_host()) return LARDER_OUTCOME_DEFERRED;
    if (objects_[slot].in_host_policy) host_policy_->foresee(slot, reference(slot));
    return LARDER_OUTCOME_ACCEPTED;
}

larder_status larder_store::hint(const larder_key* keys, uint32_t n, uint64_t request, larder_outcome* outcomes) {
    Lock lock(mutex_);
    LARDER_TRY(expect_hints());
    bool all = true;
    for (uint32_t i = 0; i < n; ++i) {
        const larder_outcome outcome = hint_use(keys[i], request);
        if (outcomes) outcomes[i] = outcome;
        all = all && outcome == LARDER_OUTCOME_ACCEPTED;
    }
    return all ? LARDER_OK : LARDER_PARTIAL;
}

larder_status larder_store::hint_served(uint64_t request) {
    LARDER_TRY(check_range(request, 0, max_request, "request"));
    Lock lock(mutex_);
    LARDER_TRY(expect_hints());
    if (request < n_served_) return LARDER_OK;
    n_served_ = request + 1;
    clock_ = std::max(clock_, last_of(request));
    while (const auto key = hints_.take(request)) {
        // Its time is over: it stands where it would had it been used now.
        const uint32_t slot = objects_.slot_of(*key);
        if (slot != no_slot && objects_[slot].in_host_policy) host_policy_->touch(slot, reference(slot));
    }
    return LARDER_OK;
}

larder_outcome larder_store::protect_one(const larder_key& key, uint8_t priority, uint64_t until_ns, bool clipped) {
    const uint32_t slot = objects_.slot_of(key);
    if (slot == no_slot) return LARDER_OUTCOME_MISSING;
    Object& o = objects_[slot];
    if (until_ns) protected_until_.insert({until_ns, key});
    if (o.protected_until_ns != until_ns) forget_protection(o);
    o.priority = priority;
    o.protected_until_ns = until_ns;
    if (o.in_host_policy) host_policy_->touch(slot, reference(slot));
    return clipped ? LARDER_OUTCOME_CLIPPED : o.writing ? LARDER_OUTCOME_DEFERRED : LARDER_OUTCOME_ACCEPTED;
}

larder_status larder_store::protect(const larder_key* keys, uint32_t n, uint8_t priority, uint64_t ttl_ns,
                                    larder_outcome* outcomes) {
    constexpr uint64_t max_ttl_ns = 7 * 24 * 3600 * uint64_t(1000000000);
    const bool clipped = ttl_ns > max_ttl_ns;
    Lock lock(mutex_);
    if (host_) host_policy_->expect_hints();
    const uint64_t until_ns = ttl_ns ? context->os.now_ns() + std::min(ttl_ns, max_ttl_ns) : 0;
    bool all = true;
    for (uint32_t i = 0; i < n; ++i) {
        const larder_outcome outcome = protect_one(keys[i], priority, until_ns, clipped);
        if (outcomes) outcomes[i] = outcome;
        all = all && outcome == LARDER_OUTCOME_ACCEPTED;
    }
    return all ? LARDER_OK : LARDER_PARTIAL;
}

void larder_store::forget_protection(Object& o) noexcept {
    if (o.protected_until_ns) protected_until_.erase({o.protected_until_ns, o.key});
    o.protected_until_ns = 0;
}

// What was protected for a time that is over is as everything else.
void larder_store::end_protection() noexcept {
    if (protected_until_.empty()) return;
    const uint64_t now = context->os.now_ns();
    while (!protected_until_.empty() && protected_until_.begin()->first <= now) {
        const larder_key key = protected_until_.begin()->second;
        const uint32_t slot = objects_.slot_of(key);
        forget_protection(objects_[slot]);
        objects_[slot].priority = Reference::default_priority;
        if (objects_[slot].in_host_policy) host_policy_->touch(slot, reference(slot));
    }
}
