// A system that fails on purpose: a wrapper around another one that fails the n-th operation of chosen classes, once or
// for ever.
#pragma once

#include <array>
#include <mutex>

#include "base/atomic.h"
#include "os/os.h"

namespace larder {

enum class FaultClass : uint32_t {
    memory,         // reserve, commit, memfd, map_handle, bind_memory
    open,           // open
    read,           // read_all
    write,          // write_all: the first half of the bytes is written before it fails
    sync,           // sync, sync_dir
    list,           // list_dir, memory_nodes
    name,           // make_dir, unlink, rename
    space,          // size, truncate, allocate, free_bytes
    lock,           // lock
    ring_create,    // io_ring
    ring_submit,    // IoRing::submit, before anything is taken
    ring_complete,  // a request of a ring that is reported as failed; a failed read leaves rubbish in the buffer, a
                    // failed write was carried out
    ring_short,     // a request of a ring that is reported with half its bytes; never an error
    thread,         // thread_start
    random,         // random
    event,          // event_fd
    socket,         // socket calls
    count
};
inline constexpr size_t n_fault_classes = size_t(FaultClass::count);

const char* fault_class_name(FaultClass c) noexcept;
// The status with which a class fails when no errno is chosen.
larder_status fault_class_status(FaultClass c) noexcept;

struct FaultPlan {
    uint32_t classes = 0;  // a bit (1 << class) for each class counted
    uint64_t nth = 0;      // fail the n-th operation from now on, counted from 1; 0: none
    bool sticky = false;   // and all after it
    int error = 0;         // errno; 0: the usual one of the class

    static constexpr uint32_t bit(FaultClass c) noexcept { return 1u << uint32_t(c); }
};

// May be used by several threads. Counts what is alive below it, so that a test sees leaks.
class FaultOs final : public Os {
  public:
    explicit FaultOs(Os& below) noexcept : below_(below) {}

    void arm(const FaultPlan& plan) noexcept;
    void disarm() noexcept { arm({}); }
    // Called instead of failing, for tests that end the process at a named operation. NULL: fail.
    void trap(void (*fn)()) noexcept { trap_ = fn; }
    // Whether a fault was injected since arm().
    bool fired() const noexcept;
    // Operations since the beginning.
    uint64_t n_calls(FaultClass c) const noexcept { return calls_[size_t(c)].load(relaxed); }
    // Handles, rings, reservations and threads that were made and not given back.
    int64_t n_live() const noexcept { return live_.load(relaxed); }
    Os& below() noexcept { return below_; }

    Result<std::byte*> reserve(size_t n_bytes, size_t align) override;
    larder_status commit(std::byte* p, size_t n_bytes, uint32_t map_flags) override;
    larder_status decommit(std::byte* p, size_t n_bytes) override { return below_.decommit(p, n_bytes); }
    void release(std::byte* p, size_t n_bytes) noexcept override;
    Result<OsHandle> memfd(const char* name, size_t n_bytes) override;
    Result<std::byte*> map_handle(std::byte* p, size_t n_bytes, OsHandle h, uint64_t offset, bool writable) override;
    Result<Vec<MemoryNode>> memory_nodes(const Allocator& a) override;
    larder_status bind_memory(std::byte* p, size_t n_bytes, std::span<const uint32_t> nodes, bool interleave) override;

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

    uint64_t now_ns() noexcept override { return below_.now_ns(); }
    uint64_t wall_ns() noexcept override { return below_.wall_ns(); }
    void sleep_ns(uint64_t ns) noexcept override { below_.sleep_ns(ns); }
    larder_status random(void* out, size_t n_bytes) override;
    Result<uint64_t> thread_start(ThreadFn fn, void* arg, const char* name) override;
    void thread_join(uint64_t thread) noexcept override;

    Result<OsHandle> event_fd() override;
    void event_set(OsHandle h) noexcept override { below_.event_set(h); }
    void event_clear(OsHandle h) noexcept override { below_.event_clear(h); }
    ProcessRef self() noexcept override { return below_.self(); }
    ProcessRef process(int32_t pid) noexcept override { return below_.process(pid); }
    bool alive(const ProcessRef& p) noexcept override { return below_.alive(p); }
    uint64_t fork_epoch() noexcept override { return below_.fork_epoch(); }
    bool restart_cpus() noexcept override { return below_.restart_cpus(); }
    Result<OsHandle> socket_listen(const char* path) override;
    Result<OsHandle> socket_accept(OsHandle listener, uint64_t timeout_ns) override;
    Result<OsHandle> socket_connect(const char* path) override;
    larder_status socket_send(OsHandle s, const void* data, size_t n_bytes, std::span<const OsHandle> pass) override;
    Result<size_t> socket_receive(OsHandle s, void* data, size_t capacity, std::span<OsHandle> got, size_t* n_got,
                                  uint64_t timeout_ns) override;
    Result<ProcessRef> socket_peer(OsHandle s) override;
    Result<void*> library_symbol(const char* library, const char* symbol) override {
        return below_.library_symbol(library, symbol);
    }

    const Topology& topology() noexcept override { return below_.topology(); }
    bool is_simulated() const noexcept override { return below_.is_simulated(); }

  private:
    friend class FaultRing;
    // Counts one operation. 0 to go on, otherwise the errno to fail with.
    int strike(FaultClass c) noexcept;
    larder_status check(FaultClass c) noexcept;
    template <class T> Result<T> made(Result<T> r) noexcept {
        if (r.ok()) live_.fetch_add(1, relaxed);
        return r;
    }

    Os& below_;
    void (*trap_)() = nullptr;
    mutable std::mutex mutex_;
    FaultPlan plan_;
    uint64_t n_counted_ = 0;
    bool fired_ = false;
    std::array<atomic<uint64_t>, n_fault_classes> calls_{};
    atomic<int64_t> live_{0};
};

}  // namespace larder
