// The OS seam: everything outside the process, except accelerators, is reached through one Os object.
//
// Three implementations: posix (os/posix*.cpp, with io_uring where it works), simulated (os/sim_os.h: memory file
// system with power cuts, virtual clock, seeded randomness) and a fault-injecting wrapper around either
// (os/fault_os.h). Every failure is a status made by fail_os(), with errno kept. Paths are absolute or relative to the
// working directory, UTF-8, NUL-terminated.
//
// Statuses of file calls: E_NOT_FOUND, E_EXISTS, E_PERMISSION, E_READ_ONLY (a read-only file system), E_DISK_FULL (disk
// or quota), E_TRUNCATED (read_all past the end), E_IN_USE (lock), E_NOMEM, E_SYSTEM (no more descriptors), E_INVALID
// (path too long, not a directory, is a directory), E_UNSUPPORTED, else E_IO.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/alloc.h"
#include "base/atomic.h"
#include "base/result.h"

namespace larder {

// An open file, memfd, socket or eventfd. On posix the file descriptor.
struct OsHandle {
    int32_t value = -1;
    bool valid() const noexcept { return value >= 0; }
};

namespace map_flag {
inline constexpr uint32_t huge = 1;      // ask for huge pages; a wish, not a demand
inline constexpr uint32_t populate = 2;  // fault the pages in now
inline constexpr uint32_t usable = 8;    // it was committed before: several threads can populate side by side
inline constexpr uint32_t locked = 4;    // mlock; E_NOMEM where the limit forbids
}  // namespace map_flag

namespace open_flag {
inline constexpr uint32_t read = 1;
inline constexpr uint32_t write = 2;
inline constexpr uint32_t create = 4;     // mode 0600
inline constexpr uint32_t exclusive = 8;  // with create: E_EXISTS when there
inline constexpr uint32_t truncate = 16;
inline constexpr uint32_t direct = 32;  // O_DIRECT when the file system can; check OpenFile::direct_align
}  // namespace open_flag

struct OpenFile {
    OsHandle handle;
    uint64_t n_bytes = 0;       // size when opened
    uint32_t direct_align = 0;  // 0: buffered; otherwise buffers, offsets and lengths are multiples of it
};

struct DirEntry {
    String name;
    uint64_t n_bytes;
    bool is_dir;
};

// One request of an IoRing. The caller keeps op and buffer until the op was reaped.
struct IoOp {
    enum class Kind : uint8_t { read, write, sync_data };
    Kind kind = Kind::read;
    OsHandle file;
    void* buffer = nullptr;
    uint32_t n_bytes = 0;
    uint64_t offset = 0;
    uint64_t tag = 0;    // the caller's
    int64_t result = 0;  // after reaping: bytes done (may be short), or -errno
};

// A private ring of one thread at a time (not synchronised).
class IoRing {
  public:
    virtual ~IoRing() = default;
    // Queue requests and hand them over. At most depth() are in flight; returns how many of `ops` were taken (a
    // prefix), 0 when full.
    virtual Result<size_t> submit(std::span<IoOp* const> ops) = 0;
    // Collect finished requests; waits until at least min_done (0: does not wait; no more than are in flight) have
    // finished. A request that met EINTR or EAGAIN was repeated inside; a short transfer is reported as such. The
    // destructor waits for what is in flight.
    virtual Result<size_t> reap(std::span<IoOp*> out, size_t min_done) = 0;
    virtual uint32_t depth() const noexcept = 0;
    virtual bool is_io_uring() const noexcept = 0;
};

struct Topology {
    uint32_t n_cpus = 1;  // usable by this process
    uint32_t n_numa_nodes = 1;
    uint32_t n_restartable_cpus = 0;  // numbers of CPUs are below it; 0: the system restarts no sequences (see
                                      // Os::restart_cpus())
    uint64_t page_bytes = 4096;
    uint64_t memory_bytes = 0;   // physical or cgroup limit, the lesser
    uint64_t memlock_bytes = 0;  // UINT64_MAX: no limit
    bool huge_pages = false;
    bool memfd = false;
};

// A node of memory, as the system describes it.
struct MemoryNode {
    uint32_t id = 0;
    bool has_cpus = false;
    bool estimated = false;  // latency and bandwidth follow from the system's table of distances
    uint64_t n_bytes = 0, free_bytes = 0;
    uint64_t latency_ns = 0, bandwidth_bytes_per_s = 0;
};

using ThreadFn = void (*)(void* arg);

// A process that can be watched: pid plus what makes a reused pid different.
struct ProcessRef {
    int32_t pid = 0;
    uint64_t start_time = 0;
};

class Os {
  public:
    virtual ~Os() = default;

    // --- memory ---------------------------------------------------------------------------------
    // All sizes and addresses are multiples of the page. Address space without memory, aligned (power of two, at least
    // a page).
    virtual Result<std::byte*> reserve(size_t n_bytes, size_t align) = 0;
    // Make part of a reservation usable, zero-filled.
    virtual larder_status commit(std::byte* p, size_t n_bytes, uint32_t map_flags) = 0;
    // Give the memory back, keep the address space reserved.
    virtual larder_status decommit(std::byte* p, size_t n_bytes) = 0;
    // Give a whole reservation back.
    virtual void release(std::byte* p, size_t n_bytes) noexcept = 0;
    // Shared memory by handle, sealed against shrinking.
    virtual Result<OsHandle> memfd(const char* name, size_t n_bytes) = 0;
    // Map part of a memfd over part of a reservation (or anywhere with p NULL; then release() gives it back); writable
    // or read-only. E_INVALID when the handle could shrink under the mapping (no seal) or is too short. decommit()
    // takes the mapping away.
    virtual Result<std::byte*> map_handle(std::byte* p, size_t n_bytes, OsHandle h, uint64_t offset, bool writable) = 0;

    // The nodes with memory, by number. E_UNSUPPORTED where the system tells nothing.
    virtual Result<Vec<MemoryNode>> memory_nodes(const Allocator& a) = 0;
    // Where pages of a range come from that are not there yet: only from these nodes, or from all of them in turn.
    // E_NOT_FOUND (no such node), E_PERMISSION, E_UNSUPPORTED, E_NOMEM (too many mappings).
    virtual larder_status bind_memory(std::byte* p, size_t n_bytes, std::span<const uint32_t> nodes,
                                      bool interleave) = 0;

    // --- files ----------------------------------------------------------------------------------
    virtual Result<OpenFile> open(const char* path, uint32_t open_flags) = 0;
    virtual void close(OsHandle h) noexcept = 0;
    virtual Result<uint64_t> size(OsHandle h) = 0;
    virtual larder_status truncate(OsHandle h, uint64_t n_bytes) = 0;
    // Reserve disk space so that later writes inside cannot meet a full disk; the file grows to the end of the range
    // when it was shorter. E_UNSUPPORTED where the file system cannot promise that (nothing was changed).
    virtual larder_status allocate(OsHandle h, uint64_t offset, uint64_t n_bytes) = 0;
    // Synchronous whole transfers: short reads and writes and EINTR are retried inside; end of file is E_TRUNCATED.
    virtual larder_status read_all(OsHandle h, void* buffer, size_t n_bytes, uint64_t offset) = 0;
    virtual larder_status write_all(OsHandle h, const void* buffer, size_t n_bytes, uint64_t offset) = 0;
    // Contents and size are durable. The name is so only after sync_dir() of its directory.
    virtual larder_status sync(OsHandle h) = 0;
    virtual larder_status sync_dir(const char* path) = 0;
    virtual larder_status make_dir(const char* path) = 0;  // OK when it is there already
    // Without "." and ".."; in no order.
    virtual Result<Vec<DirEntry>> list_dir(const Allocator& a, const char* path) = 0;
    virtual larder_status unlink(const char* path) = 0;  // OK when it is gone already
    virtual larder_status rename(const char* from, const char* to) = 0;
    // Exclusive advisory lock, held until the handle is closed; E_IN_USE when another holds it.
    virtual larder_status lock(OsHandle h) = 0;
    virtual Result<uint64_t> free_bytes(const char* path) = 0;
    // Works everywhere: without io_uring (blocked, absent, or not wanted) a few threads do the transfers. Handles may
    // be used by several rings.
    virtual Result<Owned<IoRing>> io_ring(const Allocator& a, uint32_t depth, bool want_io_uring) = 0;

    // --- time, randomness, threads --------------------------------------------------------------
    virtual uint64_t now_ns() noexcept = 0;   // monotonic
    virtual uint64_t wall_ns() noexcept = 0;  // since 1970
    virtual void sleep_ns(uint64_t ns) noexcept = 0;
    virtual larder_status random(void* out, size_t n_bytes) = 0;
    // All signals blocked in the new thread.
    virtual Result<uint64_t> thread_start(ThreadFn fn, void* arg, const char* name) = 0;
    virtual void thread_join(uint64_t thread) noexcept = 0;

    // --- processes and sockets ------------------------------------------------------------------
    virtual Result<OsHandle> event_fd() = 0;
    virtual void event_set(OsHandle h) noexcept = 0;
    virtual void event_clear(OsHandle h) noexcept = 0;
    virtual ProcessRef self() noexcept = 0;
    // The process that has this number now; its start_time is 0 where there is none.
    virtual ProcessRef process(int32_t pid) noexcept = 0;
    virtual bool alive(const ProcessRef& p) noexcept = 0;
    // A number that is another one in a child process after fork, never 0 (cheap: reads a page that fork wipes).
    virtual uint64_t fork_epoch() noexcept = 0;
    // Abort the restartable sequences (Linux rseq) of this process that are under way on any CPU, with a full barrier
    // there. A system call. False where it cannot be done.
    virtual bool restart_cpus() noexcept { return false; }
    // Unix sockets (SOCK_SEQPACKET); a path beginning with '@' is abstract.
    virtual Result<OsHandle> socket_listen(const char* path) = 0;
    virtual Result<OsHandle> socket_accept(OsHandle listener, uint64_t timeout_ns) = 0;
    virtual Result<OsHandle> socket_connect(const char* path) = 0;
    // One message of 1 byte or more. E_PEER_DEAD when the other side is gone.
    virtual larder_status socket_send(OsHandle s, const void* data, size_t n_bytes, std::span<const OsHandle> pass) = 0;
    // Returns bytes received, 0 when the peer closed; E_TIMEOUT; E_BUFFER_TOO_SMALL when the message was longer (it is
    // lost). Received descriptors go to `got` (as many as fit, the rest is closed).
    virtual Result<size_t> socket_receive(OsHandle s, void* data, size_t capacity, std::span<OsHandle> got,
                                          size_t* n_got, uint64_t timeout_ns) = 0;
    virtual Result<ProcessRef> socket_peer(OsHandle s) = 0;

    // A symbol of a shared library, which is opened for it and stays open. A name without '/' is looked for beside this
    // library, then wherever the system looks. E_NOT_FOUND (the library cannot be opened, the message says why);
    // E_UNSUPPORTED (it has no such symbol, or there are no libraries here).
    virtual Result<void*> library_symbol(const char*, const char*) {
        return fail(LARDER_E_UNSUPPORTED, "library", "this system has no shared libraries");
    }

    virtual const Topology& topology() noexcept = 0;
    virtual bool is_simulated() const noexcept { return false; }
};

// The word behind fork_epoch(), for checks on hot paths: another value than the epoch that was read once tells of a
// fork, or that fork_epoch() was not called since.
extern atomic<uint64_t>* fork_word;

// The process's own system. Lives for ever, has no state that needs destruction.
Os& posix_os() noexcept;

}  // namespace larder
