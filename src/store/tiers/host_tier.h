// The host tier's memory: payloads in huge-page slabs, cut by powers of two.
//
// A payload is a list of pieces, the largest first, so that any free piece serves somebody and nothing is ever moved:
// the free bytes can always be used.
#pragma once

#include <algorithm>

#include "base/alloc.h"
#include "base/bytes.h"
#include "memory/slab_pool.h"
#include "store/object.h"

namespace larder {

// A payload's pieces. Empty: not in this tier.
using HostExtent = Vec<uint32_t>;

// Not synchronised: the store's table mutex guards it. The bytes themselves are copied outside of that mutex.
class HostTier {
  public:
    static constexpr uint64_t unit_bytes = 4096;
    static constexpr uint32_t n_orders = 10;  // 4 KiB to 2 MiB

    HostTier(larder_context& c, uint64_t capacity_bytes);
    ~HostTier();
    HostTier(const HostTier&) = delete;

    static constexpr uint64_t rounded(uint64_t n_bytes) noexcept {
        return (n_bytes + unit_bytes - 1) / unit_bytes * unit_bytes;
    }
    bool room(uint64_t n_bytes) const noexcept { return rounded(n_bytes) <= capacity_ - used_; }
    // E_NOSPACE without room; E_NOMEM when the system has none. Strong against bad_alloc.
    larder_status alloc(uint64_t n_bytes, HostExtent& out);
    void free(HostExtent& extent) noexcept;
    // Give back what is behind the first n_bytes. The extent has room for n_orders more pieces.
    void shrink(HostExtent& extent, uint64_t n_bytes) noexcept;

    // The memory of a payload of n_bytes, piece by piece.
    template <class F> void for_each(const HostExtent& e, uint64_t n_bytes, F f) const {
        for (uint32_t piece : e) {
            const uint64_t n = std::min<uint64_t>(n_bytes, piece_bytes(piece));
            f(address(piece), n);
            n_bytes -= n;
        }
    }
    uint64_t capacity_bytes() const noexcept { return capacity_; }
    uint64_t used_bytes() const noexcept { return used_; }
    // Free lists and pieces add up. For verify().
    bool consistent() const noexcept;

  private:
    // A piece: first unit (28 bits), order (4 bits): 2^order units.
    static constexpr uint32_t units_per_slab = 1u << (n_orders - 1);
    static constexpr uint8_t not_free = 0xff;
    static constexpr uint64_t piece_bytes(uint32_t piece) noexcept { return unit_bytes << (piece & 15); }
    struct Link {  // stands in the free memory itself
        uint32_t prev, next;
    };

    std::byte* unit(uint32_t i) const noexcept { return slabs_[i / units_per_slab] + i % units_per_slab * unit_bytes; }
    std::byte* address(uint32_t piece) const noexcept { return unit(piece >> 4); }
    Link& link(uint32_t i) const noexcept { return *reinterpret_cast<Link*>(unit(i)); }
    void push(uint32_t i, uint32_t order) noexcept;
    void unlink(uint32_t i, uint32_t order) noexcept;
    uint32_t take(uint32_t order) noexcept;
    void free_piece(uint32_t piece) noexcept;
    larder_status add_slab();

    const uint64_t capacity_;
    uint64_t used_ = 0;
    SlabPool pool_;
    Vec<std::byte*> slabs_;
    Vec<uint8_t> free_order_;  // of each unit that begins a free piece
    uint32_t heads_[n_orders];
};

}  // namespace larder
