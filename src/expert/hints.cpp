// Loading ahead of time what will probably be asked for.
#include <algorithm>

#include "base/options.h"
#include "expert/cache.h"

using namespace larder;

// From here on a hint is worth another expert's slot.
static constexpr float good_enough = 0.5f;
static constexpr float trust_rate = 1 / 16.0f;

larder_status larder_expert_cache::hint(uint32_t layer, std::span<const uint32_t> experts, const float* probabilities,
                                        uint32_t source, uint64_t deadline_ns) noexcept {
    LARDER_TRY(check_range(layer, 0, o_.n_layers - 1, "layer"));
    LARDER_TRY(check_range(source, 0, LARDER_EXPERT_MAX_SOURCES - 1, "source"));
    for (size_t i = 0; i < experts.size(); ++i) {
        if (experts[i] >= o_.n_experts)
            return fail(LARDER_E_RANGE, "experts", "experts[%zu] is %u; there are %u", i, experts[i], o_.n_experts);
        if (probabilities && !(probabilities[i] > 0 && probabilities[i] <= 1))
            return fail(LARDER_E_RANGE, "probabilities", "probabilities[%zu] is %g", i, double(probabilities[i]));
    }
    const uint64_t now = context->os.now_ns();
    const Urgency urgency{true, deadline_ns > UINT64_MAX - now ? UINT64_MAX : now + deadline_ns};
    Layer& l = *layers_[layer];
    Guard lock(l.mutex);
    for (size_t i = 0; i < experts.size(); ++i) {
        Hint& h = l.hints[experts[i]];
        if (!h.sources) l.hinted.push_back(experts[i]);
        h.sources |= uint8_t(1u << source);
        h.likely = std::max(h.likely, (probabilities ? probabilities[i] : 1) * l.trust[source]);
    }
    for (uint32_t e : experts) {
        const Expert& x = expert(l, 0, e);
        if (x.where == Where::loading) hurry(0, x.slot, urgency);
        if (x.where != Where::absent) continue;
        const bool good = l.hints[e].likely >= good_enough;
        if (!good && l.free_slots[0].empty()) continue;
        const uint32_t slot = slot_for_hint(l);
        if (slot == none) continue;
        start_load(l, 0, e, slot, urgency);
        ++l.n_foreseen;
    }
    return LARDER_OK;
}

// A free one, or that of the least of those that nobody holds and no good hint speaks for.
uint32_t larder_expert_cache::slot_for_hint(Layer& l) noexcept {
    l.ranks.clear();
    if (l.free_slots[0].empty()) {
        l.ledger->settle();
        for (uint32_t s : l.slots[0]) {
            const uint32_t e = precisions_[0]->slots[s].expert;
            if (e == none || expert(l, 0, e).n_holders || l.hints[e].likely >= good_enough) continue;
            const auto rank = l.ledger->rank(e);
            if (l.ranks.empty())
                l.ranks.push_back(rank);
            else if (rank < l.ranks.back())
                l.ranks.back() = rank;
        }
        if (l.ranks.empty()) return none;
    }
    return take_slot(l, 0);
}

// The choice is known now: which sources were right?
void larder_expert_cache::settle_hints(Layer& l, uint32_t lease) noexcept {
    const uint64_t* chosen = held(l, lease, 0);
    for (uint32_t e : l.hinted) {
        const float came = float(chosen[e / 64] >> e % 64 & 1);
        for (uint32_t s = 0; s < LARDER_EXPERT_MAX_SOURCES; ++s)
            if (l.hints[e].sources >> s & 1) l.trust[s] += (came - l.trust[s]) * trust_rate;
        l.hints[e] = Hint{};
    }
    l.hinted.clear();
}
