// Every invariant of a planner, checked the slow way: for tests and for a doubtful process.
#include "kv/planner.h"

namespace larder {
namespace {

larder_status broken(const char* what, uint32_t block) noexcept {
    return fail(LARDER_E_INTERNAL, "planner", "block %u: %s", block, what);
}

}  // namespace

larder_status Planner::verify() {
    std::lock_guard lock(mutex_);
    Vec<uint32_t> refs(config_.n_blocks + 1, 0, context_.alloc);
    Vec<uint32_t> state_refs(config_.n_states + 1, 0, context_.alloc);
    uint64_t n_storing = 0, n_storing_states = 0;
    for (SeqSlot& slot : slots_) {
        if (!slot.id.load(relaxed)) continue;
        const Sequence& s = *slot.seq;
        for (uint32_t b : s.blocks) ++refs[b];
        ++state_refs[s.slot], ++state_refs[s.checkpoint];
        if (has_states() && s.state.load(relaxed) == LARDER_KV_SEQ_ACTIVE && s.n_state_tokens != s.n_computed)
            return fail(LARDER_E_INTERNAL, "planner", "a sequence's state is not the one behind its last token");
        const bool suspended = s.state.load(relaxed) == LARDER_KV_SEQ_SUSPENDED;
        if (s.n_computed > s.n_reserved || s.n_sealed * block_tokens_ > s.n_computed || s.n_published > s.n_sealed)
            return fail(LARDER_E_INTERNAL, "planner", "a sequence breaks reserved >= computed >= sealed >= published");
        if (!suspended && blocks_for(s.n_reserved) > s.blocks.size())
            return fail(LARDER_E_INTERNAL, "planner", "a sequence has fewer blocks than it reserved");
        if (!s.chain.by_keys && s.chain.tokens.size() != s.n_computed)
            return fail(LARDER_E_INTERNAL, "planner", "a sequence's tokens are not those it computed");
    }
    leases_.for_each([&](larder_lease, LeaseState& l) {
        for (uint32_t b : l.blocks) refs[b] += b != 0;
        if (l.partial_block) ++refs[l.partial_block];
        ++state_refs[l.state];
    });
    plans_.for_each([&](uint64_t, OutPlan& p) {
        if (p.ended) {
            for (uint32_t b : p.ended->blocks) ++refs[b];
            ++state_refs[p.ended->checkpoint];
        }
        for (const PlanOp& op : p.ops) {
            Vec<uint32_t>& r = op.is_state() ? state_refs : refs;
            if (op.block) ++r[op.block];
            if (op.source) ++r[op.source];
            (op.is_state() ? n_storing_states : n_storing) += op.kind == PlanOpKind::store;
        }
    });
    if (n_storing != n_storing_ || n_storing_states != n_storing_states_)
        return fail(LARDER_E_INTERNAL, "planner", "%llu blocks are being stored, not %llu",
                    (unsigned long long)n_storing, (unsigned long long)n_storing_);
    for (uint32_t b = 1; b <= config_.n_states; ++b) {
        const BlockInfo& i = states_[b];
        if (states_.refs(b) != state_refs[b] + (i.entry != 0))
            return fail(LARDER_E_INTERNAL, "planner", "state slot %u: its references are not those of its holders", b);
        const auto it = state_of_.find(i.key);
        if ((i.entry != 0) != (it != state_of_.end() && it->second == b))
            return fail(LARDER_E_INTERNAL, "planner", "state slot %u is published and not found, or the reverse", b);
    }
    for (uint32_t b = 1; b <= config_.n_blocks; ++b) {
        const BlockInfo& i = blocks_[b];
        const uint32_t published = i.entry != 0;
        if (blocks_.refs(b) != refs[b] + published) return broken("its references are not those of its holders", b);
        if ((i.list != 0) != (published && refs[b] == 0))
            return broken("it is in a list of unused blocks, or it is not, wrongly", b);
        if (i.list && (i.list == 1) != blocks_.clean(b)) return broken("it is in the other list of unused blocks", b);
        if (!published) continue;
        PrefixBlock hit;
        if (index_->lookup(i.key, hit) != LARDER_OK || hit.entry != i.entry)
            return broken("the index does not have its key", b);
        if (!(hit.residency & LARDER_PREFIX_IN_ARENA) || hit.location[0] != b)
            return broken("the index says that it lies elsewhere", b);
        if (hit.residency & LARDER_PREFIX_IN_HOST)
            return broken("it is marked as lying below although it is in the arena", b);
    }
    return index_->verify();
}

}  // namespace larder
