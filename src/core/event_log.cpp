#include "core/event_log.h"

#include <bit>
#include <cstring>

#include "base/options.h"

namespace larder {

static_assert(sizeof(larder_event) % sizeof(uint64_t) == 0);

larder_status EventLog::check(uint64_t n_events) noexcept {
    LARDER_TRY(check_range(n_events, 0, max_events, "n_events"));
    if (!n_events || std::has_single_bit(n_events)) return LARDER_OK;
    return fail(LARDER_E_INVALID, "n_events", "n_events %llu is not a power of two", (unsigned long long)n_events);
}

void EventLog::append(larder_event& e) noexcept {
    const uint64_t s = e.sequence = newest_.fetch_add(1, acq_rel) + 1, n = slots_.size();
    Slot& slot = slots_[size_t(s & (n - 1))];
    // Whoever wrote here a round ago has nearly always finished long since.
    const uint64_t before = s > n ? 2 * (s - n) : 0;
    while (slot.stamp.load(acquire) != before) cpu_relax();
    slot.stamp.store(2 * s - 1, relaxed);
    fence(release);
    uint64_t words[n_words];
    std::memcpy(words, &e, sizeof words);
    for (uint32_t i = 0; i < n_words; ++i) store_at(slot.words + i, words[i]);
    slot.stamp.store(2 * s, release);
}

// False when the event is not there: not yet, or (out_lost) not any more.
bool EventLog::copy(uint64_t sequence, larder_event& out, bool& out_lost) const noexcept {
    const Slot& slot = slots_[size_t(sequence & (slots_.size() - 1))];
    const uint64_t stamp = slot.stamp.load(acquire);
    out_lost = stamp > 2 * sequence;
    if (stamp != 2 * sequence) return false;
    uint64_t words[n_words];
    for (uint32_t i = 0; i < n_words; ++i) words[i] = load_at(slot.words + i);
    fence(acquire);
    out_lost = slot.stamp.load(relaxed) != stamp;
    std::memcpy(&out, words, sizeof out);
    return !out_lost;
}

larder_status EventLog::read(uint64_t& cursor, larder_event* out, uint32_t stride, uint64_t n,
                             uint64_t& out_n) const noexcept {
    out_n = 0;
    if (!on()) return fail(LARDER_E_STATE, "n_events", "no log of events is kept: n_events was 0");
    const uint64_t end = newest();
    if (cursor > end)
        return fail(LARDER_E_RANGE, "cursor", "the cursor is %llu; there have been %llu events",
                    (unsigned long long)cursor, (unsigned long long)end);
    bool lost = end - cursor > slots_.size();
    larder_event e;
    while (!lost && out_n < n && cursor < end && copy(cursor + 1, e, lost)) {
        write_event(event_at(out, stride, out_n++), stride, e);
        ++cursor;
    }
    if (!lost || out_n) return LARDER_OK;
    return fail(LARDER_E_STALE, "cursor", "events from %llu on were overwritten; the log keeps %llu of %llu",
                (unsigned long long)cursor + 1, (unsigned long long)slots_.size(), (unsigned long long)newest());
}

void write_event(larder_event* out, uint32_t stride, const larder_event& e) noexcept {
    std::memset(out, 0, stride);
    std::memcpy(out, &e, std::min<size_t>(stride, sizeof e));
}

larder_status check_event_stride(uint32_t stride) noexcept {
    if (stride >= 8 && stride % 8 == 0 && stride <= 65536) return LARDER_OK;
    return fail(LARDER_E_INVALID, "stride", "stride is %u; it must be sizeof(larder_event)", stride);
}

}  // namespace larder
