// Random work of many sequences on a small arena over tiny tiers: whatever is served is what the model gives, and the
// planner's books hold.
#include <cstdlib>

#include "base/hash.h"
#include "kv/kv.h"
#include "support/kv_engine.h"
#include "support/seed.h"
#include "support/temp_dir.h"

using namespace kvtest;
using larder::Rng;

namespace {

struct Setting {
    const char* name;
    uint32_t n_workers;
    uint64_t n_blocks, host_bytes, file_bytes;
    larder_kv_write_policy policy;
    uint32_t scale_bytes;
    uint32_t state_bytes = 0;
};

struct Live {
    larder_seq seq;
    std::vector<int32_t> tokens;  // what it was asked; computed up to n_computed
    bool suspended = false;
};

class World {
  public:
    World(const Setting& s, uint64_t seed) : setting(s), rng(seed), dir("/dev/shm") {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        o.n_workers = s.n_workers;
        o.seed = seed | 1;
        OK(larder_context_create(&o, &context));
        shape.scale_bytes = s.scale_bytes;
        shape.state_bytes = s.state_bytes;
        layout = make_layout(context, shape);
        OK(larder_queue_create(context, nullptr, &queue));
        open();
    }
    ~World() {
        c.close();
        larder_queue_destroy(queue);
        larder_layout_destroy(layout);
        OK(larder_context_destroy(context));
    }
    void step();
    void reopen();
    void verify() { OK(c.kv->planner->verify()); }
    void end_all() {
        for (Live& l : live) OK(larder_kv_end(c.kv, l.seq));
        live.clear();
    }
    Cache c;
    uint64_t n_loaded = 0, n_partial_jobs = 0, n_truncated = 0;

  private:
    void open() {
        larder_kv_options k = LARDER_KV_OPTIONS_INIT;
        k.n_blocks = setting.n_blocks;
        k.host_bytes = setting.host_bytes;
        if (setting.file_bytes) {
            k.directory = dir.path().c_str();
            k.file_bytes = setting.file_bytes;
            k.segment_bytes = 64 << 10;
        }
        k.write_policy = setting.policy;
        k.max_sequences = 24;
        if (setting.state_bytes) k.n_states = 16;
        k.low_watermark = 200;
        k.high_watermark = 400;
        c.open(context, layout, k, shape);
    }
    // Prompts share prefixes: a document, then a branch of it, then something of one's own.
    std::vector<int32_t> some_prompt() {
        const uint64_t doc = rng.below(6), branch = rng.below(4);
        std::vector<int32_t> t;
        for (uint64_t i = 0, n = 4 + doc * 3; i < n; ++i) t.push_back(int32_t(doc * 1000 + i));
        for (uint64_t i = 0, n = rng.below(14); i < n; ++i) t.push_back(int32_t(20000 + branch * 100 + i));
        for (uint64_t i = 0, n = rng.below(6); i < n; ++i) t.push_back(int32_t(rng.below(3)));
        return t;
    }
    void begin();
    void compute(Live& l);
    bool finish(larder_status s, larder_job job);

    Setting setting;
    Rng rng;
    TempDir dir;
    Shape shape;
    larder_context* context = nullptr;
    larder_layout* layout = nullptr;
    larder_queue* queue = nullptr;
    std::vector<Live> live;
};

// Waits for a job, by layers or as a whole.
bool World::finish(larder_status s, larder_job job) {
    if (s == LARDER_OK) return true;
    if (s != LARDER_PENDING) return false;
    if (rng.below(8) == 0) OK(larder_job_cancel(queue, job));
    if (rng.below(2)) larder_job_wait_layer(queue, job, uint32_t(rng.below(shape.n_layers)), UINT64_MAX);
    larder_completion done = {};
    uint32_t n = 0;
    OK(larder_queue_wait(queue, &done, sizeof done, 1, UINT64_MAX, &n));
    assert_int_equal(n, 1);
    assert_true(done.job == job);
    assert_true(done.status == LARDER_OK || done.status == LARDER_PARTIAL);
    n_partial_jobs += done.status == LARDER_PARTIAL;
    return true;
}

void World::begin() {
    Live l;
    l.tokens = some_prompt();
    const larder_kv_match_info m = c.match(l.tokens, rng.below(2));
    assert_true(m.n_tokens <= l.tokens.size());
    assert_true(m.n_tokens == m.n_tokens_arena + m.n_tokens_host + m.n_tokens_file);
    if (rng.below(10) == 0) {
        OK(larder_kv_release(c.kv, m.lease));
        return;
    }
    if (rng.below(10) == 0) larder_kv_evict(c.kv, rng.below(8), nullptr);
    larder_job job = 0;
    const bool with_queue = rng.below(2);
    const larder_status s = larder_kv_begin(c.kv, m.lease, nullptr, with_queue ? queue : nullptr, 7, &l.seq, &job);
    assert_true(s == LARDER_OK || (with_queue && s == LARDER_PENDING));
    if (s == LARDER_PENDING && rng.below(16) == 0) {
        OK(larder_kv_end(c.kv, l.seq));  // while it loads
        finish(s, job);
        return;
    }
    assert_true(finish(s, job));
    assert_true(c.info(l.seq).n_computed <= m.n_tokens);
    n_loaded += c.info(l.seq).n_computed > m.n_tokens_arena;
    c.check(l.seq, l.tokens);
    live.push_back(l);
}

void World::compute(Live& l) {
    const uint64_t done = c.info(l.seq).n_computed;
    if (done == l.tokens.size())
        for (uint64_t i = 0, n = 1 + rng.below(5); i < n; ++i) l.tokens.push_back(int32_t(rng.below(4)));
    const uint64_t n = done + 1 + rng.below(l.tokens.size() - done);
    if (rng.below(4) == 0) larder_kv_reserve(c.kv, l.seq, rng.below(3), rng.below(9));
    const larder_status s = c.try_compute(l.seq, l.tokens, n);
    assert_true(s == LARDER_OK || s == LARDER_E_NOSPACE);
}

void World::step() {
    const uint64_t op = rng.below(100);
    if (live.size() < 3 || (op < 25 && live.size() < 10)) return begin();
    const size_t at = size_t(rng.below(live.size()));
    Live& l = live[at];
    if (l.suspended) {
        larder_job job = 0;
        const bool with_queue = rng.below(2);
        const larder_status s = larder_kv_resume(c.kv, l.seq, nullptr, with_queue ? queue : nullptr, 0, &job);
        assert_true(finish(s, job));
        l.suspended = false;
        c.check(l.seq, l.tokens);
    } else if (op < 60) {
        compute(l);
    } else if (op < 68) {
        const uint64_t n = rng.below(c.info(l.seq).n_computed + 1);
        const larder_status s = larder_kv_truncate(c.kv, l.seq, n);
        if (s == LARDER_E_RANGE && shape.state_bytes) return;  // no state is kept there
        OK(s);
        n_truncated += shape.state_bytes != 0 && n != 0;
        l.tokens.resize(n);
        l.tokens.push_back(int32_t(rng.below(3)));
    } else if (op < 76 && live.size() < 10) {
        larder_seq kids[2];
        const uint64_t n = rng.below(c.info(l.seq).n_computed + 1);
        const larder_status s = larder_kv_fork(c.kv, l.seq, n, 2, kids);
        if (shape.state_bytes && (s == LARDER_E_RANGE || s == LARDER_E_STATE)) return;
        OK(s);
        for (larder_seq k : kids) {
            Live kid;
            kid.seq = k;
            kid.tokens.assign(live[at].tokens.begin(), live[at].tokens.begin() + ptrdiff_t(n));
            kid.tokens.push_back(int32_t(rng.below(3)));
            live.push_back(kid);
        }
    } else if (op < 82) {
        larder_job job = 0;
        const bool with_queue = rng.below(2);
        const auto mode = rng.below(2) ? LARDER_KV_SUSPEND_DROP : LARDER_KV_SUSPEND_OFFLOAD;
        l.tokens.resize(c.info(l.seq).n_computed);
        const larder_status s = larder_kv_suspend(c.kv, l.seq, mode, with_queue ? queue : nullptr, 0, &job);
        assert_true(finish(s, job));
        l.suspended = true;
    } else if (op < 83 && shape.state_bytes) {
        const larder_status s = larder_kv_checkpoint(c.kv, l.seq);
        assert_true(s == LARDER_OK || s == LARDER_E_STATE);
    } else if (op < 84) {
        const larder_status s = larder_kv_flush(c.kv, nullptr, 0, nullptr);
        assert_true(s == LARDER_OK || s == LARDER_PARTIAL);
    } else if (op < 86) {
        larder_kv_evict(c.kv, rng.below(6), nullptr);
    } else {
        c.check(l.seq, l.tokens);
        OK(larder_kv_end(c.kv, l.seq));
        live[at] = live.back();
        live.pop_back();
    }
}

void World::reopen() {
    end_all();
    c.close();
    open();
}

void run(const Setting& s) {
    const uint64_t seed = test_seed();
    const uint64_t n = test_rounds(150000);
    World w(s, seed);
    for (uint64_t i = 0; i < n; ++i) {
        w.step();
        if (i % 64 == 0) w.verify();
        if (s.file_bytes && i % (n / 3) == n / 3 - 1) w.reopen();
    }
    w.end_all();
    w.verify();
    assert_int_equal(w.c.info().n_leases, 0);
    assert_int_equal(w.c.info().n_sequences, 0);
    if (s.host_bytes || s.file_bytes) assert_true(w.n_loaded > 0);
    if (s.state_bytes) assert_true(w.n_truncated > 0);
    print_message("%s: %llu operations, %llu begins loaded from a tier, %llu of the jobs were partial\n", s.name,
                  (unsigned long long)n, (unsigned long long)w.n_loaded, (unsigned long long)w.n_partial_jobs);
}

void test_arena_only(void**) {
    run({"arena", 0, 24, 0, 0, LARDER_KV_WRITE_BACK, 0});
}
void test_host_tier(void**) {
    run({"host tier", 0, 24, 96 << 10, 0, LARDER_KV_WRITE_BACK, 3});
}
void test_host_tier_workers(void**) {
    run({"host tier, two workers", 2, 24, 256 << 10, 0, LARDER_KV_WRITE_THROUGH, 0});
}
void test_file_tier(void**) {
    run({"file tier alone", 0, 24, 0, 512 << 10, LARDER_KV_WRITE_BACK, 0});
}
void test_all_tiers(void**) {
    run({"all tiers, two workers", 2, 32, 96 << 10, 1 << 20, LARDER_KV_WRITE_BACK, 0});
}

void test_states(void**) {
    run({"states", 0, 24, 0, 0, LARDER_KV_WRITE_BACK, 0, 40});
}
void test_states_in_all_tiers(void**) {
    run({"states in all tiers, two workers", 2, 32, 96 << 10, 1 << 20, LARDER_KV_WRITE_BACK, 0, 100});
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(test_arena_only),         cmocka_unit_test(test_host_tier),
                                cmocka_unit_test(test_host_tier_workers),  cmocka_unit_test(test_file_tier),
                                cmocka_unit_test(test_all_tiers),          cmocka_unit_test(test_states),
                                cmocka_unit_test(test_states_in_all_tiers)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
