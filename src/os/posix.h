// The process's own system: one class, implemented by subject in posix_*.cpp.
#pragma once

#include "os/os.h"

namespace larder {

// A process by its number as it is now; start_time stays 0 where /proc does not tell.
ProcessRef process_ref(int32_t pid) noexcept;

class PosixOs final : public Os {
  public:
    PosixOs() noexcept;

    Result<std::byte*> reserve(size_t n_bytes, size_t align) override;
    larder_status commit(std::byte* p, size_t n_bytes, uint32_t map_flags) override;
    larder_status decommit(std::byte* p, size_t n_bytes) override;
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

    uint64_t now_ns() noexcept override;
    uint64_t wall_ns() noexcept override;
    void sleep_ns(uint64_t ns) noexcept override;
    larder_status random(void* out, size_t n_bytes) override;
    Result<uint64_t> thread_start(ThreadFn fn, void* arg, const char* name) override;
    void thread_join(uint64_t thread) noexcept override;

    Result<OsHandle> event_fd() override;
    void event_set(OsHandle h) noexcept override;
    void event_clear(OsHandle h) noexcept override;
    ProcessRef self() noexcept override;
    ProcessRef process(int32_t pid) noexcept override { return process_ref(pid); }
    bool alive(const ProcessRef& p) noexcept override;
    uint64_t fork_epoch() noexcept override;
    bool restart_cpus() noexcept override;
    Result<OsHandle> socket_listen(const char* path) override;
    Result<OsHandle> socket_accept(OsHandle listener, uint64_t timeout_ns) override;
    Result<OsHandle> socket_connect(const char* path) override;
    larder_status socket_send(OsHandle s, const void* data, size_t n_bytes, std::span<const OsHandle> pass) override;
    Result<size_t> socket_receive(OsHandle s, void* data, size_t capacity, std::span<OsHandle> got, size_t* n_got,
                                  uint64_t timeout_ns) override;
    Result<ProcessRef> socket_peer(OsHandle s) override;
    Result<void*> library_symbol(const char* library, const char* symbol) override;

    const Topology& topology() noexcept override { return topology_; }

  private:
    Topology topology_;
};

// What the machine and the limits of this process (affinity, cgroup, rlimits) leave us. Files of /proc and /sys are
// looked for under `root`, for tests.
Topology read_topology(const char* root = "") noexcept;

// The memory nodes under `root`, likewise.
Result<Vec<MemoryNode>> read_memory_nodes(const Allocator& a, const char* root);

// Read a small file of /proc or /sys into a NUL-terminated buffer. False when it cannot be read.
bool read_small_file(const char* path, char* buffer, size_t capacity) noexcept;

}  // namespace larder
