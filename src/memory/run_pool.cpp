#include "memory/run_pool.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace larder {

RunPool::RunPool(const Allocator& a, uint32_t first, uint32_t end, uint32_t n_owners, uint32_t run_blocks)
    : first_(first), end_(end), run_blocks_(run_blocks), next_(end, none, a), prev_(end, none, a),
      order_(end, not_free, a), tails_(n_owners, Tail{}, a) {
    std::fill(std::begin(heads_), std::end(heads_), none);
    give_range(first, end);
}

uint64_t RunPool::n_taken() const noexcept {
    std::lock_guard lock(mutex_);
    return n_taken_;
}

uint64_t RunPool::n_free() const noexcept {
    std::lock_guard lock(mutex_);
    return n_free_;
}

void RunPool::insert(uint32_t block, uint32_t order) noexcept {
    order_[block] = uint8_t(order);
    prev_[block] = none;
    next_[block] = heads_[order];
    if (heads_[order] != none) prev_[heads_[order]] = block;
    heads_[order] = block;
}

void RunPool::unlink(uint32_t block, uint32_t order) noexcept {
    (prev_[block] != none ? next_[prev_[block]] : heads_[order]) = next_[block];
    if (next_[block] != none) prev_[next_[block]] = prev_[block];
    order_[block] = not_free;
}

// A free run of this order, splitting a larger one; the lower half is what is used.
uint32_t RunPool::pop(uint32_t order) noexcept {
    uint32_t k = order;
    while (k <= max_order && heads_[k] == none) ++k;
    if (k > max_order) return none;
    const uint32_t block = heads_[k];
    unlink(block, k);
    while (k-- > order) insert(block + (1u << k), k);
    return block;
}

void RunPool::give_one(uint32_t block) noexcept {
    uint32_t order = 0;
    for (; order < max_order; ++order) {
        const uint32_t buddy = block ^ (1u << order);
        if (buddy < first_ || buddy >= end_ || order_[buddy] != order) break;
        unlink(buddy, order);
        block = std::min(block, buddy);
    }
    insert(block, order);
}

void RunPool::give_range(uint32_t from, uint32_t end) noexcept {
    n_free_ += end - from;
    for (; from < end; ++from) give_one(from);
}

// New room for an owner: the run it wishes for, or the largest there is.
bool RunPool::refill(Tail& t, uint32_t want) noexcept {
    uint32_t order =
        std::min<uint32_t>(max_order, uint32_t(std::bit_width(std::bit_ceil(std::max(want, run_blocks_)) - 1)));
    for (;; --order) {
        if (const uint32_t block = pop(order); block != none) {
            t = {block, block + (1u << order)};
            return true;
        }
        if (order == 0) return split_tail(t);
    }
}

// Nothing is free but what others have reserved: take the upper half of the next such tail.
bool RunPool::split_tail(Tail& t) noexcept {
    for (size_t i = 0; i < tails_.size(); ++i) {
        Tail& other = tails_[steal_from_];
        steal_from_ = uint32_t((steal_from_ + 1) % tails_.size());
        if (other.next == other.end || &other == &t) continue;
        const uint32_t half = other.next + (other.end - other.next) / 2;
        t = {half, other.end};
        other.end = half;
        return true;
    }
    return false;
}

bool RunPool::take_smallest(uint32_t& out) noexcept {
    out = pop(0);
    if (out != none) return true;
    Tail t;
    if (!split_tail(t)) return false;
    out = t.next++;
    // The rest of the tail is nobody's now. It is counted as free already.
    for (; t.next < t.end; ++t.next) give_one(t.next);
    return true;
}

bool RunPool::take(std::span<uint32_t> out, uint32_t owner) noexcept {
    std::lock_guard lock(mutex_);
    if (out.size() > n_free_) return false;
    size_t got = 0;
    while (got < out.size()) {
        if (owner == none) {
            if (!take_smallest(out[got])) break;
            ++got;
            continue;
        }
        Tail& t = tails_[owner];
        if (t.next == t.end && !refill(t, uint32_t(std::min<size_t>(out.size() - got, 1u << max_order)))) break;
        while (got < out.size() && t.next < t.end) out[got++] = t.next++;
    }
    LARDER_ASSERT(got == out.size());  // n_free_ counts exactly what can be found
    n_free_ -= got;
    n_taken_ += got;
    return true;
}

void RunPool::give(std::span<const uint32_t> blocks) noexcept {
    std::lock_guard lock(mutex_);
    n_free_ += blocks.size();
    for (uint32_t b : blocks) give_one(b);
}

void RunPool::release(uint32_t owner) noexcept {
    std::lock_guard lock(mutex_);
    Tail& t = tails_[owner];
    for (; t.next < t.end; ++t.next) give_one(t.next);
    t = {};
}

}  // namespace larder
