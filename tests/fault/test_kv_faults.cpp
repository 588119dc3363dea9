// kv under every allocation and system failure: an error or a smaller cache, never a wrong byte, a leak or a crash.
#include "support/kv_engine.h"

#include "kv/kv.h"
#include "support/fault_loop.h"

using namespace kvtest;

namespace {

#define TRY(expr)                                                                                                      \
    do {                                                                                                               \
        const larder_status try_status_ = (expr);                                                                      \
        if (try_status_ < 0) return try_status_;                                                                       \
    } while (0)

// Statuses of its own: a request that met a failure is given up; the next one goes on.
struct FaultyEngine {
    Cache c;
    larder_queue* queue = nullptr;

    larder_status open(larder_context* context, larder_layout* layout, const larder_kv_options& o, const Shape& s) {
        c.shape = s;
        TRY(larder_kv_open(context, layout, &o, &c.kv));
        c.read_views();
        return LARDER_OK;
    }
    larder_status serve(const std::vector<int32_t>& tokens, bool as_job) {
        larder_kv_query q = LARDER_KV_QUERY_INIT;
        q.tokens = tokens.data();
        q.n_tokens = tokens.size();
        larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
        TRY(larder_kv_match(c.kv, &q, &m));
        larder_seq seq = 0;
        larder_job job = 0;
        const larder_status begun = larder_kv_begin(c.kv, m.lease, nullptr, as_job ? queue : nullptr, 0, &seq, &job);
        if (begun < 0) {
            OK(larder_kv_release(c.kv, m.lease));
            return begun;
        }
        if (begun == LARDER_PENDING) {
            larder_completion done = {};
            uint32_t n = 0;
            OK(larder_queue_wait(queue, &done, sizeof done, 1, UINT64_MAX, &n));
        }
        c.check(seq, tokens);
        const larder_status computed = c.try_compute(seq, tokens, tokens.size());
        c.check(seq, tokens);
        // A commit that failed has committed nothing: the second one goes on from there.
        if (computed < 0) c.try_compute(seq, tokens, tokens.size());
        c.check(seq, tokens);
        larder_status s = computed;
        if (computed >= 0 && tokens.size() % 2) {
            s = larder_kv_suspend(c.kv, seq, LARDER_KV_SUSPEND_OFFLOAD, nullptr, 0, nullptr);
            if (s >= 0) s = larder_kv_resume(c.kv, seq, nullptr, nullptr, 0, nullptr);
            if (s >= 0) c.check(seq, tokens);
        }
        OK(larder_kv_end(c.kv, seq));
        return s < 0 ? s : computed;
    }
};

struct Fixture {
    larder_layout* layout = nullptr;
    FaultyEngine e;
    ~Fixture() {
        e.c.close();
        larder_queue_destroy(e.queue);
        larder_layout_destroy(layout);
    }
};

larder_status body(FaultEnv& env, bool host, bool file, uint32_t state_bytes) {
    FaultEnv::Context context;
    TRY(env.make_context(context));
    Fixture f;
    Shape s;
    s.state_bytes = state_bytes;
    TRY(try_make_layout(context.get(), s, "test", &f.layout));
    TRY(larder_queue_create(context.get(), nullptr, &f.e.queue));
    larder_kv_options o = LARDER_KV_OPTIONS_INIT;
    o.n_blocks = 8;
    o.max_sequences = 4;
    if (state_bytes) o.n_states = 4;
    const std::string dir = env.dir + "/kv";
    if (host) o.host_bytes = 96 << 10;
    if (file) {
        o.directory = dir.c_str();
        o.file_bytes = 512 << 10;
        o.segment_bytes = 64 << 10;
    }
    larder_status first = LARDER_OK;
    const auto note = [&](larder_status st) {
        if (st < 0 && first == LARDER_OK) first = st;
    };
    for (int round = 0; round < 2; ++round) {
        TRY(f.e.open(context.get(), f.layout, o, s));
        for (uint32_t i = 0; i < 4; ++i) note(f.e.serve(prompt(i % 3, 13 + i), i & 1));
        note(larder_kv_flush(f.e.c.kv, nullptr, 0, nullptr));
        note(larder_kv_evict(f.e.c.kv, 4, nullptr));
        for (uint32_t i = 0; i < 2; ++i) note(f.e.serve(prompt(i, 13), true));
        try {
            OK(f.e.c.kv->planner->verify());
        } catch (const std::bad_alloc&) {
            // Checking wants memory as well.
        }
        assert_int_equal(f.e.c.info().n_sequences, 0);
        assert_int_equal(f.e.c.info().n_leases, 0);
        f.e.c.close();
    }
    return first;
}

void run(const char* name, bool host, bool file, uint32_t state_bytes = 0) {
    FaultCase c;
    c.name = name;
    c.also_allowed = {LARDER_E_NOMEM, LARDER_E_NOSPACE, LARDER_E_IO, LARDER_E_DISK_FULL, LARDER_E_SYSTEM};
    c.body = [=](FaultEnv& env) { return body(env, host, file, state_bytes); };
    run_fault_loop(c);
}

void arena_alone(void**) {
    run("kv, arena", false, false);
}
void host_tier(void**) {
    run("kv, host tier", true, false);
}
void file_tier(void**) {
    run("kv, host and file tier", true, true);
}

void states(void**) {
    run("kv with states, host and file tier", true, true, 40);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(arena_alone), cmocka_unit_test(host_tier), cmocka_unit_test(file_tier),
                                cmocka_unit_test(states)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
