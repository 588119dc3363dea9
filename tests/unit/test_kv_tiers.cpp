// kv over a host tier and a file tier, through the C ABI: write-back, loads by layer, restart, quality, suspension,
// damage.
#include <cstdio>
#include <fstream>
#include <thread>

#include "support/kv_engine.h"
#include "support/temp_dir.h"

using namespace kvtest;

namespace {

struct Rig {
    larder_context* context = nullptr;
    larder_layout* layout = nullptr;
    larder_queue* queue = nullptr;
    Shape shape;
    larder_kv_options o = LARDER_KV_OPTIONS_INIT;
    Cache c;

    explicit Rig(uint32_t n_workers) {
        larder_context_options co = LARDER_CONTEXT_OPTIONS_INIT;
        co.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        co.n_workers = n_workers;
        OK(larder_context_create(&co, &context));
        layout = make_layout(context, shape);
        OK(larder_queue_create(context, nullptr, &queue));
        o.n_blocks = 16;
        o.host_bytes = 1 << 20;
        o.max_sequences = 16;
    }
    ~Rig() {
        c.close();
        larder_queue_destroy(queue);
        larder_layout_destroy(layout);
        OK(larder_context_destroy(context));
    }
    void open() { c.open(context, layout, o, shape); }
    void file(const TempDir& d) {
        o.directory = d.path().c_str();
        o.file_bytes = 4 << 20;
        o.segment_bytes = 64 << 10;
    }
    void evict_all() {
        assert_true(larder_kv_evict(c.kv, 1000, nullptr) >= 0);
        assert_int_equal(c.info().n_free, o.n_blocks);
    }
    larder_stats stats() {
        larder_stats s = {};
        s.struct_size = sizeof s;
        OK(larder_context_stats(context, &s));
        return s;
    }
};

// More prompts than the arena holds: all of them are found below.
void serve_many(uint32_t n_workers) {
    Rig r(n_workers);
    r.open();
    for (uint32_t i = 0; i < 12; ++i) assert_int_equal(r.c.serve(prompt(i, 25)), 0);
    for (uint32_t i = 0; i < 12; ++i) {
        const auto p = prompt(i, 25);
        const larder_kv_match_info m = r.c.match(p);
        assert_int_equal(m.n_tokens, 24);
        OK(larder_kv_release(r.c.kv, m.lease));
        assert_int_equal(r.c.serve(p), 24);
    }
    assert_true(r.c.info().host_bytes > 0);
    const larder_stats s = r.stats();
    assert_true(s.kv_tokens_hit_host > 0);
    assert_true(s.kv_evicted_blocks > 0);
}
void test_arena_overflows_to_host(void**) {
    serve_many(0);
}
void test_arena_overflows_to_host_with_workers(void**) {
    serve_many(2);
}

void test_layers_arrive(void**) {
    Rig r(2);
    r.open();
    const auto p = prompt(1, 33);
    r.c.serve(p);
    r.evict_all();
    const larder_kv_match_info m = r.c.match(p);
    assert_int_equal(m.n_tokens, 32);
    assert_int_equal(m.n_tokens_host, 32);
    larder_seq seq = 0;
    larder_job job = 0;
    assert_int_equal(larder_kv_begin(r.c.kv, m.lease, nullptr, r.queue, 42, &seq, &job), LARDER_PENDING);
    OK(larder_job_wait_layer(r.queue, job, 0, UINT64_MAX));
    assert_int_equal(r.c.info(seq).n_computed, 32);
    OK(larder_job_wait_layer(r.queue, job, 1, UINT64_MAX));
    assert_int_equal(larder_job_wait_layer(r.queue, job, 2, 0), LARDER_E_RANGE);
    larder_completion done = {};
    uint32_t n = 0;
    OK(larder_queue_wait(r.queue, &done, sizeof done, 1, UINT64_MAX, &n));
    assert_int_equal(done.status, LARDER_OK);
    assert_int_equal(done.user_data, 42);
    assert_true(done.n_bytes > 0);
    assert_int_equal(r.c.info(seq).state, LARDER_KV_SEQ_ACTIVE);
    r.c.check(seq, p);
    r.c.compute(seq, p, 33);
    OK(larder_kv_end(r.c.kv, seq));
}

// Two sequences want the same blocks: they are loaded once, and the second waits for the first.
void test_shared_load(void**) {
    Rig r(0);
    r.open();
    const auto p = prompt(1, 33);
    r.c.serve(p);
    r.evict_all();
    larder_seq a = 0, b = 0;
    larder_job ja = 0, jb = 0;
    assert_int_equal(larder_kv_begin(r.c.kv, r.c.match(p).lease, nullptr, r.queue, 1, &a, &ja), LARDER_PENDING);
    const larder_kv_match_info m = r.c.match(p);
    assert_int_equal(m.n_tokens_arena, 32);
    assert_int_equal(larder_kv_begin(r.c.kv, m.lease, nullptr, r.queue, 2, &b, &jb), LARDER_PENDING);
    assert_int_equal(r.c.info().n_in_use, 8);
    assert_int_equal(r.c.info(b).state, LARDER_KV_SEQ_LOADING);
    assert_int_equal(larder_kv_reserve(r.c.kv, b, 1, 0), LARDER_E_STATE);
    OK(larder_job_wait(r.queue, jb, UINT64_MAX));
    OK(larder_job_wait(r.queue, ja, UINT64_MAX));
    r.c.check(a, p);
    r.c.check(b, p);
    OK(larder_kv_end(r.c.kv, a));
    OK(larder_kv_end(r.c.kv, b));
    assert_int_equal(r.c.info().n_in_use, 0);
}

void test_restart(void**) {
    TempDir d;
    for (int policy = LARDER_KV_WRITE_BACK; policy <= LARDER_KV_WRITE_THROUGH; ++policy) {
        Rig r(2);
        r.file(d);
        r.o.write_policy = policy;
        r.open();
        for (uint32_t i = 0; i < 6; ++i) r.c.serve(prompt(100 * uint32_t(policy) + i, 25));
        OK(larder_kv_flush(r.c.kv, nullptr, 0, nullptr));
        assert_int_equal(r.c.info().n_dirty, 0);
        r.c.close();
        r.open();
        for (uint32_t i = 0; i < 6; ++i) {
            const auto p = prompt(100 * uint32_t(policy) + i, 25);
            const larder_kv_match_info m = r.c.match(p);
            assert_int_equal(m.n_tokens_file, 24);
            OK(larder_kv_release(r.c.kv, m.lease));
            assert_int_equal(r.c.serve(p), 24);
        }
        larder_kv* second = nullptr;
        assert_int_equal(larder_kv_open(r.context, r.layout, &r.o, &second), LARDER_E_IN_USE);
        assert_null(second);
    }
}

void test_other_layout_and_tenant(void**) {
    TempDir d;
    Rig r(0);
    r.file(d);
    r.open();
    const auto p = prompt(1, 25);
    r.c.serve(p);
    OK(larder_kv_flush(r.c.kv, nullptr, 0, nullptr));
    r.c.close();
    larder_layout* other = make_layout(r.context, r.shape, "another model");
    r.c.open(r.context, other, r.o, r.shape);
    assert_int_equal(r.c.serve(p), 0);
    r.c.close();
    larder_layout_destroy(other);
    r.o.tenant_key = {"0123456789abcdef", 16};
    r.open();
    assert_int_equal(r.c.serve(p), 0);
}

// A damaged file is a smaller cache, never a wrong answer.
void test_damage(void**) {
    TempDir d;
    Rig r(0);
    r.file(d);
    r.o.host_bytes = 0;
    r.open();
    for (uint32_t i = 0; i < 6; ++i) r.c.serve(prompt(i, 25));
    OK(larder_kv_flush(r.c.kv, nullptr, 0, nullptr));
    r.c.close();
    for (const auto& f : std::filesystem::directory_iterator(d.path())) {
        std::fstream s(f.path(), std::ios::in | std::ios::out | std::ios::binary);
        s.seekg(0, std::ios::end);
        const auto n = uint64_t(s.tellg());
        for (uint64_t at = 40000; at < n; at += 1500) {
            char b = 0;
            s.seekg(std::streamoff(at));
            s.read(&b, 1);
            b ^= 0x10;
            s.seekp(std::streamoff(at));
            s.write(&b, 1);
        }
    }
    r.open();
    uint64_t found = 0;
    for (uint32_t i = 0; i < 6; ++i) found += r.c.serve(prompt(i, 25));  // checks every byte
    assert_true(found < 6 * 24);
    for (uint32_t i = 0; i < 6; ++i) r.c.serve(prompt(i, 25));
}

void test_suspend_and_resume(void**) {
    for (uint32_t n_workers : {0u, 2u}) {
        Rig r(n_workers);
        r.open();
        const auto p = prompt(1, 27);
        const larder_seq s = r.c.begin(p);
        r.c.compute(s, p, 26);
        larder_job job = 0;
        assert_int_equal(larder_kv_suspend(r.c.kv, s, LARDER_KV_SUSPEND_OFFLOAD, r.queue, 0, &job), LARDER_PENDING);
        OK(larder_job_wait(r.queue, job, UINT64_MAX));
        r.evict_all();
        assert_int_equal(r.c.info().n_free, 16);
        assert_int_equal(larder_kv_resume(r.c.kv, s, nullptr, r.queue, 0, &job), LARDER_PENDING);
        OK(larder_job_wait(r.queue, job, UINT64_MAX));
        assert_int_equal(r.c.info(s).n_computed, 26);  // the unsealed last block too
        r.c.check(s, p);
        r.c.compute(s, p, 27);
        OK(larder_kv_suspend(r.c.kv, s, LARDER_KV_SUSPEND_DROP, nullptr, 0, nullptr));
        OK(larder_kv_resume(r.c.kv, s, nullptr, nullptr, 0, nullptr));
        assert_int_equal(r.c.info(s).n_computed, 24);
        OK(larder_kv_end(r.c.kv, s));
    }
}

// What went through a lossy codec answers no exact question, and neither does what was computed on top of it.
void test_quality(void**) {
    Rig r(0);
    r.shape.k_dim = r.shape.v_dim = 32;
    larder_layout_destroy(r.layout);
    r.layout = make_layout(r.context, r.shape);
    r.o.codec = "int8";
    r.open();
    const auto p = prompt(1, 24);
    r.c.serve(p);
    r.evict_all();
    larder_kv_query q = LARDER_KV_QUERY_INIT;
    q.tokens = p.data();
    q.n_tokens = p.size();
    q.max_match_tokens = UINT64_MAX;
    larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
    q.peek = 1;
    OK(larder_kv_match(r.c.kv, &q, &m));
    assert_int_equal(m.n_tokens, 0);
    larder_kv_block_info why[6];
    uint64_t n = 0;
    OK(larder_kv_explain(r.c.kv, &q, why, sizeof why[0], 6, &n));
    assert_int_equal(why[0].reason, LARDER_KV_REASON_QUALITY);
    q.min_quality = LARDER_QUALITY_APPROXIMATE;
    q.max_match_tokens = 16;
    q.peek = 0;
    OK(larder_kv_match(r.c.kv, &q, &m));
    assert_int_equal(m.n_tokens, 16);
    assert_int_equal(m.quality, LARDER_QUALITY_APPROXIMATE);
    larder_seq s = 0;
    OK(larder_kv_begin(r.c.kv, m.lease, nullptr, nullptr, 0, &s, nullptr));
    assert_int_equal(r.c.info(s).quality, LARDER_QUALITY_APPROXIMATE);
    r.c.compute(s, p, 24);  // exact bytes as far as this model goes, but on an approximate prefix
    OK(larder_kv_end(r.c.kv, s));
    q.max_match_tokens = UINT64_MAX;
    q.min_quality = LARDER_QUALITY_EXACT;
    OK(larder_kv_match(r.c.kv, &q, &m));
    assert_int_equal(m.n_tokens, 0);
    OK(larder_kv_release(r.c.kv, m.lease));
    // Computed exactly, it takes the approximate blocks' place.
    assert_int_equal(r.c.serve(p), 0);
    assert_int_equal(r.c.serve(p), 23);
}

void test_flush_as_a_job(void**) {
    TempDir d;
    Rig r(2);
    r.file(d);
    r.open();
    for (uint32_t i = 0; i < 3; ++i) r.c.serve(prompt(i, 17));
    larder_job job = 0;
    assert_int_equal(larder_kv_flush(r.c.kv, r.queue, 5, &job), LARDER_PENDING);
    OK(larder_job_wait(r.queue, job, UINT64_MAX));
    assert_int_equal(r.c.info().n_dirty, 0);
    assert_true(r.c.info().file_bytes > 0);
}

void test_threads(void**) {
    Rig r(2);
    TempDir d;
    r.file(d);
    r.o.n_blocks = 64;
    r.o.host_bytes = 96 << 10;
    r.open();
    std::vector<std::thread> threads;
    for (uint32_t t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            for (uint32_t i = 0; i < 150; ++i) r.c.serve(prompt(mix(t * 1000 + i) % 13, 30 + i % 11, 12));
        });
    for (auto& t : threads) t.join();
    assert_int_equal(r.c.info().n_sequences, 0);
    assert_int_equal(r.c.info().n_leases, 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(test_arena_overflows_to_host),
                                cmocka_unit_test(test_arena_overflows_to_host_with_workers),
                                cmocka_unit_test(test_layers_arrive),
                                cmocka_unit_test(test_shared_load),
                                cmocka_unit_test(test_restart),
                                cmocka_unit_test(test_other_layout_and_tenant),
                                cmocka_unit_test(test_damage),
                                cmocka_unit_test(test_suspend_and_resume),
                                cmocka_unit_test(test_quality),
                                cmocka_unit_test(test_flush_as_a_job),
                                cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
