#include "store/tiers/host_tier.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace larder {

HostTier::HostTier(larder_context& c, uint64_t capacity_bytes)
    : capacity_(capacity_bytes / unit_bytes * unit_bytes),
      pool_(c, (capacity_ + SlabPool::slab_bytes - 1) / SlabPool::slab_bytes * SlabPool::slab_bytes), slabs_(c.alloc),
      free_order_(c.alloc) {
    std::fill(std::begin(heads_), std::end(heads_), no_slot);
    // Addresses are looked up without the mutex: the array must never move.
    slabs_.reserve((capacity_ + SlabPool::slab_bytes - 1) / SlabPool::slab_bytes);
}

HostTier::~HostTier() {
    for (std::byte* slab : slabs_) pool_.give_back(slab);
}

void HostTier::push(uint32_t i, uint32_t order) noexcept {
    link(i) = {no_slot, heads_[order]};
    if (heads_[order] != no_slot) link(heads_[order]).prev = i;
    heads_[order] = i;
    free_order_[i] = uint8_t(order);
}

void HostTier::unlink(uint32_t i, uint32_t order) noexcept {
    const Link l = link(i);
    (l.prev == no_slot ? heads_[order] : link(l.prev).next) = l.next;
    if (l.next != no_slot) link(l.next).prev = l.prev;
    free_order_[i] = not_free;
}

larder_status HostTier::add_slab() {
    free_order_.resize((slabs_.size() + 1) * size_t(units_per_slab), not_free);
    LARDER_ASSIGN(std::byte* const slab, pool_.take(false));
    slabs_.push_back(slab);
    push(uint32_t(slabs_.size() - 1) * units_per_slab, n_orders - 1);
    return LARDER_OK;
}

// A piece of 2^order units, split off the smallest larger one; failing that, the largest smaller one. The order stands
// in the low bits.
uint32_t HostTier::take(uint32_t order) noexcept {
    uint32_t from = order;
    while (from < n_orders && heads_[from] == no_slot) ++from;
    if (from == n_orders) {
        while (order > 0 && heads_[order - 1] == no_slot) --order;
        if (order == 0) return no_slot;
        from = --order;
    }
    const uint32_t i = heads_[from];
    unlink(i, from);
    while (from > order) {
        --from;
        push(i + (1u << from), from);
    }
    return i << 4 | order;
}

larder_status HostTier::alloc(uint64_t n_bytes, HostExtent& out) {
    LARDER_ASSERT(out.empty());
    if (!room(n_bytes))
        return fail(LARDER_E_NOSPACE, "host_bytes", "the host tier has no room for %llu bytes",
                    (unsigned long long)n_bytes);
    uint64_t left = rounded(n_bytes) / unit_bytes;
    // As many whole slabs as can be, then the binary digits of the rest; small free pieces may make it more.
    out.reserve(left / units_per_slab + n_orders);
    while (left) {
        const uint32_t order = std::min<uint32_t>(uint32_t(std::bit_width(left)) - 1, n_orders - 1);
        uint32_t piece = no_slot;
        // New memory only where recycled memory does not do.
        for (uint32_t o = order; o < n_orders && piece == no_slot; ++o)
            if (heads_[o] != no_slot) piece = take(order);
        if (piece == no_slot && slabs_.size() * SlabPool::slab_bytes < capacity_) {
            const larder_status status = add_slab();
            if (status >= 0) piece = take(order);
        }
        if (piece == no_slot) piece = take(order);
        if (piece == no_slot) {
            free(out);
            return fail(LARDER_E_NOMEM, "host_bytes", "the system gave no memory for the host tier");
        }
        try {
            out.push_back(piece);
        } catch (...) {
            used_ += piece_bytes(piece);
            free_piece(piece);
            free(out);
            throw;
        }
        used_ += piece_bytes(piece);
        left -= piece_bytes(piece) / unit_bytes;
    }
    return LARDER_OK;
}

void HostTier::free_piece(uint32_t piece) noexcept {
    used_ -= piece_bytes(piece);
    uint32_t i = piece >> 4, order = piece & 15;
    // Join with the buddy as far as it is free.
    while (order < n_orders - 1) {
        const uint32_t buddy = i ^ (1u << order);
        if (free_order_[buddy] != order) break;
        unlink(buddy, order);
        i &= ~(1u << order);
        ++order;
    }
    push(i, order);
}

void HostTier::free(HostExtent& extent) noexcept {
    for (uint32_t piece : extent) free_piece(piece);
    HostExtent(extent.get_allocator()).swap(extent);
}

void HostTier::shrink(HostExtent& extent, uint64_t n_bytes) noexcept {
    uint64_t left = rounded(n_bytes);
    size_t k = 0;
    while (k < extent.size() && piece_bytes(extent[k]) <= left) left -= piece_bytes(extent[k++]);
    if (k == extent.size()) return;
    for (size_t i = k + 1; i < extent.size(); ++i) free_piece(extent[i]);
    uint32_t rest = extent[k];
    extent.resize(k);
    // What is left of the piece in which the end falls, half by half.
    while (left) {
        const uint32_t order = (rest & 15) - 1, first = rest >> 4;
        const uint32_t low = first << 4 | order, high = (first + (1u << order)) << 4 | order;
        if (left < piece_bytes(low)) {
            free_piece(high);
            rest = low;
        } else {
            extent.push_back(low);
            left -= piece_bytes(low);
            rest = high;
        }
    }
    free_piece(rest);
}

bool HostTier::consistent() const noexcept {
    uint64_t free_bytes = 0;
    for (uint32_t order = 0; order < n_orders; ++order)
        for (uint32_t i = heads_[order]; i != no_slot; i = link(i).next) {
            if (free_order_[i] != order) return false;
            free_bytes += unit_bytes << order;
        }
    return free_bytes + used_ == slabs_.size() * SlabPool::slab_bytes;
}

}  // namespace larder
