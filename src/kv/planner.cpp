#include "kv/planner.h"

#include <algorithm>

namespace larder {

Planner::Planner(larder_context& c, larder_layout& layout, PlannerConfig config, ChainScope scope, TierDirectory* below)
    : context_(c), layout_(layout), config_(config), scope_(std::move(scope)), below_(below),
      block_tokens_(block_tokens_of(layout)), blocks_(c, config.n_blocks + 1, below != nullptr),
      checkpoint_tokens_(checkpoint_tokens_of(layout)), states_(c, config.n_states + 1, below != nullptr),
      state_of_(c.alloc), slots_(c.alloc), free_slots_(c.alloc), leases_(c.alloc, c.random_generation()),
      plans_(c.alloc, IdKind::plan, c.random_generation()), unstored_(c.alloc), gone_(n_gone, Gone{}, c.alloc) {}

larder_status Planner::init() {
    context_.stats.attach(*this);
    larder_prefix_options o = LARDER_PREFIX_OPTIONS_INIT;
    o.block_tokens = block_tokens_;
    LARDER_TRY(PrefixIndex::create(context_, &o, index_));
    free_slots_.reserve(config_.max_sequences);
    for (uint32_t i = 0; i < config_.max_sequences; ++i) {
        slots_.emplace_back();
        slots_.back().generation = context_.random_generation();
        free_slots_.push_back(config_.max_sequences - 1 - i);
    }
    return LARDER_OK;
}

// Called for a sum over all that has blocks: the pool counts by itself, without the planner's mutex.
void Planner::collect(StatSums& sums) const noexcept {
    sums[size_t(Stat::arena_blocks_total)] += blocks_.n_blocks();
    sums[size_t(Stat::arena_blocks_used)] += blocks_.n_blocks() - 1 - blocks_.n_free();
    sums[size_t(Stat::arena_allocs)] += blocks_.n_allocs();
}

Planner::~Planner() {
    context_.stats.detach(*this);
    context_.stats.add(Stat::arena_allocs, blocks_.n_allocs());
    free_tickets(tickets_);
    context_.stats.sub(Stat::kv_leases, leases_.size());
    context_.stats.sub(Stat::kv_sequences, slots_.size() - free_slots_.size());
}

Result<Sequence*> Planner::find_seq(larder_seq seq) noexcept {
    const uint32_t i = Id::index(seq);
    if (Id::kind(seq) != IdKind::sequence || i >= slots_.size() || slots_[i].id.load(acquire) != seq)
        return fail(LARDER_E_STALE, "seq", "no such sequence");
    return slots_[i].seq.get();
}

Result<Sequence*> Planner::find_active(larder_seq seq) noexcept {
    LARDER_ASSIGN(Sequence * s, find_seq(seq));
    if (s->epoch != epoch_.load(acquire))
        return fail(LARDER_E_PEER_DEAD, "seq", "a rank has died since the sequence began; end it");
    const int32_t state = s->state.load(acquire);
    if (state == LARDER_KV_SEQ_LOADING) return fail(LARDER_E_STATE, "seq", "the sequence is still being loaded");
    if (state == LARDER_KV_SEQ_SUSPENDED) return fail(LARDER_E_STATE, "seq", "the sequence is suspended");
    return s;
}

larder_status Planner::check_active(larder_seq seq) noexcept {
    return find_active(seq).status();
}

larder_status Planner::check_alive() const noexcept {
    return dead_ranks_ ? fail(LARDER_E_PEER_DEAD, "planner", "a rank is dead and was not replaced") : LARDER_OK;
}

Result<larder_seq> Planner::new_seq(Owned<Sequence> s) {
    if (free_slots_.empty())
        return fail(LARDER_E_BUSY, "max_sequences", "%u sequences are open", config_.max_sequences);
    const uint32_t i = free_slots_.back();
    free_slots_.pop_back();
    SeqSlot& slot = slots_[i];
    s->epoch = epoch_.load(relaxed);
    slot.seq = std::move(s);
    const larder_seq id = Id::make(IdKind::sequence, i, slot.generation);
    slot.id.store(id, release);
    context_.stats.add(Stat::kv_sequences);
    return id;
}

void Planner::free_seq(larder_seq seq) noexcept {
    SeqSlot& slot = slots_[Id::index(seq)];
    slot.id.store(0, release);
    slot.seq.reset();
    context_.stats.sub(Stat::kv_sequences);
    // A slot that has used all its generations is not used again.
    if (++slot.uses == UINT32_MAX) return;
    ++slot.generation;
    free_slots_.push_back(Id::index(seq));
}

void Planner::send(Plan& plan, larder_seq seals_for) {
    plan.layout = layout_.identity;
    OutPlan out(context_.alloc);
    out.seq = seals_for;
    out.ops = plan.ops;
    out.worst.assign(plan.ops.size(), LARDER_OK);
    out.waiters.reserve(1);  // so that whoever sends may wait for it whatever happens
    plan.id = plans_.insert(std::move(out));
    bool stores = false;
    for (const PlanOp& op : plan.ops) {
        BlockCache& p = cache_of(op);
        if (op.block) p.get(op.block);
        if (op.source) p.get(op.source);
        if (op.kind == PlanOpKind::load) p[op.block].loading = plan.id;
        if (op.kind == PlanOpKind::store) {
            ++p[op.block].n_storing;
            ++storing(p);
            stores = true;
        }
    }
    n_store_plans_ += stores;
}

Ticket* Planner::make_ticket(larder_seq seq) {
    Ticket* t = context_.alloc.create<Ticket>();
    t->seq = seq;
    t->next = tickets_;
    if (tickets_) tickets_->prev = t;
    tickets_ = t;
    return t;
}

void Planner::unlink_ticket(Ticket* t) noexcept {
    (t->prev ? t->prev->next : tickets_) = t->next;
    if (t->next) t->next->prev = t->prev;
    t->prev = t->next = nullptr;
}

void Planner::drop_ticket(Sequence& s) noexcept {
    if (!s.ticket) return;
    plans_.for_each([&](uint64_t, OutPlan& p) { std::erase(p.waiters, s.ticket); });
    unlink_ticket(s.ticket);
    context_.alloc.destroy(s.ticket);
    s.ticket = nullptr;
}

void Planner::free_tickets(Ticket* list) noexcept {
    while (Ticket* t = list) {
        list = t->next;
        context_.alloc.destroy(t);
    }
}

bool Planner::attach_job(larder_seq seq, JobRef job, uint32_t& out_n_plans) noexcept {
    auto s = find_seq(seq);
    std::lock_guard lock(mutex_);
    if (!s.ok() || !(*s)->ticket) return false;
    (*s)->ticket->job = job;
    out_n_plans = (*s)->ticket->n_pending;
    return true;
}

bool Planner::waiting(larder_seq seq) noexcept {
    auto s = find_seq(seq);
    std::lock_guard lock(mutex_);
    return s.ok() && (*s)->ticket;
}

void Planner::wait_for(larder_id plan, Ticket* t) {
    OutPlan* p = plans_.find(plan);
    if (!p || std::find(p->waiters.begin(), p->waiters.end(), t) != p->waiters.end()) return;
    p->waiters.push_back(t);
    ++t->n_pending;
}

larder_status Planner::seq_info(larder_seq seq, larder_kv_seq_info& out) {
    LARDER_ASSIGN(Sequence * s, find_seq(seq));
    std::lock_guard lock(mutex_);
    if (s->epoch != epoch_.load(relaxed))
        return fail(LARDER_E_PEER_DEAD, "seq", "a rank has died since the sequence began; end it");
    out = LARDER_KV_SEQ_INFO_INIT;
    out.state = s->state.load(relaxed);
    out.n_reserved = s->n_reserved;
    out.n_computed = s->n_computed;
    out.n_published = s->n_published * uint64_t(block_tokens_);
    out.n_blocks = uint32_t(s->blocks.size());
    out.quality = s->chain.quality;
    return LARDER_OK;
}

void Planner::info(larder_kv_info& out) {
    std::lock_guard lock(mutex_);
    out = LARDER_KV_INFO_INIT;
    out.block_tokens = block_tokens_;
    if (const auto n = block_bytes_of(layout_); n.ok()) out.block_bytes = *n;
    out.n_states = config_.n_states;
    out.n_free_states = states_.n_free();
    out.state_bytes = state_bytes_of(layout_);
    out.n_blocks = config_.n_blocks;
    out.n_free = blocks_.n_free();
    out.n_evictable = blocks_.n_clean() + blocks_.n_dirty_unused();
    out.n_in_use = out.n_blocks - out.n_free - out.n_evictable;
    out.n_published = blocks_.n_published();
    for (uint32_t b = 1; below_ && b <= config_.n_blocks; ++b)
        out.n_dirty += blocks_[b].entry && !blocks_[b].loading && !blocks_.clean(b);
    out.n_sequences = slots_.size() - free_slots_.size();
    out.n_leases = leases_.size();
}

uint32_t Planner::n_plans_out() noexcept {
    std::lock_guard lock(mutex_);
    return uint32_t(plans_.size());
}

larder_status Planner::view(const larder_seq* seqs, uint32_t n, const larder_kv_view_options* options) {
    larder_kv_view_options o;
    LARDER_TRY(read_options(options, o, "larder_kv_view_options"));
    LARDER_TRY(check_range(o.group, 0, layout_.groups.size() - 1, "group"));
    if (!o.format) o.format = LARDER_KV_VIEW_BLOCK_TABLE;
    LARDER_TRY(check_range(uint32_t(o.format), LARDER_KV_VIEW_BLOCK_TABLE, LARDER_KV_VIEW_CSR, "format"));
    LARDER_TRY(check_range(o.include_reserved, 0, 1, "include_reserved"));
    if (!o.dst && o.dst_stride) return fail(LARDER_E_INVALID, "dst", "dst is NULL");
    return view_rows(seqs, n, o);
}

}  // namespace larder
