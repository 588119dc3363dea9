// Giving blocks up, and planning that they are stored before.
#include <algorithm>

#include "kv/planner.h"

namespace larder {

void Planner::remember(const larder_key& key, larder_kv_reason why) noexcept {
    gone_[KeyHash{}(key) % n_gone] = {key, why};
}

larder_kv_reason Planner::remembered(const larder_key& key) const noexcept {
    const Gone& g = gone_[KeyHash{}(key) % n_gone];
    return g.why && g.key == key ? g.why : LARDER_KV_REASON_NEVER_SEEN;
}

// Takes a block out of the index. Entries that follow it stay: what they hold becomes reachable again when the block
// does.
void Planner::unpublish(BlockCache& p, uint32_t b) noexcept {
    if (&p == &states_) {
        if (p[b].entry) state_of_.erase(p[b].key);
        return p.unpublish(b);
    }
    const uint64_t entry = blocks_[b].entry;
    if (!entry) return;
    uint64_t parent = 0;
    index_->describe(entry, nullptr, &parent, {}, nullptr);
    if (index_->drop(entry, LARDER_PREFIX_IN_ARENA, nullptr) == LARDER_E_BUSY) {
        index_->add(entry, LARDER_PREFIX_IN_HOST, 1);
        index_->drop(entry, LARDER_PREFIX_IN_ARENA, nullptr);
    } else {
        // Entries that were only kept for those behind them go with the last of these.
        while (parent) {
            const uint64_t last = parent;
            index_->describe(last, nullptr, &parent, {}, nullptr);
            if (index_->drop(last, LARDER_PREFIX_IN_HOST, nullptr) != LARDER_OK) break;
        }
    }
    blocks_.unpublish(b);
}

void Planner::evict_block(BlockCache& p, uint32_t b) noexcept {
    if (&p == &states_) return unpublish(p, b);
    if (!p[b].stored) remember(p[b].key, LARDER_KV_REASON_EVICTED);
    unpublish(p, b);
    context_.stats.add(Stat::kv_evicted_blocks);
}

bool Planner::add_store(Plan& out, BlockCache& p, uint32_t b, bool again) {
    const BlockInfo& i = p[b];
    if (!below_ || !i.entry || i.loading || (i.n_storing && !again) || i.stored || i.refused) return false;
    PlanOp op;
    op.kind = PlanOpKind::store;
    op.flags = &p == &states_ ? plan_op_state : 0;
    op.block = b;
    op.n_tokens = block_tokens_;
    op.quality = i.quality;
    op.priority = i.priority;
    op.key = i.key;
    op.parent = i.parent;
    out.ops.push_back(op);
    return true;
}

// A block goes down together with the state behind it, without which a match could not end there.
bool Planner::add_block(Plan& out, uint32_t b) {
    if (!add_store(out, blocks_, b)) return false;
    if (!has_states()) return true;
    const auto it = state_of_.find(state_key(blocks_[b].key));
    if (it != state_of_.end()) add_store(out, states_, it->second);
    return true;
}

// The coldest dirty blocks. They are taken out of their list by holding them, as send() will.
void Planner::collect_dirty(BlockCache& p, Plan& out, size_t n_max) {
    Vec<uint32_t> taken(context_.alloc);
    taken.reserve(n_max);
    out.ops.reserve(out.ops.size() + 2 * n_max);
    while (taken.size() < n_max) {
        const uint32_t b = p.coldest_dirty();
        if (!b) break;
        if (!(&p == &blocks_ ? add_block(out, b) : add_store(out, p, b))) p.set_stored(b, false, true);
        p.get(b);
        taken.push_back(b);
    }
    if (!out.ops.empty()) {
        try {
            send(out);
        } catch (...) {
            p.put_all(taken);
            throw;
        }
    }
    p.put_all(taken);
}

// OK: n_blocks are free. RETRY: they will be once `out`, or a plan that is out already, was reported. NOSPACE: all
// others are in use.
larder_status Planner::make_room(BlockCache& p, size_t n_blocks, Plan& out) {
    while (p.n_free() < n_blocks) {
        const uint32_t b = p.coldest();
        if (!b) break;
        if (!p.clean(b)) {
            if (p.n_free() + p.n_clean() + p.n_dirty_unused() + storing(p) < n_blocks) break;
            const size_t n = std::max<size_t>(n_blocks - p.n_free(), 8);
            collect_dirty(p, out, n);
            return LARDER_RETRY;
        }
        evict_block(p, b);
    }
    if (p.n_free() >= n_blocks) return LARDER_OK;
    context_.stats.add(Stat::arena_alloc_failures);
    if (n_store_plans_ && p.n_free() + storing(p) >= n_blocks) return LARDER_RETRY;
    const bool states = &p == &states_;
    return fail(LARDER_E_NOSPACE, states ? "n_states" : "arena", "%zu %s are needed; all but %llu are in use", n_blocks,
                states ? "state slots" : "blocks", (unsigned long long)p.n_free());
}

larder_status Planner::evict(uint64_t n_blocks, uint64_t& out_n_free, Plan& out) {
    std::lock_guard lock(mutex_);
    out_n_free = 0;
    for (uint32_t b; out_n_free < n_blocks && (b = blocks_.coldest()); ++out_n_free) {
        if (!blocks_.clean(b)) {
            collect_dirty(blocks_, out, std::min<uint64_t>(n_blocks - out_n_free, 256));
            return LARDER_RETRY;
        }
        evict_block(blocks_, b);
    }
    return out_n_free < n_blocks ? LARDER_PARTIAL : LARDER_OK;
}

void Planner::check_due() noexcept {
    if (!below_) return;
    const uint64_t ready = blocks_.n_free() + blocks_.n_clean() + n_storing_;
    const bool low = ready < uint64_t(config_.n_blocks) * config_.low_watermark / 1000 && blocks_.n_dirty_unused();
    due_.store(low || !unstored_.empty(), relaxed);
}

void Planner::write_back(Plan& out) {
    if (!below_) return;
    std::lock_guard lock(mutex_);
    due_.store(false, relaxed);
    constexpr size_t n_at_once = 64;
    if (config_.write_policy == LARDER_KV_WRITE_THROUGH) {
        for (; !unstored_.empty() && out.ops.size() < n_at_once; unstored_.pop_back()) add_block(out, unstored_.back());
        if (!out.ops.empty()) send(out);
        check_due();
        return;
    }
    const uint64_t ready = blocks_.n_free() + blocks_.n_clean() + n_storing_;
    const uint64_t low = uint64_t(config_.n_blocks) * config_.low_watermark / 1000,
                   high = uint64_t(config_.n_blocks) * config_.high_watermark / 1000;
    if (ready >= low || !blocks_.n_dirty_unused()) return;
    collect_dirty(blocks_, out, std::min<uint64_t>(std::max<uint64_t>(high - ready, 1), n_at_once));
}

void Planner::flush(Plan& out) {
    std::lock_guard lock(mutex_);
    if (!below_) return;
    // What another plan is storing just now is stored again, so that the flush comes after it.
    for (uint32_t b = 1; b <= config_.n_blocks; ++b) add_store(out, blocks_, b, true);
    for (uint32_t b = 1; b <= config_.n_states; ++b) add_store(out, states_, b, true);
    PlanOp op;
    op.kind = PlanOpKind::flush;
    out.ops.push_back(op);
    send(out);
}

}  // namespace larder
