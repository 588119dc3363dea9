#include <cstdio>
#include <cstring>
#include <iterator>
#include <mutex>

#include "base/atomic.h"
#include "device/copy_blocks.h"
#include "device/device.h"

namespace larder {
namespace {

// Plain memory of the system. Work is done when its call returns, so streams and events order by themselves.
class HostDevice final : public Device {
  public:
    HostDevice(const Allocator& a, Os& os) noexcept : os_(os), ranges_(a) {
        const Topology& t = os.topology();
        info_.kind = DeviceKind::host;
        info_.memory_bytes = t.memory_bytes;
        info_.granularity_bytes = t.page_bytes;
        info_.host_visible = true;
        info_.can_map = t.memfd;
        std::snprintf(info_.name, sizeof info_.name, "host memory");
    }
    const DeviceInfo& info() const noexcept override { return info_; }

    Result<DevicePtr> alloc(uint64_t n_bytes) override {
        const size_t n = round_up(n_bytes);
        if (n < n_bytes)
            return fail(LARDER_E_DEVICE_NOMEM, "n_bytes", "%llu bytes do not fit the address space",
                        (unsigned long long)n_bytes);
        Result<std::byte*> p = os_.reserve(n, info_.granularity_bytes);
        if (!p.ok()) return no_memory(p.status());
        if (const larder_status s = os_.commit(*p, n, 0); s < 0) {
            os_.release(*p, n);
            return no_memory(s);
        }
        return remember(*p, n);
    }
    void free(DevicePtr p, uint64_t n_bytes) noexcept override { forget(p, round_up(n_bytes)); }

    Result<DevicePtr> reserve(uint64_t n_bytes) override {
        Result<std::byte*> p = os_.reserve(n_bytes, info_.granularity_bytes);
        if (!p.ok()) return p.status();
        return remember(*p, n_bytes);
    }
    void unreserve(DevicePtr p, uint64_t n_bytes) noexcept override { forget(p, n_bytes); }
    Result<uint64_t> page_create(uint64_t n_bytes) override {
        Result<OsHandle> h = os_.memfd("larder-page", n_bytes);
        if (!h.ok()) return h.status() == LARDER_E_NOMEM ? no_memory(h.status()) : h.status();
        return uint64_t(h->value);
    }
    void page_release(uint64_t page) noexcept override { os_.close(OsHandle{int32_t(page)}); }
    larder_status map(DevicePtr p, uint64_t n_bytes, uint64_t page, uint64_t page_offset) override {
        return os_.map_handle(pointer(p), n_bytes, OsHandle{int32_t(page)}, page_offset, true).status();
    }
    larder_status unmap(DevicePtr p, uint64_t n_bytes) override { return os_.decommit(pointer(p), n_bytes); }

    Result<StreamId> stream_create() override { return next_.fetch_add(1, relaxed); }
    void stream_destroy(StreamId) noexcept override {}
    Result<EventId> event_create() override { return next_.fetch_add(1, relaxed); }
    void event_destroy(EventId) noexcept override {}
    larder_status event_record(EventId e, StreamId s) override { return check(e && known(e) && known(s)); }
    larder_status stream_wait(StreamId s, EventId e) override { return check(e && known(e) && known(s)); }
    larder_status event_query(EventId e) override { return check(e && known(e)); }
    larder_status event_wait(EventId e) override { return check(e && known(e)); }

    Result<GateId> gate_create() override { return no_gates(); }
    void gate_open(GateId) noexcept override {}
    larder_status stream_wait_gate(StreamId, GateId) override { return no_gates(); }

    larder_status copy_in(DevicePtr dst, const void* src, uint64_t n_bytes, StreamId s) override {
        LARDER_TRY(check(known(s)));
        LARDER_TRY(check_extent(dst, n_bytes));
        if (n_bytes) std::memcpy(pointer(dst), src, n_bytes);
        return LARDER_OK;
    }
    larder_status copy_out(void* dst, DevicePtr src, uint64_t n_bytes, StreamId s) override {
        LARDER_TRY(check(known(s)));
        LARDER_TRY(check_extent(src, n_bytes));
        if (n_bytes) std::memcpy(dst, pointer(src), n_bytes);
        return LARDER_OK;
    }
    larder_status copy(DevicePtr dst, DevicePtr src, uint64_t n_bytes, StreamId s) override {
        LARDER_TRY(check_extent(src, n_bytes));
        return copy_in(dst, pointer(src), n_bytes, s);
    }
    larder_status fill_zero(DevicePtr dst, uint64_t n_bytes, StreamId s) override {
        LARDER_TRY(check(known(s)));
        LARDER_TRY(check_extent(dst, n_bytes));
        if (n_bytes) std::memset(pointer(dst), 0, n_bytes);
        return LARDER_OK;
    }
    larder_status gather(const BlockGather& g, StreamId s) override {
        LARDER_TRY(check(known(s)));
        LARDER_TRY(check_gather(g));
        for (uint32_t i = 0; i < g.n_blocks; ++i)
            if (const BlockMove m = block_move(g, i, reinterpret_cast<const int32_t*>(g.table)[i]); m.n_bytes)
                std::memcpy(pointer(m.to), pointer(m.from), m.n_bytes);
        return LARDER_OK;
    }

  private:
    Result<DevicePtr> remember(std::byte* p, size_t n_bytes) {
        try {
            std::lock_guard lock(mutex_);
            ranges_.emplace(reinterpret_cast<DevicePtr>(p), n_bytes);
        } catch (...) {
            os_.release(p, n_bytes);
            throw;
        }
        return reinterpret_cast<DevicePtr>(p);
    }
    void forget(DevicePtr p, size_t n_bytes) noexcept {
        {
            std::lock_guard lock(mutex_);
            ranges_.erase(p);
        }
        os_.release(pointer(p), n_bytes);
    }
    // What begins in memory of this device must end in it. Other memory of the process is as good, and its owner's
    // affair.
    larder_status check_extent(DevicePtr p, uint64_t n_bytes) const noexcept {
        std::lock_guard lock(mutex_);
        const auto after = ranges_.upper_bound(p);
        if (after == ranges_.begin()) return LARDER_OK;
        const auto& [begin, size] = *std::prev(after);
        if (p - begin >= size || n_bytes <= size - (p - begin)) return LARDER_OK;
        return fail(LARDER_E_INVALID, "n_bytes",
                    "%llu bytes begin in a range of the device's memory and end outside it",
                    (unsigned long long)n_bytes);
    }
    static std::byte* pointer(DevicePtr p) noexcept { return reinterpret_cast<std::byte*>(p); }
    size_t round_up(uint64_t n) const noexcept {
        return (n + info_.granularity_bytes - 1) / info_.granularity_bytes * info_.granularity_bytes;
    }
    bool known(uint64_t id) const noexcept { return id < next_.load(relaxed); }
    static larder_status check(bool good) noexcept {
        return good ? LARDER_OK : fail(LARDER_E_INVALID, "stream", "no such stream or event of this device");
    }
    static larder_status no_gates() noexcept {
        return fail(LARDER_E_UNSUPPORTED, "device", "work on the host device is done at once: nothing can be held");
    }
    // The caller asked a device: its budget is what ran out.
    static larder_status no_memory(larder_status s) noexcept {
        if (s != LARDER_E_NOMEM) return s;
        larder_error_info e = last_error();
        e.status = LARDER_E_DEVICE_NOMEM;
        set_last_error(e);
        return LARDER_E_DEVICE_NOMEM;
    }

    Os& os_;
    DeviceInfo info_;
    mutable std::mutex mutex_;
    TreeMap<DevicePtr, uint64_t> ranges_;
    atomic<uint64_t> next_{1};  // streams and events share one row of numbers
};

}  // namespace

Owned<Device> make_host_device(const Allocator& a, Os& os) {
    return make_owned<HostDevice>(a, a, os);
}

}  // namespace larder
