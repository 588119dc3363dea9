// Contexts, queues and layouts under every allocation and system failure.
#include "support/cmocka.h"

#include "core/job.h"
#include "larder/larder.h"
#include "support/fault_loop.h"

using namespace larder;

namespace {

larder_status queue_body(FaultEnv& env) {
    FaultEnv::Context context;
    LARDER_TRY(env.make_context(context));
    larder_queue_options o = LARDER_QUEUE_OPTIONS_INIT;
    o.max_jobs = 4;
    larder_queue* queue = nullptr;
    LARDER_TRY(larder_queue_create(context.get(), &o, &queue));
    larder_status status = LARDER_OK;
    for (uint64_t i = 0; i < 8 && status == LARDER_OK; ++i) {
        try {
            auto job = queue->begin(i, 1);
            status = job.status();
            if (!job.ok()) break;
            for (uint64_t k = 0; k < i; ++k) {
                larder::fail(LARDER_E_IO, "item", "item %llu", (unsigned long long)k);
                queue->item_failed(*job, k, LARDER_E_IO);
            }
            queue->finish(*job, LARDER_OK);
        } catch (const std::bad_alloc&) {
            status = LARDER_E_NOMEM;
            break;
        }
        larder_completion done;
        uint32_t n = 0;
        assert_int_equal(larder_queue_poll(queue, &done, sizeof done, 1, &n), LARDER_OK);
        assert_int_equal(n, 1);
        assert_int_equal(done.user_data, i);
        assert_int_equal(done.n_failed, i);
        assert_int_equal(done.status, i ? LARDER_PARTIAL : LARDER_OK);
    }
    larder_queue_destroy(queue);
    return status;
}

larder_status layout_body(FaultEnv& env) {
    FaultEnv::Context context;
    LARDER_TRY(env.make_context(context));
    larder_layer_group group = LARDER_LAYER_GROUP_INIT;
    group.n_layers = 4;
    group.block_tokens = 16;
    group.n_kv_heads = 2;
    group.k_dim = group.v_dim = 8;
    group.k_dtype = group.v_dtype = LARDER_DTYPE_F16;
    larder_layout_options o = LARDER_LAYOUT_OPTIONS_INIT;
    o.groups = &group;
    o.n_groups = 1;
    o.group_stride = sizeof group;
    larder_layout* layout = nullptr;
    LARDER_TRY(larder_layout_create(context.get(), &o, &layout));
    larder_layout_destroy(layout);
    return LARDER_OK;
}

void queue_survives(void**) {
    FaultCase c;
    c.name = "queue";
    c.body = queue_body;
    run_fault_loop(c);
}

void layout_survives(void**) {
    FaultCase c;
    c.name = "layout";
    c.body = layout_body;
    run_fault_loop(c);
}

void workers_that_do_not_start_are_an_error(void**) {
    FaultCase c;
    c.name = "workers";
    c.simulated = false;
    c.classes = {FaultClass::thread, FaultClass::random, FaultClass::event};
    c.body = [](FaultEnv& env) -> larder_status {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.allocator = env.memory.raw();
        o.n_workers = 3;
        larder_context* context = nullptr;
        try {
            LARDER_TRY(larder_context::create(&o, env.os, &context));
        } catch (const std::bad_alloc&) {
            return LARDER_E_NOMEM;
        }
        return larder_context_destroy(context);
    };
    run_fault_loop(c);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(queue_survives), cmocka_unit_test(layout_survives),
                                cmocka_unit_test(workers_that_do_not_start_are_an_error)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
