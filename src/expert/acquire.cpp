// Taking and giving back experts.
#include <algorithm>
#include <bit>
#include <chrono>

#include "base/options.h"
#include "expert/cache.h"

using namespace larder;

// Every expert once: a lease does not count how often it holds one.
larder_status larder_expert_cache::check_experts(Layer& l, std::span<const uint32_t> experts) noexcept {
    larder_status s = LARDER_OK;
    size_t n = 0;
    for (; n < experts.size(); ++n) {
        const uint32_t e = experts[n];
        if (e >= o_.n_experts) {
            s = fail(LARDER_E_RANGE, "experts", "experts[%zu] is %u; there are %u", n, e, o_.n_experts);
            break;
        }
        if (l.asked[e / 64] >> e % 64 & 1) {
            s = fail(LARDER_E_INVALID, "experts", "expert %u twice", e);
            break;
        }
        l.asked[e / 64] |= uint64_t(1) << e % 64;
    }
    for (uint32_t e : experts.first(n)) l.asked[e / 64] = 0;
    return s;
}

void larder_expert_cache::let_go(Layer& l, uint32_t lease) noexcept {
    for (uint32_t p = 0; p < o_.n_precisions; ++p) {
        uint64_t* set = held(l, lease, p);
        for (uint32_t w = 0; w < n_words_; ++w) {
            for (uint64_t bits = set[w]; bits; bits &= bits - 1) {
                Expert& x = expert(l, p, w * 64 + uint32_t(std::countr_zero(bits)));
                if (--x.n_holders == 0 && x.where == Where::failed) free_slot(l, p, x.slot);
            }
            set[w] = 0;
        }
    }
}

void larder_expert_cache::count_use(Layer& l, uint32_t lease, std::span<const uint32_t> experts) noexcept {
    l.n_acquired += experts.size();
    l.ledger->begin_step(uint32_t(experts.size()));
    const uint64_t* fine = held(l, lease, 0);
    for (uint32_t e : experts) l.ledger->use(e, fine[e / 64] >> e % 64 & 1);
    if (!l.hinted.empty()) settle_hints(l, lease);
}

larder_status larder_expert_cache::acquire(uint32_t layer, std::span<const uint32_t> experts, larder_expert_view* out,
                                           uint32_t stride, larder_queue* queue, uint64_t user_data,
                                           larder_job* out_job, larder_expert_lease* out_lease) {
    LARDER_TRY(check_range(layer, 0, o_.n_layers - 1, "layer"));
    Layer& l = *layers_[layer];
    Guard lock(l.mutex);
    LARDER_TRY(check_experts(l, experts));
    if (l.free_leases.empty())
        return fail(LARDER_E_BUSY, "max_leases", "layer %u has %u leases already", layer, o_.max_leases);
    const uint32_t lease = l.free_leases.back();
    Answer answer{reinterpret_cast<std::byte*>(out), stride, 0};
    l.missing.clear();
    for (uint32_t i = 0; i < experts.size(); ++i) {
        hold(l, lease, 0, experts[i]);
        const Expert& x = expert(l, 0, experts[i]);
        if (x.where == Where::ready)
            view(answer, i) = {x.address, LARDER_OK, 0, answer.n_ready++, 0};
        else
            l.missing.push_back({i, experts[i], 0});
    }
    Wait* wait = nullptr;
    if (l.missing.empty()) {
        l.n_hits += experts.size();
        count_use(l, lease, experts);
    } else {
        const larder_status s = load_missing(l, layer, lease, experts, answer, {queue, user_data, out_job}, &wait);
        if (s < 0) {
            let_go(l, lease);
            return s;
        }
    }
    l.free_leases.pop_back();
    l.leases[lease].live = true;
    *out_lease = Id::make(IdKind::lease, layer * o_.max_leases + lease, l.leases[lease].generation);
    if (!wait) return LARDER_OK;
    return queue ? LARDER_PENDING : wait_for(lock, l, wait);
}

larder_status larder_expert_cache::check_room(Layer& l, uint32_t layer, uint32_t precision, size_t n,
                                              size_t n_absent) noexcept {
    const size_t n_slots = l.slots[precision].size();
    if (n > n_slots)
        return fail(LARDER_E_NOSPACE, "n", "%zu experts of layer %u were asked for; it has %zu slots", n, layer,
                    n_slots);
    size_t n_room = l.free_slots[precision].size();
    for (uint32_t s : l.slots[precision]) {
        const uint32_t e = precisions_[precision]->slots[s].expert;
        n_room += e != none && !expert(l, precision, e).n_holders;
    }
    if (n_absent <= n_room) return LARDER_OK;
    return fail(LARDER_E_BUSY, "n", "%zu slots of layer %u are needed; leases hold all of its %zu but %zu", n_absent,
                layer, n_slots, n_room);
}

// Nothing is changed when it fails.
larder_status larder_expert_cache::load_missing(Layer& l, uint32_t layer, uint32_t lease,
                                                std::span<const uint32_t> experts, const Answer& answer,
                                                const Ticket& ticket, Wait** out_wait) {
    size_t n_absent = 0, n_coming = 0;
    for (const Missing& m : l.missing) {
        const Where where = expert(l, m.precision, m.expert).where;
        n_absent += where == Where::absent;
        n_coming += where == Where::loading;
    }
    LARDER_TRY(check_room(l, layer, 0, experts.size(), n_absent));
    Wait* w = make_wait(l.missing.size(), answer, ticket);
    if (!w) return last_error().status;
    l.n_hits += answer.n_ready + n_coming;
    l.n_late += n_coming;
    count_use(l, lease, experts);
    rank_victims(l, 0, n_absent);
    uint32_t turn = answer.n_ready;
    for (const Missing& m : l.missing) {
        Expert& x = expert(l, m.precision, m.expert);
        const Urgency urgency{false, 0};
        if (x.where == Where::loading)
            hurry(m.precision, x.slot, urgency);
        else
            start_load(l, m.precision, m.expert, x.slot == none ? take_slot(l, m.precision) : x.slot, urgency);
        w->items()[w->n_items++] = {m.expert, m.precision, m.index, false};
        view(answer, m.index) = {x.address, LARDER_PENDING, m.precision, turn++, 0};
    }
    w->next = l.waits;
    l.waits = w;
    if (w->queue) w->queue->layers_done(w->job, answer.n_ready);
    *out_wait = w;
    return LARDER_OK;
}

// The n_absent that go first, the least first, at the end of the list.
void larder_expert_cache::rank_victims(Layer& l, uint32_t precision, size_t n_absent) noexcept {
    l.ranks.clear();
    const size_t n_free = l.free_slots[precision].size();
    if (n_absent <= n_free) return;
    l.ledger->settle();
    for (uint32_t s : l.slots[precision]) {
        const uint32_t e = precisions_[precision]->slots[s].expert;
        if (e != none && !expert(l, precision, e).n_holders) l.ranks.push_back(l.ledger->rank(e));
    }
    const size_t n = n_absent - n_free;
    std::partial_sort(l.ranks.begin(), l.ranks.begin() + ptrdiff_t(n), l.ranks.end());
    l.ranks.resize(n);
    std::reverse(l.ranks.begin(), l.ranks.end());
}

uint32_t larder_expert_cache::take_slot(Layer& l, uint32_t precision) noexcept {
    if (!l.free_slots[precision].empty()) {
        const uint32_t slot = l.free_slots[precision].back();
        l.free_slots[precision].pop_back();
        return slot;
    }
    const uint32_t victim = l.ranks.back().expert;
    l.ranks.pop_back();
    Expert& x = expert(l, precision, victim);
    if (x.where == Where::loading)
        tell(l, precision, victim, fail(LARDER_E_CANCELLED, "lease", "released before it was loaded, and evicted"));
    const uint32_t slot = x.slot;
    x = Expert{};
    ++l.n_evictions;
    return slot;
}

larder_expert_cache::Wait* larder_expert_cache::make_wait(size_t n, const Answer& answer, const Ticket& ticket) {
    void* memory = context->alloc.try_alloc(Wait::size(n), alignof(Wait));
    if (!memory) {
        fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
        return nullptr;
    }
    Wait* w = new (memory) Wait;
    w->answer = answer;
    w->queue = ticket.queue;
    w->capacity = uint32_t(n);
    if (!w->queue) return w;
    auto job = [&]() -> Result<larder_job> {
        try {
            return w->queue->begin(ticket.user_data, answer.n_ready + uint32_t(n));
        } catch (const std::bad_alloc&) {
            return fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
        }
    }();
    if (!job) {
        drop_wait(w);
        return nullptr;
    }
    *ticket.out_job = w->job = *job;
    return w;
}

void larder_expert_cache::drop_wait(Wait* w) noexcept {
    context->alloc.free(w, Wait::size(w->capacity), alignof(Wait));
}

// The caller's thread does the work when there are no others.
larder_status larder_expert_cache::wait_for(Guard& lock, Layer& l, Wait* w) noexcept {
    const bool alone = context->scheduler.n_workers() == 0;
    while (w->n_done < w->n_items) {
        if (!alone) {
            l.loaded.wait(lock);
            continue;
        }
        lock.unlock();
        const bool more = context->scheduler.progress(1);
        lock.lock();
        // Another thread may have the chunk in hand.
        if (w->n_done < w->n_items && !more) l.loaded.wait_for(lock, std::chrono::milliseconds(1));
    }
    const larder_status s = w->n_failed ? LARDER_PARTIAL : LARDER_OK;
    drop_wait(w);
    return s;
}

larder_status larder_expert_cache::release(larder_expert_lease id) noexcept {
    const uint32_t index = Id::index(id), layer = index / o_.max_leases, lease = index % o_.max_leases;
    if (Id::kind(id) == IdKind::lease && layer < o_.n_layers) {
        Layer& l = *layers_[layer];
        Guard lock(l.mutex);
        Lease& mine = l.leases[lease];
        if (mine.live && mine.generation == Id::generation(id)) {
            let_go(l, lease);
            mine.live = false;
            ++mine.generation;
            l.free_leases.push_back(lease);
            return LARDER_OK;
        }
    }
    return fail(LARDER_E_STALE, "lease", "the lease was released already, or never acquired");
}
