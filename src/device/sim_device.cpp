#include "device/sim_device.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/assert.h"
#include "device/copy_blocks.h"

namespace larder {
namespace {

// Far outside of what a CPU maps, so that following such an address faults at once.
constexpr DevicePtr first_address = 1ull << 52;
constexpr uint64_t max_accesses = 4096;

constexpr uint64_t round_to(uint64_t n, uint64_t unit) noexcept {
    return (n + unit - 1) / unit * unit;
}

SimDeviceOptions with_defaults(SimDeviceOptions o) noexcept {
    if (!o.memory_bytes) o.memory_bytes = 1ull << 30;
    if (!o.granularity_bytes) o.granularity_bytes = 2ull << 20;
    if (!o.bandwidth_bytes_per_s) o.bandwidth_bytes_per_s = 25000000000ull;
    if (!o.latency_ns) o.latency_ns = 5000;
    return o;
}

}  // namespace

larder_status SimDevice::check_options(const SimDeviceOptions& o) noexcept {
    const SimDeviceOptions d = with_defaults(o);
    const auto range = [](uint64_t v, uint64_t min, uint64_t max, const char* field) {
        return v >= min && v <= max ? LARDER_OK
                                    : fail(LARDER_E_RANGE, field, "%s is %llu; it must be %llu to %llu", field,
                                           (unsigned long long)v, (unsigned long long)min, (unsigned long long)max);
    };
    LARDER_TRY(range(d.memory_bytes, 65536, 1ull << 44, "sim_memory_bytes"));
    LARDER_TRY(range(d.granularity_bytes, 4096, 1ull << 30, "sim_granularity_bytes"));
    if (d.granularity_bytes & (d.granularity_bytes - 1))
        return fail(LARDER_E_RANGE, "sim_granularity_bytes", "sim_granularity_bytes is not a power of two");
    LARDER_TRY(range(d.bandwidth_bytes_per_s, 1000, 1ull << 50, "sim_bandwidth_bytes_per_s"));
    return range(d.latency_ns, 1, 1000000000, "sim_latency_ns");
}

SimDevice::SimDevice(const Allocator& a, Os& os, const SimDeviceOptions& o)
    : os_(os), alloc_(a), o_(with_defaults(o)), ranges_(a), reservations_(a), pages_(a), streams_(a), events_(a),
      gates_(a), work_(a), accesses_(a), host_clock_(1, 0, a), next_address_(first_address) {
    info_.kind = DeviceKind::simulated;
    info_.memory_bytes = o_.memory_bytes;
    info_.granularity_bytes = o_.granularity_bytes;
    info_.can_map = true;
    std::snprintf(info_.name, sizeof info_.name, "simulated device");
    streams_.emplace(0, Stream(a, n_lanes_++));
}

SimDevice::~SimDevice() {
    pump(UINT64_MAX);
    for (auto& [id, page] : pages_) os_.release(page.memory, page.n_bytes);
}

// --- faults and checks ----------------------------------------------------------------------------------

void SimDevice::fail_at(Fault kind, uint64_t nth, bool sticky) noexcept {
    std::lock_guard lock(mutex_);
    fault_ = kind;
    fault_nth_ = nth;
    fault_count_ = 0;
    fault_sticky_ = sticky;
}

larder_status SimDevice::enter(Fault kind) noexcept {
    if (!lost_ && fault_ != Fault::none && (fault_ == kind || fault_ == Fault::lost)) {
        ++fault_count_;
        if (fault_count_ == fault_nth_ || (fault_sticky_ && fault_count_ > fault_nth_)) {
            if (fault_ == Fault::memory)
                return fail_device(LARDER_E_DEVICE_NOMEM, 2, "", "injected fault: no device memory");
            if (fault_ == Fault::call)
                return fail_device(LARDER_E_DEVICE, 999, "", "injected fault: a call to the device failed");
            lost_ = true;
        }
    }
    return lost_ ? fail_device(LARDER_E_DEVICE_LOST, 46, "", "injected fault: the device is gone") : LARDER_OK;
}

uint64_t SimDevice::n_violations() const noexcept {
    std::lock_guard lock(mutex_);
    return n_violations_;
}

uint64_t SimDevice::n_live() const noexcept {
    std::lock_guard lock(mutex_);
    return ranges_.size() + reservations_.size() + pages_.size() + (streams_.size() - 1) + events_.size() +
           gates_.size();
}

uint64_t SimDevice::used_bytes() const noexcept {
    std::lock_guard lock(mutex_);
    return used_bytes_;
}

void SimDevice::drain() {
    std::lock_guard lock(mutex_);
    pump(UINT64_MAX);
}

void SimDevice::violation(const char* what, DevicePtr p) noexcept {
    if (n_violations_++ == 0)
        std::snprintf(first_violation_, sizeof first_violation_, "%s at device address 0x%llx", what,
                      (unsigned long long)p);
}

// --- memory ---------------------------------------------------------------------------------------------

larder_status SimDevice::add_page(uint64_t n_bytes, uint64_t& out) {
    if (n_bytes > o_.memory_bytes - used_bytes_)
        return fail_device(LARDER_E_DEVICE_NOMEM, 2, "n_bytes", "the simulated device has %llu bytes left, not %llu",
                           (unsigned long long)(o_.memory_bytes - used_bytes_), (unsigned long long)n_bytes);
    const uint64_t id = next_id_++;
    auto [it, fresh] = pages_.emplace(id, Page{nullptr, n_bytes, 0, false});
    Result<std::byte*> memory = os_.reserve(n_bytes, os_.topology().page_bytes);
    larder_status status = memory.status();
    if (memory.ok() && (status = os_.commit(*memory, n_bytes, 0)) < 0) os_.release(*memory, n_bytes);
    if (status < 0) {
        pages_.erase(it);
        return status;
    }
    it->second.memory = *memory;
    used_bytes_ += n_bytes;
    out = id;
    return LARDER_OK;
}

void SimDevice::drop_page_if_unused(uint64_t id) noexcept {
    const auto it = pages_.find(id);
    if (it == pages_.end() || it->second.n_maps || !it->second.released) return;
    os_.release(it->second.memory, it->second.n_bytes);
    used_bytes_ -= it->second.n_bytes;
    pages_.erase(it);
}

Result<DevicePtr> SimDevice::alloc(uint64_t n_bytes) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::memory));
    if (!n_bytes || n_bytes > o_.memory_bytes)
        return fail_device(LARDER_E_DEVICE_NOMEM, 2, "n_bytes", "%llu bytes are not to be had",
                           (unsigned long long)n_bytes);
    const DevicePtr p = next_address_;
    const auto it = ranges_.emplace(p, Range{n_bytes, 0, 0, true}).first;
    larder_status status = LARDER_E_NOMEM;
    try {
        status = add_page(round_to(n_bytes, os_.topology().page_bytes), it->second.page);
    } catch (...) {
        ranges_.erase(it);
        throw;
    }
    if (status < 0) {
        ranges_.erase(it);
        return status;
    }
    Page& page = pages_.find(it->second.page)->second;
    page.n_maps = 1;
    page.released = true;  // goes with its only mapping
    // Addresses are never used again, so that a stale one is seen.
    next_address_ += round_to(n_bytes, o_.granularity_bytes) + o_.granularity_bytes;
    return p;
}

void SimDevice::free(DevicePtr p, uint64_t n_bytes) noexcept {
    std::lock_guard lock(mutex_);
    const auto it = ranges_.find(p);
    if (it == ranges_.end() || !it->second.is_alloc || it->second.n_bytes != n_bytes)
        return violation("free of what was not allocated", p);
    forget(p, n_bytes, "memory was freed with work in flight");
    const uint64_t page = it->second.page;
    ranges_.erase(it);
    pages_.find(page)->second.n_maps = 0;
    drop_page_if_unused(page);
}

Result<DevicePtr> SimDevice::reserve(uint64_t n_bytes) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::memory));
    if (!n_bytes || n_bytes % o_.granularity_bytes)
        return fail(LARDER_E_INVALID, "n_bytes", "%llu is not a multiple of the granularity",
                    (unsigned long long)n_bytes);
    const DevicePtr p = round_to(next_address_, o_.granularity_bytes);
    reservations_.emplace(p, n_bytes);
    next_address_ = p + n_bytes + o_.granularity_bytes;
    return p;
}

void SimDevice::unreserve(DevicePtr p, uint64_t n_bytes) noexcept {
    std::lock_guard lock(mutex_);
    const auto it = reservations_.find(p);
    if (it == reservations_.end() || it->second != n_bytes)
        return violation("a range was unreserved that was not reserved", p);
    const auto mapped = ranges_.lower_bound(p);
    if (mapped != ranges_.end() && mapped->first < p + n_bytes)
        return violation("a range was unreserved with pages mapped", p);
    reservations_.erase(it);
}

Result<uint64_t> SimDevice::page_create(uint64_t n_bytes) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::memory));
    if (!n_bytes || n_bytes % o_.granularity_bytes)
        return fail(LARDER_E_INVALID, "n_bytes", "%llu is not a multiple of the granularity",
                    (unsigned long long)n_bytes);
    uint64_t id = 0;
    LARDER_TRY(add_page(n_bytes, id));
    return id;
}

void SimDevice::page_release(uint64_t page) noexcept {
    std::lock_guard lock(mutex_);
    const auto it = pages_.find(page);
    if (it == pages_.end() || it->second.released) return violation("a page was released twice", page);
    it->second.released = true;
    drop_page_if_unused(page);
}

larder_status SimDevice::map(DevicePtr p, uint64_t n_bytes, uint64_t page, uint64_t page_offset) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::memory));
    const auto it = pages_.find(page);
    auto r = reservations_.upper_bound(p);
    if (it == pages_.end() || it->second.released) return fail(LARDER_E_INVALID, "page", "no such page");
    if (r == reservations_.begin() || (--r, p - r->first > r->second || n_bytes > r->second - (p - r->first)))
        return fail(LARDER_E_INVALID, "ptr", "the range is not reserved");
    if (!n_bytes || (p | n_bytes | page_offset) % o_.granularity_bytes || page_offset > it->second.n_bytes ||
        n_bytes > it->second.n_bytes - page_offset)
        return fail(LARDER_E_INVALID, "n_bytes", "a mapping is whole units of the granularity inside of its page");
    const auto after = ranges_.lower_bound(p);
    if ((after != ranges_.end() && after->first < p + n_bytes) || is_mapped(p, 1))
        return fail(LARDER_E_INVALID, "ptr", "part of the range is mapped already");
    ranges_.emplace(p, Range{n_bytes, page, page_offset, false});
    ++it->second.n_maps;
    return LARDER_OK;
}

larder_status SimDevice::unmap(DevicePtr p, uint64_t n_bytes) {
    std::lock_guard lock(mutex_);
    const DevicePtr end = p + n_bytes;
    for (auto it = ranges_.lower_bound(p); it != ranges_.end() && it->first < end; ++it)
        if (it->second.is_alloc || it->first + it->second.n_bytes > end)
            return fail(LARDER_E_INVALID, "ptr", "a range is unmapped as it was mapped");
    forget(p, n_bytes, "memory was unmapped with work in flight");
    for (auto it = ranges_.lower_bound(p); it != ranges_.end() && it->first < end;) {
        const uint64_t page = it->second.page;
        it = ranges_.erase(it);
        --pages_.find(page)->second.n_maps;
        drop_page_if_unused(page);
    }
    return LARDER_OK;
}

bool SimDevice::is_mapped(DevicePtr p, uint64_t n_bytes) const noexcept {
    while (n_bytes) {
        auto it = ranges_.upper_bound(p);
        if (it == ranges_.begin()) return false;
        --it;
        const uint64_t at = p - it->first;
        if (at >= it->second.n_bytes) return false;
        const uint64_t piece = std::min(n_bytes, it->second.n_bytes - at);
        p += piece, n_bytes -= piece;
    }
    return true;
}

// --- work -----------------------------------------------------------------------------------------------

// What a piece of work reads and writes, at the time when it takes its place in the stream.
void SimDevice::touch_all(Stream& s, const Work& w) {
    switch (w.kind) {
    case Work::Kind::in:
    case Work::Kind::zero:
        return touch(s, w.dst, w.n_bytes, true);
    case Work::Kind::out:
        return touch(s, w.src, w.n_bytes, false);
    case Work::Kind::inside:
        touch(s, w.src, w.n_bytes, false);
        return touch(s, w.dst, w.n_bytes, true);
    case Work::Kind::gather:
        touch(s, w.gather.table, 4ull * w.gather.n_blocks, false);
        return touch(s, w.gather.packed, w.n_bytes, !w.gather.scatter);
    }
}

// Note an access and look for one that it may run beside.
void SimDevice::touch(Stream& s, DevicePtr p, uint64_t n_bytes, bool write) {
    if (!n_bytes) return;
    join(s.clock, host_clock_);
    if (s.clock.size() <= s.lane) s.clock.resize(s.lane + 1, 0);
    const uint64_t time = ++s.clock[s.lane];
    for (const Access& a : accesses_) {
        if (a.end <= p || a.begin >= p + n_bytes || !(a.write || write) || a.lane == s.lane) continue;
        if (a.lane < s.clock.size() && s.clock[a.lane] >= a.time) continue;
        violation("two streams use the same memory without an event between them", std::max(a.begin, p));
        break;
    }
    accesses_.push_back({p, p + n_bytes, write, s.lane, time});
    if (accesses_.size() > max_accesses) accesses_.pop_front();
}

void SimDevice::forget(DevicePtr p, uint64_t n_bytes, const char* what) noexcept {
    pump(os_.now_ns());
    const DevicePtr end = p + n_bytes;
    const auto touches = [&](DevicePtr q, uint64_t n) { return q && q < end && q + n > p; };
    const auto uses = [&](const Work& w) {
        return touches(w.dst, w.n_bytes) || touches(w.src, w.n_bytes) ||
               (w.kind == Work::Kind::gather && touches(w.gather.table, 4ull * w.gather.n_blocks));
    };
    bool busy = std::any_of(work_.begin(), work_.end(), uses);
    for (const auto& [id, st] : streams_)
        for (const Held& h : st.held) busy = busy || (h.kind == Held::Kind::work && uses(h.work));
    if (busy) {
        violation(what, p);
        pump(UINT64_MAX);
    }
    for (Access& a : accesses_)
        if (a.begin < end && a.end > p) a.begin = a.end = 0;
}

void SimDevice::pump(uint64_t now) noexcept {
    while (!work_.empty() && work_.front().done_ns <= now) {
        carry_out(work_.front());
        work_.pop_front();
    }
}

template <class F> void SimDevice::for_pieces(DevicePtr p, uint64_t n_bytes, F f) noexcept {
    for (uint64_t done = 0; done < n_bytes;) {
        auto it = ranges_.upper_bound(p + done);
        if (it == ranges_.begin() || (--it, p + done - it->first >= it->second.n_bytes))
            return violation("work on memory that is not mapped any more", p + done);
        const uint64_t at = p + done - it->first, piece = std::min(n_bytes - done, it->second.n_bytes - at);
        f(pages_.find(it->second.page)->second.memory + it->second.page_offset + at, done, piece);
        done += piece;
    }
}

void SimDevice::to_device(DevicePtr dst, const std::byte* src, uint64_t n_bytes) noexcept {
    for_pieces(dst, n_bytes, [&](std::byte* m, uint64_t at, uint64_t n) {
        src ? std::memcpy(m, src + at, n) : std::memset(m, 0, n);
    });
}

void SimDevice::from_device(std::byte* dst, DevicePtr src, uint64_t n_bytes) noexcept {
    for_pieces(src, n_bytes, [&](const std::byte* m, uint64_t at, uint64_t n) { std::memcpy(dst + at, m, n); });
}

void SimDevice::inside(DevicePtr dst, DevicePtr src, uint64_t n_bytes) noexcept {
    for_pieces(src, n_bytes, [&](std::byte* m, uint64_t at, uint64_t n) { to_device(dst + at, m, n); });
}

void SimDevice::carry_out(const Work& w) noexcept {
    switch (w.kind) {
    case Work::Kind::in:
        to_device(w.dst, static_cast<const std::byte*>(w.host_src), w.n_bytes);
        break;
    case Work::Kind::out:
        from_device(static_cast<std::byte*>(w.host_dst), w.src, w.n_bytes);
        break;
    case Work::Kind::inside:
        inside(w.dst, w.src, w.n_bytes);
        break;
    case Work::Kind::zero:
        to_device(w.dst, nullptr, w.n_bytes);
        break;
    case Work::Kind::gather:
        for (uint32_t i = 0; i < w.gather.n_blocks; ++i) {
            int32_t block = -1;
            from_device(reinterpret_cast<std::byte*>(&block), w.gather.table + 4ull * i, 4);
            if (const BlockMove m = block_move(w.gather, i, block); m.n_bytes) inside(m.to, m.from, m.n_bytes);
        }
    }
}

namespace {
larder_status no_such() noexcept {
    return fail(LARDER_E_INVALID, "stream", "no such stream or event of this device");
}

larder_status not_mapped() noexcept {
    return fail(LARDER_E_INVALID, "ptr", "the range is not memory of this device");
}
}  // namespace

larder_status SimDevice::copy_in(DevicePtr dst, const void* src, uint64_t n_bytes, StreamId s) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::call));
    if (!stream(s)) return no_such();
    if (!is_mapped(dst, n_bytes)) return not_mapped();
    return give(s, {.kind = Work::Kind::in, .dst = dst, .host_src = src, .n_bytes = n_bytes}, n_bytes,
                o_.bandwidth_bytes_per_s);
}

larder_status SimDevice::copy_out(void* dst, DevicePtr src, uint64_t n_bytes, StreamId s) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::call));
    if (!stream(s)) return no_such();
    if (!is_mapped(src, n_bytes)) return not_mapped();
    return give(s, {.kind = Work::Kind::out, .src = src, .host_dst = dst, .n_bytes = n_bytes}, n_bytes,
                o_.bandwidth_bytes_per_s);
}

larder_status SimDevice::copy(DevicePtr dst, DevicePtr src, uint64_t n_bytes, StreamId s) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::call));
    if (!stream(s)) return no_such();
    if (!is_mapped(src, n_bytes) || !is_mapped(dst, n_bytes)) return not_mapped();
    return give(s, {.kind = Work::Kind::inside, .dst = dst, .src = src, .n_bytes = n_bytes}, n_bytes,
                10 * o_.bandwidth_bytes_per_s);
}

larder_status SimDevice::fill_zero(DevicePtr dst, uint64_t n_bytes, StreamId s) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::call));
    if (!stream(s)) return no_such();
    if (!is_mapped(dst, n_bytes)) return not_mapped();
    return give(s, {.kind = Work::Kind::zero, .dst = dst, .n_bytes = n_bytes}, n_bytes, 10 * o_.bandwidth_bytes_per_s);
}

larder_status SimDevice::gather(const BlockGather& g, StreamId s) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(enter(Fault::call));
    LARDER_TRY(check_gather(g));
    if (!stream(s)) return no_such();
    const uint64_t packed_bytes = g.n_blocks * g.block_bytes;
    if (!is_mapped(g.table, 4ull * g.n_blocks) || !is_mapped(g.packed, packed_bytes)) return not_mapped();
    const bool to_packed = !g.scatter;
    return give(s,
                {.kind = Work::Kind::gather,
                 .dst = to_packed ? g.packed : g.pool,
                 .src = to_packed ? g.pool : g.packed,
                 .n_bytes = packed_bytes,
                 .gather = g},
                packed_bytes, 10 * o_.bandwidth_bytes_per_s);
}

}  // namespace larder
