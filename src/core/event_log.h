// A log of the newest events (larder/event.h): a ring that any number of threads append to and read.
#pragma once

#include "base/alloc.h"
#include "base/atomic.h"
#include "base/result.h"
#include "larder/event.h"

namespace larder {

class EventLog {
  public:
    static constexpr uint64_t max_events = uint64_t(1) << 24;

    // E_RANGE, E_INVALID (not a power of two). 0 is fine: no log.
    static larder_status check(uint64_t n_events) noexcept;

    EventLog(const Allocator& a, uint64_t n_events) : slots_(size_t(n_events), a) {}

    bool on() const noexcept { return !slots_.empty(); }
    // Numbers the event and makes it known. Events that must come in an order are appended by whoever holds what orders
    // them; what an event tells must be so before it is appended (or the snapshots of others would miss it).
    void append(larder_event& e) noexcept;
    // A cursor behind everything appended so far.
    uint64_t newest() const noexcept { return newest_.load(acquire); }
    // As larder_prefix_events_read(). Elements are `stride` bytes apart and filled to that size.
    larder_status read(uint64_t& cursor, larder_event* out, uint32_t stride, uint64_t n,
                       uint64_t& out_n) const noexcept;

  private:
    static constexpr uint32_t n_words = sizeof(larder_event) / sizeof(uint64_t);
    // stamp: 2s when event s stands here, 2s - 1 while it is being written.
    struct alignas(64) Slot {
        atomic<uint64_t> stamp{0};
        uint64_t words[n_words];
    };
    bool copy(uint64_t sequence, larder_event& out, bool& out_lost) const noexcept;

    Vec<Slot> slots_;
    alignas(64) atomic<uint64_t> newest_{0};
};

// Fill one element of a caller's array.
void write_event(larder_event* out, uint32_t stride, const larder_event& e) noexcept;
inline larder_event* event_at(larder_event* out, uint32_t stride, uint64_t i) noexcept {
    return reinterpret_cast<larder_event*>(reinterpret_cast<std::byte*>(out) + size_t(i) * stride);
}
larder_status check_event_stride(uint32_t stride) noexcept;

}  // namespace larder
