// The pool of states behind larder/state.h: ids, each naming a slot; slots, each counted by the ids that name it.
#pragma once

#include <mutex>
#include <span>

#include "base/ids.h"
#include "core/context.h"
#include "larder/state.h"

struct larder_states final : larder::Handle {
    larder_states(larder_context& c, const larder_states_options& o);
    ~larder_states();
    static larder_status create(larder_context& c, const larder_states_options* options, larder_states** out);

    larder_status alloc(std::span<uint64_t> out) noexcept;
    larder_status free(std::span<const uint64_t> ids) noexcept;
    larder_status fork(uint64_t state, std::span<uint64_t> out, bool frozen) noexcept;
    larder_status get(uint64_t state, const void** out) noexcept;
    larder_status write(uint64_t state, void** out) noexcept;
    larder_status add(uint64_t dst, const uint64_t* srcs, uint32_t n) noexcept;
    larder_status checksum(uint64_t state, uint32_t& out) noexcept;
    void query(larder_states_state& out) const noexcept;
    larder_status verify();

  private:
    static constexpr uint32_t none = UINT32_MAX;
    static constexpr uint32_t max_summands = 256;
    struct Entry {
        uint32_t slot = none;  // none: the id is free
        uint32_t generation = 0;
        uint32_t n_uses = 0;
        bool frozen = false;
    };

    std::byte* at(uint32_t slot) const noexcept { return memory_ + slot * stride_; }
    Entry* find(uint64_t state) noexcept;
    larder_status stale() const noexcept;
    uint64_t name(uint32_t slot, bool frozen) noexcept;
    void drop_slot(uint32_t slot) noexcept;
    larder_status slot_of(uint64_t state, uint32_t& slot) noexcept;

    mutable std::mutex mutex_;
    const larder_states_options o_;
    const uint64_t stride_;
    uint64_t memory_bytes_ = 0, n_copies_ = 0;
    std::byte* memory_ = nullptr;
    larder::Vec<Entry> entries_;
    larder::Vec<uint32_t> free_entries_, free_slots_, refs_;
    uint32_t n_retired_ = 0;  // ids that have used all their generations
};
