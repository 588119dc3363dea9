// What the ranks answer, and what follows from it.
#include <algorithm>
#include <bit>

#include "kv/planner.h"

namespace larder {

larder_status Planner::report(larder_plan_id plan, uint32_t rank, std::span<const larder_status> statuses,
                              Ticket*& done) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(check_range(rank, 0, config_.n_ranks - 1, "rank"));
    OutPlan* p = plans_.find(plan);
    if (!p) return fail(LARDER_E_STALE, "plan", "no such plan is out");
    if (p->reported >> rank & 1) return fail(LARDER_E_EXISTS, "rank", "rank %u has reported this plan already", rank);
    if (statuses.size() != p->ops.size())
        return fail(LARDER_E_RANGE, "n", "the plan has %zu operations; %zu statuses were given", p->ops.size(),
                    statuses.size());
    for (size_t i = 0; i < statuses.size(); ++i)
        if (statuses[i] != LARDER_OK && p->worst[i] == LARDER_OK) p->worst[i] = statuses[i];
    p->reported |= uint64_t(1) << rank;
    if (std::popcount(p->reported | dead_ranks_) < int(config_.n_ranks)) return LARDER_PENDING;
    complete(plan, done);
    return LARDER_OK;
}

void Planner::abandon(larder_plan_id plan, Ticket*& done) noexcept {
    std::lock_guard lock(mutex_);
    OutPlan* p = plans_.find(plan);
    for (size_t i = 0; i < p->ops.size(); ++i)
        p->worst[i] = p->ops[i].kind == PlanOpKind::copy ? LARDER_OK : LARDER_E_CANCELLED;
    complete(plan, done);
}

void Planner::complete(larder_plan_id id, Ticket*& done) noexcept {
    OutPlan& p = *plans_.find(id);
    bool stores = false;
    for (size_t i = 0; i < p.ops.size(); ++i) {
        finish_op(p, p.ops[i], p.worst[i]);
        stores |= p.ops[i].kind == PlanOpKind::store;
    }
    n_store_plans_ -= stores;
    if (auto s = p.seq ? find_seq(p.seq) : Result<Sequence*>(LARDER_E_STALE);
        s.ok() && (*s)->epoch == epoch_.load(relaxed))
        publish_ready(**s);
    if (p.ended) {
        if (!dead_ranks_) publish_ready(*p.ended);
        keep_blocks(*p.ended, 0);
        drop_checkpoint(*p.ended);
    }
    for (Ticket* t : p.waiters)
        if (--t->n_pending == 0) settle(t, done);
    plans_.remove(id);
}

void Planner::finish_op(OutPlan& p, const PlanOp& op, larder_status s) noexcept {
    BlockCache& cache = cache_of(op);
    switch (op.kind) {
    case PlanOpKind::load:
    case PlanOpKind::copy:
        if (s != LARDER_OK) load_failed(p, op, s);
        if (op.kind == PlanOpKind::load) cache[op.block].loading = 0;
        break;
    case PlanOpKind::store:
        --cache[op.block].n_storing;
        --storing(cache);
        // The key tells a block that was stored from one that holds something else by now, and a sequence's unsealed
        // last block.
        if (cache[op.block].key == op.key && !cache[op.block].stored)
            cache.set_stored(op.block, s == LARDER_OK, s != LARDER_OK && s != LARDER_E_CANCELLED);
        if (s == LARDER_OK) note_stored(op);
        break;
    case PlanOpKind::seal:
        if (blocks_[op.block].key == op.key) blocks_[op.block].confirmed = s == LARDER_OK;
        break;
    case PlanOpKind::drop:
        below_->lost(op.key);
        break;
    case PlanOpKind::flush:
        if (s != LARDER_OK)
            for (Ticket* t : p.waiters)
                if (!t->n_failed++) t->first_failure = s;
        break;
    }
    if (op.source) cache.put(op.source);
    if (op.block) cache.put(op.block);
}

void Planner::note_stored(const PlanOp& op) noexcept {
    try {
        below_->stored(op.key, std::max<larder_quality>(larder_quality(op.quality), config_.store_quality));
    } catch (const std::bad_alloc&) {
        // What is not remembered is not found: a cache may forget.
    }
}

// Whoever waits for this block gets what is before it.
void Planner::load_failed(OutPlan& p, const PlanOp& op, larder_status why) noexcept {
    BlockInfo& info = cache_of(op)[op.block];
    if (!info.bad && op.kind == PlanOpKind::load && why != LARDER_E_CANCELLED && why != LARDER_E_TIMEOUT) {
        below_->lost(op.key);
        remember(op.key, why == LARDER_E_CORRUPT || why == LARDER_E_IDENTITY ? LARDER_KV_REASON_CORRUPT
                                                                             : LARDER_KV_REASON_EVICTED);
    }
    info.bad = true;
    unpublish(cache_of(op), op.block);
    for (Ticket* t : p.waiters) {
        if (!t->seq) continue;
        Sequence& s = *slots_[Id::index(t->seq)].seq;
        if (op.is_state()) {
            if (s.slot != op.block) continue;
            if (!t->n_failed++) t->first_failure = why;
            forget_all(s);
            continue;
        }
        const auto at = std::find(s.blocks.begin(), s.blocks.end(), op.block);
        if (at == s.blocks.end()) continue;
        if (!t->n_failed++) t->first_failure = why;
        if (has_states()) {
            forget_all(s);  // no state is there for the shorter prefix
            continue;
        }
        const size_t n = size_t(at - s.blocks.begin());
        keep_blocks(s, n);
        s.n_computed = std::min(s.n_computed, n * uint64_t(block_tokens_));
        s.n_reserved = s.n_computed;
        cut_chain(s, s.n_computed);
    }
}

void Planner::loads_checked(larder_plan_id plan, std::span<const larder_status> statuses) {
    std::lock_guard lock(mutex_);
    OutPlan* p = plans_.find(plan);
    if (!p) return;
    for (size_t i = 0; i < p->ops.size() && i < statuses.size(); ++i)
        if (p->ops[i].kind == PlanOpKind::load && statuses[i] < 0) load_failed(*p, p->ops[i], statuses[i]);
}

void Planner::settle(Ticket* t, Ticket*& done) noexcept {
    if (t->seq) {
        Sequence& s = *slots_[Id::index(t->seq)].seq;
        s.ticket = nullptr;
        if (s.state.load(relaxed) == LARDER_KV_SEQ_LOADING) s.state.store(LARDER_KV_SEQ_ACTIVE, release);
    }
    unlink_ticket(t);
    t->next = done;
    done = t;
}

larder_plan_id Planner::any_over() noexcept {
    larder_plan_id over = 0;
    plans_.for_each([&](uint64_t id, OutPlan& p) {
        if (std::popcount(p.reported | dead_ranks_) >= int(config_.n_ranks)) over = id;
    });
    return over;
}

larder_status Planner::rank_dead(uint32_t rank, Ticket*& done) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(check_range(rank, 0, config_.n_ranks - 1, "rank"));
    const uint64_t bit = uint64_t(1) << rank;
    if (dead_ranks_ & bit) return LARDER_OK;
    dead_ranks_ |= bit;
    epoch_.fetch_add(1, release);
    plans_.for_each([&](uint64_t, OutPlan& p) {
        if (!(p.reported & bit)) std::fill(p.worst.begin(), p.worst.end(), LARDER_E_PEER_DEAD);
    });
    // Completing one changes the table that is looked through; a list of them would want memory.
    for (larder_plan_id over = any_over(); over; over = any_over()) complete(over, done);
    // A part of every block is lost.
    for (uint32_t b = 1; b <= config_.n_blocks; ++b) {
        if (!blocks_[b].entry) continue;
        blocks_[b].bad = true;
        unpublish(blocks_, b);
    }
    for (uint32_t b = 1; b <= config_.n_states; ++b) {
        if (!states_[b].entry) continue;
        states_[b].bad = true;
        unpublish(states_, b);
    }
    if (below_) below_->rank_lost(rank);
    return LARDER_OK;
}

larder_status Planner::rank_alive(uint32_t rank) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(check_range(rank, 0, config_.n_ranks - 1, "rank"));
    const uint64_t bit = uint64_t(1) << rank;
    if (!(dead_ranks_ & bit)) return fail(LARDER_E_STATE, "rank", "rank %u is not dead", rank);
    dead_ranks_ &= ~bit;
    return LARDER_OK;
}

}  // namespace larder
