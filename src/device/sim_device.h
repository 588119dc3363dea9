// A simulated accelerator: memory that the CPU cannot follow, mapping by granularity, streams that take time on the
// system's clock.
//
// Work is carried out when its time has come, not when it was given: who forgets to wait reads old bytes. Finish times
// are known when work is given (the stream's last finish, or the event's it waits for, plus latency and bytes over
// bandwidth), so with a simulated clock everything repeats. Every access to device memory is checked against earlier
// ones by vector clocks: two accesses of different streams to the same bytes, one of them a write, without an event
// between them are a violation, as is freeing or unmapping memory with work in flight. Violations are counted and the
// first is described.
#pragma once

#include <mutex>

#include "device/device.h"

namespace larder {

class SimDevice final : public Device {
  public:
    enum class Fault {
        none,
        memory,  // alloc, reserve, page_create, map: E_DEVICE_NOMEM
        call,    // any call that gives work or makes a stream or event: E_DEVICE
        lost     // the device is gone from then on: E_DEVICE_LOST for ever
    };
    SimDevice(const Allocator& a, Os& os, const SimDeviceOptions& o);
    ~SimDevice() override;
    static larder_status check_options(const SimDeviceOptions& o) noexcept;

    // --- for tests ------------------------------------------------------------------------------
    // The n-th call of the kind from now on fails (1: the next), once or for ever.
    void fail_at(Fault kind, uint64_t nth, bool sticky) noexcept;
    uint64_t n_violations() const noexcept;
    const char* first_violation() const noexcept { return first_violation_; }
    // Allocations, reservations, pages, streams and events that are still there.
    uint64_t n_live() const noexcept;
    uint64_t used_bytes() const noexcept;
    // Carry out all work now, as if the time had passed.
    void drain();

    // --- Device ---------------------------------------------------------------------------------
    const DeviceInfo& info() const noexcept override { return info_; }
    Result<DevicePtr> alloc(uint64_t n_bytes) override;
    void free(DevicePtr p, uint64_t n_bytes) noexcept override;
    Result<DevicePtr> reserve(uint64_t n_bytes) override;
    void unreserve(DevicePtr p, uint64_t n_bytes) noexcept override;
    Result<uint64_t> page_create(uint64_t n_bytes) override;
    void page_release(uint64_t page) noexcept override;
    larder_status map(DevicePtr p, uint64_t n_bytes, uint64_t page, uint64_t page_offset) override;
    larder_status unmap(DevicePtr p, uint64_t n_bytes) override;

    Result<StreamId> stream_create() override;
    void stream_destroy(StreamId s) noexcept override;
    Result<EventId> event_create() override;
    void event_destroy(EventId e) noexcept override;
    larder_status event_record(EventId e, StreamId s) override;
    larder_status stream_wait(StreamId s, EventId e) override;
    larder_status event_query(EventId e) override;
    larder_status event_wait(EventId e) override;
    Result<GateId> gate_create() override;
    void gate_open(GateId gate) noexcept override;
    larder_status stream_wait_gate(StreamId s, GateId gate) override;

    larder_status copy_in(DevicePtr dst, const void* src, uint64_t n_bytes, StreamId s) override;
    larder_status copy_out(void* dst, DevicePtr src, uint64_t n_bytes, StreamId s) override;
    larder_status copy(DevicePtr dst, DevicePtr src, uint64_t n_bytes, StreamId s) override;
    larder_status fill_zero(DevicePtr dst, uint64_t n_bytes, StreamId s) override;
    larder_status gather(const BlockGather& g, StreamId s) override;

  private:
    using Clock = Vec<uint64_t>;  // what has happened in each lane; lane 0 is the host, the others are streams
    struct Page {
        std::byte* memory;
        uint64_t n_bytes;
        uint32_t n_maps;
        bool released;
    };
    struct Range {  // an allocation or a mapping: device addresses with memory behind them
        uint64_t n_bytes;
        uint64_t page;
        uint64_t page_offset;
        bool is_alloc;
    };
    struct Work {
        enum class Kind { in, out, inside, zero, gather } kind;
        uint64_t done_ns;
        uint64_t seq;
        DevicePtr dst = 0, src = 0;
        void* host_dst = nullptr;
        const void* host_src = nullptr;
        uint64_t n_bytes = 0;
        BlockGather gather{};
    };
    // What was given to a stream behind a closed gate: its time is not known before the gate opens.
    struct Held {
        enum class Kind { work, record, wait_event, wait_gate } kind;
        uint64_t id = 0;  // of the event or gate
        Work work{};
        uint64_t cost_ns = 0;
    };
    struct Stream {
        explicit Stream(const Allocator& a, uint32_t l) : lane(l), clock(a), held(a) {}
        uint32_t lane;
        uint64_t ready_ns = 0;
        Clock clock;
        Deque<Held> held;
        bool destroyed = false;  // goes when nothing is held any more
    };
    struct Event {
        uint64_t done_ns = 0;
        Clock clock;
        uint32_t n_held = 0;  // records that are held
    };
    struct Access {
        DevicePtr begin, end;
        bool write;
        uint32_t lane;
        uint64_t time;
    };

    larder_status enter(Fault kind) noexcept;
    larder_status add_page(uint64_t n_bytes, uint64_t& out);
    void drop_page_if_unused(uint64_t id) noexcept;
    Stream* stream(StreamId s) noexcept;
    bool is_mapped(DevicePtr p, uint64_t n_bytes) const noexcept;
    template <class F> void for_pieces(DevicePtr p, uint64_t n_bytes, F f) noexcept;
    larder_status give(StreamId s, Work w, uint64_t n_bytes, uint64_t bandwidth);
    void issue(Stream& st, Work w, uint64_t cost_ns);
    bool pass(Stream& st, const Held& h);
    void pass_held();
    void touch_all(Stream& s, const Work& w);
    void touch(Stream& s, DevicePtr p, uint64_t n_bytes, bool write);
    void forget(DevicePtr p, uint64_t n_bytes, const char* what) noexcept;
    void violation(const char* what, DevicePtr p) noexcept;
    void pump(uint64_t now) noexcept;
    void carry_out(const Work& w) noexcept;
    void to_device(DevicePtr dst, const std::byte* src, uint64_t n_bytes) noexcept;
    void from_device(std::byte* dst, DevicePtr src, uint64_t n_bytes) noexcept;
    void inside(DevicePtr dst, DevicePtr src, uint64_t n_bytes) noexcept;
    static void join(Clock& a, const Clock& b);

    Os& os_;
    const Allocator alloc_;
    SimDeviceOptions o_;
    DeviceInfo info_;
    mutable std::mutex mutex_;
    TreeMap<DevicePtr, Range> ranges_;
    TreeMap<DevicePtr, uint64_t> reservations_;
    HashMap<uint64_t, Page> pages_;
    HashMap<uint64_t, Stream> streams_;
    HashMap<uint64_t, Event> events_;
    HashMap<uint64_t, bool> gates_;  // the closed ones
    Deque<Work> work_;               // sorted by done_ns, seq
    Deque<Access> accesses_;
    Clock host_clock_;
    uint64_t next_address_, next_id_ = 1, next_seq_ = 1, used_bytes_ = 0;
    uint32_t n_lanes_ = 1;
    Fault fault_ = Fault::none;
    uint64_t fault_nth_ = 0, fault_count_ = 0;
    bool fault_sticky_ = false, lost_ = false;
    uint64_t n_violations_ = 0;
    char first_violation_[160] = "";
};

}  // namespace larder
