// kill -9 at any moment, then open the same directory: what had been flushed is found, and nothing that is found is
// wrong.
#include "support/kv_engine.h"

#include <csignal>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "support/seed.h"
#include "support/temp_dir.h"

using namespace kvtest;

namespace {

constexpr uint32_t n_prompts = 40, prompt_tokens = 33;

struct Rig {
    larder_context* context = nullptr;
    larder_layout* layout = nullptr;
    Shape shape;
    Cache c;
    explicit Rig(const std::string& dir) {
        OK(larder_context_create(nullptr, &context));
        shape.state_bytes = 24;
        layout = make_layout(context, shape);
        larder_kv_options o = LARDER_KV_OPTIONS_INIT;
        o.n_blocks = 64;
        o.n_states = 32;
        o.host_bytes = 256 << 10;
        o.directory = dir.c_str();
        o.file_bytes = 8 << 20;
        o.segment_bytes = 64 << 10;
        c.open(context, layout, o, shape);
    }
    ~Rig() {
        c.close();
        larder_layout_destroy(layout);
        OK(larder_context_destroy(context));
    }
};

// Serves prompts and flushes; says in shared memory up to which prompt all is durable.
[[noreturn]] void child(const std::string& dir, volatile uint32_t* durable, uint32_t first) {
    Rig r(dir);
    for (uint32_t i = first;; ++i) {
        r.c.serve(prompt(i % n_prompts, prompt_tokens));
        if (i % 3 == 2 && larder_kv_flush(r.c.kv, nullptr, 0, nullptr) == LARDER_OK) *durable = i + 1;
    }
}

void test_kill(void**) {
    const uint64_t rounds = test_rounds(15);
    larder::Rng rng(test_seed());
    TempDir dir("/dev/shm");
    auto* durable =
        static_cast<volatile uint32_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    assert_true(durable != MAP_FAILED);
    uint64_t n_found = 0, n_asked = 0;
    // A slow machine may kill each child before its first flush: go on until something was durable.
    for (uint64_t round = 0; round < rounds || (n_asked == 0 && round < 200); ++round) {
        const uint32_t first = *durable;
        const pid_t pid = fork();
        if (pid == 0) child(dir.path(), durable, first);
        usleep(useconds_t((20000 + rng.below(60000)) * (1 + round / 8)));
        kill(pid, SIGKILL);
        int status = 0;
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        Rig r(dir.path());
        const uint32_t done = *durable;
        for (uint32_t i = done > n_prompts ? done - n_prompts : 0; i < done; ++i) {
            const auto p = prompt(i % n_prompts, prompt_tokens);
            const larder_kv_match_info m = r.c.match(p);
            OK(larder_kv_release(r.c.kv, m.lease));
            assert_int_equal(m.n_tokens, prompt_tokens - 1);
            n_found += r.c.serve(p);  // checks every byte
            n_asked += prompt_tokens - 1;
        }
    }
    munmap(const_cast<uint32_t*>(durable), 4096);
    assert_true(n_asked > 0);
    assert_int_equal(n_found, n_asked);
    print_message("%llu rounds: %llu tokens that were flushed before a kill were all found\n",
                  (unsigned long long)rounds, (unsigned long long)n_found);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(test_kill)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
