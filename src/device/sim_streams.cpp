// Streams, events and gates of the simulated device.
#include <algorithm>

#include "device/sim_device.h"

namespace larder {

namespace {
larder_status no_such() noexcept {
    return fail(LARDER_E_INVALID, "stream", "no such stream, event or gate of this device");
}
}  // namespace

void SimDevice::join(Clock& a, const Clock& b) {
    if (a.size() < b.size()) a.resize(b.size(), 0);
    for (size_t i = 0; i < b.size(); ++i) a[i] = std::max(a[i], b[i]);
}

SimDevice::Stream* SimDevice::stream(StreamId s) noexcept {
    const auto it = streams_.find(s);
    return it == streams_.end() || it->second.destroyed ? nullptr : &it->second;
}

Result<StreamId> SimDevice::stream_create() {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::call));
    const StreamId id = next_id_++;
    streams_.emplace(id, Stream(alloc_, n_lanes_));
    ++n_lanes_;
    return id;
}

void SimDevice::stream_destroy(StreamId s) noexcept {
    std::lock_guard lock(mutex_);
    Stream* st = s ? stream(s) : nullptr;
    if (!st) return violation("destroy of what is not a stream", s);
    st->destroyed = true;
    if (st->held.empty()) streams_.erase(s);
}

Result<EventId> SimDevice::event_create() {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::call));
    const EventId id = next_id_++;
    events_.emplace(id, Event{.clock = Clock(alloc_)});
    return id;
}

void SimDevice::event_destroy(EventId e) noexcept {
    std::lock_guard lock(mutex_);
    if (!events_.erase(e)) violation("destroy of what is not an event", e);
}

larder_status SimDevice::event_record(EventId e, StreamId s) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::call));
    Stream* st = stream(s);
    const auto it = events_.find(e);
    if (!st || it == events_.end()) return no_such();
    const Held record{Held::Kind::record, e};
    if (st->held.empty()) {
        pass(*st, record);
    } else {
        st->held.push_back(record);
        ++it->second.n_held;
    }
    return LARDER_OK;
}

larder_status SimDevice::stream_wait(StreamId s, EventId e) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::call));
    Stream* st = stream(s);
    if (!st || events_.find(e) == events_.end()) return no_such();
    const Held wait{Held::Kind::wait_event, e};
    if (!st->held.empty() || !pass(*st, wait)) st->held.push_back(wait);
    return LARDER_OK;
}

larder_status SimDevice::event_query(EventId e) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::call));
    const auto it = events_.find(e);
    if (it == events_.end()) return no_such();
    const uint64_t now = os_.now_ns();
    pump(now);
    if (it->second.n_held || it->second.done_ns > now) return LARDER_PENDING;
    join(host_clock_, it->second.clock);
    return LARDER_OK;
}

larder_status SimDevice::event_wait(EventId e) {
    constexpr uint64_t slice_ns = 1000000;  // of a wait behind a gate: nobody knows how long
    for (;;) {
        const larder_status s = event_query(e);
        if (s != LARDER_PENDING) return s;
        std::unique_lock lock(mutex_);
        const auto it = events_.find(e);
        if (it == events_.end()) return no_such();
        const uint64_t now = os_.now_ns(), done = it->second.n_held ? now + slice_ns : it->second.done_ns;
        lock.unlock();
        if (done > now) os_.sleep_ns(done - now);
    }
}

Result<GateId> SimDevice::gate_create() {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::call));
    const GateId id = next_id_++;
    gates_.emplace(id, false);
    return id;
}

void SimDevice::gate_open(GateId gate) noexcept {
    std::lock_guard lock(mutex_);
    if (!gates_.erase(gate)) return violation("opening of what is not a closed gate", gate);
    try {
        pass_held();
    } catch (const std::bad_alloc&) {
        lost_ = true;  // what was promised to the streams cannot be kept
    }
}

larder_status SimDevice::stream_wait_gate(StreamId s, GateId gate) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::call));
    Stream* st = stream(s);
    if (!st || !gate || gate >= next_id_) return no_such();
    const Held wait{Held::Kind::wait_gate, gate};
    if (!st->held.empty() || !pass(*st, wait)) st->held.push_back(wait);
    return LARDER_OK;
}

larder_status SimDevice::give(StreamId s, Work w, uint64_t n_bytes, uint64_t bandwidth) {
    Stream& st = *stream(s);
    const uint64_t cost_ns = o_.latency_ns + uint64_t(double(n_bytes) * 1e9 / double(bandwidth));
    if (st.held.empty())
        issue(st, w, cost_ns);
    else
        st.held.push_back({Held::Kind::work, 0, w, cost_ns});
    return LARDER_OK;
}

void SimDevice::issue(Stream& st, Work w, uint64_t cost_ns) {
    touch_all(st, w);
    w.done_ns = std::max(os_.now_ns(), st.ready_ns) + cost_ns;
    w.seq = next_seq_++;
    const auto at = std::upper_bound(work_.begin(), work_.end(), w,
                                     [](const Work& a, const Work& b) { return a.done_ns < b.done_ns; });
    work_.insert(at, w);
    st.ready_ns = w.done_ns;
}

// The stream goes on over h; false: h still holds it.
bool SimDevice::pass(Stream& st, const Held& h) {
    const auto event = events_.find(h.id);
    switch (h.kind) {
    case Held::Kind::work:
        issue(st, h.work, h.cost_ns);
        return true;
    case Held::Kind::record:
        if (event == events_.end()) return true;  // destroyed meanwhile
        join(st.clock, host_clock_);
        event->second.clock = st.clock;
        event->second.done_ns = st.ready_ns;
        return true;
    case Held::Kind::wait_event:
        if (event == events_.end()) return true;
        if (event->second.n_held) return false;
        join(st.clock, event->second.clock);
        st.ready_ns = std::max(st.ready_ns, event->second.done_ns);
        return true;
    case Held::Kind::wait_gate:
        if (gates_.find(h.id) != gates_.end()) return false;
        st.ready_ns = std::max(st.ready_ns, os_.now_ns());
        return true;
    }
    return true;
}

// A gate has opened. What passes may let others pass: events that were held.
void SimDevice::pass_held() {
    for (bool moved = true; moved;) {
        moved = false;
        for (auto it = streams_.begin(); it != streams_.end();) {
            Stream& st = it->second;
            while (!st.held.empty() && pass(st, st.held.front())) {
                const Held h = st.held.front();
                st.held.pop_front();
                moved = true;
                if (h.kind != Held::Kind::record) continue;
                if (const auto e = events_.find(h.id); e != events_.end()) --e->second.n_held;
            }
            it = st.destroyed && st.held.empty() ? streams_.erase(it) : std::next(it);
        }
    }
}

}  // namespace larder
