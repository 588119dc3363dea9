// The life of a sequence between begin and end.
#include <algorithm>

#include "kv/planner.h"

namespace larder {

// Drops blocks behind the first n_keep, last ones first.
void Planner::keep_blocks(Sequence& s, size_t n_keep) noexcept {
    if (n_keep >= s.blocks.size()) return;
    blocks_.put_all(std::span(s.blocks).subspan(n_keep));
    s.blocks.resize(n_keep);
}

// Forget tokens, keys and counts beyond n_tokens. The caller's own keys stay: they speak of the prompt, not of what is
// computed.
void Planner::cut_chain(Sequence& s, uint64_t n_tokens) noexcept {
    const size_t n_full = size_t(n_tokens / block_tokens_);
    if (!s.chain.by_keys) {
        if (s.chain.tokens.size() > n_tokens) s.chain.tokens.resize(n_tokens);
        if (s.chain.keys.size() > n_full) s.chain.keys.resize(n_full);
    }
    s.n_sealed = std::min(s.n_sealed, n_full);
    s.n_published = std::min(s.n_published, n_full);
}

larder_status Planner::reserve(larder_seq seq, uint64_t n_tokens, uint64_t n_lookahead, Plan& out) {
    LARDER_ASSIGN(Sequence * s, find_active(seq));
    constexpr uint64_t max = uint64_t(1) << 31;
    LARDER_TRY(check_range(n_tokens, 0, max, "n_tokens"));
    LARDER_TRY(check_range(n_lookahead, 0, max, "n_lookahead"));
    const uint64_t total = s->n_computed + n_tokens + n_lookahead;
    const bool owned = s->tail_owned && (!has_states() || s->slot_owned);
    if (total <= s->n_reserved && owned) return LARDER_OK;
    if (owned && blocks_for(total) <= s->blocks.size() && s->chain.tokens.capacity() >= total) {
        s->n_reserved = total;
        return LARDER_OK;
    }
    std::lock_guard lock(mutex_);
    return grow(*s, total, out);
}

larder_status Planner::grow(Sequence& s, uint64_t n_total, Plan& out) {
    const size_t tail = size_t(s.n_computed / block_tokens_);
    const size_t n_new = std::max(blocks_for(n_total), s.blocks.size()) - s.blocks.size();
    bool copy = !s.tail_owned && s.n_computed % block_tokens_;
    if (copy && !blocks_.used_by_others(s.blocks[tail]) && !blocks_[s.blocks[tail]].entry) {
        // Everybody else has gone: no need to copy.
        blocks_[s.blocks[tail]].key = larder_key{};
        copy = false;
    }
    // Everything that can fail comes first. Room for tokens and keys as well, so that commit allocates nothing.
    if (!s.chain.by_keys && s.chain.tokens.capacity() < n_total)
        s.chain.tokens.reserve(std::max<size_t>(n_total, 2 * s.chain.tokens.capacity()));
    if (!s.chain.by_keys) s.chain.keys.reserve(s.chain.tokens.capacity() / block_tokens_ + 1);
    s.blocks.reserve(std::max(s.blocks.size() + n_new, s.chain.keys.capacity()));
    Vec<uint32_t> fresh(n_new + copy, 0, context_.alloc);
    uint32_t state = 0;
    const bool copy_state = has_states() && !own_state(s);
    out.ops.reserve(2);
    larder_status room = copy_state ? make_room(states_, 1, out) : LARDER_OK;
    if (room == LARDER_OK) room = make_room(blocks_, fresh.size(), out);
    if (room != LARDER_OK) return room;
    const bool taken = blocks_.alloc(fresh) && (!copy_state || states_.alloc({&state, 1}));
    LARDER_ASSERT(taken);
    if (!taken) return fail(LARDER_E_NOSPACE, "arena", "no block is free");
    if (copy) {
        PlanOp op;
        op.kind = PlanOpKind::copy;
        op.block = fresh[n_new];
        op.source = s.blocks[tail];
        op.n_tokens = uint32_t(s.n_computed % block_tokens_);
        out.ops.push_back(op);
    }
    if (copy_state) {
        PlanOp op = state_op(PlanOpKind::copy, state, {});
        op.source = s.slot;
        op.n_tokens = block_tokens_;
        out.ops.push_back(op);
    }
    try {
        if (copy || copy_state) send(out);
    } catch (...) {
        blocks_.put_all(fresh);
        if (state) states_.put(state);
        throw;
    }
    if (copy) {
        blocks_.put(s.blocks[tail]);
        s.blocks[tail] = fresh[n_new];
        context_.stats.add(Stat::arena_cow_copies);
    }
    if (copy_state) take_state(s, state, true);
    s.blocks.insert(s.blocks.end(), fresh.begin(), fresh.begin() + ptrdiff_t(n_new));
    s.tail_owned = true;
    s.n_reserved = n_total;
    return LARDER_OK;
}

larder_status Planner::commit(larder_seq seq, const int32_t* tokens, uint64_t n, Plan& out) {
    LARDER_ASSIGN(Sequence * s, find_active(seq));
    if (!s->chain.by_keys && n && !tokens) return fail(LARDER_E_INVALID, "tokens", "tokens is NULL");
    if (n > s->n_reserved - s->n_computed)
        return fail(LARDER_E_RANGE, "n_tokens", "%llu tokens are committed, %llu slots are reserved",
                    (unsigned long long)n, (unsigned long long)(s->n_reserved - s->n_computed));
    if (!s->chain.by_keys) LARDER_TRY(check_tokens(layout_, tokens, n));
    const size_t n_full = size_t((s->n_computed + n) / block_tokens_), n_tokens = s->chain.tokens.size(),
                 n_keys = s->chain.keys.size();
    try {
        if (!s->chain.by_keys) s->chain.tokens.insert(s->chain.tokens.end(), tokens, tokens + n);
        if (n_full > s->n_sealed) seal_up_to(seq, *s, n_full, out);
    } catch (...) {
        s->chain.tokens.resize(n_tokens);
        s->chain.keys.resize(n_keys);
        throw;
    }
    s->n_computed += n;
    context_.stats.add(Stat::kv_tokens_committed, n);
    if (!has_states() || !n) return LARDER_OK;
    std::lock_guard lock(mutex_);
    s->n_state_tokens = s->n_computed;
    // Whoever has reserved further may be writing into the state already.
    if (s->n_reserved == s->n_computed && s->n_computed % checkpoint_tokens_ == 0) hold_checkpoint(*s, true);
    return LARDER_OK;
}

larder_status Planner::checkpoint(larder_seq seq) {
    LARDER_ASSIGN(Sequence * s, find_active(seq));
    if (!has_states()) return LARDER_OK;
    std::lock_guard lock(mutex_);
    if (s->n_reserved > s->n_computed)
        return fail(LARDER_E_STATE, "seq", "%llu tokens are reserved: the state may be ahead of what was committed",
                    (unsigned long long)(s->n_reserved - s->n_computed));
    hold_checkpoint(*s, false);
    return LARDER_OK;
}

// Strong guarantee, but for the keys: the caller takes them back.
void Planner::seal_up_to(larder_seq seq, Sequence& s, size_t n_full, Plan& out) {
    s.chain.extend_keys(block_tokens_);
    const size_t n_sealed = std::min(n_full, std::max(s.n_sealed, s.chain.keys.size()));
    if (!config_.publish_at_commit) out.ops.reserve(2 * (n_sealed - s.n_sealed));
    std::lock_guard lock(mutex_);
    const size_t n_unstored = unstored_.size() + (n_sealed - s.n_sealed);
    if (n_unstored > unstored_.capacity()) unstored_.reserve(2 * n_unstored);
    for (size_t i = s.n_sealed; i < n_sealed; ++i) seal(s, i, out);
    if (!out.ops.empty()) send(out, seq);
    s.n_sealed = n_sealed;
    publish_ready(s);
    check_due();
}

void Planner::seal(Sequence& s, size_t i, Plan& out) {
    const uint32_t b = s.blocks[i];
    BlockInfo& info = blocks_[b];
    info.key = s.chain.keys[i];
    info.parent = s.chain.parent_or_zero(i);
    info.quality = uint8_t(s.chain.quality);
    info.priority = uint8_t(s.chain.priority);
    info.confirmed = config_.publish_at_commit;
    if (below_) info.stored = below_->find(info.key, std::max(s.chain.quality, config_.store_quality)).tiers != 0;
    if (config_.publish_at_commit) {
        if (below_ && config_.write_policy == LARDER_KV_WRITE_THROUGH && !info.stored) unstored_.push_back(b);
        return;
    }
    PlanOp op;
    op.kind = PlanOpKind::seal;
    op.block = b;
    op.n_tokens = block_tokens_;
    op.quality = info.quality;
    op.priority = info.priority;
    op.key = info.key;
    op.parent = info.parent;
    out.ops.push_back(op);
    if (below_ && config_.write_policy == LARDER_KV_WRITE_THROUGH && !info.stored) {
        op.kind = PlanOpKind::store;
        out.ops.push_back(op);
    }
}

uint64_t Planner::entry_of(const larder_key& key) noexcept {
    PrefixBlock hit;
    return index_->lookup(key, hit) == LARDER_OK ? hit.entry : 0;
}

void Planner::publish_ready(Sequence& s) {
    // A suspended sequence has no blocks.
    while (s.n_published < std::min(s.n_sealed, s.blocks.size()) && blocks_[s.blocks[s.n_published]].confirmed) {
        if (!publish_chain(s, s.n_published)) return;
        ++s.n_published;
    }
    if (s.checkpoint_due) publish_checkpoint(s);
}

// The ranks have not yet confirmed what an ending sequence sealed last: its plan publishes it when they have.
void Planner::leave_to_plan(larder_seq id, Sequence& s) {
    OutPlan* last = nullptr;
    plans_.for_each([&](uint64_t, OutPlan& p) {
        if (p.seq == id) last = &p;
    });
    if (!last) return;
    try {
        Owned<Sequence> e = make_owned<Sequence>(context_.alloc, context_.alloc);
        e->chain = s.chain;
        e->blocks = s.blocks;
        e->n_sealed = s.n_sealed;
        e->n_published = s.n_published;
        for (uint32_t b : e->blocks) blocks_.get(b);
        if (s.checkpoint_due) {
            e->checkpoint = std::exchange(s.checkpoint, 0);
            e->n_checkpoint_tokens = s.n_checkpoint_tokens;
            e->checkpoint_due = true;
        }
        last->ended = std::move(e);
    } catch (const std::bad_alloc&) {
        // A cache may forget.
    }
}

// Publish block i and whatever before it the index does not have (any more): this sequence holds it all.
bool Planner::publish_chain(Sequence& s, size_t i) {
    size_t k = i;
    uint64_t parent = 0;
    while (k > 0 && !(parent = entry_of(s.chain.keys[k - 1]))) --k;
    for (; k <= i; ++k) {
        parent = publish_block(s.chain, k, s.blocks[k], parent);
        if (!parent) return false;
    }
    return true;
}

uint64_t Planner::publish_block(const TokenChain& c, size_t i, uint32_t block, uint64_t parent_entry) {
    PrefixItem item{};
    item.key = c.keys[i];
    const size_t first = i * block_tokens_;
    item.tokens = c.tokens.size() >= first + block_tokens_ ? c.tokens.data() + first : nullptr;
    item.n_tokens = block_tokens_;
    item.flags = !item.tokens || c.touched(i, block_tokens_) ? LARDER_PREFIX_ITEM_NO_PARTIAL : 0;
    item.residency = LARDER_PREFIX_IN_ARENA;
    item.location = block;
    PrefixPublished done{};
    uint64_t n = 0;
    try {
        if (index_->publish(c.root, parent_entry, {&item, 1}, false, {&done, 1}, n) < 0 || n != 1) return 0;
    } catch (const std::bad_alloc&) {
        return 0;  // a cache may forget
    }
    const uint64_t entry = done.block.entry;
    if (done.outcome != LARDER_PREFIX_DUPLICATE) {
        blocks_.publish(block, entry);
        // Since it is in the arena again, it needs no mark to keep its place.
        if (done.outcome == LARDER_PREFIX_JOINED) index_->drop(entry, LARDER_PREFIX_IN_HOST, nullptr);
        return entry;
    }
    const uint32_t there = uint32_t(done.block.location[0]);
    if (there == block || blocks_[there].loading || blocks_[there].quality <= blocks_[block].quality) return entry;
    // Exact data take the place of approximate ones.
    if (index_->add(entry, LARDER_PREFIX_IN_ARENA, block) == LARDER_OK) {
        blocks_.unpublish(there);
        blocks_.publish(block, entry);
    }
    return entry;
}

larder_status Planner::append_keys(larder_seq seq, const larder_key* keys, uint64_t n) {
    LARDER_ASSIGN(Sequence * s, find_seq(seq));
    std::lock_guard lock(mutex_);
    if (!s->chain.by_keys)
        return fail(LARDER_E_STATE, "seq", "the sequence was begun with tokens: its keys follow from them");
    LARDER_TRY(check_range(n, 0, uint64_t(1) << 27, "n_keys"));
    s->chain.keys.reserve(s->chain.keys.size() + n);
    for (uint64_t i = 0; i < n; ++i) s->chain.keys.push_back(scoped_key(s->chain.root, keys[i]));
    return LARDER_OK;
}

larder_status Planner::append_extra(larder_seq seq, const larder_kv_extra& e) {
    LARDER_ASSIGN(Sequence * s, find_seq(seq));
    std::lock_guard lock(mutex_);
    Vec<larder_prefix_extra>& x = s->chain.extras;
    if (!e.n || e.first < s->n_computed || (!x.empty() && e.first < x.back().first + x.back().n))
        return fail(LARDER_E_RANGE, "extra",
                    "an extra covers positions that are not committed and lies behind the others");
    larder_prefix_extra copy{e.first, e.n, {}};
    std::memcpy(copy.digest, e.digest, sizeof copy.digest);
    x.push_back(copy);
    return LARDER_OK;
}

larder_status Planner::truncate(larder_seq seq, uint64_t n_tokens) {
    LARDER_ASSIGN(Sequence * s, find_active(seq));
    if (n_tokens > s->n_computed)
        return fail(LARDER_E_RANGE, "n_tokens", "the sequence has %llu computed tokens, not %llu",
                    (unsigned long long)s->n_computed, (unsigned long long)n_tokens);
    std::lock_guard lock(mutex_);
    if (has_states()) {
        uint32_t state = 0;
        if (!state_of(*s, n_tokens, state)) return no_state(*s, n_tokens);
        if (state != s->slot) {
            if (state) states_.get(state);
            take_state(*s, state, false);
        }
        s->n_state_tokens = n_tokens;
        if (s->n_checkpoint_tokens > n_tokens) drop_checkpoint(*s);
    }
    const size_t tail = size_t(n_tokens / block_tokens_);
    const bool same_tail = tail == s->n_computed / block_tokens_;
    keep_blocks(*s, blocks_for(n_tokens));
    if (n_tokens % block_tokens_ == 0)
        s->tail_owned = true;
    else if (!same_tail || blocks_.used_by_others(s->blocks[tail]) || tail < s->n_sealed)
        s->tail_owned = false;
    s->n_computed = s->n_reserved = n_tokens;
    cut_chain(*s, n_tokens);
    Vec<larder_prefix_extra>& x = s->chain.extras;
    while (!x.empty() && x.back().first >= n_tokens) x.pop_back();
    return LARDER_OK;
}

larder_status Planner::fork(larder_seq seq, uint64_t n_tokens, std::span<larder_seq> out) {
    LARDER_ASSIGN(Sequence * s, find_active(seq));
    if (n_tokens > s->n_computed)
        return fail(LARDER_E_RANGE, "n_tokens", "the sequence has %llu computed tokens, not %llu",
                    (unsigned long long)s->n_computed, (unsigned long long)n_tokens);
    std::lock_guard lock(mutex_);
    if (free_slots_.size() < out.size())
        return fail(LARDER_E_BUSY, "max_sequences", "%zu sequences are free of %u; %zu are needed", free_slots_.size(),
                    config_.max_sequences, out.size());
    uint32_t state = 0;
    if (has_states()) {
        if (!state_of(*s, n_tokens, state)) return no_state(*s, n_tokens);
        if (state == s->slot && s->slot_owned && s->n_reserved > s->n_computed)
            return fail(LARDER_E_STATE, "seq", "%llu tokens are reserved: the state may be ahead of what was committed",
                        (unsigned long long)(s->n_reserved - s->n_computed));
    }
    const size_t n_blocks = blocks_for(n_tokens), n_full = size_t(n_tokens / block_tokens_);
    Vec<Owned<Sequence>> made(context_.alloc);
    made.reserve(out.size());
    for (size_t k = 0; k < out.size(); ++k) {
        made.push_back(make_owned<Sequence>(context_.alloc, context_.alloc));
        Sequence& t = *made.back();
        t.chain = s->chain;
        t.blocks.assign(s->blocks.begin(), s->blocks.begin() + ptrdiff_t(n_blocks));
        t.n_sealed = std::min(s->n_sealed, n_full);
        t.n_published = std::min(s->n_published, n_full);
        t.n_computed = t.n_reserved = n_tokens;
        t.tail_owned = n_tokens % block_tokens_ == 0;
        cut_chain(t, n_tokens);
        while (!t.chain.extras.empty() && t.chain.extras.back().first >= n_tokens) t.chain.extras.pop_back();
    }
    for (size_t k = 0; k < out.size(); ++k) {
        for (uint32_t b : made[k]->blocks) blocks_.get(b);
        if (state) states_.get(state);
        made[k]->slot = state;
        made[k]->n_state_tokens = n_tokens;
        if (state == s->slot) s->slot_owned = false;
        out[k] = *new_seq(std::move(made[k]));
    }
    return LARDER_OK;
}

larder_status Planner::suspend(larder_seq seq, bool offload, Plan& out) {
    LARDER_ASSIGN(Sequence * s, find_active(seq));
    std::lock_guard lock(mutex_);
    // An exact sequence gains nothing from an approximate copy of its last block.
    const bool keep_tail = offload && below_ && s->n_computed % block_tokens_ &&
                           std::max(s->chain.quality, config_.store_quality) <= s->chain.min_quality;
    Ticket* ticket = nullptr;
    const bool keep_state = offload && below_ && s->slot;
    larder_key state_name{};
    if (offload && below_) {
        publish_ready(*s);
        out.ops.reserve(2 * s->n_sealed + 2);
        if (keep_state) {
            LARDER_TRY(context_.os.random(state_name.bytes, sizeof state_name.bytes));
            PlanOp op = state_op(PlanOpKind::store, s->slot, state_name);
            op.n_tokens = block_tokens_;
            op.quality = uint16_t(s->chain.quality);
            op.priority = uint16_t(s->chain.priority);
            out.ops.push_back(op);
        }
        for (size_t i = 0; i < s->n_sealed; ++i) {
            PrefixBlock hit;
            if (index_->lookup(s->chain.keys[i], hit) == LARDER_OK && hit.residency & LARDER_PREFIX_IN_ARENA)
                add_block(out, uint32_t(hit.location[0]));
        }
        if (keep_tail) {
            PlanOp op;
            op.kind = PlanOpKind::store;
            op.block = s->blocks[size_t(s->n_computed / block_tokens_)];
            op.n_tokens = uint32_t(s->n_computed % block_tokens_);
            op.quality = uint16_t(s->chain.quality);
            op.priority = uint16_t(s->chain.priority);
            LARDER_TRY(context_.os.random(op.key.bytes, sizeof op.key.bytes));
            out.ops.push_back(op);
        }
        if (!out.ops.empty()) {
            ticket = s->ticket = make_ticket(seq);
            try {
                send(out);
            } catch (...) {
                drop_ticket(*s);
                throw;
            }
            wait_for(out.id, ticket);
        }
    }
    s->tail_key = keep_tail ? out.ops.back().key : larder_key{};
    s->n_tail_tokens = keep_tail ? out.ops.back().n_tokens : 0;
    s->state_key = state_name;
    s->n_reserved = s->n_computed;
    keep_blocks(*s, 0);
    drop_state(*s);
    s->state.store(LARDER_KV_SEQ_SUSPENDED, release);
    return ticket ? LARDER_PENDING : LARDER_OK;
}

larder_status Planner::resume(larder_seq seq, uint64_t max_load_tokens, Plan& out) {
    LARDER_ASSIGN(Sequence * s, find_seq(seq));
    std::lock_guard lock(mutex_);
    LARDER_TRY(check_alive());
    if (s->epoch != epoch_.load(relaxed))
        return fail(LARDER_E_PEER_DEAD, "seq", "a rank has died since the sequence began; end it");
    if (s->state.load(relaxed) != LARDER_KV_SEQ_SUSPENDED || s->ticket)
        return fail(LARDER_E_STATE, "seq", "the sequence is not suspended, or is being suspended");
    Gathered g(context_.alloc, blocks_, states_);
    gather(s->chain, nullptr, s->n_sealed, max_load_tokens, g);
    if (g.blocks.size() == s->n_computed / block_tokens_ && s->n_tail_tokens &&
        below_->find(s->tail_key, s->chain.min_quality).tiers) {
        g.tail_key = s->tail_key;
        g.n_tail = s->n_tail_tokens;
    }
    if (has_states()) gather_own_state(*s, g);
    const larder_status room = fit(s->chain, g, out);
    if (room != LARDER_OK) return room;
    out.ops.reserve(2);
    if (!(s->state_key == larder_key{})) {
        PlanOp op;
        op.kind = PlanOpKind::drop;
        op.key = std::exchange(s->state_key, larder_key{});
        out.ops.push_back(op);
    }
    if (s->n_tail_tokens) {
        PlanOp op;
        op.kind = PlanOpKind::drop;
        op.key = s->tail_key;
        out.ops.push_back(op);
        s->n_tail_tokens = 0;
    }
    try {
        return attach(*s, seq, g, out);
    } catch (...) {
        keep_blocks(*s, 0);
        drop_state(*s);
        drop_ticket(*s);
        throw;
    }
}

larder_status Planner::end(larder_seq seq) {
    LARDER_ASSIGN(Sequence * s, find_seq(seq));
    std::lock_guard lock(mutex_);
    if (s->ticket) s->ticket->seq = 0;
    if (s->epoch == epoch_.load(relaxed)) {
        publish_ready(*s);
        if (s->n_published < s->n_sealed) leave_to_plan(seq, *s);
    }
    keep_blocks(*s, 0);
    drop_state(*s);
    free_seq(seq);
    check_due();
    return LARDER_OK;
}

larder_status Planner::locate(larder_seq seq, uint64_t position, uint32_t& block, uint32_t& offset) {
    LARDER_ASSIGN(Sequence * s, find_active(seq));
    if (position < s->n_computed || position >= s->n_reserved)
        return fail(LARDER_E_RANGE, "position", "position %llu is not reserved and uncommitted",
                    (unsigned long long)position);
    block = s->blocks[size_t(position / block_tokens_)];
    offset = uint32_t(position % block_tokens_);
    return LARDER_OK;
}

}  // namespace larder
