#include "expert/replay.h"

#include <algorithm>

#include "base/options.h"
#include "expert/ledger.h"
#include "moe/routing.h"

namespace larder {

namespace {

// The slots of a layer: who is held.
class ReplayLayer {
  public:
    ReplayLayer(const Allocator& a, uint32_t n_experts, uint32_t n_slots, const ExpertPolicyRow& row,
                const ExpertFuture& future)
        : n_slots_(n_slots), ledger_(a, n_experts, row, &future), place_(n_experts, none, a), held_(a) {
        held_.reserve(n_slots);
    }
    void begin_sequence() noexcept { ledger_.begin_sequence(); }
    void choose(std::span<const uint32_t> step) noexcept {
        ledger_.begin_step(uint32_t(step.size()));
        for (uint32_t e : step) {
            n_hits += place_[e] != none;
            ledger_.use(e, true);
        }
        for (uint32_t e : step) {
            if (place_[e] != none) continue;
            if (held_.size() < n_slots_) {
                place_[e] = uint32_t(held_.size());
                held_.push_back(e);
                continue;
            }
            const uint32_t slot = victim(step);
            place_[held_[slot]] = none;
            held_[slot] = e;
            place_[e] = slot;
            ++n_evictions;
        }
    }
    uint64_t n_hits = 0, n_evictions = 0;

  private:
    static constexpr uint32_t none = UINT32_MAX;
    uint32_t victim(std::span<const uint32_t> step) noexcept {
        ledger_.settle();
        uint32_t best = none;
        ExpertLedger::Rank least{};
        for (uint32_t slot = 0; slot < n_slots_; ++slot) {
            if (std::find(step.begin(), step.end(), held_[slot]) != step.end()) continue;
            const auto rank = ledger_.rank(held_[slot]);
            if (best == none || rank < least) best = slot, least = rank;
        }
        return best;
    }

    const uint32_t n_slots_;
    ExpertLedger ledger_;
    Vec<uint32_t> place_;  // [n_experts] slot
    Vec<uint32_t> held_;   // [n_slots] expert
};

}  // namespace

larder_status replay_experts(larder_context& c, const larder_moe_routing* routing,
                             const larder_expert_replay_options* options, uint64_t* hits,
                             larder_expert_replay_result& out) {
    larder_expert_replay_options o;
    LARDER_TRY(read_options(options, o, "larder_expert_replay_options"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    if (!o.policy) o.policy = LARDER_EXPERT_AUTO;
    const ExpertPolicyRow* row = find_expert_policy(o.policy);
    if (!row) return fail(LARDER_E_NOT_FOUND, "policy", "there is no expert policy %u", o.policy);
    if (o.policy != LARDER_EXPERT_FUTURE_COUNT && o.lookahead_tokens)
        return fail(LARDER_E_INVALID, "lookahead_tokens", "lookahead_tokens is for the policy future-count only");
    if (!o.lookahead_tokens) o.lookahead_tokens = 16;
    LARDER_TRY(check_range(o.lookahead_tokens, 1, uint64_t(1) << 26, "lookahead_tokens"));
    RoutingReader reader(c.alloc);
    LARDER_TRY(reader.open(routing, false));
    const larder_moe_routing& r = reader.shape();
    LARDER_TRY(check_range(o.layer_slots, r.k, r.n_experts, "layer_slots"));
    const uint64_t start = c.os.now_ns();
    Vec<uint32_t> ids(r.n_tokens * r.k, 0, c.alloc);
    out = LARDER_EXPERT_REPLAY_RESULT_INIT;
    for (uint32_t i = 0; i < r.n_layers; ++i) {
        LARDER_TRY(reader.read(i));
        std::copy(reader.ids().begin(), reader.ids().end(), ids.begin());
        ReplayLayer layer(c.alloc, r.n_experts, o.layer_slots, *row, {ids, r.k, o.lookahead_tokens});
        for (uint64_t token = 0; token < r.n_tokens; ++token) {
            if (token && token % r.sequence_tokens == 0) layer.begin_sequence();
            layer.choose({&ids[token * r.k], r.k});
        }
        if (hits) hits[i] = layer.n_hits;
        out.n_hits += layer.n_hits;
        out.n_evictions += layer.n_evictions;
    }
    out.n_references = r.n_tokens * r.n_layers * r.k;
    out.elapsed_ns = c.os.now_ns() - start;
    return LARDER_OK;
}

}  // namespace larder
