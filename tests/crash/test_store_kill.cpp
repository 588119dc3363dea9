// SIGKILL at random moments: the store opens again, what was flushed is there, nothing wrong is read.
#include "support/store_fixture.h"

#include <csignal>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>

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

[[noreturn]] void child(const std::string& dir, const StoreSetup& setup, uint64_t first, Progress* p) {
    larder_context* c = nullptr;
    larder_store* s = nullptr;
    const larder_store_options o = setup.options(dir.c_str());
    if (larder_context_create(nullptr, &c) != LARDER_OK || larder_store_open(c, &o, &s) != LARDER_OK) _exit(1);
    for (uint64_t i = 0; i < 100000; ++i) {
        if (put_one(s, make_key(first + i), make_meta(), make_payload(first + i, size_of(first + i))) != LARDER_OK)
            _exit(2);
        p->n_put = i + 1;
        if (mix64(first + i) % 5) continue;
        const uint64_t sure = i + 1;
        if (larder_store_flush(s, nullptr, 0, nullptr) == LARDER_OK) p->n_flushed = sure;
    }
    _exit(0);
}

void kill_rounds(void**) {
    const uint64_t n_rounds = test_long() ? 1000 : 200;
    Rng rng(test_seed());
    TempDir dir("/dev/shm");
    // Room for more than one round writes: nothing flushed is evicted before it was looked for.
    const StoreSetup setup{.host_bytes = 1 << 20, .file_bytes = 96 * (256 << 10) + 16384, .segment_bytes = 256 << 10};
    auto* p = static_cast<Progress*>(
        mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    assert_true(p != MAP_FAILED);
    uint64_t first = 0, n_flushed_total = 0;
    for (uint64_t round = 0; round < n_rounds; ++round) {
        p->n_put = 0;
        p->n_flushed = 0;
        const pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) child(dir.path("store"), setup, first, p);
        usleep(useconds_t(3000 + rng.below(25000)));
        kill(pid, SIGKILL);
        int status = 0;
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status));

        larder_context* c = nullptr;
        larder_store* s = nullptr;
        const std::string path = dir.path("store");
        const larder_store_options o = setup.options(path.c_str());
        assert_int_equal(larder_context_create(nullptr, &c), LARDER_OK);
        assert_int_equal(larder_store_open(c, &o, &s), LARDER_OK);
        std::vector<unsigned char> bytes;
        const uint64_t n_put = p->n_put, n_flushed = p->n_flushed;
        const uint64_t room = 80 * (256 << 10) / 16000;
        for (uint64_t i = n_put > room ? n_put - room : 0; i < n_put + 2; ++i) {
            const uint64_t key = first + i;
            const larder_status got = get_one(s, make_key(key), make_want(), bytes, 40000);
            if (got == LARDER_OK)
                assert_true(bytes == make_payload(key, size_of(key)));
            else
                assert_int_equal(got, LARDER_MISS);
            if (i < n_flushed) assert_int_equal(got, LARDER_OK);
        }
        n_flushed_total += n_flushed;
        assert_int_equal(larder_store_verify(s), LARDER_OK);
        larder_store_close(s);
        larder_context_destroy(c);
        first += n_put + 10;
    }
    print_message("%llu rounds, %llu objects flushed\n", (unsigned long long)n_rounds,
                  (unsigned long long)n_flushed_total);
    assert_true(n_flushed_total > 0);
    munmap(p, sizeof(Progress));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(kill_rounds)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
