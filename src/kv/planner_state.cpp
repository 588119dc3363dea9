// States of RECURRENT groups: which slot holds what is behind which token, and where a match can end.
#include "kv/planner.h"

namespace larder {

PlanOp Planner::state_op(PlanOpKind kind, uint32_t slot, const larder_key& key) noexcept {
    PlanOp op;
    op.kind = kind;
    op.flags = plan_op_state;
    op.block = slot;
    op.key = key;
    return op;
}

bool Planner::find_state(const larder_key& key, larder_quality min_quality, StateAt& out) noexcept {
    const auto it = state_of_.find(key);
    if (it != state_of_.end() && !states_[it->second].bad && states_[it->second].quality <= min_quality) {
        out = {it->second, states_[it->second].quality};
        return true;
    }
    const StoredAt at = below_ ? below_->find(key, min_quality) : StoredAt{};
    out = {0, at.quality};
    return at.tiers != 0;
}

// A match ends where a state is kept.
void Planner::cut_to_state(const TokenChain& c, Found& f) noexcept {
    StateAt at;
    size_t n = f.blocks.size();
    while (n && !find_state(state_key(c.keys[n - 1]), c.min_quality, at)) --n;
    f.cut(n);
    f.state = n ? at.slot : 0;
    if (n) f.tail_quality = at.quality;
}

void Planner::gather_state(const TokenChain& c, Gathered& g) noexcept {
    g.drop_state();
    g.drop_partial();
    StateAt at;
    size_t n = g.blocks.size();
    for (; n; --n) {
        g.state_key = state_key(c.keys[n - 1]);
        if (find_state(g.state_key, c.min_quality, at)) break;
    }
    g.cut(n);
    if (!n) return;
    g.state = at.slot;
    g.load_state = !at.slot;
    g.state_quality = at.quality;
    if (at.slot) states_.get(at.slot);
}

// A suspended sequence goes on where it stopped when all of it is still there, its own state included.
void Planner::gather_own_state(const Sequence& s, Gathered& g) noexcept {
    const uint64_t n = g.blocks.size() * uint64_t(block_tokens_) + g.n_tail;
    StateAt at;
    if (n == s.n_computed && !(s.state_key == larder_key{}) && find_state(s.state_key, s.chain.min_quality, at)) {
        g.state_key = s.state_key;
        g.load_state = g.private_state = true;
        g.state_quality = at.quality;
        return;
    }
    gather_state(s.chain, g);
}

// The slot's new holder is the sequence; the reference is the caller's, who gives it away.
void Planner::take_state(Sequence& s, uint32_t slot, bool owned) noexcept {
    if (s.slot) states_.put(s.slot);
    s.slot = slot;
    s.slot_owned = owned;
}

void Planner::drop_checkpoint(Sequence& s) noexcept {
    if (s.checkpoint) states_.put(s.checkpoint);
    s.checkpoint = 0;
    s.n_checkpoint_tokens = 0;
    s.checkpoint_due = false;
}

void Planner::drop_state(Sequence& s) noexcept {
    take_state(s, 0, false);
    s.n_state_tokens = 0;
    drop_checkpoint(s);
}

void Planner::forget_all(Sequence& s) noexcept {
    keep_blocks(s, 0);
    drop_state(s);
    s.n_computed = s.n_reserved = 0;
    cut_chain(s, 0);
}

void Planner::attach_state(Sequence& s, Gathered& g, Ticket* ticket, Plan& out) {
    s.n_state_tokens = s.n_computed;
    uint32_t slot = std::exchange(g.state, 0);
    if (g.load_state) {
        const bool room = states_.alloc({&slot, 1});
        LARDER_ASSERT(room);
        if (!room) return forget_all(s);
        BlockInfo& info = states_[slot];
        info.key = g.state_key;
        info.quality = uint8_t(g.state_quality);
        info.stored = !g.private_state;
        PlanOp op = state_op(PlanOpKind::load, slot, g.state_key);
        op.n_tokens = block_tokens_;
        op.quality = uint16_t(s.chain.min_quality);
        op.priority = uint16_t(s.chain.priority);
        out.ops.push_back(op);
    }
    take_state(s, slot, false);
    if (slot && states_[slot].loading) wait_for(states_[slot].loading, ticket);
}

// False: the same state is known already, or there is no memory to know it.
bool Planner::publish_state(uint32_t slot) noexcept {
    try {
        if (!state_of_.try_emplace(states_[slot].key, slot).second) return false;
    } catch (const std::bad_alloc&) {
        return false;
    }
    states_.publish(slot, slot);
    return true;
}

// From now on the slot is frozen: reserve() copies it before the engine writes again.
void Planner::hold_checkpoint(Sequence& s, bool due) noexcept {
    drop_checkpoint(s);
    if (!s.slot || !s.n_computed) return;
    s.slot_owned = false;
    states_.get(s.slot);
    s.checkpoint = s.slot;
    s.n_checkpoint_tokens = s.n_computed;
    s.checkpoint_due = due;
    if (due) publish_checkpoint(s);
}

void Planner::publish_checkpoint(Sequence& s) noexcept {
    const size_t n = size_t(s.n_checkpoint_tokens / block_tokens_);
    if (!s.checkpoint || s.n_published < n || s.chain.keys.size() < n) return;
    BlockInfo& info = states_[s.checkpoint];
    if (!info.entry) {
        info.key = state_key(s.chain.keys[n - 1]);
        info.quality = uint8_t(s.chain.quality);
        info.priority = uint8_t(s.chain.priority);
        publish_state(s.checkpoint);
    }
    drop_checkpoint(s);
}

// True when the sequence may write into its slot without a copy.
bool Planner::own_state(Sequence& s) noexcept {
    if (!s.slot_owned && s.slot && !states_.used_by_others(s.slot) && !states_[s.slot].entry) {
        states_[s.slot].key = larder_key{};
        s.slot_owned = true;
    }
    return s.slot_owned;
}

// The slot with the state behind the first n_tokens of the sequence. The null slot is that of none.
bool Planner::state_of(const Sequence& s, uint64_t n_tokens, uint32_t& slot) noexcept {
    slot = 0;
    if (!n_tokens) return true;
    if (n_tokens == s.n_state_tokens) slot = s.slot;
    if (!slot && n_tokens == s.n_checkpoint_tokens) slot = s.checkpoint;
    const size_t n = size_t(n_tokens / block_tokens_);
    StateAt at;
    if (!slot && n_tokens % block_tokens_ == 0 && n <= s.chain.keys.size() &&
        find_state(state_key(s.chain.keys[n - 1]), s.chain.min_quality, at) && at.slot && !states_[at.slot].loading)
        slot = at.slot;
    return slot != 0;
}

larder_status Planner::no_state(const Sequence& s, uint64_t n_tokens) noexcept {
    uint64_t nearest = n_tokens / checkpoint_tokens_ * checkpoint_tokens_;
    uint32_t slot = 0;
    while (nearest && !state_of(s, nearest, slot)) nearest -= checkpoint_tokens_;
    if (s.n_checkpoint_tokens <= n_tokens) nearest = std::max(nearest, s.n_checkpoint_tokens);
    return fail(LARDER_E_RANGE, "n_tokens", "no state is kept behind token %llu; the one before it is behind %llu",
                (unsigned long long)n_tokens, (unsigned long long)nearest);
}

}  // namespace larder
