// Fixed-size slots in huge-page slabs, named by 32-bit ids. Slots are type-stable: a freed one keeps its bytes, is
// handed out again at once, and its memory stays readable for the pool's lifetime, so that an optimistic reader with a
// stale id reads old bytes, never unmapped ones.
#pragma once

#include <bit>
#include <mutex>

#include "base/atomic.h"
#include "memory/slab_pool.h"

namespace larder {

class NodeSlots {
  public:
    // slot_bytes: a power of two up to a slab. link_offset: a uint32_t inside the slot that the pool may use while the
    // slot is free.
    NodeSlots(larder_context& c, SlabPool& slabs, uint32_t slot_bytes, uint32_t link_offset);
    ~NodeSlots();
    NodeSlots(const NodeSlots&) = delete;

    // Never 0. A slot's bytes are zero the first time, afterwards what its last user left (except the link). E_NOSPACE,
    // E_NOMEM.
    Result<uint32_t> alloc() noexcept;
    void free(uint32_t id) noexcept;

    std::byte* at(uint32_t id) const noexcept {
        return slab_of(id >> slots_shift_) + (size_t(id & slots_mask_) << slot_shift_);
    }
    // The same with the geometry known at compile time.
    template <uint32_t SlotBytes> std::byte* at_fixed(uint32_t id) const noexcept {
        constexpr uint32_t slots = uint32_t(SlabPool::slab_bytes / SlotBytes);
        return slab_of(id / slots) + size_t(id % slots) * SlotBytes;
    }

    // Ids 1 .. end()-1 have been handed out at least once.
    uint32_t end() const noexcept { return next_fresh_.load(acquire); }
    uint64_t n_free() const noexcept { return n_free_.load(relaxed); }
    uint64_t memory_bytes() const noexcept { return uint64_t(n_slabs_.load(relaxed)) * SlabPool::slab_bytes; }
    // Forget all slots and give every slab back. No reader may be about.
    void reset() noexcept;
    // Whether a slot is on the free list, for all slots at once: marks[id] is set for free ones. Quiescent use only.
    void mark_free(Vec<uint8_t>& marks) const;

  private:
    using Directory = std::byte*;
    std::byte* slab_of(uint32_t i) const noexcept { return load_at(directory_.load(acquire) + i); }
    larder_status grow() noexcept;
    larder_status grow_directory(uint32_t needed);

    Allocator alloc_;
    SlabPool& slabs_;
    const uint32_t slot_shift_, slots_shift_, slots_mask_, link_offset_;
    atomic<Directory*> directory_{nullptr};
    alignas(64) atomic<uint64_t> free_head_{0};  // {tag 32, id 32}: the tag makes a recycled head differ
    atomic<uint64_t> n_free_{0};
    alignas(64) atomic<uint32_t> next_fresh_{1};
    atomic<uint32_t> limit_{1};  // ids below it have memory
    atomic<uint32_t> n_slabs_{0};
    std::mutex grow_mutex_;
    struct OldDirectory {
        Directory* p;
        uint32_t capacity;
    };
    Vec<OldDirectory> directories_;  // all ever made; readers may still look at an old one
};

}  // namespace larder
