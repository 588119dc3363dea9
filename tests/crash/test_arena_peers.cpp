// Processes that share an arena and are killed at any moment: what a living one holds stays its own, what a dead one
// held comes back.
#include "support/cmocka.h"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "larder/larder.h"
#include "os/posix.h"
#include "support/seed.h"

namespace {

constexpr uint32_t n_blocks = 2000, n_children = 4;

struct Rig {
    larder_context* context = nullptr;
    larder_layout* layout = nullptr;
    larder_arena* arena = nullptr;
    larder_arena_layer view = LARDER_ARENA_LAYER_INIT;

    explicit Rig(uint32_t dim = 8) {
        larder_context_options co = LARDER_CONTEXT_OPTIONS_INIT;
        co.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        if (larder_context_create(&co, &context) < 0) std::abort();
        larder_layer_group g = LARDER_LAYER_GROUP_INIT;
        g.n_layers = 1;
        g.n_kv_heads = 1;
        g.k_dim = g.v_dim = dim;
        larder_layout_options lo = LARDER_LAYOUT_OPTIONS_INIT;
        lo.groups = &g;
        lo.n_groups = 1;
        lo.group_stride = sizeof g;
        if (larder_layout_create(context, &lo, &layout) < 0) std::abort();
    }
    ~Rig() {
        larder_arena_destroy(arena);
        larder_layout_destroy(layout);
        larder_context_destroy(context);
    }
    larder_status make(larder_arena_memory memory = LARDER_ARENA_MEMFD) {
        larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
        o.n_blocks = &n_blocks;
        o.n_block_counts = 1;
        o.memory = memory;
        o.max_seqs = 4;
        return larder_arena_create(context, layout, &o, &arena);
    }
    larder_status join(int32_t fd) {
        larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
        o.max_seqs = 4;
        return larder_arena_join(context, layout, &o, fd, &arena);
    }
    uint64_t* stamp(larder_block b) {
        void* p = nullptr;
        if (larder_arena_block_address(arena, b, 0, LARDER_PLANE_K, &p) < 0) std::abort();
        return static_cast<uint64_t*>(p);
    }
    uint64_t n_free() {
        larder_arena_group_state s = LARDER_ARENA_GROUP_STATE_INIT;
        if (larder_arena_group_query(arena, 0, &s) < 0) std::abort();
        return s.n_free;
    }
};

int32_t exported(larder_arena* a) {
    int32_t fd = -1;
    assert_int_equal(larder_arena_export(a, &fd), LARDER_OK);
    return fd;
}

uint32_t number(Rig& r, larder_block b) {
    larder_arena_block_state s = LARDER_ARENA_BLOCK_STATE_INIT;
    if (larder_arena_block_query(r.arena, b, &s) < 0) std::abort();
    return uint32_t(s.number);
}

// Takes and gives back blocks until it is killed. claims[block] is the process that holds it.
[[noreturn]] void child(int32_t fd, std::atomic<int32_t>* claims, uint64_t seed) {
    Rig r;
    if (r.join(fd) < 0) _exit(2);
    larder::Rng rng(seed);
    const int32_t me = getpid();
    std::vector<larder_block> mine;
    for (;;) {
        larder_block b[48];
        const auto n = uint32_t(1 + rng.below(48));
        if (rng.below(2) && larder_arena_alloc(r.arena, 0, n, b) == LARDER_OK) {
            for (uint32_t i = 0; i < n; ++i) {
                const int32_t before = claims[number(r, b[i])].exchange(me);
                if (before && larder::posix_os().alive({before, 0})) _exit(3);
                *r.stamp(b[i]) = uint64_t(me);
                mine.push_back(b[i]);
            }
        } else if (!mine.empty()) {
            const size_t at = rng.below(mine.size());
            std::swap(mine[at], mine.back());
            int32_t expected = me;
            if (*r.stamp(mine.back()) != uint64_t(me)) _exit(4);
            if (!claims[number(r, mine.back())].compare_exchange_strong(expected, 0)) _exit(5);
            if (larder_arena_unref(r.arena, &mine.back(), 1) < 0) _exit(6);
            mine.pop_back();
        }
    }
}

void killed_peers_give_everything_back(void**) {
    larder::Rng rng(test_seed());
    auto* claims = static_cast<std::atomic<int32_t>*>(
        mmap(nullptr, n_blocks * 4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    assert_true(claims != MAP_FAILED);
    Rig r;
    assert_int_equal(r.make(), LARDER_OK);
    const int32_t fd = exported(r.arena);
    pid_t pids[n_children] = {};
    const uint64_t rounds = test_rounds(60);
    auto end = [](pid_t pid) {
        kill(pid, SIGKILL);
        int how = 0;
        assert_int_equal(waitpid(pid, &how, 0), pid);
        if (!WIFSIGNALED(how)) print_error("a process found %d wrong\n", WEXITSTATUS(how));
        assert_true(WIFSIGNALED(how));
    };
    for (uint64_t i = 0; i < rounds; ++i) {
        pid_t& pid = pids[rng.below(n_children)];
        if (pid) end(pid);
        const uint64_t seed = rng.next();
        pid = fork();
        if (pid == 0) child(fd, claims, seed);
        assert_true(pid > 0);
        usleep(useconds_t(rng.below(15000)));
    }
    for (pid_t pid : pids)
        if (pid) end(pid);
    // What nobody reaped yet, and what the dead reaped of each other, is all there again.
    uint64_t n = 0;
    assert_int_equal(larder_arena_reap(r.arena, &n), LARDER_OK);
    assert_int_equal(r.n_free(), n_blocks - 1);
    std::vector<larder_block> all(n_blocks - 1);
    assert_int_equal(larder_arena_alloc(r.arena, 0, n_blocks - 1, all.data()), LARDER_OK);
    assert_int_equal(larder_arena_alloc(r.arena, 0, 1, all.data()), LARDER_E_NOSPACE);
    assert_int_equal(larder_arena_verify(r.arena), LARDER_OK);
    munmap(claims, n_blocks * 4);
}

void leaving_gives_back(void**) {
    Rig r;
    assert_int_equal(r.make(), LARDER_OK);
    const int32_t fd = exported(r.arena);
    const pid_t pid = fork();
    if (pid == 0) {
        Rig c;
        larder_block b[100];
        larder_seq s;
        if (c.join(fd) < 0 || larder_arena_alloc(c.arena, 0, 100, b) < 0) _exit(1);
        if (larder_arena_seq_create(c.arena, &s) < 0 ||
            larder_arena_seq_append(c.arena, s, 99, nullptr, 0, nullptr) < 0)
            _exit(2);
        larder_arena_group_state g = LARDER_ARENA_GROUP_STATE_INIT;
        if (larder_arena_group_query(c.arena, 0, &g) < 0 || g.n_used != 107 || g.n_elsewhere != 0) _exit(3);
        if (larder_arena_verify(c.arena) < 0) _exit(4);
        larder_arena_destroy(c.arena);
        c.arena = nullptr;
        _exit(0);
    }
    int how = 0;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
    assert_int_equal(r.n_free(), n_blocks - 1);
    uint64_t n = 1;
    assert_int_equal(larder_arena_reap(r.arena, &n), LARDER_OK);
    assert_int_equal(n, 0);
}

// Two arenas over the same memory in one process are two owners.
void owners_in_one_process(void**) {
    Rig maker, other;
    assert_int_equal(maker.make(), LARDER_OK);
    const int32_t fd = exported(maker.arena);
    assert_int_equal(other.join(fd), LARDER_OK);
    larder_block a[10], b[10];
    assert_int_equal(larder_arena_alloc(maker.arena, 0, 10, a), LARDER_OK);
    assert_int_equal(larder_arena_alloc(other.arena, 0, 10, b), LARDER_OK);
    for (int i = 0; i < 10; ++i)
        for (int k = 0; k < 10; ++k) assert_int_not_equal(number(maker, a[i]), number(other, b[k]));
    // The same bytes: by number.
    *other.stamp(b[0]) = 42;
    larder_arena_layer v = LARDER_ARENA_LAYER_INIT;
    assert_int_equal(larder_arena_layer_view(maker.arena, 0, 0, &v), LARDER_OK);
    uint64_t seen = 0;
    std::memcpy(&seen, static_cast<char*>(v.k_base) + number(other, b[0]) * v.k_block_stride, 8);
    assert_int_equal(seen, 42);
    uint64_t n = 1;
    assert_int_equal(larder_arena_reap(maker.arena, &n), LARDER_OK);
    assert_int_equal(n, 0);
    larder_arena_group_state s = LARDER_ARENA_GROUP_STATE_INIT;
    assert_int_equal(larder_arena_group_query(maker.arena, 0, &s), LARDER_OK);
    assert_int_equal(s.n_used, 10);
    assert_int_equal(s.n_free + s.n_used + s.n_elsewhere, n_blocks - 1);
    assert_int_equal(larder_arena_verify(maker.arena), LARDER_OK);
    assert_int_equal(larder_arena_verify(other.arena), LARDER_OK);
    int32_t again = -1;
    assert_int_equal(larder_arena_export(other.arena, &again), LARDER_E_UNSUPPORTED);
}

void what_is_no_shared_arena(void**) {
    Rig maker, wrong(16), other, plain;
    assert_int_equal(maker.make(), LARDER_OK);
    const int32_t fd = exported(maker.arena);
    assert_int_equal(wrong.join(fd), LARDER_E_INVALID);
    assert_int_equal(plain.make(LARDER_ARENA_ANON), LARDER_OK);
    int32_t none = -1;
    assert_int_equal(larder_arena_export(plain.arena, &none), LARDER_E_UNSUPPORTED);
    assert_int_equal(larder_arena_reap(plain.arena, nullptr), LARDER_E_UNSUPPORTED);
    assert_true(other.join(-1) < 0);
    const int pipe_like = memfd_create("empty", MFD_ALLOW_SEALING);
    assert_int_equal(other.join(pipe_like), LARDER_E_INVALID);
    assert_int_equal(ftruncate(pipe_like, 1 << 16), 0);
    assert_int_equal(other.join(pipe_like), LARDER_E_INVALID);  // could shrink
    assert_int_equal(fcntl(pipe_like, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    assert_int_equal(other.join(pipe_like), LARDER_E_INVALID);
    close(pipe_like);
    // Every word of the head, damaged: refused, or joined without harm.
    auto* head = static_cast<uint64_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    assert_true(head != MAP_FAILED);
    uint32_t n_refused = 0;
    for (int i = 0; i < 12; ++i) {
        const uint64_t sound = head[i];
        for (uint64_t bad : {uint64_t(0), ~uint64_t(0), sound ^ 1, sound ^ (uint64_t(1) << 33)}) {
            head[i] = bad;
            Rig r;
            if (r.join(fd) < 0)
                ++n_refused;
            else
                assert_int_equal(larder_arena_verify(r.arena), LARDER_OK);
        }
        head[i] = sound;
    }
    assert_in_range(n_refused, 20, 48);
    munmap(head, 4096);
    assert_int_equal(other.join(fd), LARDER_OK);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(killed_peers_give_everything_back),
        cmocka_unit_test(leaving_gives_back),
        cmocka_unit_test(owners_in_one_process),
        cmocka_unit_test(what_is_no_shared_arena),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
