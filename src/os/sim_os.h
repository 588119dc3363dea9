// The simulated system: files in memory with power cuts, a clock that only tests move, seeded randomness, and I/O that
// completes in a seeded order.
//
// Memory, memfds and threads are the real ones. Results repeat for a seed when the context has n_workers 0. Sockets are
// not simulated (E_UNSUPPORTED).
#pragma once

#include <functional>
#include <mutex>

#include "os/sim_fs.h"

namespace larder {

class SimOs final : public Os {
  public:
    explicit SimOs(uint64_t seed = 1) : SimOs(seed, SimFs()) {}
    // A machine that comes up with these disks, as after a power cut.
    SimOs(uint64_t seed, SimFs fs);

    // --- for tests ------------------------------------------------------------------------------
    // A snapshot of the disks, what is pending included.
    SimFs fs() const;
    // Change the disks from outside.
    template <class F> void with_fs(F f) {
        std::lock_guard lock(mutex_);
        f(fs_);
    }
    // Called before each operation that changes the disks or makes a change durable; the place to take snapshots for
    // power cuts. Under the system's lock.
    void on_change(std::function<void(const SimFs&)> hook);
    void advance_ns(uint64_t ns) noexcept;
    // Every n-th ring transfer of two sectors or more is cut short (0: none).
    void set_short_every(uint32_t n) noexcept;
    // false: files never get O_DIRECT, as on file systems that refuse it.
    void set_direct(bool on) noexcept;
    // Processes other than self(), for alive().
    void set_alive(const ProcessRef& p, bool alive);
    uint64_t n_changes() const noexcept;
    size_t n_open() const noexcept;

    // --- Os -------------------------------------------------------------------------------------
    Result<std::byte*> reserve(size_t n_bytes, size_t align) override { return real_.reserve(n_bytes, align); }
    larder_status commit(std::byte* p, size_t n_bytes, uint32_t flags) override {
        return real_.commit(p, n_bytes, flags);
    }
    larder_status decommit(std::byte* p, size_t n_bytes) override { return real_.decommit(p, n_bytes); }
    void release(std::byte* p, size_t n_bytes) noexcept override { real_.release(p, n_bytes); }
    Result<OsHandle> memfd(const char* name, size_t n_bytes) override { return real_.memfd(name, n_bytes); }
    Result<std::byte*> map_handle(std::byte* p, size_t n_bytes, OsHandle h, uint64_t offset, bool writable) override {
        return real_.map_handle(p, n_bytes, h, offset, writable);
    }
    Result<Vec<MemoryNode>> memory_nodes(const Allocator& a) override { return real_.memory_nodes(a); }
    larder_status bind_memory(std::byte* p, size_t n_bytes, std::span<const uint32_t> nodes, bool interleave) override {
        return real_.bind_memory(p, n_bytes, nodes, interleave);
    }

    Result<OpenFile> open(const char* path, uint32_t open_flags) override;
    void close(OsHandle h) noexcept override;
    Result<uint64_t> size(OsHandle h) override;
    larder_status truncate(OsHandle h, uint64_t n_bytes) override;
    larder_status allocate(OsHandle h, uint64_t offset, uint64_t n_bytes) override;
    larder_status read_all(OsHandle h, void* buffer, size_t n_bytes, uint64_t offset) override;
    larder_status write_all(OsHandle h, const void* buffer, size_t n_bytes, uint64_t offset) override;
    larder_status sync(OsHandle h) override;
    larder_status sync_dir(const char* path) override;
    larder_status make_dir(const char* path) override;
    Result<Vec<DirEntry>> list_dir(const Allocator& a, const char* path) override;
    larder_status unlink(const char* path) override;
    larder_status rename(const char* from, const char* to) override;
    larder_status lock(OsHandle h) override;
    Result<uint64_t> free_bytes(const char* path) override;
    Result<Owned<IoRing>> io_ring(const Allocator& a, uint32_t depth, bool want_io_uring) override;

    uint64_t now_ns() noexcept override;
    uint64_t wall_ns() noexcept override;
    void sleep_ns(uint64_t ns) noexcept override { advance_ns(ns); }
    larder_status random(void* out, size_t n_bytes) override;
    Result<uint64_t> thread_start(ThreadFn fn, void* arg, const char* name) override {
        return real_.thread_start(fn, arg, name);
    }
    void thread_join(uint64_t thread) noexcept override { real_.thread_join(thread); }

    Result<OsHandle> event_fd() override;
    void event_set(OsHandle h) noexcept override;
    void event_clear(OsHandle h) noexcept override;
    bool event_is_set(OsHandle h) const noexcept;
    ProcessRef self() noexcept override { return {1, 1}; }
    ProcessRef process(int32_t pid) noexcept override;
    bool alive(const ProcessRef& p) noexcept override;
    uint64_t fork_epoch() noexcept override { return real_.fork_epoch(); }
    bool restart_cpus() noexcept override { return real_.restart_cpus(); }
    Result<OsHandle> socket_listen(const char* path) override;
    Result<OsHandle> socket_accept(OsHandle listener, uint64_t timeout_ns) override;
    Result<OsHandle> socket_connect(const char* path) override;
    larder_status socket_send(OsHandle s, const void* data, size_t n_bytes, std::span<const OsHandle> pass) override;
    Result<size_t> socket_receive(OsHandle s, void* data, size_t capacity, std::span<OsHandle> got, size_t* n_got,
                                  uint64_t timeout_ns) override;
    Result<ProcessRef> socket_peer(OsHandle s) override;

    const Topology& topology() noexcept override { return topology_; }
    Topology& mutable_topology() noexcept { return topology_; }
    bool is_simulated() const noexcept override { return true; }

  private:
    friend class SimRing;
    struct Open {
        bool live = false, is_event = false, writable = false, readable = false, event = false, locked = false;
        uint32_t direct_align = 0;
        SimFs::Node node = 0;
    };
    static constexpr int32_t first_handle = 1 << 28;  // never a real descriptor

    Open* find(OsHandle h) noexcept;
    OsHandle add(const Open& o);
    Result<Open*> find_file(OsHandle h, bool write) noexcept;
    larder_status check_direct(const Open& o, const void* buffer, size_t n_bytes, uint64_t offset) const noexcept;
    void changing();
    int64_t transfer(const IoOp& op);

    Os& real_;
    mutable std::mutex mutex_;
    SimFs fs_;
    Rng rng_;
    uint64_t now_ns_ = 1000000000;
    uint64_t n_changes_ = 0, n_transfers_ = 0;
    uint32_t short_every_ = 0;
    bool direct_ = true;
    Vec<Open> open_;
    Vec<ProcessRef> alive_;
    std::function<void(const SimFs&)> hook_;
    Topology topology_;
};

}  // namespace larder
