#include <fcntl.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <semaphore>

#include "base/atomic.h"
#include "os/posix.h"

namespace larder {

static constinit atomic<uint64_t> word_before_the_first_os;
constinit atomic<uint64_t>* fork_word = &word_before_the_first_os;

namespace {

uint64_t clock_ns(clockid_t id) noexcept {
    timespec t;
    ::clock_gettime(id, &t);
    return uint64_t(t.tv_sec) * 1000000000u + uint64_t(t.tv_nsec);
}

// --- fork -----------------------------------------------------------------------------------------------
// One word on a page that the kernel wipes in the child; whoever reads 0 there is in a new child and takes the next
// number.
atomic<uint64_t> next_epoch{1};

void forget_epoch() noexcept {
    fork_word->store(0, relaxed);
}

void prepare_fork_word() noexcept {
    static atomic<uint64_t> plain_word;
    const long page = ::sysconf(_SC_PAGESIZE);
    void* p = ::mmap(nullptr, size_t(page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED && ::madvise(p, size_t(page), MADV_WIPEONFORK) == 0) {
        fork_word = new (p) atomic<uint64_t>;
        return;
    }
    // Kernels and sandboxes without the advice: a handler that runs in the child does the same for fork(), though not
    // for raw clone.
    if (p != MAP_FAILED) ::munmap(p, size_t(page));
    fork_word = &plain_word;
    ::pthread_atfork(nullptr, nullptr, forget_epoch);
}

// --- threads --------------------------------------------------------------------------------------------
struct ThreadStart {
    ThreadFn fn;
    void* arg;
    char name[16];
    std::binary_semaphore taken{0};
};

void* thread_entry(void* p) {
    auto* start = static_cast<ThreadStart*>(p);
    const ThreadFn fn = start->fn;
    void* const arg = start->arg;
    ::pthread_setname_np(::pthread_self(), start->name);
    start->taken.release();  // the starter's stack frame may go now
    fn(arg);
    return nullptr;
}

// --- processes ------------------------------------------------------------------------------------------
struct ProcStat {
    char state = 0;
    uint64_t start_time = 0;
};

bool read_proc_stat(int32_t pid, ProcStat& out) noexcept {
    char path[40], text[1024];
    std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (!read_small_file(path, text, sizeof text)) return false;
    // The command's name may hold anything; fields are counted from the last parenthesis. State is field 3, start
    // time 22.
    const char* p = std::strrchr(text, ')');
    if (!p || p[1] != ' ') return false;
    p += 2;
    out.state = *p;
    for (int field = 3; field < 22 && p; ++field) {
        p = std::strchr(p, ' ');
        if (p) ++p;
    }
    if (!p) return false;
    out.start_time = std::strtoull(p, nullptr, 10);
    return true;
}

enum class Life { dead, alive, unknown };

// The whole process, even when its first thread has ended before the others.
Life ask_pidfd(int32_t pid) noexcept {
    const int fd = int(::syscall(SYS_pidfd_open, pid, 0));
    if (fd < 0) return errno == ESRCH ? Life::dead : Life::unknown;
    pollfd p{fd, POLLIN, 0};
    const int n = ::poll(&p, 1, 0);
    ::close(fd);
    return n < 0 ? Life::unknown : n == 0 ? Life::alive : Life::dead;
}

// With more, a stack for each would cost more memory than it saves time.
constexpr long max_restartable_cpus = 1024;

bool membarrier(int command) noexcept {
    return ::syscall(SYS_membarrier, command, 0, 0) == 0;
}

}  // namespace

PosixOs::PosixOs() noexcept : topology_(read_topology()) {
    prepare_fork_word();
    const long n = ::sysconf(_SC_NPROCESSORS_CONF);
    if (n > 0 && n <= max_restartable_cpus && membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ))
        topology_.n_restartable_cpus = uint32_t(n);
}

bool PosixOs::restart_cpus() noexcept {
    // A child process may have to register again.
    return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ) ||
           (errno == EPERM && membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ) &&
            membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ));
}

Os& posix_os() noexcept {
    // Never destroyed: detached users may outlive the end of main().
    alignas(PosixOs) static std::byte memory[sizeof(PosixOs)];
    static PosixOs& os = *new (memory) PosixOs;
    return os;
}

uint64_t PosixOs::now_ns() noexcept {
    return clock_ns(CLOCK_MONOTONIC);
}
uint64_t PosixOs::wall_ns() noexcept {
    return clock_ns(CLOCK_REALTIME);
}

void PosixOs::sleep_ns(uint64_t ns) noexcept {
    timespec t{time_t(ns / 1000000000u), long(ns % 1000000000u)};
    while (::clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR) {
    }
}

larder_status PosixOs::random(void* out, size_t n_bytes) {
    auto* p = static_cast<unsigned char*>(out);
    while (n_bytes) {
        const ssize_t n = ::getrandom(p, n_bytes, 0);
        if (n < 0) {
            if (errno == EINTR) continue;
            return fail_os(LARDER_E_SYSTEM, errno, "", "no randomness: getrandom failed: %s", std::strerror(errno));
        }
        p += n, n_bytes -= size_t(n);
    }
    return LARDER_OK;
}

Result<uint64_t> PosixOs::thread_start(ThreadFn fn, void* arg, const char* name) {
    ThreadStart start{.fn = fn, .arg = arg, .name = ""};
    std::snprintf(start.name, sizeof start.name, "%s", name ? name : "larder");
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const int error = ::pthread_create(&thread, nullptr, thread_entry, &start);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (error) return fail_os(LARDER_E_SYSTEM, error, "", "no thread could be started: %s", std::strerror(error));
    start.taken.acquire();
    return uint64_t(thread);
}

void PosixOs::thread_join(uint64_t thread) noexcept {
    ::pthread_join(pthread_t(thread), nullptr);
}

Result<OsHandle> PosixOs::event_fd() {
    const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) return fail_os(LARDER_E_SYSTEM, errno, "", "no eventfd: %s", std::strerror(errno));
    return OsHandle{fd};
}

void PosixOs::event_set(OsHandle h) noexcept {
    const uint64_t one = 1;
    // EAGAIN means that it is set already.
    while (::write(h.value, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

void PosixOs::event_clear(OsHandle h) noexcept {
    uint64_t n;
    while (::read(h.value, &n, sizeof n) < 0 && errno == EINTR) {
    }
}

ProcessRef process_ref(int32_t pid) noexcept {
    ProcessRef ref{pid, 0};
    if (ProcStat s; read_proc_stat(pid, s)) ref.start_time = s.start_time;
    return ref;
}

ProcessRef PosixOs::self() noexcept {
    return process_ref(::getpid());
}

bool PosixOs::alive(const ProcessRef& p) noexcept {
    if (p.pid <= 0) return false;
    ProcStat s;
    const bool known = read_proc_stat(p.pid, s);
    if (known && p.start_time && s.start_time != p.start_time) return false;  // the number was given to another process
    switch (ask_pidfd(p.pid)) {
    case Life::dead:
        return false;
    case Life::alive:
        return true;
    case Life::unknown:
        break;
    }
    if (known) return s.state != 'Z' && s.state != 'X';
    return ::kill(p.pid, 0) == 0 || errno == EPERM;
}

uint64_t PosixOs::fork_epoch() noexcept {
    uint64_t epoch = fork_word->load(relaxed);
    if (epoch) [[likely]]
        return epoch;
    const uint64_t mine = next_epoch.fetch_add(1, relaxed);
    return fork_word->compare_exchange_strong(epoch, mine, relaxed, relaxed) ? mine : epoch;
}

bool read_small_file(const char* path, char* buffer, size_t capacity) noexcept {
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t at = 0;
    while (at + 1 < capacity) {
        const ssize_t n = ::read(fd, buffer + at, capacity - 1 - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        at += size_t(n);
    }
    ::close(fd);
    buffer[at] = 0;
    return at > 0;
}

}  // namespace larder
