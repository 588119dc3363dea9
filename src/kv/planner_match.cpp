// From a query to a lease, and from a lease to a sequence.
#include <algorithm>

#include "kv/planner.h"

namespace larder {

Planner::Gathered::~Gathered() {
    for (uint32_t b : blocks)
        if (b) cache.put(b);
    if (partial_block) cache.put(partial_block);
    drop_state();
}

void Planner::Gathered::drop_state() noexcept {
    if (state) states.put(state);
    state = 0;
    load_state = false;
    state_quality = LARDER_QUALITY_EXACT;
}

void Planner::Gathered::cut(size_t n_blocks) noexcept {
    for (size_t i = blocks.size(); i-- > n_blocks;) {
        if (blocks[i])
            cache.put(blocks[i]);
        else
            --n_loads;
    }
    if (n_blocks >= blocks.size()) return;
    blocks.resize(n_blocks);
    qualities.resize(n_blocks);
    drop_partial();
}

void Planner::Gathered::drop_partial() noexcept {
    if (partial_block) cache.put(partial_block);
    partial_block = 0;
    n_partial = n_tail = 0;
}

larder_quality Planner::Found::quality() const noexcept {
    larder_quality worst = tail_quality;
    for (uint8_t q : qualities) worst = std::max<larder_quality>(worst, q);
    return worst;
}

void Planner::Found::cut(size_t n) noexcept {
    blocks.resize(n);
    tiers.resize(n);
    qualities.resize(n);
    partial_block = n_partial = 0;
    tail_quality = LARDER_QUALITY_EXACT;
}

bool Planner::usable(uint32_t block, larder_quality min_quality) const noexcept {
    const BlockInfo& i = blocks_[block];
    return !i.bad && i.quality <= min_quality;
}

larder_status Planner::find_chain(const TokenChain& c, uint64_t limit, Found& out) {
    const size_t n_full = std::min<size_t>(limit / block_tokens_, c.keys.size());
    Vec<PrefixBlock> hits(n_full, PrefixBlock{}, context_.alloc);
    Vec<uint8_t> touched(context_.alloc);
    larder_prefix_query q = LARDER_PREFIX_QUERY_INIT;
    q.flags = LARDER_PREFIX_PEEK;
    q.root = c.root;
    q.keys = c.keys.data();
    q.n_keys = n_full;
    if (!c.by_keys) {
        q.tokens = c.tokens.data();
        q.next_tokens = c.tokens.data() + n_full * block_tokens_;
        q.n_next = limit - n_full * block_tokens_;
    }
    if (!c.extras.empty()) {
        touched.resize(n_full + 1);
        for (size_t i = 0; i <= n_full; ++i) touched[i] = c.touched(i, block_tokens_);
        q.no_partial = touched.data();
    }
    larder_prefix_match_info info = LARDER_PREFIX_MATCH_INFO_INIT;
    LARDER_TRY(index_->match(q, hits, info));
    for (size_t i = 0; i < n_full; ++i) {
        const uint32_t b =
            i < info.n_blocks && hits[i].residency & LARDER_PREFIX_IN_ARENA ? uint32_t(hits[i].location[0]) : 0;
        if (b && usable(b, c.min_quality)) {
            out.blocks.push_back(b);
            out.tiers.push_back(LARDER_KV_IN_ARENA);
            out.qualities.push_back(blocks_[b].quality);
            continue;
        }
        // The index knows what is in the arena and what such blocks follow; the tiers themselves know the rest.
        const StoredAt at = below_ ? below_->find(c.keys[i], c.min_quality) : StoredAt{};
        if (!at.tiers) break;
        out.blocks.push_back(0);
        out.tiers.push_back(at.tiers);
        out.qualities.push_back(uint8_t(at.quality));
    }
    const PrefixBlock& p = info.partial;
    if (out.blocks.size() != info.n_blocks || !p.entry || !(p.residency & LARDER_PREFIX_IN_ARENA)) return LARDER_OK;
    const uint32_t b = uint32_t(p.location[0]);
    if (!usable(b, c.min_quality) || blocks_[b].loading) return LARDER_OK;
    out.partial_block = b;
    out.n_partial = info.n_partial_tokens;
    out.tail_quality = blocks_[b].quality;
    return LARDER_OK;
}

larder_status Planner::match(const larder_kv_query* query, larder_kv_match_info& out) {
    QueryPlan q;
    LARDER_TRY(read_query(query, scope_, block_tokens_, context_.alloc, q));
    std::lock_guard lock(mutex_);
    LARDER_TRY(check_alive());
    Found f(context_.alloc);
    LARDER_TRY(find_chain(q.chain, q.limit, f));
    if (has_states()) cut_to_state(q.chain, f);
    out = LARDER_KV_MATCH_INFO_INIT;
    out.n_partial_tokens = f.n_partial;
    out.n_blocks = f.blocks.size();
    out.n_tokens = out.n_blocks * block_tokens_ + f.n_partial;
    out.quality = f.quality();
    out.n_tokens_arena = f.n_partial;
    for (uint32_t t : f.tiers)
        (t & LARDER_KV_IN_ARENA  ? out.n_tokens_arena
         : t & LARDER_KV_IN_HOST ? out.n_tokens_host
                                 : out.n_tokens_file) += block_tokens_;
    if (q.peek) return LARDER_OK;
    if (leases_.size() >= config_.max_sequences)
        return fail(LARDER_E_BUSY, "max_sequences", "%u leases are out", config_.max_sequences);

    LeaseState l(context_.alloc);
    l.chain = std::move(q.chain);
    l.blocks = std::move(f.blocks);
    l.partial_block = f.partial_block;
    l.n_partial = f.n_partial;
    l.state = f.state;
    l.deadline_ns = q.deadline_ns;
    l.epoch = epoch_.load(relaxed);
    const Vec<uint32_t> held(l.blocks);
    const uint32_t partial = l.partial_block, state = l.state, priority = l.chain.priority;
    out.lease = leases_.insert(std::move(l), context_.os.self());
    for (uint32_t b : held)
        if (b) {
            blocks_.raise_priority(b, priority);
            blocks_.get(b);
        }
    if (partial) blocks_.get(partial);
    if (state) states_.get(state);
    Stats& s = context_.stats;
    s.add(Stat::kv_leases);
    s.add(Stat::kv_tokens_queried, q.limit);
    s.add(Stat::kv_tokens_hit_arena, out.n_tokens_arena);
    s.add(Stat::kv_tokens_hit_host, out.n_tokens_host);
    s.add(Stat::kv_tokens_hit_file, out.n_tokens_file);
    return LARDER_OK;
}

void Planner::drop_lease(larder_lease id) noexcept {
    LeaseState* l = leases_.find(id);
    for (size_t i = l->blocks.size(); i-- > 0;)
        if (l->blocks[i]) blocks_.put(l->blocks[i]);
    if (l->partial_block) blocks_.put(l->partial_block);
    if (l->state) states_.put(l->state);
    leases_.remove(id);
    context_.stats.sub(Stat::kv_leases);
}

larder_status Planner::release_lease(larder_lease lease) {
    std::lock_guard lock(mutex_);
    if (!leases_.find(lease)) return fail(LARDER_E_STALE, "lease", "the lease was used, released or never given");
    drop_lease(lease);
    return LARDER_OK;
}

// Holds what is there now: what a lease held, what came into the arena since, and (not yet anywhere) what the tiers
// below have.
void Planner::gather(const TokenChain& c, const LeaseState* lease, size_t n_blocks, uint64_t max_load_tokens,
                     Gathered& out) {
    out.blocks.reserve(n_blocks);
    out.qualities.reserve(n_blocks);
    for (size_t i = 0; i < n_blocks; ++i) {
        uint32_t b = lease ? lease->blocks[i] : 0;
        PrefixBlock hit;
        if (!b && index_->lookup(c.keys[i], hit) == LARDER_OK && hit.residency & LARDER_PREFIX_IN_ARENA)
            b = uint32_t(hit.location[0]);
        if (b && usable(b, c.min_quality)) {
            blocks_.get(b);
            out.blocks.push_back(b);
            out.qualities.push_back(blocks_[b].quality);
            continue;
        }
        const StoredAt at = below_ ? below_->find(c.keys[i], c.min_quality) : StoredAt{};
        if (!at.tiers || (max_load_tokens && (out.n_loads + 1) * block_tokens_ > max_load_tokens)) return;
        out.blocks.push_back(0);
        out.qualities.push_back(uint8_t(at.quality));
        ++out.n_loads;
    }
    if (!lease || !lease->partial_block || blocks_[lease->partial_block].bad) return;
    out.partial_block = lease->partial_block;
    out.n_partial = lease->n_partial;
    blocks_.get(out.partial_block);
}

larder_status Planner::fit(const TokenChain& c, Gathered& g, Plan& out) {
    const larder_status s = fit_blocks(c, g, out);
    if (s != LARDER_OK || !g.load_state) return s;
    const larder_status states = make_room(states_, 1, out);
    if (states != LARDER_E_NOSPACE) return states;
    g.cut(0);
    g.drop_partial();
    g.drop_state();
    return LARDER_OK;
}

larder_status Planner::fit_blocks(const TokenChain& c, Gathered& g, Plan& out) {
    const larder_status s = make_room(blocks_, g.n_fresh(), out);
    if (s != LARDER_E_NOSPACE) return s;
    // As many of the first blocks as there is room for.
    size_t free = size_t(blocks_.n_free() + blocks_.n_clean() + blocks_.n_dirty_unused()), n = 0;
    for (; n < g.blocks.size() && (g.blocks[n] || free); ++n) free -= !g.blocks[n];
    if (n < g.blocks.size())
        g.cut(n);
    else
        g.drop_partial();
    if (has_states()) {
        g.private_state = false;
        gather_state(c, g);
    }
    return make_room(blocks_, g.n_fresh(), out);
}

void Planner::load_into(Sequence& s, size_t i, uint32_t block, Plan& out) {
    BlockInfo& info = blocks_[block];
    info.key = s.chain.keys[i];
    info.parent = s.chain.parent_or_zero(i);
    info.priority = uint8_t(s.chain.priority);
    info.stored = true;
    PlanOp op;
    op.kind = PlanOpKind::load;
    op.block = block;
    op.n_tokens = block_tokens_;
    op.quality = uint16_t(s.chain.min_quality);
    op.priority = uint16_t(s.chain.priority);
    op.key = info.key;
    out.ops.push_back(op);
}

larder_status Planner::attach(Sequence& s, larder_seq id, Gathered& g, Plan& out) {
    const size_t n = g.blocks.size();
    const bool has_partial = g.n_partial || g.n_tail;
    // Everything that can fail comes first.
    Vec<uint32_t> fresh(g.n_fresh(), 0, context_.alloc);
    s.blocks.reserve(n + 1);
    out.ops.reserve(out.ops.size() + fresh.size() + 2);
    Ticket* ticket = make_ticket(id);
    s.ticket = ticket;
    const bool room = blocks_.alloc(fresh);
    LARDER_ASSERT(room);
    if (!room) g.cut(0);

    size_t next = 0;
    larder_quality quality = s.chain.quality;
    for (size_t i = 0; i < n; ++i) {
        uint32_t b = g.blocks[i];
        if (!b) {
            b = fresh[next++];
            blocks_[b].quality = g.qualities[i];
            load_into(s, i, b, out);
        }
        quality = std::max<larder_quality>(quality, g.qualities[i]);
        s.blocks.push_back(b);
    }
    if (has_partial) {
        PlanOp op;
        op.block = fresh[next];
        op.n_tokens = g.n_partial ? g.n_partial : g.n_tail;
        op.priority = uint16_t(s.chain.priority);
        op.kind = g.n_partial ? PlanOpKind::copy : PlanOpKind::load;
        op.source = g.partial_block;
        op.key = g.tail_key;
        if (g.n_tail) op.quality = uint16_t(s.chain.min_quality);
        out.ops.push_back(op);
        if (g.n_partial) quality = std::max<larder_quality>(quality, blocks_[g.partial_block].quality);
        s.blocks.push_back(fresh[next]);
    }
    g.blocks.clear();
    s.chain.quality = has_states() ? std::max(quality, g.state_quality) : quality;
    s.n_sealed = s.n_published = n;
    s.n_computed = n * uint64_t(block_tokens_) + (g.n_partial ? g.n_partial : g.n_tail);
    cut_chain(s, s.n_computed);
    s.n_reserved = s.n_computed;
    s.tail_owned = true;
    if (has_states()) attach_state(s, g, ticket, out);
    for (uint32_t b : s.blocks)
        if (blocks_[b].loading) wait_for(blocks_[b].loading, ticket);
    if (!out.ops.empty()) {
        send(out);
        wait_for(out.id, ticket);
    }
    // Others may share what is being loaded, and will wait for the same plan.
    for (size_t i = 0; i < n; ++i) {
        if (blocks_[s.blocks[i]].loading != out.id || !out.id) continue;
        const uint64_t parent = i ? entry_of(s.chain.keys[i - 1]) : 0;
        if (i == 0 || parent) publish_block(s.chain, i, s.blocks[i], parent);
    }
    if (g.load_state && !g.private_state) publish_state(s.slot);
    if (ticket->n_pending) {
        s.state.store(LARDER_KV_SEQ_LOADING, release);
        return LARDER_PENDING;
    }
    drop_ticket(s);
    s.state.store(LARDER_KV_SEQ_ACTIVE, release);
    return LARDER_OK;
}

larder_status Planner::begin(larder_lease lease, uint64_t max_load_tokens, larder_seq& out_seq,
                             uint64_t& out_deadline_ns, Plan& out) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(check_alive());
    LeaseState* l = leases_.find(lease);
    if (!l || l->epoch != epoch_.load(relaxed))
        return fail(LARDER_E_STALE, "lease", "the lease was used, released or never given");
    if (free_slots_.empty())
        return fail(LARDER_E_BUSY, "max_sequences", "%u sequences are open", config_.max_sequences);
    Gathered g(context_.alloc, blocks_, states_);
    gather(l->chain, l, l->blocks.size(), max_load_tokens, g);
    if (has_states()) gather_state(l->chain, g);
    const larder_status room = fit(l->chain, g, out);
    if (room != LARDER_OK) return room;
    Owned<Sequence> s = make_owned<Sequence>(context_.alloc, context_.alloc);
    s->chain = l->chain;
    out_deadline_ns = l->deadline_ns;
    Sequence& ref = *s;
    LARDER_ASSIGN(const larder_seq id, new_seq(std::move(s)));
    larder_status status;
    try {
        status = attach(ref, id, g, out);
    } catch (...) {
        keep_blocks(ref, 0);
        drop_state(ref);
        drop_ticket(ref);
        free_seq(id);
        throw;
    }
    drop_lease(lease);
    out_seq = id;
    return status;
}

larder_status Planner::explain(const larder_kv_query* query, void* out, uint32_t stride, uint64_t n, uint64_t& out_n) {
    QueryPlan q;
    LARDER_TRY(read_query(query, scope_, block_tokens_, context_.alloc, q));
    std::lock_guard lock(mutex_);
    out_n = std::min<uint64_t>(q.limit / block_tokens_, q.chain.keys.size());
    bool gap = false;
    for (uint64_t i = 0; i < out_n && i < n; ++i) {
        larder_kv_block_info b{};
        b.key = q.chain.keys[i];
        PrefixBlock hit;
        if (index_->lookup(b.key, hit) == LARDER_OK && hit.residency & LARDER_PREFIX_IN_ARENA) {
            const BlockInfo& info = blocks_[uint32_t(hit.location[0])];
            b.residency = info.loading ? LARDER_KV_LOADING : LARDER_KV_IN_ARENA;
            b.quality = info.quality;
        }
        if (below_) {
            const StoredAt at = below_->find(b.key, LARDER_QUALITY_APPROXIMATE);
            b.residency |= at.tiers;
            if (at.tiers && (!b.quality || at.quality < b.quality)) b.quality = at.quality;
        }
        if (!b.residency)
            b.reason = remembered(b.key);
        else if (b.quality > q.chain.min_quality)
            b.reason = LARDER_KV_REASON_QUALITY;
        else
            b.reason = gap ? LARDER_KV_REASON_AFTER_GAP : LARDER_KV_REASON_USABLE;
        gap |= b.reason != LARDER_KV_REASON_USABLE;
        std::memcpy(static_cast<char*>(out) + i * stride, &b, std::min<size_t>(stride, sizeof b));
    }
    return out_n > n ? LARDER_PARTIAL : LARDER_OK;
}

}  // namespace larder
