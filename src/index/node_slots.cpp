#include "index/node_slots.h"

#include <cstring>

namespace larder {

static constexpr uint64_t retagged(uint64_t head, uint32_t id) noexcept {
    return ((head >> 32) + 1) << 32 | id;
}

NodeSlots::NodeSlots(larder_context& c, SlabPool& slabs, uint32_t slot_bytes, uint32_t link_offset)
    : alloc_(c.alloc), slabs_(slabs), slot_shift_(uint32_t(std::countr_zero(slot_bytes))),
      slots_shift_(uint32_t(std::countr_zero(SlabPool::slab_bytes / slot_bytes))),
      slots_mask_((1u << slots_shift_) - 1), link_offset_(link_offset), directories_(c.alloc) {}

NodeSlots::~NodeSlots() {
    reset();
    for (auto& d : directories_) alloc_.free(d.p, d.capacity * sizeof(Directory), alignof(Directory));
}

Result<uint32_t> NodeSlots::alloc() noexcept {
    uint64_t head = free_head_.load(acquire);
    while (uint32_t id = uint32_t(head)) {
        // The slot may be taken and reused meanwhile: then the link is garbage, and the tag makes the exchange fail.
        const uint32_t next = load_at(reinterpret_cast<uint32_t*>(at(id) + link_offset_));
        if (free_head_.compare_exchange_weak(head, retagged(head, next), acq_rel, acquire)) {
            n_free_.fetch_sub(1, relaxed);
            return id;
        }
    }
    uint32_t id = next_fresh_.load(relaxed);
    for (;;) {
        if (id >= limit_.load(acquire)) {
            LARDER_TRY(grow());
            id = next_fresh_.load(relaxed);
        } else if (next_fresh_.compare_exchange_weak(id, id + 1, acq_rel, relaxed)) {
            return id;
        }
    }
}

void NodeSlots::free(uint32_t id) noexcept {
    auto* link = reinterpret_cast<uint32_t*>(at(id) + link_offset_);
    n_free_.fetch_add(1, relaxed);
    uint64_t head = free_head_.load(relaxed);
    do {
        store_at(link, uint32_t(head));
    } while (!free_head_.compare_exchange_weak(head, retagged(head, id), acq_rel, relaxed));
}

larder_status NodeSlots::grow_directory(uint32_t needed) {
    const uint32_t capacity = directories_.empty() ? 0 : directories_.back().capacity;
    if (needed <= capacity) return LARDER_OK;
    const uint32_t bigger = std::max(64u, 2 * capacity);
    directories_.reserve(directories_.size() + 1);
    auto* d = static_cast<Directory*>(alloc_.alloc(bigger * sizeof(Directory), alignof(Directory)));
    std::memset(d, 0, bigger * sizeof(Directory));
    if (capacity) std::memcpy(d, directory_.load(relaxed), capacity * sizeof(Directory));
    directories_.push_back({d, bigger});
    directory_.store(d, release);
    return LARDER_OK;
}

larder_status NodeSlots::grow() noexcept {
    std::lock_guard lock(grow_mutex_);
    const uint32_t n = n_slabs_.load(relaxed);
    if (next_fresh_.load(relaxed) < limit_.load(relaxed)) return LARDER_OK;
    if (n >= (UINT32_MAX >> slots_shift_)) return fail(LARDER_E_NOSPACE, "", "all 2^32 slots are in use");
    try {
        LARDER_TRY(grow_directory(n + 1));
        LARDER_ASSIGN(std::byte * slab, slabs_.take(true));
        store_at(directory_.load(relaxed) + n, slab, release);
    } catch (const std::bad_alloc&) {
        return fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    }
    n_slabs_.store(n + 1, relaxed);
    limit_.store((n + 1) << slots_shift_, release);
    return LARDER_OK;
}

void NodeSlots::reset() noexcept {
    for (uint32_t i = 0; i < n_slabs_.load(relaxed); ++i) slabs_.give_back(slab_of(i));
    n_slabs_.store(0, relaxed);
    n_free_.store(0, relaxed);
    free_head_.store(0, relaxed);
    next_fresh_.store(1, relaxed);
    limit_.store(1, relaxed);
}

void NodeSlots::mark_free(Vec<uint8_t>& marks) const {
    marks.assign(end(), 0);
    uint64_t seen = 0;
    for (uint32_t id = uint32_t(free_head_.load(acquire)); id && id < marks.size() && seen <= marks.size(); ++seen) {
        marks[id] = 1;
        id = load_at(reinterpret_cast<uint32_t*>(at(id) + link_offset_));
    }
}

}  // namespace larder
