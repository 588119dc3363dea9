#include "memory/slot_pool.h"

#include <algorithm>

#include "base/assert.h"

namespace larder {

namespace {
constexpr uint64_t make_head(uint64_t tag, uint32_t index) {
    return tag << 32 | index;
}
}  // namespace

SlotPool::SlotPool(const Allocator& a, uint32_t first, uint32_t end, const Cpus& cpus, bool empty)
    : first_(first), end_(end), stacks_(a, cpus), head_(make_head(0, none)), fresh_(empty ? end : first), link_(end, a),
      chain_next_(a, end) {}

void SlotPool::add(uint32_t first, uint32_t n) noexcept {
    uint32_t slots[chain_slots];
    LARDER_ASSERT(n && n <= chain_slots);
    for (uint32_t i = 0; i < n; ++i) slots[i] = first + n - 1 - i;
    keep({slots, n});
}

bool SlotPool::take_slowly(std::span<uint32_t> out) noexcept {
    size_t got = 0;
    for (bool gathered = false; got < out.size();) {
        const auto piece = out.subspan(got, std::min<size_t>(out.size() - got, chain_slots));
        if (stacks_.pop(piece)) {
            got += piece.size();
        } else if (const uint32_t k = refill(piece)) {
            got += k;
        } else if (!gathered) {
            gather();
            gathered = true;
        } else {
            give_slowly(out.first(got));
            out[0] = none;
            n_moved_.fetch_sub(int64_t(got), relaxed);
            return false;
        }
    }
    return true;
}

// Some of `out` from wherever there are slots but the stacks of other CPUs; what was moved beyond is kept here.
uint32_t SlotPool::refill(std::span<uint32_t> out) noexcept {
    uint32_t slots[chain_slots], n = 0;
    if (uint32_t slot = pop_chain(); slot != none) {
        for (; slot != none; slot = link_[slot]) slots[n++] = slot;
        n_chained_.fetch_sub(n, relaxed);
    } else {
        uint32_t first = 0;
        n = take_fresh(chain_slots, first);
        for (uint32_t i = 0; i < n; ++i) slots[i] = first + i;
    }
    if (n == 0) {
        while (n < out.size() && stacks_.pop(out.subspan(n, 1))) ++n;
        return n;
    }
    const auto k = uint32_t(std::min<size_t>(n, out.size()));
    std::copy(slots, slots + k, out.begin());
    n_moved_.fetch_add(k, relaxed);
    std::reverse(slots + k, slots + n);
    keep({slots + k, n - k});
    return k;
}

// What lies on the stacks of all CPUs goes to the global one.
void SlotPool::gather() noexcept {
    if (!stacks_.n_items()) return;
    while (gathering_.exchange(1, acquire)) cpu_relax();
    stacks_.drain([this](std::span<const uint32_t> slots) {
        for (; !slots.empty(); slots = slots.subspan(std::min<size_t>(slots.size(), chain_slots)))
            push_chain(slots.first(std::min<size_t>(slots.size(), chain_slots)));
    });
    gathering_.store(0, release);
}

void SlotPool::give_slowly(std::span<const uint32_t> slots) noexcept {
    while (!slots.empty()) {
        const auto piece = slots.first(std::min<size_t>(slots.size(), chain_slots));
        slots = slots.subspan(piece.size());
        if (stacks_.push(piece)) continue;
        // Full: half of what is here makes room.
        uint32_t half[chain_slots];
        if (stacks_.pop(half)) {
            n_moved_.fetch_sub(chain_slots, relaxed);
            std::reverse(half, half + chain_slots);
            push_chain(half);
        }
        keep(piece);
    }
}

void SlotPool::keep(std::span<const uint32_t> slots) noexcept {
    if (!slots.empty() && !stacks_.push(slots)) push_chain(slots);
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
    LARDER_ASSERT(!slots.empty() && slots.size() <= chain_slots);
    uint32_t next = none;
    for (uint32_t slot : slots) {
        link_[slot] = next;
        next = slot;
    }
    n_chained_.fetch_add(slots.size(), relaxed);
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

}  // namespace larder
