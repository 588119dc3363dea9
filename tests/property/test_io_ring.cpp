// I/O rings: io_uring and the threads that replace it keep the same promises.
#include "support/cmocka.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "base/hash.h"
#include "os/os.h"
#include "support/fault_allocator.h"
#include "support/seed.h"
#include "support/temp_dir.h"

using namespace larder;

namespace {

constexpr uint32_t rw = open_flag::read | open_flag::write | open_flag::create;
constexpr size_t unit = 4096, n_units = 64;

Owned<IoRing> make(bool uring, uint32_t depth) {
    auto ring = posix_os().io_ring(Allocator(), depth, uring);
    assert_true(ring.ok());
    assert_int_equal((*ring)->depth(), depth);
    return std::move(*ring);
}

// Random writes and reads of disjoint units against a string; each request completes once, with its own bytes.
void random_work(bool uring, const char* base, uint32_t flags) {
    Os& os = posix_os();
    Rng rng(test_seed());
    TempDir dir(base);
    auto file = os.open(dir.path("f").c_str(), rw | flags);
    assert_true(file.ok());
    assert_int_equal(os.truncate(file->handle, unit * n_units), LARDER_OK);
    auto memory = os.reserve(unit * n_units * 2, unit);
    assert_int_equal(os.commit(*memory, unit * n_units * 2, 0), LARDER_OK);
    std::byte *in = *memory, *out = *memory + unit * n_units;
    std::vector<unsigned char> model(n_units, 0);
    for (uint32_t depth : {1u, 7u, 64u}) {
        Owned<IoRing> ring = make(uring, depth);
        std::vector<IoOp> ops(n_units);
        std::vector<IoOp*> done(n_units);
        for (uint64_t round = 0; round < test_rounds(8); ++round) {
            std::vector<IoOp*> todo;
            for (size_t i = 0; i < n_units; ++i) {
                const bool write = rng.below(2);
                if (write) std::memset(in + i * unit, model[i] = static_cast<unsigned char>(rng.next()), unit);
                ops[i] = {.kind = write ? IoOp::Kind::write : IoOp::Kind::read,
                          .file = file->handle,
                          .buffer = (write ? in : out) + i * unit,
                          .n_bytes = unit,
                          .offset = i * unit,
                          .tag = i,
                          .result = -1};
                todo.push_back(&ops[i]);
            }
            size_t taken = 0, finished = 0;
            std::vector<bool> seen(n_units, false);
            while (finished < n_units) {
                auto t = ring->submit(std::span(todo).subspan(taken));
                assert_true(t.ok() && *t <= depth);
                taken += *t;
                auto n = ring->reap(std::span(done).first(1 + rng.below(n_units)), rng.below(3) + (taken == n_units));
                assert_true(n.ok());
                for (size_t k = 0; k < *n; ++k) {
                    const uint64_t i = done[k]->tag;
                    assert_false(seen[i]);
                    seen[i] = true;
                    assert_int_equal(done[k]->result, unit);
                    if (done[k]->kind == IoOp::Kind::read)
                        for (size_t b = 0; b < unit; b += 511) assert_int_equal(int(out[i * unit + b]), model[i]);
                }
                finished += *n;
            }
            assert_int_equal(*ring->reap(done, 5), 0);  // nothing in flight: does not wait
        }
        IoOp sync{.kind = IoOp::Kind::sync_data, .file = file->handle};
        IoOp* p = &sync;
        assert_int_equal(*ring->submit({&p, 1}), 1);
        assert_int_equal(*ring->reap(done, 1), 1);
        assert_int_equal(sync.result, 0);
    }
    os.release(*memory, unit * n_units * 2);
    os.close(file->handle);
}

void uring_buffered(void**) {
    print_message("io_uring %s here\n", make(true, 1)->is_io_uring() ? "works" : "does not work");
    random_work(true, nullptr, 0);
}
void uring_direct(void**) {
    random_work(true, nullptr, open_flag::direct);
}
void uring_in_memory(void**) {
    random_work(true, "/dev/shm", open_flag::direct);
}
void threads_buffered(void**) {
    random_work(false, nullptr, 0);
}
void threads_direct(void**) {
    random_work(false, nullptr, open_flag::direct);
}

void short_and_failed_requests_are_reported(void**) {
    Os& os = posix_os();
    TempDir dir;
    auto file = os.open(dir.path("f").c_str(), rw);
    os.write_all(file->handle, "0123456789", 10, 0);
    for (bool uring : {true, false}) {
        Owned<IoRing> ring = make(uring, 4);
        char a[16] = {}, b[16], c[16];
        IoOp at_end{.kind = IoOp::Kind::read, .file = file->handle, .buffer = a, .n_bytes = 16, .offset = 4};
        IoOp beyond{.kind = IoOp::Kind::read, .file = file->handle, .buffer = b, .n_bytes = 16, .offset = 100};
        IoOp closed{.kind = IoOp::Kind::read, .file = {}, .buffer = c, .n_bytes = 16};
        IoOp* in[] = {&at_end, &beyond, &closed};
        IoOp* out[4];
        assert_int_equal(*ring->submit(in), 3);
        size_t n = 0;
        while (n < 3) n += *ring->reap(out, 3);
        assert_int_equal(at_end.result, 6);
        assert_memory_equal(a, "456789", 6);
        assert_int_equal(beyond.result, 0);
        assert_int_equal(closed.result, -EBADF);
    }
    os.close(file->handle);
    assert_int_equal(os.io_ring(Allocator(), 0, true).status(), LARDER_E_RANGE);
    assert_int_equal(os.io_ring(Allocator(), 5000, true).status(), LARDER_E_RANGE);
}

// Destroying a ring waits for its requests: their buffers may go afterwards. Another thread may go on with a ring.
void destruction_waits_and_threads_may_change(void**) {
    Os& os = posix_os();
    TempDir dir;
    auto file = os.open(dir.path("f").c_str(), rw);
    for (bool uring : {true, false}) {
        Owned<IoRing> ring = make(uring, 32);
        std::vector<std::string> data(32);
        std::vector<IoOp> ops(32);
        std::vector<IoOp*> in;
        for (size_t i = 0; i < 32; ++i) {
            data[i] = std::string(10000, char('a' + i % 26));
            ops[i] = {.kind = IoOp::Kind::write,
                      .file = file->handle,
                      .buffer = data[i].data(),
                      .n_bytes = 10000,
                      .offset = i * 10000};
            in.push_back(&ops[i]);
        }
        struct Args {
            IoRing* ring;
            std::span<IoOp* const> in;
        } args{ring.get(), std::span<IoOp* const>(in).first(16)};
        auto t = os.thread_start([](void* p) { (void)static_cast<Args*>(p)->ring->submit(static_cast<Args*>(p)->in); },
                                 &args, "test");
        os.thread_join(*t);
        IoOp* out[4];
        assert_true(*ring->reap(out, 2) >= 2);
        assert_int_equal(*ring->submit(std::span<IoOp* const>(in).subspan(16)), 16);
        ring.reset();
        for (size_t i = 0; i < 32; ++i) {
            char first;
            assert_int_equal(os.read_all(file->handle, &first, 1, i * 10000 + 9999), LARDER_OK);
            assert_int_equal(first, 'a' + i % 26);
        }
        os.truncate(file->handle, 0);
    }
    os.close(file->handle);
}

// A sandbox that forbids io_uring, as container runtimes do.
void a_sandbox_gets_threads(void**) {
    for (int error : {EPERM, ENOSYS}) {
        const pid_t child = fork();
        if (child == 0) {
            const sock_filter code[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | uint32_t(error)),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
            };
            const sock_fprog program{4, const_cast<sock_filter*>(code)};
            if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
                _exit(77);
            auto ring = posix_os().io_ring(Allocator(), 4, true);
            if (!ring.ok() || (*ring)->is_io_uring()) _exit(1);
            auto zero = posix_os().open("/dev/zero", open_flag::read);
            char byte = 1;
            IoOp op{.kind = IoOp::Kind::read, .file = zero->handle, .buffer = &byte, .n_bytes = 1};
            IoOp *in = &op, *out = nullptr;
            if (!(*ring)->submit({&in, 1}).ok() || *(*ring)->reap({&out, 1}, 1) != 1) _exit(2);
            _exit(out == &op && op.result == 1 && byte == 0 ? 0 : 3);
        }
        int status = 0;
        waitpid(child, &status, 0);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77) {
            print_message("SKIPPED: seccomp filters are not allowed here\n");
            return;
        }
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

void no_memory_is_an_exception_and_leaks_nothing(void**) {
    FaultAllocator memory;
    for (bool uring : {true, false})
        for (uint64_t n = 1, fired = 1; fired; ++n) {
            memory.arm(n, false);
            try {
                auto ring = posix_os().io_ring(Allocator(*memory.raw()), 8, uring);
                assert_true(ring.ok());
            } catch (const std::bad_alloc&) {
            }
            fired = memory.fired();
            memory.disarm();
            assert_int_equal(memory.n_live(), 0);
            assert_int_equal(memory.n_mismatches(), 0);
        }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(uring_buffered),
        cmocka_unit_test(uring_direct),
        cmocka_unit_test(uring_in_memory),
        cmocka_unit_test(threads_buffered),
        cmocka_unit_test(threads_direct),
        cmocka_unit_test(short_and_failed_requests_are_reported),
        cmocka_unit_test(destruction_waits_and_threads_may_change),
        cmocka_unit_test(a_sandbox_gets_threads),
        cmocka_unit_test(no_memory_is_an_exception_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
