// Huge-page slabs: the fast memory that index, arenas and store share.
//
// A slab is 2 MiB, aligned to 2 MiB, asked for as one huge page. Slabs are recycled without being given back to the
// system; trim() gives idle ones back.
#pragma once

#include <cstddef>
#include <mutex>

#include "base/alloc.h"
#include "core/context.h"

namespace larder {

class SlabPool {
  public:
    static constexpr size_t slab_bytes = size_t(2) << 20;

    // Internally synchronised. The context's LARDER_PARAM_HUGE_PAGES is read once, here.
    // At most max_bytes (rounded down to slabs, at least one) are held at any time.
    SlabPool(larder_context& c, uint64_t max_bytes);
    ~SlabPool();
    SlabPool(const SlabPool&) = delete;

    // One slab. Its contents are arbitrary unless `zeroed`. E_NOSPACE at the budget, E_NOMEM when the system has none.
    Result<std::byte*> take(bool zeroed);
    // A run of n contiguous slabs; given back as a whole with the same n.
    Result<std::byte*> take_run(size_t n_slabs, bool zeroed);
    void give_back(std::byte* slab, size_t n_slabs = 1) noexcept;
    // Return idle memory to the system until at most keep_bytes are idle.
    void trim(uint64_t keep_bytes) noexcept;

    uint64_t held_bytes() const noexcept;
    uint64_t idle_bytes() const noexcept;

  private:
    struct Run {
        std::byte* p;
        size_t n_slabs;
    };
    std::byte* pop_idle(size_t n_slabs) noexcept;
    void drop_newest_idle() noexcept;
    Result<std::byte*> map_run(uint64_t n_bytes);

    larder_context& context_;
    const uint64_t max_bytes_;
    const uint32_t map_flags_;
    mutable std::mutex mutex_;
    Vec<Run> idle_;      // has capacity for every live run
    size_t n_runs_ = 0;  // live: taken and idle
    uint64_t held_bytes_ = 0, idle_bytes_ = 0;
};

}  // namespace larder
