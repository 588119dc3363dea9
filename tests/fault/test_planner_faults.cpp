// Planner and worker under every allocation failure: a failed call leaves no plan out that nobody holds, no lost block,
// and can be made again.
#include <vector>

#include "kv/ranks.h"
#include "larder/larder.h"
#include "support/cmocka.h"
#include "support/fault_loop.h"

namespace {

#define TRY(expr)                                                                                                      \
    do {                                                                                                               \
        const larder_status try_status_ = (expr);                                                                      \
        if (try_status_ < 0) return try_status_;                                                                       \
    } while (0)

constexpr uint32_t block_tokens = 4, n_blocks = 8;

struct Replica {
    larder_layout* layout = nullptr;
    larder_planner* planner = nullptr;
    larder_worker* worker = nullptr;
    larder_queue* queue = nullptr;
    larder_status first = LARDER_OK;  // the first failure

    ~Replica() {
        larder_worker_destroy(worker);
        larder_planner_destroy(planner);
        larder_queue_destroy(queue);
        larder_layout_destroy(layout);
    }

    larder_status open(larder_context* context) {
        larder_layer_group g = LARDER_LAYER_GROUP_INIT;
        g.n_layers = 2, g.block_tokens = block_tokens, g.n_kv_heads = 1, g.k_dim = 4, g.v_dim = 4;
        larder_layout_options lo = LARDER_LAYOUT_OPTIONS_INIT;
        lo.n_groups = 1, lo.groups = &g, lo.group_stride = sizeof g;
        TRY(larder_layout_create(context, &lo, &layout));
        larder_planner_options po = LARDER_PLANNER_OPTIONS_INIT;
        po.n_blocks = n_blocks, po.has_store = 1, po.max_sequences = 4;
        TRY(larder_planner_create(context, layout, &po, &planner));
        larder_worker_options wo = LARDER_WORKER_OPTIONS_INIT;
        wo.n_blocks = n_blocks, wo.host_bytes = 1 << 17;
        TRY(larder_worker_create(context, layout, &wo, &worker));
        return larder_queue_create(context, nullptr, &queue);
    }

    // Calls are made again after a failure: with a fault that happens once, the second time must get through.
    template <class Call> larder_status again(Call call) {
        larder_status s = LARDER_OK;
        for (int i = 0; i < 2; ++i) {
            s = call();
            if (s >= 0) return s;
            if (first == LARDER_OK) first = s;
        }
        return s;
    }

    // A plan goes to its worker and the report back; a rank that cannot is taken for dead and replaced.
    larder_status apply(larder_plan* plan) {
        if (!plan) return LARDER_OK;
        larder_plan_info info = LARDER_PLAN_INFO_INIT;
        assert_int_equal(larder_plan_get_info(plan, &info), LARDER_OK);
        std::vector<larder_status> statuses(info.n_ops);
        larder_status s = again([&] { return larder_worker_submit(worker, plan, 0, queue, 0, nullptr); });
        larder_plan_destroy(plan);
        if (s == LARDER_PENDING) {
            larder_completion done = {};
            uint32_t n = 0;
            assert_int_equal(larder_queue_wait(queue, &done, sizeof done, 1, UINT64_MAX, &n), LARDER_OK);
            uint64_t n_ops = 0;
            assert_int_equal(larder_worker_take_report(worker, info.id, statuses.data(), statuses.size(), &n_ops),
                             LARDER_OK);
            s = again([&] { return larder_planner_report(planner, info.id, 0, statuses.data(), statuses.size()); });
            // A report that was refused for want of memory has not been taken.
        }
        if (s >= 0) return LARDER_OK;
        assert_int_equal(larder_planner_rank_dead(planner, 0), LARDER_OK);
        assert_int_equal(larder_planner_rank_alive(planner, 0), LARDER_OK);
        return s;
    }

    larder_status serve(const std::vector<int32_t>& tokens) {
        larder_kv_query q = LARDER_KV_QUERY_INIT;
        q.tokens = tokens.data(), q.n_tokens = tokens.size();
        larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
        TRY(again([&] { return larder_planner_match(planner, &q, &m); }));
        larder_seq seq = 0;
        larder_plan* plan = nullptr;
        const larder_status begun = again([&] { return larder_planner_begin(planner, m.lease, nullptr, &seq, &plan); });
        if (begun < 0) {
            assert_int_equal(larder_planner_release(planner, m.lease), LARDER_OK);
            return begun;
        }
        const larder_status s = grow(seq, plan, tokens);
        assert_int_equal(larder_planner_end(planner, seq), LARDER_OK);
        return s;
    }

    larder_status grow(larder_seq seq, larder_plan* plan, const std::vector<int32_t>& tokens) {
        TRY(apply(plan));
        larder_kv_seq_info i = LARDER_KV_SEQ_INFO_INIT;
        TRY(larder_planner_seq_get_info(planner, seq, &i));
        const uint64_t done = i.n_computed, n_new = tokens.size() - done;
        for (larder_status s = LARDER_RETRY; s == LARDER_RETRY;) {
            s = again([&] { return larder_planner_reserve(planner, seq, n_new, 0, &plan); });
            const larder_status applied = apply(plan);
            TRY(s);
            TRY(applied);
        }
        const larder_status s = again([&] {
            const larder_status committed = larder_planner_commit(planner, seq, tokens.data() + done, n_new, &plan);
            if (committed < 0) {
                assert_null(plan);
                assert_int_equal(larder_planner_seq_get_info(planner, seq, &i), LARDER_OK);
                assert_int_equal(i.n_computed, done);
            }
            return committed;
        });
        const larder_status applied = apply(plan);
        return s < 0 ? s : applied;
    }
};

std::vector<int32_t> prompt(int32_t id, uint32_t n) {
    std::vector<int32_t> t(n);
    for (uint32_t i = 0; i < n; ++i) t[i] = id * 1000 + int32_t(i);
    return t;
}

larder_status body(FaultEnv& env) {
    FaultEnv::Context context;
    TRY(env.make_context(context));
    Replica r;
    TRY(r.open(context.get()));
    for (int32_t i = 0; i < 5; ++i) r.serve(prompt(i % 3, 13));
    larder_plan* plan = nullptr;
    r.again([&] { return larder_planner_flush(r.planner, &plan); });
    r.apply(plan);
    plan = nullptr;
    r.again([&] { return larder_planner_evict(r.planner, 3, nullptr, &plan); });
    r.apply(plan);
    r.serve(prompt(1, 17));
    larder_kv_info info = LARDER_KV_INFO_INIT;
    assert_int_equal(larder_planner_get_info(r.planner, &info), LARDER_OK);
    assert_int_equal(info.n_sequences, 0);
    assert_int_equal(info.n_leases, 0);
    assert_int_equal(info.n_in_use, 0);
    assert_int_equal(r.planner->planner->n_plans_out(), 0);
    return r.first;
}

void test_planner_and_worker(void**) {
    FaultCase c;
    c.name = "planner and worker";
    c.also_allowed = {LARDER_E_NOMEM, LARDER_E_NOSPACE, LARDER_E_PEER_DEAD};
    c.body = body;
    run_fault_loop(c);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(test_planner_and_worker)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
