// The front door through the C ABI: match, begin, reserve, view, commit, end, and the other verbs of a sequence, in the
// arena alone.
#include <string>

#include "support/kv_engine.h"

using namespace kvtest;

namespace {

struct Fixture {
    larder_context* context = nullptr;
    larder_layout* layout = nullptr;
    Cache c;
};

int set_up_blocks(void** state, uint64_t n_blocks) {
    auto* f = new Fixture;
    OK(larder_context_create(nullptr, &f->context));
    Shape s;
    f->layout = make_layout(f->context, s);
    larder_kv_options o = LARDER_KV_OPTIONS_INIT;
    o.n_blocks = n_blocks;
    o.max_sequences = 16;
    f->c.open(f->context, f->layout, o, s);
    *state = f;
    return 0;
}
int set_up(void** state) {
    return set_up_blocks(state, 32);
}

int tear_down(void** state) {
    auto* f = static_cast<Fixture*>(*state);
    f->c.close();
    larder_layout_destroy(f->layout);
    const larder_status s = larder_context_destroy(f->context);
    delete f;
    return s == LARDER_OK ? 0 : 1;
}

Cache& cache(void** state) {
    return static_cast<Fixture*>(*state)->c;
}

void test_round_trip(void** state) {
    Cache& c = cache(state);
    const auto p = prompt(1, 11);
    assert_int_equal(c.serve(p), 0);
    // Two full blocks of four, and of the third the two tokens that may be matched (the last is left for its logits):
    // 11 - 1 = 10; only full blocks are published.
    larder_kv_match_info m = c.match(p, false);
    assert_int_equal(m.n_tokens, 8);
    assert_int_equal(m.n_tokens_arena, 8);
    assert_int_equal(m.n_blocks, 2);
    assert_int_equal(m.quality, LARDER_QUALITY_EXACT);
    OK(larder_kv_release(c.kv, m.lease));
    assert_int_equal(larder_kv_release(c.kv, m.lease), LARDER_E_STALE);
    assert_int_equal(c.serve(p), 8);
    const larder_kv_info i = c.info();
    assert_int_equal(i.n_published, 2);
    assert_int_equal(i.n_in_use, 0);
    assert_int_equal(i.n_free, 30);
    assert_int_equal(i.n_leases, 0);
    assert_int_equal(i.n_sequences, 0);
}

void test_partial_block(void** state) {
    Cache& c = cache(state);
    auto a = prompt(1, 12), b = a;
    c.serve(a);
    b[10] += 1;  // differs inside the third block
    uint64_t n = 0;
    const larder_seq s = c.begin(b, &n);
    assert_int_equal(n, 10);
    assert_int_equal(c.info(s).n_published, 8);
    c.compute(s, b, 12);
    c.check(s, b);
    OK(larder_kv_end(c.kv, s));
    uint64_t na = 0, nb = 0;
    OK(larder_kv_end(c.kv, c.begin(a, &na)));
    OK(larder_kv_end(c.kv, c.begin(b, &nb)));
    assert_int_equal(na, 12);
    assert_int_equal(nb, 12);
}

void test_states_and_ranges(void** state) {
    Cache& c = cache(state);
    const auto p = prompt(2, 16);
    const larder_seq s = c.begin(p);
    assert_int_equal(larder_kv_commit(c.kv, s, p.data(), 1), LARDER_E_RANGE);
    OK(larder_kv_reserve(c.kv, s, 6, 3));
    assert_int_equal(c.info(s).n_reserved, 9);
    assert_int_equal(c.info(s).n_blocks, 3);
    assert_int_equal(larder_kv_commit(c.kv, s, p.data(), 10), LARDER_E_RANGE);
    assert_int_equal(larder_kv_commit(c.kv, s, nullptr, 1), LARDER_E_INVALID);
    const int32_t bad = -5;
    assert_int_equal(larder_kv_commit(c.kv, s, &bad, 1), LARDER_E_INVALID);
    assert_int_equal(c.info(s).n_computed, 0);
    c.compute(s, p, 6);
    assert_int_equal(c.info(s).n_published, 4);
    assert_int_equal(larder_kv_truncate(c.kv, s, 7), LARDER_E_RANGE);
    assert_int_equal(larder_kv_fork(c.kv, s, 7, 1, nullptr), LARDER_E_INVALID);
    OK(larder_kv_checkpoint(c.kv, s));
    assert_int_equal(larder_kv_shift(c.kv, s, 0, 4, 4), LARDER_E_UNSUPPORTED);
    OK(larder_kv_end(c.kv, s));
    larder_kv_seq_info i = LARDER_KV_SEQ_INFO_INIT;
    assert_int_equal(larder_kv_end(c.kv, s), LARDER_E_STALE);
    assert_int_equal(larder_kv_seq_get_info(c.kv, s, &i), LARDER_E_STALE);
    assert_int_equal(larder_kv_reserve(c.kv, s, 1, 0), LARDER_E_STALE);
}

void test_truncate_and_fork(void** state) {
    Cache& c = cache(state);
    const auto a = prompt(3, 14);
    auto b = a;
    const larder_seq s = c.begin(a);
    c.compute(s, a, 14);
    // Back into a published block: the next write must not touch it.
    OK(larder_kv_truncate(c.kv, s, 6));
    b[6] += 7;
    c.compute(s, b, 14);
    c.check(s, b);
    larder_seq kids[3];
    OK(larder_kv_fork(c.kv, s, 10, 3, kids));
    auto k1 = b, k2 = b;
    k1[10] = 5;
    k2[10] = 6;
    c.compute(kids[0], k1, 14);
    c.compute(kids[1], k2, 14);
    c.check(kids[0], k1);
    c.check(kids[1], k2);
    c.check(kids[2], b);
    // The parent goes back behind the fork and writes: the child that has not written yet is not disturbed.
    OK(larder_kv_truncate(c.kv, s, 9));
    auto d = b;
    d[9] = 77;
    c.compute(s, d, 13);
    c.check(s, d);
    c.check(kids[2], b);
    for (larder_seq k : kids) OK(larder_kv_end(c.kv, k));
    OK(larder_kv_end(c.kv, s));
    assert_int_equal(c.info().n_in_use, 0);
    uint64_t n = 0;
    OK(larder_kv_end(c.kv, c.begin(a, &n)));
    assert_int_equal(n, 12);
}

void test_full_arena(void** state) {
    Cache& c = cache(state);  // 32 blocks of 4
    const auto a = prompt(4, 64), b = prompt(5, 60), d = prompt(6, 64);
    const larder_seq sa = c.begin(a), sb = c.begin(b);
    c.compute(sa, a, 64);
    c.compute(sb, b, 60);
    assert_int_equal(c.info().n_free, 1);
    const larder_seq sd = c.begin(d);
    assert_int_equal(c.try_compute(sd, d, 8), LARDER_E_NOSPACE);
    assert_int_equal(c.info(sd).n_reserved, 0);
    c.compute(sd, d, 4);
    OK(larder_kv_end(c.kv, sa));
    c.compute(sd, d, 40);  // evicts a's blocks, last ones first
    c.check(sb, b);
    c.check(sd, d);
    larder_kv_match_info m = c.match(a);
    assert_int_equal(m.n_tokens, 28);
    OK(larder_kv_release(c.kv, m.lease));
    OK(larder_kv_end(c.kv, sb));
    OK(larder_kv_end(c.kv, sd));
    uint64_t n = 0;
    OK(larder_kv_evict(c.kv, 10, &n));
    assert_int_equal(n, 10);
    assert_int_equal(larder_kv_evict(c.kv, 100, &n), LARDER_PARTIAL);
    assert_int_equal(c.info().n_free, 32);
    assert_int_equal(c.info().n_published, 0);
}

void test_views(void** state) {
    Cache& c = cache(state);
    const auto a = prompt(7, 9), b = prompt(8, 4);
    const larder_seq s[3] = {c.begin(a), 0, c.begin(b)};
    c.compute(s[0], a, 9);
    c.compute(s[2], b, 4);
    int32_t table[4][3];
    larder_kv_view_options o = LARDER_KV_VIEW_OPTIONS_INIT;
    o.dst = table;
    o.dst_stride = 3;
    o.pad_rows = 4;
    OK(larder_kv_view(c.kv, s, 3, &o));
    assert_true(table[0][0] > 0 && table[0][1] > 0 && table[0][2] > 0);
    assert_true(table[1][0] == 0 && table[3][0] == 0 && table[3][2] == 0);
    assert_true(table[2][0] > 0 && table[2][1] == 0);
    o.dst_stride = 2;
    assert_int_equal(larder_kv_view(c.kv, s, 3, &o), LARDER_E_BUFFER_TOO_SMALL);
    int32_t indices[8], indptr[5], last[4];
    o.format = LARDER_KV_VIEW_CSR;
    o.dst = indices;
    o.dst_stride = 8;
    o.indptr = indptr;
    o.last_block_tokens = last;
    OK(larder_kv_view(c.kv, s, 3, &o));
    assert_int_equal(indptr[1], 3);
    assert_int_equal(indptr[2], 3);
    assert_int_equal(indptr[3], 4);
    assert_int_equal(indptr[4], 4);
    assert_int_equal(last[0], 1);
    assert_int_equal(last[1], 0);
    assert_int_equal(last[2], 4);
    assert_int_equal(indices[3], table[2][0]);
    o.pad_rows = 2;
    assert_int_equal(larder_kv_view(c.kv, s, 3, &o), LARDER_E_RANGE);
    OK(larder_kv_end(c.kv, s[0]));
    o.pad_rows = 0;
    assert_int_equal(larder_kv_view(c.kv, s, 3, &o), LARDER_E_STALE);
    OK(larder_kv_end(c.kv, s[2]));
}

void test_scopes(void** state) {
    Cache& c = cache(state);
    const auto p = prompt(9, 12);
    c.serve(p);
    larder_kv_query q = LARDER_KV_QUERY_INIT;
    q.tokens = p.data();
    q.n_tokens = p.size();
    q.max_match_tokens = UINT64_MAX;
    q.peek = 1;
    larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
    OK(larder_kv_match(c.kv, &q, &m));
    assert_int_equal(m.n_tokens, 12);
    assert_int_equal(m.lease, 0);
    q.salt = {"x", 1};
    OK(larder_kv_match(c.kv, &q, &m));
    assert_int_equal(m.n_tokens, 0);
    q.salt = {nullptr, 0};
    q.adapter = {"lora", 4};
    OK(larder_kv_match(c.kv, &q, &m));
    assert_int_equal(m.n_tokens, 0);
    q.adapter = {nullptr, 0};
    const larder_kv_extra image = {6, 2, {1, 2, 3}};
    q.extras = &image;
    q.n_extras = 1;
    OK(larder_kv_match(c.kv, &q, &m));
    assert_int_equal(m.n_tokens, 4);  // the first block lies before the image; the second is not even shared in part
    q.n_extras = 0;
    q.max_match_tokens = 7;
    OK(larder_kv_match(c.kv, &q, &m));
    assert_int_equal(m.n_tokens, 7);
    assert_int_equal(m.n_partial_tokens, 3);
    q.keys = reinterpret_cast<const larder_key*>(&q);
    q.n_keys = 1;
    assert_int_equal(larder_kv_match(c.kv, &q, &m), LARDER_E_INVALID);
}

void test_callers_keys(void** state) {
    Cache& c = cache(state);
    const auto p = prompt(10, 12);
    larder_key keys[3] = {};
    for (int i = 0; i < 3; ++i) keys[i].bytes[0] = uint8_t(i + 1);
    larder_kv_query q = LARDER_KV_QUERY_INIT;
    q.keys = keys;
    q.n_keys = 2;
    larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
    OK(larder_kv_match(c.kv, &q, &m));
    larder_seq s = 0;
    OK(larder_kv_begin(c.kv, m.lease, nullptr, nullptr, 0, &s, nullptr));
    OK(larder_kv_append_keys(c.kv, s, &keys[2], 1));
    c.compute(s, p, 11);
    assert_int_equal(c.info(s).n_published, 8);
    OK(larder_kv_end(c.kv, s));
    q.n_keys = 3;
    OK(larder_kv_match(c.kv, &q, &m));
    assert_int_equal(m.n_tokens, 8);
    OK(larder_kv_begin(c.kv, m.lease, nullptr, nullptr, 0, &s, nullptr));
    c.check(s, p);
    OK(larder_kv_end(c.kv, s));
}

void test_compact(void** state) {
    Cache& c = cache(state);
    const auto p = prompt(11, 10);
    const larder_seq s = c.begin(p);
    c.compute(s, p, 6);
    OK(larder_kv_reserve(c.kv, s, 0, 8));
    const auto at = c.slots(s, 6, 8);
    // A tree of eight drafts; the accepted path is 1, 4, 5, 7.
    const uint64_t src[] = {7, 10, 11, 13}, dst[] = {6, 7, 8, 9};
    for (int i = 0; i < 4; ++i) c.write_token(at[src[i] - 6], prefix_hash(p.data(), 7 + uint64_t(i)));
    OK(larder_kv_compact(c.kv, s, src, dst, 4));
    OK(larder_kv_commit(c.kv, s, p.data() + 6, 4));
    c.check(s, p);
    assert_int_equal(larder_kv_compact(c.kv, s, src, dst, 4), LARDER_E_RANGE);
    OK(larder_kv_end(c.kv, s));
}

void test_suspend_without_tiers(void** state) {
    Cache& c = cache(state);
    const auto p = prompt(12, 11);
    const larder_seq s = c.begin(p);
    c.compute(s, p, 11);
    OK(larder_kv_suspend(c.kv, s, LARDER_KV_SUSPEND_OFFLOAD, nullptr, 0, nullptr));
    assert_int_equal(c.info(s).state, LARDER_KV_SEQ_SUSPENDED);
    assert_int_equal(c.info(s).n_computed, 11);
    assert_int_equal(larder_kv_reserve(c.kv, s, 1, 0), LARDER_E_STATE);
    OK(larder_kv_resume(c.kv, s, nullptr, nullptr, 0, nullptr));
    assert_int_equal(c.info(s).n_computed, 8);
    c.compute(s, p, 11);
    c.check(s, p);
    assert_int_equal(larder_kv_resume(c.kv, s, nullptr, nullptr, 0, nullptr), LARDER_E_STATE);
    OK(larder_kv_end(c.kv, s));
}

void test_same_prompt_twice_at_once(void** state) {
    Cache& c = cache(state);
    const auto p = prompt(13, 12);
    const larder_seq a = c.begin(p), b = c.begin(p);
    c.compute(a, p, 12);
    c.compute(b, p, 12);
    assert_int_equal(c.info().n_published, 3);
    OK(larder_kv_end(c.kv, a));
    uint64_t n = 0;
    OK(larder_kv_evict(c.kv, 3, &n));
    assert_int_equal(n, 3);
    // b goes on, and what it publishes can be found although its ancestors' first copies are gone.
    auto q = p;
    q.resize(16, 3);
    c.compute(b, q, 16);
    OK(larder_kv_end(c.kv, b));
    OK(larder_kv_end(c.kv, c.begin(q, &n)));
    assert_int_equal(n, 16);
}

void test_explain(void** state) {
    Cache& c = cache(state);
    const auto p = prompt(14, 12);
    c.serve(p);
    larder_kv_query q = LARDER_KV_QUERY_INIT;
    q.tokens = p.data();
    q.n_tokens = p.size();
    q.max_match_tokens = UINT64_MAX;
    larder_kv_block_info b[3];
    uint64_t n = 0;
    OK(larder_kv_explain(c.kv, &q, b, sizeof b[0], 3, &n));
    assert_int_equal(n, 3);
    assert_int_equal(b[2].reason, LARDER_KV_REASON_USABLE);
    assert_int_equal(b[2].residency, LARDER_KV_IN_ARENA);
    OK(larder_kv_evict(c.kv, 1, nullptr));
    assert_int_equal(larder_kv_explain(c.kv, &q, b, sizeof b[0], 2, &n), LARDER_PARTIAL);
    OK(larder_kv_explain(c.kv, &q, b, sizeof b[0], 3, &n));
    assert_int_equal(b[2].reason, LARDER_KV_REASON_EVICTED);
    const auto other = prompt(15, 12);
    q.tokens = other.data();
    OK(larder_kv_explain(c.kv, &q, b, sizeof b[0], 3, &n));
    assert_int_equal(b[0].reason, LARDER_KV_REASON_NEVER_SEEN);
}

void test_bad_options(void** state) {
    auto* f = static_cast<Fixture*>(*state);
    larder_kv* kv = nullptr;
    larder_kv_options o = LARDER_KV_OPTIONS_INIT;
    const auto open = [&] { return larder_kv_open(f->context, f->layout, &o, &kv); };
    o.n_blocks = 1;
    assert_int_equal(open(), LARDER_E_RANGE);
    o.n_blocks = UINT64_MAX;
    assert_int_equal(open(), LARDER_E_RANGE);
    o.n_blocks = 8;
    o.arena_bytes = 1;
    assert_int_equal(open(), LARDER_E_INVALID);
    o.n_blocks = 0;
    assert_int_equal(open(), LARDER_E_RANGE);
    o = LARDER_KV_OPTIONS_INIT;
    o.n_blocks = 8;
    o.flags = 1u << 30;
    assert_int_equal(open(), LARDER_E_TOO_NEW);
    o.flags = 0;
    o.write_policy = 3;
    assert_int_equal(open(), LARDER_E_RANGE);
    o.write_policy = 0;
    o.low_watermark = 500;
    o.high_watermark = 400;
    assert_int_equal(open(), LARDER_E_RANGE);
    o.low_watermark = o.high_watermark = 0;
    o.codec = "no such preset";
    assert_int_equal(open(), LARDER_E_NOT_FOUND);
    o.codec = nullptr;
    o.tenant_key = {"short", 5};
    assert_int_equal(open(), LARDER_E_RANGE);
    o.tenant_key = {nullptr, 0};
    o.host_bytes = 1 << 20;
    o.codec = "no-such-codec";
    assert_int_equal(open(), LARDER_E_NOT_FOUND);
    assert_null(kv);
    assert_int_equal(larder_kv_open(f->context, nullptr, nullptr, &kv), LARDER_E_INVALID);
    assert_int_equal(larder_kv_open(f->context, f->layout, nullptr, nullptr), LARDER_E_INVALID);
    larder_kv_close(nullptr);
}

std::string last_field() {
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    larder_last_error(&e);
    return e.field;
}

void test_absurd_sizes_name_their_option(void** state) {
    auto* f = static_cast<Fixture*>(*state);
    larder_kv* kv = nullptr;
    const auto field = [&](const larder_kv_options& o, larder_status want) {
        assert_int_equal(larder_kv_open(f->context, f->layout, &o, &kv), want);
        assert_null(kv);
        return last_field();
    };
    larder_kv_options o = LARDER_KV_OPTIONS_INIT;
    o.arena_bytes = UINT64_MAX;
    assert_string_equal(field(o, LARDER_E_RANGE).c_str(), "arena_bytes");
    o.arena_bytes = 0;
    // The file tier keeps a table of its segments: an absurd budget must not become an absurd table.
    o.directory = "never-made";
    for (uint64_t segment : {uint64_t(0), uint64_t(1) << 16, uint64_t(64) << 20}) {
        o.segment_bytes = segment;
        o.file_bytes = uint64_t(1) << 50;
        assert_string_equal(field(o, LARDER_E_RANGE).c_str(), "file_bytes");
    }
    o.directory = nullptr;
    o.file_bytes = o.segment_bytes = 0;
    o.host_bytes = 1 << 20;
    o.codec = "";
    assert_string_equal(field(o, LARDER_E_INVALID).c_str(), "codec");
    larder_planner_options p = LARDER_PLANNER_OPTIONS_INIT;
    larder_planner* planner = nullptr;
    p.n_blocks = 8;
    p.n_dp = 65;
    assert_int_equal(larder_planner_create(f->context, f->layout, &p, &planner), LARDER_E_RANGE);
    assert_string_equal(last_field().c_str(), "n_dp");
}

void test_bad_match_leaves_no_lease(void** state) {
    auto* f = static_cast<Fixture*>(*state);
    const int32_t tokens[] = {1, 2, 3};
    larder_kv_query q = LARDER_KV_QUERY_INIT;
    q.tokens = tokens;
    q.n_tokens = 3;
    larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
    m.struct_size = 0;
    assert_int_equal(larder_kv_match(f->c.kv, &q, &m), LARDER_E_INVALID);
    assert_string_equal(last_field().c_str(), "struct_size");
    m.struct_size = sizeof m;
    q.adapter = {tokens, UINT64_MAX};
    assert_int_equal(larder_kv_match(f->c.kv, &q, &m), LARDER_E_RANGE);
    assert_string_equal(last_field().c_str(), "adapter");
    assert_int_equal(f->c.info().n_leases, 0);
}

void test_handles_of_two_contexts(void** state) {
    auto* f = static_cast<Fixture*>(*state);
    larder_context* other = nullptr;
    OK(larder_context_create(nullptr, &other));
    larder_kv_options o = LARDER_KV_OPTIONS_INIT;
    o.n_blocks = 8;
    larder_kv* kv = nullptr;
    assert_int_equal(larder_kv_open(other, f->layout, &o, &kv), LARDER_E_INVALID);
    assert_string_equal(last_field().c_str(), "layout");
    // Nobody who waits on this queue could do the work of the kv's context.
    f->c.serve(prompt(1, 9));
    larder_queue* queue = nullptr;
    OK(larder_queue_create(other, nullptr, &queue));
    larder_job job = 0;
    assert_int_equal(larder_kv_flush(f->c.kv, queue, 0, &job), LARDER_E_INVALID);
    assert_string_equal(last_field().c_str(), "queue");
    larder_queue_destroy(queue);
    OK(larder_context_destroy(other));
}

}  // namespace

int main() {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const CMUnitTest tests[] = {T(test_round_trip),
                                T(test_partial_block),
                                T(test_states_and_ranges),
                                T(test_truncate_and_fork),
                                T(test_full_arena),
                                T(test_views),
                                T(test_scopes),
                                T(test_callers_keys),
                                T(test_compact),
                                T(test_suspend_without_tiers),
                                T(test_same_prompt_twice_at_once),
                                T(test_explain),
                                T(test_bad_options),
                                T(test_absurd_sizes_name_their_option),
                                T(test_bad_match_leaves_no_lease),
                                T(test_handles_of_two_contexts)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
