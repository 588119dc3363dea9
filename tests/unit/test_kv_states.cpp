// RECURRENT groups behind the front door: where states are kept, where a match can end, and what the verbs of a
// sequence do with them.
#include <string>

#include "support/kv_engine.h"
#include "support/temp_dir.h"

using namespace kvtest;

namespace {

struct Rig {
    larder_context* context = nullptr;
    larder_layout* layout = nullptr;
    Shape shape;
    Cache c;
    larder_kv_options options = LARDER_KV_OPTIONS_INIT;

    explicit Rig(uint32_t n_states = 12, const char* directory = nullptr) {
        OK(larder_context_create(nullptr, &context));
        shape.state_bytes = 48;
        layout = make_layout(context, shape);  // blocks of 4, checkpoints each 8 tokens
        options.n_blocks = 40;
        options.n_states = n_states;
        options.max_sequences = 8;
        options.directory = directory;
        if (directory) options.file_bytes = 1 << 20, options.segment_bytes = 64 << 10;
        c.open(context, layout, options, shape);
    }
    ~Rig() {
        c.close();
        larder_layout_destroy(layout);
        OK(larder_context_destroy(context));
    }
};

std::string last_message() {
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    larder_last_error(&e);
    return std::string(e.field) + ": " + e.message;
}

void a_match_ends_where_a_state_is_kept(void**) {
    Rig r;
    const auto p = prompt(1, 23);
    assert_int_equal(r.c.serve(p), 0);
    larder_kv_match_info m = r.c.match(p);
    assert_int_equal(m.n_tokens, 16);  // blocks up to 20 are there, and no state behind 20
    assert_int_equal(m.n_partial_tokens, 0);
    OK(larder_kv_release(r.c.kv, m.lease));
    auto q = p;
    q[13] += 1;
    m = r.c.match(q);
    assert_int_equal(m.n_tokens, 8);  // 12 are shared
    OK(larder_kv_release(r.c.kv, m.lease));
    assert_int_equal(r.c.serve(q), 8);
    assert_int_equal(r.c.serve(p), 16);
    assert_int_equal(r.c.serve(q), 16);
}

void no_state_is_kept_that_may_be_ahead(void**) {
    Rig r;
    const auto p = prompt(2, 17);
    const larder_seq s = r.c.begin(p);
    OK(larder_kv_reserve(r.c.kv, s, 8, 4));  // speculation: four more slots
    assert_int_equal(larder_kv_checkpoint(r.c.kv, s), LARDER_E_STATE);
    OK(larder_kv_commit(r.c.kv, s, p.data(), 8));
    larder_seq kid = 0;
    assert_int_equal(larder_kv_fork(r.c.kv, s, 8, 1, &kid), LARDER_E_STATE);
    OK(larder_kv_end(r.c.kv, s));
    const larder_kv_match_info m = r.c.match(p);
    assert_int_equal(m.n_tokens, 0);
    OK(larder_kv_release(r.c.kv, m.lease));
}

void truncate_goes_back_to_a_checkpoint(void**) {
    Rig r;
    const auto p = prompt(3, 30);
    const larder_seq s = r.c.begin(p);
    r.c.compute(s, p, 19);
    OK(larder_kv_checkpoint(r.c.kv, s));
    r.c.compute(s, p, 22);
    assert_int_equal(larder_kv_truncate(r.c.kv, s, 21), LARDER_E_RANGE);
    assert_string_equal(last_message().c_str(),
                        "n_tokens: no state is kept behind token 21; the one before it is behind 19");
    r.c.check(s, p);
    OK(larder_kv_truncate(r.c.kv, s, 19));
    r.c.check(s, p);
    r.c.compute(s, p, 30);
    r.c.check(s, p);
    OK(larder_kv_truncate(r.c.kv, s, 16));  // by commit
    r.c.check(s, p);
    assert_int_equal(larder_kv_truncate(r.c.kv, s, 15), LARDER_E_RANGE);
    OK(larder_kv_truncate(r.c.kv, s, 0));
    r.c.check(s, p);
    r.c.compute(s, p, 5);
    r.c.check(s, p);
    OK(larder_kv_end(r.c.kv, s));
}

void forks_share_until_they_write(void**) {
    Rig r;
    const auto p = prompt(4, 13);
    const larder_seq s = r.c.begin(p);
    r.c.compute(s, p, 13);
    const uint64_t free = r.c.info().n_free_states;
    larder_seq kids[2];
    OK(larder_kv_fork(r.c.kv, s, 13, 2, kids));
    assert_int_equal(r.c.info().n_free_states, free);
    assert_int_equal(r.c.state_slot(kids[0]), r.c.state_slot(s));
    auto a = p, b = p;
    a.push_back(1), b.push_back(2);
    r.c.compute(kids[0], a, 14);
    r.c.compute(s, b, 14);
    r.c.check(kids[0], a);
    r.c.check(s, b);
    r.c.check(kids[1], p);
    assert_int_equal(larder_kv_fork(r.c.kv, s, 9, 2, kids), LARDER_E_RANGE);
    OK(larder_kv_end(r.c.kv, kids[0]));
    OK(larder_kv_fork(r.c.kv, s, 8, 1, kids));
    r.c.check(kids[0], p);
    for (larder_seq x : {kids[0], kids[1], s}) OK(larder_kv_end(r.c.kv, x));
    assert_int_equal(r.c.info().n_states - r.c.info().n_free_states, 1);  // behind token 8
}

void slots_run_out(void**) {
    Rig r(2);
    const auto p = prompt(5, 9), q = prompt(6, 9), t = prompt(7, 9);
    const larder_seq a = r.c.begin(p), b = r.c.begin(q), c = r.c.begin(t);
    r.c.compute(a, p, 3);
    r.c.compute(b, q, 3);
    assert_int_equal(larder_kv_reserve(r.c.kv, c, 1, 0), LARDER_E_NOSPACE);
    assert_string_equal(last_message().substr(0, 9).c_str(), "n_states:");
    OK(larder_kv_end(r.c.kv, a));
    r.c.compute(c, t, 8);  // its checkpoint is published, and its own
    r.c.check(c, t);
    OK(larder_kv_end(r.c.kv, b));
    r.c.compute(c, t, 9);
    assert_int_equal(r.c.info().n_free_states, 0);
    const larder_seq d = r.c.begin(p);
    r.c.compute(d, p, 3);  // the published one, which nobody holds, is given up
    OK(larder_kv_end(r.c.kv, c));
    OK(larder_kv_end(r.c.kv, d));
    const larder_kv_match_info m = r.c.match(t);
    assert_int_equal(m.n_tokens, 0);
    OK(larder_kv_release(r.c.kv, m.lease));
}

void states_survive_a_restart(void**) {
    TempDir dir("/dev/shm");
    const auto p = prompt(8, 23);
    {
        Rig r(6, dir.path().c_str());
        r.c.serve(p);
        OK(larder_kv_flush(r.c.kv, nullptr, 0, nullptr));
    }
    Rig r(6, dir.path().c_str());
    const larder_kv_match_info m = r.c.match(p);
    assert_int_equal(m.n_tokens, 16);
    assert_int_equal(m.n_tokens_file, 16);
    OK(larder_kv_release(r.c.kv, m.lease));
    assert_int_equal(r.c.serve(p), 16);
}

void a_suspended_sequence_keeps_its_state(void**) {
    TempDir dir("/dev/shm");
    Rig r(6, dir.path().c_str());
    const auto p = prompt(9, 23);
    const larder_seq s = r.c.begin(p);
    r.c.compute(s, p, 22);
    OK(larder_kv_suspend(r.c.kv, s, LARDER_KV_SUSPEND_OFFLOAD, nullptr, 0, nullptr));
    for (uint32_t i = 0; i < 3; ++i) r.c.serve(prompt(20 + i, 33));  // others take the slots
    OK(larder_kv_resume(r.c.kv, s, nullptr, nullptr, 0, nullptr));
    assert_int_equal(r.c.info(s).n_computed, 22);
    r.c.check(s, p);
    r.c.compute(s, p, 23);
    r.c.check(s, p);
    OK(larder_kv_suspend(r.c.kv, s, LARDER_KV_SUSPEND_DROP, nullptr, 0, nullptr));
    OK(larder_kv_resume(r.c.kv, s, nullptr, nullptr, 0, nullptr));
    assert_true(r.c.info(s).n_computed <= 16 && r.c.info(s).n_computed % 8 == 0);
    r.c.check(s, p);
    OK(larder_kv_end(r.c.kv, s));
}

void views_of_states(void**) {
    Rig r;
    const auto p = prompt(10, 9);
    const larder_seq s = r.c.begin(p);
    r.c.compute(s, p, 9);
    const larder_seq rows[] = {s, 0};
    int32_t table[8], indptr[4], last[3];
    larder_kv_view_options o = LARDER_KV_VIEW_OPTIONS_INIT;
    o.group = 1;
    o.dst = table;
    o.dst_stride = 2;
    o.pad_rows = 3;
    OK(larder_kv_view(r.c.kv, rows, 2, &o));
    assert_int_equal(table[0], r.c.state_slot(s));
    assert_true(table[0] > 0);
    for (int i = 1; i < 6; ++i) assert_int_equal(table[i], 0);
    o.format = LARDER_KV_VIEW_CSR;
    o.dst_stride = 8;
    o.indptr = indptr;
    o.last_block_tokens = last;
    OK(larder_kv_view(r.c.kv, rows, 2, &o));
    assert_int_equal(indptr[1], 1);
    assert_int_equal(indptr[3], 1);
    o.dst_stride = 0;
    assert_int_equal(larder_kv_view(r.c.kv, rows, 2, &o), LARDER_E_BUFFER_TOO_SMALL);
    o.format = LARDER_KV_VIEW_SLOT_MAPPING;
    assert_int_equal(larder_kv_view(r.c.kv, rows, 2, &o), LARDER_E_INVALID);
    larder_kv_layer_view v = LARDER_KV_LAYER_VIEW_INIT;
    OK(larder_kv_get_layer(r.c.kv, 1, 1, &v));
    assert_int_equal(v.n_blocks, 13);
    assert_int_equal(v.block_tokens, 1);
    assert_int_equal(v.k_block_stride_bytes, 48);
    assert_null(v.v);
    OK(larder_kv_end(r.c.kv, s));
}

// A model of states alone, as Mamba's: blocks are only names.
void states_alone(void**) {
    larder_context* context = nullptr;
    OK(larder_context_create(nullptr, &context));
    larder_layer_group g = LARDER_LAYER_GROUP_INIT;
    g.kind = LARDER_GROUP_RECURRENT;
    g.n_layers = 3;
    g.state_bytes = 100;
    g.checkpoint_tokens = 20;  // in whole blocks: 32
    larder_layout_options lo = LARDER_LAYOUT_OPTIONS_INIT;
    lo.n_groups = 1;
    lo.groups = &g;
    lo.group_stride = sizeof g;
    larder_layout* layout = nullptr;
    OK(larder_layout_create(context, &lo, &layout));
    larder_kv_options o = LARDER_KV_OPTIONS_INIT;
    o.arena_bytes = 10000;
    o.host_bytes = 1 << 20;
    larder_kv* kv = nullptr;
    OK(larder_kv_open(context, layout, &o, &kv));
    larder_kv_info info = LARDER_KV_INFO_INIT;
    OK(larder_kv_get_info(kv, &info));
    assert_int_equal(info.n_states, 10000 / 4 / 300);
    assert_int_equal(info.state_bytes, 300);
    assert_int_equal(info.block_bytes, 0);
    larder_kv_layer_view v = LARDER_KV_LAYER_VIEW_INIT;
    OK(larder_kv_get_layer(kv, 0, 2, &v));
    const auto t = prompt(1, 80);
    for (int round = 0; round < 2; ++round) {
        larder_kv_query q = LARDER_KV_QUERY_INIT;
        q.tokens = t.data();
        q.n_tokens = t.size();
        larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
        OK(larder_kv_match(kv, &q, &m));
        assert_int_equal(m.n_tokens, round ? 64 : 0);
        larder_seq s = 0;
        OK(larder_kv_begin(kv, m.lease, nullptr, nullptr, 0, &s, nullptr));
        for (uint64_t n = m.n_tokens; n < 80; n += 16) {
            OK(larder_kv_reserve(kv, s, 16, 0));
            int32_t slot = 0;
            larder_kv_view_options vo = LARDER_KV_VIEW_OPTIONS_INIT;
            vo.dst = &slot;
            vo.dst_stride = 1;
            OK(larder_kv_view(kv, &s, 1, &vo));
            unsigned char* p = static_cast<unsigned char*>(v.k) + uint64_t(slot) * v.k_block_stride_bytes;
            assert_int_equal(p[99], n);
            p[99] = uint8_t(n + 16);
            OK(larder_kv_commit(kv, s, t.data() + n, 16));
        }
        OK(larder_kv_end(kv, s));
    }
    larder_kv_close(kv);
    o.arena_bytes = 500;
    assert_int_equal(larder_kv_open(context, layout, &o, &kv), LARDER_E_RANGE);
    o.arena_bytes = 0;
    o.n_states = 1;
    assert_int_equal(larder_kv_open(context, layout, &o, &kv), LARDER_E_RANGE);
    larder_layout_destroy(layout);
    layout = make_layout(context, Shape());
    o.n_states = 4;
    assert_int_equal(larder_kv_open(context, layout, &o, &kv), LARDER_E_INVALID);
    larder_layout_destroy(layout);
    OK(larder_context_destroy(context));
}

// A planner by itself: a state can be found when all ranks have reported the blocks before it.
void states_of_a_separate_worker(void**) {
    larder_context* context = nullptr;
    OK(larder_context_create(nullptr, &context));
    Shape shape;
    shape.state_bytes = 16;
    larder_layout* layout = make_layout(context, shape);
    larder_planner_options po = LARDER_PLANNER_OPTIONS_INIT;
    po.n_blocks = 12, po.n_states = 4, po.has_store = 1;
    larder_planner* planner = nullptr;
    OK(larder_planner_create(context, layout, &po, &planner));
    larder_worker_options wo = LARDER_WORKER_OPTIONS_INIT;
    wo.n_blocks = 12, wo.n_states = 4, wo.host_bytes = 1 << 20;
    larder_worker* worker = nullptr;
    OK(larder_worker_create(context, layout, &wo, &worker));
    larder_kv_layer_view v = LARDER_KV_LAYER_VIEW_INIT;
    OK(larder_worker_get_layer(worker, 1, 1, &v));
    const auto carry_out = [&](larder_plan* plan) {
        if (!plan) return;
        larder_plan_info i = LARDER_PLAN_INFO_INIT;
        OK(larder_plan_get_info(plan, &i));
        std::vector<larder_status> statuses(i.n_ops);
        uint64_t n = 0;
        OK(larder_worker_submit(worker, plan, 0, nullptr, 0, nullptr));
        OK(larder_worker_take_report(worker, i.id, statuses.data(), statuses.size(), &n));
        OK(larder_planner_report(planner, i.id, 0, statuses.data(), n));
        larder_plan_destroy(plan);
    };
    const auto t = prompt(1, 20);
    const auto matched = [&](bool begin, larder_seq* seq) {
        larder_kv_query q = LARDER_KV_QUERY_INIT;
        q.tokens = t.data();
        q.n_tokens = t.size();
        q.peek = !begin;
        larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
        OK(larder_planner_match(planner, &q, &m));
        if (!begin) return m.n_tokens;
        larder_plan* plan = nullptr;
        larder_status began;
        while ((began = larder_planner_begin(planner, m.lease, nullptr, seq, &plan)) == LARDER_RETRY) carry_out(plan);
        assert_true(began >= 0);
        carry_out(plan);
        return m.n_tokens;
    };
    const auto state = [&](larder_seq s) {
        int32_t slot = 0;
        larder_kv_view_options o = LARDER_KV_VIEW_OPTIONS_INIT;
        o.group = 1;
        o.dst = &slot;
        o.dst_stride = 1;
        OK(larder_planner_view(planner, &s, 1, &o));
        return static_cast<unsigned char*>(v.k) + uint64_t(slot) * v.k_block_stride_bytes;
    };
    larder_seq s = 0;
    larder_plan* plan = nullptr;
    assert_int_equal(matched(true, &s), 0);
    OK(larder_planner_reserve(planner, s, 8, 0, &plan));
    carry_out(plan);
    state(s)[3] = 77;
    OK(larder_planner_commit(planner, s, t.data(), 8, &plan));
    assert_int_equal(matched(false, nullptr), 0);
    OK(larder_planner_end(planner, s));  // before the report: the plan publishes what it has
    carry_out(plan);
    assert_int_equal(matched(true, &s), 8);
    assert_int_equal(state(s)[3], 77);
    OK(larder_planner_checkpoint(planner, s));
    OK(larder_planner_end(planner, s));
    // Down to the tier, out of the arena, and back.
    OK(larder_planner_flush(planner, &plan));
    carry_out(plan);
    uint64_t n = 0;
    larder_planner_evict(planner, 12, &n, &plan);
    carry_out(plan);
    for (uint32_t i = 0; i < 6; ++i) {  // others take the slots
        larder_kv_query q = LARDER_KV_QUERY_INIT;
        const auto other = prompt(50 + i, 20);
        q.tokens = other.data();
        q.n_tokens = other.size();
        larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
        OK(larder_planner_match(planner, &q, &m));
        assert_true(larder_planner_begin(planner, m.lease, nullptr, &s, &plan) >= 0);
        carry_out(plan);
        larder_status reserved;
        while ((reserved = larder_planner_reserve(planner, s, 8, 0, &plan)) == LARDER_RETRY) carry_out(plan);
        OK(reserved);
        carry_out(plan);
        state(s)[3] = 1;
        OK(larder_planner_commit(planner, s, other.data(), 8, &plan));
        carry_out(plan);
        OK(larder_planner_end(planner, s));
    }
    assert_int_equal(matched(true, &s), 8);
    assert_int_equal(state(s)[3], 77);
    OK(larder_planner_end(planner, s));
    larder_worker_destroy(worker);
    larder_planner_destroy(planner);
    larder_layout_destroy(layout);
    OK(larder_context_destroy(context));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_match_ends_where_a_state_is_kept),
        cmocka_unit_test(no_state_is_kept_that_may_be_ahead),
        cmocka_unit_test(truncate_goes_back_to_a_checkpoint),
        cmocka_unit_test(forks_share_until_they_write),
        cmocka_unit_test(slots_run_out),
        cmocka_unit_test(states_survive_a_restart),
        cmocka_unit_test(a_suspended_sequence_keeps_its_state),
        cmocka_unit_test(views_of_states),
        cmocka_unit_test(states_alone),
        cmocka_unit_test(states_of_a_separate_worker),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
