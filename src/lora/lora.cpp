#include "lora/lora.h"

#include <algorithm>
#include <cmath>

#include "base/options.h"

using namespace larder;

larder_lora::larder_lora(larder_context& c, const larder_lora_options& o)
    : Handle(HandleType::lora, c), o_(o), adapters_(c.alloc, IdKind::adapter, c.random_generation()), next_(c.alloc) {}

larder_lora::~larder_lora() {
    adapters_.for_each([this](uint64_t, Adapter& a) {
        if (has_cells(a)) give_cells(a);
    });
    if (o_.load.drop) o_.load.drop(o_.load.ctx);
}

larder_status larder_lora::create(larder_context& c, const larder_lora_options* options, larder_lora** out) {
    larder_lora_options o;
    LARDER_TRY(read_options(options, o, "larder_lora_options"));
    if (!o.max_rank) o.max_rank = 256;
    if (!o.cells_per_rank) o.cells_per_rank = 4;
    if (!o.max_adapters) o.max_adapters = 65536;
    LARDER_TRY(check_range(o.max_rank, 1, 65536, "max_rank"));
    LARDER_TRY(check_range(o.cells_per_rank, 1, 64, "cells_per_rank"));
    LARDER_TRY(check_range(o.max_adapters, 1, 1u << 24, "max_adapters"));
    LARDER_TRY(check_handle_of(&c, o.cells, HandleType::cells, "cells"));
    if (!o.load.fn) return fail(LARDER_E_INVALID, "load", "load.fn is NULL");
    *out = c.make_handle<larder_lora>(c, o);
    return LARDER_OK;
}

larder_status larder_lora::add(uint32_t rank, float scaling, uint64_t user_data, larder_lora_adapter& out) {
    LARDER_TRY(check_range(rank, 1, o_.max_rank, "rank"));
    if (!std::isfinite(scaling)) return fail(LARDER_E_RANGE, "scaling", "scaling is not finite");
    const uint32_t n_cells = rank * o_.cells_per_rank;
    larder_cells_state pool;
    o_.cells->query(pool);
    if (n_cells > pool.n_cells)
        return fail(LARDER_E_RANGE, "rank", "rank %u takes %u cells; the pool has %u", rank, n_cells, pool.n_cells);
    Adapter a;
    a.rank = rank;
    a.scaling = scaling;
    a.user_data = user_data;
    a.cells = Vec<int32_t>(n_cells, 0, context->alloc);
    std::lock_guard lock(mutex_);
    if (adapters_.size() == o_.max_adapters)
        return fail(LARDER_E_NOSPACE, "max_adapters", "%u adapters are registered", o_.max_adapters);
    out = adapters_.insert(std::move(a));
    adapters_.find(out)->id = out;
    return LARDER_OK;
}

larder_status larder_lora::remove(larder_lora_adapter id) noexcept {
    std::lock_guard lock(mutex_);
    larder_status s = LARDER_OK;
    Adapter* a = find(id, s);
    if (!a) return s;
    if (a->n_holders || a->in_call || a->presence == Presence::loading)
        return fail(LARDER_E_BUSY, "adapter", a->n_holders ? "the adapter is acquired" : "the adapter is being loaded");
    unlink(*a);
    if (has_cells(*a)) give_cells(*a);
    adapters_.remove(id);
    return LARDER_OK;
}

larder_lora::Adapter* larder_lora::find(larder_lora_adapter id, larder_status& status) noexcept {
    Adapter* a = adapters_.find(id);
    if (!a) status = fail(LARDER_E_STALE, "adapter", "no such adapter");
    return a;
}

void larder_lora::unlink(Adapter& a) noexcept {
    if (!a.is_idle) return;
    (a.older ? a.older->newer : oldest_) = a.newer;
    (a.newer ? a.newer->older : newest_) = a.older;
    a.older = a.newer = nullptr;
    a.is_idle = false;
    n_idle_cells_ -= a.cells.size();
}

// An adapter that nobody holds and the next batch does not need goes to the newest end of those that may be evicted.
void larder_lora::settle(Adapter& a) noexcept {
    const bool idle = a.presence == Presence::there && !a.n_holders && !a.is_next && !a.in_call;
    if (idle == a.is_idle) return;
    if (!idle) return unlink(a);
    a.older = newest_;
    (newest_ ? newest_->newer : oldest_) = &a;
    newest_ = &a;
    a.is_idle = true;
    n_idle_cells_ += a.cells.size();
}

void larder_lora::give_cells(Adapter& a) noexcept {
    o_.cells->free(a.cells);
    a.presence = Presence::absent;
}

void larder_lora::evict_oldest() noexcept {
    Adapter& a = *oldest_;
    unlink(a);
    give_cells(a);
    ++state_.n_evictions;
}

larder_status larder_lora::make_room(uint32_t n_cells) noexcept {
    std::lock_guard lock(mutex_);
    for (;;) {
        larder_cells_state pool;
        o_.cells->query(pool);
        if (n_cells <= pool.n_free) return LARDER_OK;
        if (n_cells > pool.n_free + n_idle_cells_)
            return fail(LARDER_E_NOSPACE, "n_cells", "%u cells are asked for; %u are free and %llu could be", n_cells,
                        pool.n_free, (unsigned long long)n_idle_cells_);
        evict_oldest();
    }
}

// Others take from the pool meanwhile, so what was free a moment ago may not be.
larder_status larder_lora::take_cells(Adapter& a) noexcept {
    for (;;) {
        larder_cells_state pool;
        o_.cells->query(pool);
        if (a.cells.size() > pool.n_free + n_idle_cells_)
            return fail(LARDER_E_NOSPACE, "cells", "rank %u takes %zu cells; %u are free and %llu could be", a.rank,
                        a.cells.size(), pool.n_free, (unsigned long long)n_idle_cells_);
        if (a.cells.size() <= pool.n_free && o_.cells->alloc(LARDER_CELLS_ANY, a.cells) >= 0) return LARDER_OK;
        if (oldest_) evict_oldest();
    }
}

void larder_lora::ended(Adapter& a, larder_status result) noexcept {
    if (a.presence != Presence::loading) return;
    a.failure = result;
    a.presence = result < 0 ? Presence::failed : Presence::there;
    state_.n_failed_loads += result < 0;
    if (result < 0 && !a.n_holders && !a.in_call) give_cells(a);
    settle(a);
}

// LARDER_OK: there. LARDER_PENDING: being loaded. The lock is not held while the callback runs; the adapter cannot be
// removed then, because it is being loaded.
larder_status larder_lora::bring(std::unique_lock<std::mutex>& lock, Adapter& a) noexcept {
    if (a.presence == Presence::there) return LARDER_OK;
    if (a.presence == Presence::loading) return LARDER_PENDING;
    if (a.presence == Presence::failed) return fail(a.failure, "load", "the adapter's load failed; others hold it");
    LARDER_TRY(take_cells(a));
    a.presence = Presence::loading;
    ++state_.n_loads;
    larder_lora_request request = {};
    request.struct_size = sizeof request;
    request.rank = a.rank;
    request.adapter = a.id;
    request.user_data = a.user_data;
    request.cells = a.cells.data();
    request.n_cells = uint32_t(a.cells.size());
    a.in_call = true;
    lock.unlock();
    larder_status s = o_.load.fn(o_.load.ctx, &request);
    lock.lock();
    a.in_call = false;
    if (s > 0 && s != LARDER_PENDING) s = fail(LARDER_E_INVALID, "load", "the load returned %d", s);
    if (s != LARDER_PENDING) ended(a, s);
    if (a.presence == Presence::loading) return LARDER_PENDING;
    if (a.presence == Presence::failed && !a.n_holders) give_cells(a);
    settle(a);
    return a.failure;
}

void larder_lora::mark_next(std::span<const larder_lora_adapter> ids) {
    next_.reserve(std::max(next_.size(), ids.size()));
    for (larder_lora_adapter id : next_)
        if (Adapter* a = adapters_.find(id)) a->is_next = false, settle(*a);
    next_.clear();
    for (larder_lora_adapter id : ids) {
        Adapter* a = adapters_.find(id);
        if (!a || a->is_next) continue;
        a->is_next = true;
        settle(*a);
        next_.push_back(id);
    }
}

larder_status larder_lora::prefetch(std::span<const larder_lora_adapter> ids, larder_status* statuses) {
    std::unique_lock lock(mutex_);
    mark_next(ids);
    bool all = true;
    for (size_t i = 0; i < ids.size(); ++i) {
        Adapter* a = find(ids[i], statuses[i]);
        if (a) statuses[i] = bring(lock, *a);
        all &= statuses[i] >= 0;
    }
    return all ? LARDER_OK : LARDER_PARTIAL;
}

larder_status larder_lora::acquire(std::span<const larder_lora_adapter> ids, larder_status* statuses) noexcept {
    std::unique_lock lock(mutex_);
    bool all = true, pending = false;
    for (size_t i = 0; i < ids.size(); ++i) {
        Adapter* a = find(ids[i], statuses[i]);
        if (a) {
            ++(has_cells(*a) ? state_.n_hits : state_.n_misses);
            statuses[i] = bring(lock, *a);
            if (statuses[i] >= 0) ++a->n_holders, settle(*a);
        }
        all &= statuses[i] >= 0;
        pending |= statuses[i] == LARDER_PENDING;
    }
    return !all ? LARDER_PARTIAL : pending ? LARDER_PENDING : LARDER_OK;
}

larder_status larder_lora::release(std::span<const larder_lora_adapter> ids) noexcept {
    std::lock_guard lock(mutex_);
    larder_status s = LARDER_OK;
    size_t n = 0;
    for (; n < ids.size(); ++n) {
        Adapter* a = find(ids[n], s);
        if (!a) break;
        if (!a->n_holders) {
            s = fail(LARDER_E_STATE, "adapters", "adapter %zu of the list is not acquired, or not as often", n);
            break;
        }
        --a->n_holders;
    }
    for (size_t i = 0; i < n; ++i) {
        Adapter& a = *adapters_.find(ids[i]);
        if (s < 0) {
            ++a.n_holders;
            continue;
        }
        if (a.presence == Presence::failed && !a.n_holders) give_cells(a);
        settle(a);
    }
    return s;
}

larder_status larder_lora::loaded(larder_lora_adapter id, larder_status result) noexcept {
    if (result > 0)
        return fail(LARDER_E_INVALID, "result", "a load ends with LARDER_OK or an error, not with %d", result);
    std::lock_guard lock(mutex_);
    larder_status s = LARDER_OK;
    Adapter* a = find(id, s);
    if (!a) return s;
    if (a->presence != Presence::loading) return fail(LARDER_E_STATE, "adapter", "the adapter is not being loaded");
    ended(*a, result);
    return LARDER_OK;
}

larder_status larder_lora::tables(std::span<const larder_lora_adapter> ids, std::span<int32_t> cells, uint32_t* starts,
                                  float* scalings) noexcept {
    std::lock_guard lock(mutex_);
    larder_status s = LARDER_OK, result = LARDER_OK;
    uint64_t at = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
        const Adapter* a = find(ids[i], s);
        if (!a) return s;
        if (!a->n_holders) return fail(LARDER_E_STATE, "adapters", "adapter %zu of the list is not acquired", i);
        if (a->presence == Presence::failed) return fail(a->failure, "load", "the load of adapter %zu failed", i);
        if (a->presence == Presence::loading) result = LARDER_PENDING;
        if (at + a->cells.size() > UINT32_MAX)
            return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "more than 2^32 cells");
        starts[i] = uint32_t(at);
        if (scalings) scalings[i] = a->scaling;
        if (at + a->cells.size() <= cells.size())
            std::copy(a->cells.begin(), a->cells.end(), cells.begin() + int64_t(at));
        at += a->cells.size();
    }
    starts[ids.size()] = uint32_t(at);
    if (at > cells.size())
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "%llu cells do not fit %zu", (unsigned long long)at,
                    cells.size());
    return result;
}

larder_status larder_lora::move(std::span<const larder_cells_move> moves) {
    const auto before = [](const larder_cells_move& x, const larder_cells_move& y) { return x.src < y.src; };
    Vec<larder_cells_move> sorted(moves.begin(), moves.end(), context->alloc);
    std::sort(sorted.begin(), sorted.end(), before);
    std::lock_guard lock(mutex_);
    adapters_.for_each([&](uint64_t, Adapter& a) {
        if (!has_cells(a)) return;
        for (int32_t& cell : a.cells) {
            const auto m = std::lower_bound(sorted.begin(), sorted.end(), larder_cells_move{cell, 0}, before);
            if (m != sorted.end() && m->src == cell) cell = m->dst;
        }
    });
    return LARDER_OK;
}

void larder_lora::query(larder_lora_state& out) noexcept {
    std::lock_guard lock(mutex_);
    out = state_;
    out.n_adapters = uint32_t(adapters_.size());
    out.n_free_cells = n_idle_cells_;
    adapters_.for_each([&](uint64_t, const Adapter& a) {
        if (has_cells(a)) ++out.n_resident, out.n_cells += a.cells.size();
        out.n_acquired += a.n_holders > 0;
        if (a.is_next && !has_cells(a)) out.n_next_cells += a.cells.size();
    });
}
