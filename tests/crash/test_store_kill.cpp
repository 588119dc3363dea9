// SIGKILL at named points and at random moments: the store opens again, what was flushed is there, nothing wrong is
// read.
#include "support/store_fixture.h"

#include "core/context.h"
#include "os/fault_os.h"

#include <csignal>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace larder;

namespace {

// What the child has reached, in memory that outlives it.
struct Progress {
    volatile uint64_t n_put;      // objects 0 .. n_put-1 of this round were put
    volatile uint64_t n_flushed;  // of these, so many before a flush that returned OK
};

size_t size_of(uint64_t key) {
    return size_t(1 + mix64(key) % 30000);
}

// Puts and flushes until it is killed, or 2,000 objects are through.
[[noreturn]] void child(larder_context* c, const std::string& dir, const StoreSetup& setup, uint64_t first,
                        Progress* p) {
    larder_store* s = nullptr;
    const larder_store_options o = setup.options(dir.c_str());
    if (larder_store_open(c, &o, &s) != LARDER_OK) _exit(1);
    for (uint64_t i = 0; i < 2000; ++i) {
        const auto payload = make_payload(first + i, size_of(first + i));
        const larder_status put = i % 4 ? put_one(s, make_key(first + i), make_meta(), payload)
                                        : write_one(s, make_key(first + i), make_meta(), payload);
        if (put != LARDER_OK) _exit(2);
        p->n_put = i + 1;
        if (mix64(first + i) % 5) continue;
        const uint64_t sure = i + 1;
        if (larder_store_flush(s, nullptr, 0, nullptr) == LARDER_OK) p->n_flushed = sure;
    }
    _exit(0);
}

// Room for more than one round writes: nothing flushed is evicted before it was looked for.
const StoreSetup setup_of_rounds{
    .host_bytes = 1 << 20, .file_bytes = 96 * (256 << 10) + 16384, .segment_bytes = 256 << 10};

class Rounds {
  public:
    Rounds() : dir_("/dev/shm") {
        void* shared = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(shared != MAP_FAILED);
        p_ = static_cast<Progress*>(shared);
    }
    ~Rounds() { munmap(p_, sizeof(Progress)); }

    // What f(dir, first, progress) does in a process of its own, and what is left of it. Returns whether it was killed.
    template <class F, class G> bool run(F f, G meanwhile) {
        p_->n_put = 0;
        p_->n_flushed = 0;
        const pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) f(dir_.path("store"), first_, p_);
        meanwhile(pid);
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
        look();
        first_ += p_->n_put + 10;
        return WIFSIGNALED(status);
    }
    uint64_t n_flushed = 0;

  private:
    void look() {
        larder_context* c = nullptr;
        larder_store* s = nullptr;
        const std::string path = dir_.path("store");
        const larder_store_options o = setup_of_rounds.options(path.c_str());
        assert_int_equal(larder_context_create(nullptr, &c), LARDER_OK);
        assert_int_equal(larder_store_open(c, &o, &s), LARDER_OK);
        std::vector<unsigned char> bytes;
        const uint64_t room = 80 * (256 << 10) / 16000;
        for (uint64_t i = p_->n_put > room ? p_->n_put - room : 0; i < p_->n_put + 2; ++i) {
            const uint64_t key = first_ + i;
            const larder_status got = get_one(s, make_key(key), make_want(), bytes, 40000);
            if (got == LARDER_OK)
                assert_true(bytes == make_payload(key, size_of(key)));
            else
                assert_int_equal(got, LARDER_MISS);
            if (i < p_->n_flushed) assert_int_equal(got, LARDER_OK);
        }
        n_flushed += p_->n_flushed;
        assert_int_equal(larder_store_verify(s), LARDER_OK);
        larder_store_close(s);
        larder_context_destroy(c);
    }
    TempDir dir_;
    Progress* p_ = nullptr;
    uint64_t first_ = 0;
};

void at_random(void**) {
    const uint64_t n_rounds = test_long() ? 1000 : 150;
    Rng rng(test_seed());
    Rounds rounds;
    for (uint64_t round = 0; round < n_rounds; ++round)
        rounds.run(
            [](const std::string& dir, uint64_t first, Progress* p) {
                larder_context* c = nullptr;
                if (larder_context_create(nullptr, &c) != LARDER_OK) _exit(3);
                child(c, dir, setup_of_rounds, first, p);
            },
            [&](pid_t pid) {
                usleep(useconds_t(3000 + rng.below(25000)));
                kill(pid, SIGKILL);
            });
    print_message("%llu rounds, %llu objects flushed\n", (unsigned long long)n_rounds,
                  (unsigned long long)rounds.n_flushed);
    assert_true(rounds.n_flushed > 0);
}

// Named points: just before the n-th operation of a kind, or just after (ring_complete). Each from a store that the
// points before it left.
struct KillPoint {
    FaultClass at;
    uint32_t n[13];
};
constexpr KillPoint points[] = {
    {FaultClass::open, {1, 2}},
    {FaultClass::space, {1, 2, 3, 4, 5, 6}},
    {FaultClass::read, {1, 2, 3, 4, 5}},
    {FaultClass::write, {1}},
    {FaultClass::sync, {1, 2, 3, 4, 5, 6, 8, 12, 20, 40, 80, 160, 320}},
    {FaultClass::lock, {1}},
    {FaultClass::ring_create, {1}},
    {FaultClass::thread, {1, 2}},
    {FaultClass::memory, {1, 2, 3, 4, 5, 6, 7}},
    {FaultClass::ring_submit, {1, 2, 3, 4, 5, 6, 8, 12, 20, 40, 80, 160, 320}},
    {FaultClass::ring_complete, {1, 2, 3, 4, 5, 6, 8, 12, 20, 40, 80, 160, 320}},
};

void kill_self() {
    kill(getpid(), SIGKILL);
}

void at_named_points(void**) {
    Rounds rounds;
    uint32_t n_points = 0, n_reached = 0;
    for (const KillPoint& point : points)
        for (const uint32_t n : point.n) {
            if (!n) continue;
            ++n_points;
            const bool killed = rounds.run(
                [&](const std::string& dir, uint64_t first, Progress* p) {
                    FaultOs os(posix_os());
                    os.trap(kill_self);
                    larder_context* c = nullptr;
                    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
                    os.arm({FaultPlan::bit(point.at), n, false, 0});
                    if (larder_context::create(&o, os, &c) != LARDER_OK) _exit(3);
                    child(c, dir, setup_of_rounds, first, p);
                },
                [](pid_t) {});
            n_reached += killed;
            if (!killed) print_message("%s %u is not reached\n", fault_class_name(point.at), n);
        }
    print_message("%u points, %u reached, %llu objects flushed\n", n_points, n_reached,
                  (unsigned long long)rounds.n_flushed);
    assert_int_equal(n_points, 64);
    assert_int_equal(n_reached, n_points);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(at_named_points), cmocka_unit_test(at_random)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
