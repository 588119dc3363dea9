// The real system behind the seam: each promise of os/os.h, tried on this machine.
#include "support/cmocka.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "os/fault_os.h"
#include "os/posix.h"
#include "os/sim_os.h"
#include "support/temp_dir.h"

using namespace larder;

namespace {

void reserve_is_aligned_and_zero_filled(void**) {
    Os& os = posix_os();
    const size_t align = size_t(2) << 20, n = 4 * align;
    auto r = os.reserve(n, align);
    assert_true(r.ok());
    std::byte* p = *r;
    assert_int_equal(reinterpret_cast<uintptr_t>(p) % align, 0);
    assert_int_equal(os.commit(p + align, align, map_flag::huge | map_flag::populate), LARDER_OK);
    for (size_t i = 0; i < align; i += 997) assert_int_equal(int(p[align + i]), 0);
    std::memset(p + align, 0x5a, align);
    assert_int_equal(os.decommit(p + align, align), LARDER_OK);
    assert_int_equal(os.commit(p + align, align, 0), LARDER_OK);
    for (size_t i = 0; i < align; i += 997) assert_int_equal(int(p[align + i]), 0);
    os.release(p, n);
    assert_int_equal(os.reserve(100, 4096).status(), LARDER_E_INVALID);
    assert_int_equal(os.reserve(4096, 3 * 4096).status(), LARDER_E_INVALID);
    assert_int_equal(os.reserve(size_t(1) << 62, 4096).status(), LARDER_E_NOMEM);
}

void memfd_is_shared_and_sealed(void**) {
    Os& os = posix_os();
    const size_t n = 65536;
    auto h = os.memfd("larder-test", n);
    assert_true(h.ok());
    auto a = os.map_handle(nullptr, n, *h, 0, true);
    auto b = os.map_handle(nullptr, n / 2, *h, n / 2, false);
    assert_true(a.ok() && b.ok());
    (*a)[n / 2] = std::byte{7};
    assert_int_equal(int((*b)[0]), 7);
    assert_int_not_equal(ftruncate(h->value, 0), 0);
    assert_int_equal(os.map_handle(nullptr, n, *h, 4096, true).status(), LARDER_E_INVALID);
    os.release(*a, n);
    os.release(*b, n / 2);
    os.close(*h);
    const int unsealed = memfd_create("larder-test", MFD_CLOEXEC);
    assert_int_equal(ftruncate(unsealed, n), 0);
    assert_int_equal(os.map_handle(nullptr, n, OsHandle{unsealed}, 0, true).status(), LARDER_E_INVALID);
    close(unsealed);
}

// The same promises, whoever keeps them.
void files_of(Os& os, const std::string& dir) {
    const std::string path = dir + "/a", other = dir + "/b";
    assert_int_equal(os.open(path.c_str(), open_flag::read).status(), LARDER_E_NOT_FOUND);
    auto f = os.open(path.c_str(), open_flag::read | open_flag::write | open_flag::create | open_flag::exclusive);
    assert_true(f.ok());
    assert_int_equal(os.open(path.c_str(), open_flag::write | open_flag::create | open_flag::exclusive).status(),
                     LARDER_E_EXISTS);
    assert_int_equal(os.write_all(f->handle, "hello", 5, 3), LARDER_OK);
    char text[9] = {};
    assert_int_equal(os.read_all(f->handle, text, 8, 0), LARDER_OK);
    assert_memory_equal(text, "\0\0\0hello", 8);
    assert_int_equal(os.read_all(f->handle, text, 9, 0), LARDER_E_TRUNCATED);
    const larder_status allocated = os.allocate(f->handle, 0, 65536);
    assert_true(allocated == LARDER_OK || allocated == LARDER_E_UNSUPPORTED);
    assert_int_equal(os.truncate(f->handle, 4), LARDER_OK);
    assert_int_equal(*os.size(f->handle), 4);
    assert_int_equal(os.sync(f->handle), LARDER_OK);
    assert_int_equal(os.lock(f->handle), LARDER_OK);
    auto g = os.open(path.c_str(), open_flag::read | open_flag::write);
    assert_true(g.ok());
    assert_int_equal(g->n_bytes, 4);
    assert_int_equal(os.lock(g->handle), LARDER_E_IN_USE);
    os.close(f->handle);
    assert_int_equal(os.lock(g->handle), LARDER_OK);
    os.close(g->handle);
    assert_int_equal(os.rename(path.c_str(), other.c_str()), LARDER_OK);
    assert_int_equal(os.rename(path.c_str(), other.c_str()), LARDER_E_NOT_FOUND);
    assert_int_equal(os.make_dir((dir + "/d").c_str()), LARDER_OK);
    assert_int_equal(os.make_dir((dir + "/d").c_str()), LARDER_OK);
    assert_int_equal(os.make_dir(other.c_str()), LARDER_E_INVALID);
    assert_int_equal(os.sync_dir(dir.c_str()), LARDER_OK);
    auto list = os.list_dir(Allocator(), dir.c_str());
    assert_true(list.ok());
    assert_int_equal(list->size(), 2);
    for (auto& e : *list) {
        assert_true(e.name == (e.is_dir ? "d" : "b"));
        if (!e.is_dir) assert_int_equal(e.n_bytes, 4);
    }
    assert_int_equal(os.unlink(other.c_str()), LARDER_OK);
    assert_int_equal(os.unlink(other.c_str()), LARDER_OK);
    assert_true(*os.free_bytes(dir.c_str()) > 0);
    assert_int_equal(os.list_dir(Allocator(), other.c_str()).status(), LARDER_E_NOT_FOUND);
    assert_int_equal(os.open((dir + "/d").c_str(), open_flag::read | open_flag::write).status(), LARDER_E_INVALID);
    assert_int_equal(os.sync_dir((dir + "/none").c_str()), LARDER_E_NOT_FOUND);
    assert_int_equal(os.make_dir((dir + "/none/x").c_str()), LARDER_E_NOT_FOUND);
}

void files_do_what_they_say(void**) {
    TempDir dir;
    files_of(posix_os(), dir.path());
    SimOs sim;
    files_of(sim, "");
    FaultOs fault(sim);
    sim.unlink("/b");
    assert_int_equal(fault.make_dir("/sub"), LARDER_OK);
    files_of(fault, "/sub");
    assert_int_equal(fault.n_live(), 0);
    assert_int_equal(sim.n_open(), 0);
}

void direct_files_tell_their_unit(void**) {
    Os& os = posix_os();
    TempDir dir;
    auto f = os.open(dir.path("x").c_str(), open_flag::read | open_flag::write | open_flag::create | open_flag::direct);
    assert_true(f.ok());
    const uint32_t unit = f->direct_align;
    assert_true(unit == 0 || (unit & (unit - 1)) == 0);
    auto memory = os.reserve(65536, 65536);
    assert_int_equal(os.commit(*memory, 65536, 0), LARDER_OK);
    std::memset(*memory, 3, 65536);
    assert_int_equal(os.write_all(f->handle, *memory, 65536, 0), LARDER_OK);
    assert_int_equal(os.read_all(f->handle, *memory, 65536, 0), LARDER_OK);
    os.release(*memory, 65536);
    os.close(f->handle);
    // tmpfs refuses O_DIRECT on older kernels and takes it on newer ones; either way the file works.
    TempDir shm("/dev/shm");
    auto g = os.open(shm.path("x").c_str(), open_flag::read | open_flag::write | open_flag::create | open_flag::direct);
    assert_true(g.ok());
    alignas(4096) static char page[4096];
    assert_int_equal(os.write_all(g->handle, page, sizeof page, 0), LARDER_OK);
    os.close(g->handle);
}

void threads_have_signals_blocked(void**) {
    struct Seen {
        sigset_t mask;
        char name[16];
    } seen{};
    auto t = posix_os().thread_start(
        [](void* arg) {
            auto* s = static_cast<Seen*>(arg);
            pthread_sigmask(SIG_SETMASK, nullptr, &s->mask);
            pthread_getname_np(pthread_self(), s->name, sizeof s->name);
        },
        &seen, "a-name-that-is-too-long");
    assert_true(t.ok());
    posix_os().thread_join(*t);
    assert_true(sigismember(&seen.mask, SIGINT) && sigismember(&seen.mask, SIGTERM));
    assert_string_equal(seen.name, "a-name-that-is-");
    sigset_t mine;
    pthread_sigmask(SIG_SETMASK, nullptr, &mine);
    assert_false(sigismember(&mine, SIGTERM));
}

void clock_and_randomness(void**) {
    Os& os = posix_os();
    const uint64_t before = os.now_ns();
    os.sleep_ns(2000000);
    assert_true(os.now_ns() - before >= 2000000);
    assert_true(os.wall_ns() > 1700000000ull * 1000000000ull);
    unsigned char a[1000] = {}, b[1000] = {};
    assert_int_equal(os.random(a, sizeof a), LARDER_OK);
    assert_int_equal(os.random(b, sizeof b), LARDER_OK);
    assert_memory_not_equal(a, b, sizeof a);
}

void fork_changes_the_epoch(void**) {
    Os& os = posix_os();
    const uint64_t mine = os.fork_epoch();
    assert_true(mine != 0);
    assert_int_equal(os.fork_epoch(), mine);
    const pid_t child = fork();
    if (child == 0) {
        const uint64_t its = os.fork_epoch();
        if (its == mine || its == 0 || os.fork_epoch() != its) _exit(1);
        const pid_t grandchild = fork();
        if (grandchild == 0) _exit(os.fork_epoch() == its || os.fork_epoch() == mine);
        int status;
        waitpid(grandchild, &status, 0);
        _exit(status != 0);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(os.fork_epoch(), mine);
}

void liveness_knows_zombies_and_reused_numbers(void**) {
    Os& os = posix_os();
    ProcessRef me = os.self();
    assert_true(me.pid == getpid() && me.start_time != 0);
    assert_true(os.alive(me));
    me.start_time += 1;
    assert_false(os.alive(me));
    assert_false(os.alive(ProcessRef{}));
    int gate[2];
    assert_int_equal(pipe(gate), 0);
    const pid_t child = fork();
    if (child == 0) {
        char c;
        close(gate[1]);
        _exit(read(gate[0], &c, 1) < 0);
    }
    close(gate[0]);
    assert_true(os.alive(ProcessRef{child, 0}));
    close(gate[1]);
    siginfo_t info;
    waitid(P_PID, id_t(child), &info, WEXITED | WNOWAIT);
    assert_false(os.alive(ProcessRef{child, 0}));  // a zombie is dead
    waitpid(child, nullptr, 0);
    assert_false(os.alive(ProcessRef{child, 0}));
}

void sockets_pass_messages_and_handles(void**) {
    Os& os = posix_os();
    TempDir dir;
    const std::string path = dir.path("s");
    assert_int_equal(os.socket_connect(path.c_str()).status(), LARDER_E_NOT_FOUND);
    auto listener = os.socket_listen(path.c_str());
    assert_true(listener.ok());
    assert_int_equal(os.socket_listen(path.c_str()).status(), LARDER_E_IN_USE);
    assert_int_equal(os.socket_accept(*listener, 1000000).status(), LARDER_E_TIMEOUT);
    auto a = os.socket_connect(path.c_str());
    auto b = os.socket_accept(*listener, 1000000000);
    assert_true(a.ok() && b.ok());
    auto shared = os.memfd("larder-test", 4096);
    auto view = os.map_handle(nullptr, 4096, *shared, 0, true);
    (*view)[5] = std::byte{42};
    const OsHandle pass[3] = {*shared, *shared, *shared};
    assert_int_equal(os.socket_send(*a, "hi", 2, pass), LARDER_OK);
    char text[16];
    OsHandle got[2];
    size_t n_got = 0;
    auto n = os.socket_receive(*b, text, sizeof text, got, &n_got, UINT64_MAX);
    assert_true(n.ok());
    assert_int_equal(*n, 2);
    assert_int_equal(n_got, 2);  // the third had no room and was closed
    auto theirs = os.map_handle(nullptr, 4096, got[0], 0, false);
    assert_int_equal(int((*theirs)[5]), 42);
    assert_int_equal(os.socket_receive(*b, text, sizeof text, {}, nullptr, 1000000).status(), LARDER_E_TIMEOUT);
    assert_int_equal(os.socket_send(*a, "too long", 8, {}), LARDER_OK);
    assert_int_equal(os.socket_receive(*b, text, 4, {}, nullptr, UINT64_MAX).status(), LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(os.socket_send(*a, "", 0, {}), LARDER_E_INVALID);
    assert_int_equal(os.socket_peer(*b)->pid, getpid());
    assert_true(os.alive(*os.socket_peer(*b)));
    os.close(*a);
    n = os.socket_receive(*b, text, sizeof text, {}, nullptr, UINT64_MAX);
    assert_true(n.ok() && *n == 0);
    assert_int_equal(os.socket_send(*b, "x", 1, {}), LARDER_E_PEER_DEAD);
    os.release(*view, 4096);
    os.release(*theirs, 4096);
    for (OsHandle h : {*b, *listener, *shared, got[0], got[1]}) os.close(h);
    auto abstract = os.socket_listen(("@larder-test-" + std::to_string(getpid())).c_str());
    assert_true(abstract.ok());
    os.close(*abstract);
    assert_int_equal(os.socket_listen(std::string(200, 'x').c_str()).status(), LARDER_E_INVALID);
    assert_int_equal(os.socket_listen("").status(), LARDER_E_INVALID);
}

void write_file(const std::string& path, const char* text) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
}

void limits_of_groups_are_obeyed(void**) {
    {
        TempDir root;  // version 2: the group and those above it
        write_file(root.path("proc/self/cgroup"), "0::/a/b\n");
        write_file(root.path("sys/fs/cgroup/a/b/memory.max"), "max\n");
        write_file(root.path("sys/fs/cgroup/a/memory.max"), "20971520\n");
        write_file(root.path("sys/fs/cgroup/a/b/cpu.max"), "50000 100000\n");
        write_file(root.path("sys/fs/cgroup/cpu.max"), "max 100000\n");
        write_file(root.path("sys/devices/system/node/online"), "0-1,4\n");
        write_file(root.path("sys/kernel/mm/transparent_hugepage/enabled"), "always [madvise] never\n");
        const Topology t = read_topology(root.path().c_str());
        assert_int_equal(t.memory_bytes, 20971520);
        assert_int_equal(t.n_cpus, 1);
        assert_int_equal(t.n_numa_nodes, 3);
        assert_true(t.huge_pages);
    }
    {
        TempDir root;  // version 1: a mount for each controller; the group is named as outside of the container
        write_file(root.path("proc/self/cgroup"), "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n1:name=systemd:/\n");
        write_file(root.path("sys/fs/cgroup/memory/memory.limit_in_bytes"), "31457280\n");
        write_file(root.path("sys/fs/cgroup/cpu/cpu.cfs_quota_us"), "-1\n");
        write_file(root.path("sys/fs/cgroup/cpu/cpu.cfs_period_us"), "100000\n");
        write_file(root.path("sys/kernel/mm/transparent_hugepage/enabled"), "always madvise [never]\n");
        const Topology t = read_topology(root.path().c_str());
        assert_int_equal(t.memory_bytes, 31457280);
        assert_int_equal(t.n_cpus, read_topology("/nonexistent").n_cpus);
        assert_false(t.huge_pages);
    }
    assert_true(read_topology("/nonexistent").memory_bytes > 0);
}

void topology_is_plausible(void**) {
    const Topology& t = posix_os().topology();
    assert_true(t.n_cpus >= 1 && t.n_cpus <= 65536);
    assert_true(t.n_numa_nodes >= 1);
    assert_int_equal(t.page_bytes, sysconf(_SC_PAGESIZE));
    assert_true(t.memory_bytes >= 16u << 20);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(reserve_is_aligned_and_zero_filled),
        cmocka_unit_test(memfd_is_shared_and_sealed),
        cmocka_unit_test(files_do_what_they_say),
        cmocka_unit_test(direct_files_tell_their_unit),
        cmocka_unit_test(threads_have_signals_blocked),
        cmocka_unit_test(clock_and_randomness),
        cmocka_unit_test(fork_changes_the_epoch),
        cmocka_unit_test(liveness_knows_zombies_and_reused_numbers),
        cmocka_unit_test(sockets_pass_messages_and_handles),
        cmocka_unit_test(limits_of_groups_are_obeyed),
        cmocka_unit_test(topology_is_plausible),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
