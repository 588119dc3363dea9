#include "memory/slot_pool.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/assert.h"
#include "base/cpu.h"

namespace larder {

namespace {
constexpr uint64_t make_head(uint64_t tag, uint32_t index) {
    return tag << 32 | index;
}

// At least two, so that a thread which was put to sleep inside a stripe does not stop the others.
uint32_t stripes_for(uint32_t n_cpus) {
    return std::bit_ceil(std::clamp(n_cpus, 2u, 64u));
}

uint32_t home_stripe() noexcept {
#if defined(LARDER_SCHEDULE_EXPLORER)
    return 0;  // the same in every replay
#else
    return current_cpu();
#endif
}
}  // namespace

SlotPool::SlotPool(const Allocator& a, uint32_t first, uint32_t end, uint32_t n_cpus)
    : first_(first), end_(end), stripe_mask_(stripes_for(n_cpus) - 1), head_(make_head(0, none)), fresh_(first),
      stripes_(stripe_mask_ + 1, a), link_(end, a), chain_next_(a, end) {}

bool SlotPool::take(std::span<uint32_t> out) noexcept {
    Stripe& s = lock_stripe();
    uint32_t got = fill(s, out);
    if (got == out.size()) [[likely]] {
        s.taken.store(s.taken.load(relaxed) + got, relaxed);
        unlock(s);
        return true;
    }
    unlock(s);
    got += steal(out.subspan(got));
    Stripe& mine = lock_stripe();
    const bool complete = got == out.size();
    if (complete)
        mine.taken.store(mine.taken.load(relaxed) + got, relaxed);
    else
        give_locked(mine, out.first(got));
    unlock(mine);
    return complete;
}

void SlotPool::give(std::span<const uint32_t> slots) noexcept {
    if (slots.empty()) return;
    Stripe& s = lock_stripe();
    give_locked(s, slots);
    s.given.store(s.given.load(relaxed) + slots.size(), relaxed);
    unlock(s);
}

uint64_t SlotPool::n_taken() const noexcept {
    uint64_t sum = 0;
    for (size_t i = 0; i <= stripe_mask_; ++i) sum += stripes_[i].taken.load(relaxed);
    return sum;
}

uint64_t SlotPool::n_given() const noexcept {
    uint64_t sum = 0;
    for (size_t i = 0; i <= stripe_mask_; ++i) sum += stripes_[i].given.load(relaxed);
    return sum;
}

SlotPool::Stripe& SlotPool::lock_stripe() noexcept {
    const uint32_t start = home_stripe() & stripe_mask_;
    for (uint32_t i = start;;) {
        Stripe& s = stripes_[i];
        if (!s.locked.load(relaxed) && !s.locked.exchange(1, acquire)) return s;
        i = (i + 1) & stripe_mask_;
        if (i == start) cpu_relax();
    }
}

// As many of `out` as this stripe, the global stack and the counter have.
uint32_t SlotPool::fill(Stripe& s, std::span<uint32_t> out) noexcept {
    uint32_t got = 0;
    const auto want = uint32_t(out.size());
    for (;;) {
        const uint32_t k = std::min(s.n, want - got);
        for (uint32_t i = 0; i < k; ++i) out[got + i] = s.slots[s.n - 1 - i];
        s.n -= k;
        got += k;
        if (got == want) return got;
        if (const uint32_t chain = pop_chain(); chain != none) {
            for (uint32_t slot = chain; slot != none; slot = link_[slot]) s.slots[s.n++] = slot;
            std::reverse(s.slots, s.slots + s.n);
            continue;
        }
        uint32_t first = 0;
        const uint32_t n = take_fresh(std::max(want - got, chain_slots), first);
        if (n == 0) return got;
        const uint32_t direct = std::min(n, want - got);
        for (uint32_t i = 0; i < direct; ++i) out[got++] = first + i;
        for (uint32_t i = n; i-- > direct;) s.slots[s.n++] = first + i;
    }
}

uint32_t SlotPool::steal(std::span<uint32_t> out) noexcept {
    uint32_t got = 0;
    for (size_t i = 0; i <= stripe_mask_ && got < out.size(); ++i) {
        Stripe& s = stripes_[i];
        while (s.locked.load(relaxed) || s.locked.exchange(1, acquire)) cpu_relax();
        got += fill(s, out.subspan(got));
        unlock(s);
    }
    return got;
}

uint32_t SlotPool::take_fresh(uint32_t n, uint32_t& first) noexcept {
    first = fresh_.load(relaxed);
    uint32_t k;
    do {
        k = std::min(n, end_ - first);
        if (k == 0) return 0;
    } while (!fresh_.compare_exchange_weak(first, first + k, relaxed, relaxed));
    return k;
}

// The last of `slots` becomes the chain's first.
void SlotPool::push_chain(std::span<const uint32_t> slots) noexcept {
    uint32_t next = none;
    for (uint32_t slot : slots) {
        link_[slot] = next;
        next = slot;
    }
    const uint32_t chain = slots.back();
    uint64_t head = head_.load(relaxed);
    do {
        chain_next_[chain].store(head_index(head), relaxed);
    } while (!head_.compare_exchange_weak(head, make_head((head >> 32) + 1, chain), release, relaxed));
}

uint32_t SlotPool::pop_chain() noexcept {
    uint64_t head = head_.load(acquire);
    for (;;) {
        const uint32_t chain = head_index(head);
        if (chain == none) return none;
        // May read a chain that another thread has just popped; the tag then makes the exchange fail.
        const uint32_t next = chain_next_[chain].load(relaxed);
        if (head_.compare_exchange_weak(head, make_head((head >> 32) + 1, next), acquire, acquire)) return chain;
    }
}

void SlotPool::give_locked(Stripe& s, std::span<const uint32_t> slots) noexcept {
    while (!slots.empty()) {
        if (s.n == 2 * chain_slots) {
            // The older half goes: the newer one is warmer.
            push_chain({s.slots, chain_slots});
            std::memmove(s.slots, s.slots + chain_slots, chain_slots * sizeof s.slots[0]);
            s.n = chain_slots;
        }
        const size_t k = std::min<size_t>(slots.size(), 2 * chain_slots - s.n);
        std::memcpy(s.slots + s.n, slots.data(), k * sizeof slots[0]);
        s.n += uint32_t(k);
        slots = slots.subspan(k);
    }
}

}  // namespace larder
