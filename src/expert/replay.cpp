#include "expert/replay.h"

#include <algorithm>

#include "base/options.h"
#include "expert/ledger.h"

namespace larder {

namespace {

larder_status check_trace(const larder_expert_trace& t) noexcept {
    LARDER_TRY(check_range(t.n_layers, 1, 4096, "n_layers"));
    LARDER_TRY(check_range(t.n_experts, 1, 65536, "n_experts"));
    LARDER_TRY(check_range(t.top_k, 1, t.n_experts, "top_k"));
    LARDER_TRY(check_range(t.id_bytes, 1, 2, "id_bytes"));
    LARDER_TRY(check_range(t.token_major, 0, 1, "token_major"));
    LARDER_TRY(check_range(t.n_tokens, 0, uint64_t(1) << 32, "n_tokens"));
    if (t.n_tokens && !t.ids) return fail(LARDER_E_INVALID, "ids", "ids is NULL");
    if (t.n_sequences && !t.sequence_ends) return fail(LARDER_E_INVALID, "sequence_ends", "sequence_ends is NULL");
    for (uint64_t i = 0; i < t.n_sequences; ++i)
        if (t.sequence_ends[i] > t.n_tokens || (i && t.sequence_ends[i] < t.sequence_ends[i - 1]))
            return fail(LARDER_E_INVALID, "sequence_ends", "sequence %llu ends at token %llu", (unsigned long long)i,
                        (unsigned long long)t.sequence_ends[i]);
    return LARDER_OK;
}

// One layer's choices as [n_tokens][top_k].
larder_status read_layer(const larder_expert_trace& t, uint32_t layer, Vec<uint32_t>& out) {
    const uint64_t token_step = t.token_major ? uint64_t(t.n_layers) * t.top_k : t.top_k;
    const uint64_t first = t.token_major ? uint64_t(layer) * t.top_k : layer * t.n_tokens * t.top_k;
    Vec<uint64_t> seen(t.n_experts, 0, out.get_allocator().a);
    for (uint64_t token = 0; token < t.n_tokens; ++token) {
        for (uint32_t j = 0; j < t.top_k; ++j) {
            const uint64_t at = first + token * token_step + j;
            const uint32_t e =
                t.id_bytes == 1 ? static_cast<const uint8_t*>(t.ids)[at] : static_cast<const uint16_t*>(t.ids)[at];
            if (e >= t.n_experts)
                return fail(LARDER_E_RANGE, "ids", "token %llu, layer %u: expert %u; there are %u",
                            (unsigned long long)token, layer, e, t.n_experts);
            if (seen[e] == token + 1)
                return fail(LARDER_E_INVALID, "ids", "token %llu, layer %u: expert %u twice", (unsigned long long)token,
                            layer, e);
            seen[e] = token + 1;
            out[token * t.top_k + j] = e;
        }
    }
    return LARDER_OK;
}

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

larder_status replay_experts(larder_context& c, const larder_expert_trace* trace,
                             const larder_expert_replay_options* options, uint64_t* hits,
                             larder_expert_replay_result& out) {
    larder_expert_trace t;
    larder_expert_replay_options o;
    LARDER_TRY(read_options(trace, t, "larder_expert_trace"));
    LARDER_TRY(read_options(options, o, "larder_expert_replay_options"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    LARDER_TRY(check_trace(t));
    const ExpertPolicyRow* row = find_expert_policy(o.policy ? o.policy : larder_expert_policy(LARDER_EXPERT_AUTO));
    if (!row) return fail(LARDER_E_NOT_FOUND, "policy", "there is no expert policy %u", o.policy);
    LARDER_TRY(check_range(o.layer_slots, t.top_k, t.n_experts, "layer_slots"));
    if (o.policy != LARDER_EXPERT_FUTURE_COUNT && o.lookahead_tokens)
        return fail(LARDER_E_INVALID, "lookahead_tokens", "lookahead_tokens is for the policy future-count only");
    const uint64_t start = c.os.now_ns();
    Vec<uint32_t> ids(t.n_tokens * t.top_k, 0, c.alloc);
    const ExpertFuture future{ids, t.top_k, o.lookahead_tokens ? o.lookahead_tokens : 16};
    out = LARDER_EXPERT_REPLAY_RESULT_INIT;
    for (uint32_t layer = 0; layer < t.n_layers; ++layer) {
        LARDER_TRY(read_layer(t, layer, ids));
        ReplayLayer r(c.alloc, t.n_experts, o.layer_slots, *row, future);
        uint64_t sequence = 0;
        for (uint64_t token = 0; token < t.n_tokens; ++token) {
            bool ended = false;
            for (; sequence < t.n_sequences && t.sequence_ends[sequence] == token; ++sequence) ended = true;
            if (ended) r.begin_sequence();
            r.choose({&ids[token * t.top_k], t.top_k});
        }
        if (hits) hits[layer] = r.n_hits;
        out.n_hits += r.n_hits;
        out.n_evictions += r.n_evictions;
    }
    out.n_references = t.n_tokens * t.n_layers * t.top_k;
    out.elapsed_ns = c.os.now_ns() - start;
    return LARDER_OK;
}

}  // namespace larder
