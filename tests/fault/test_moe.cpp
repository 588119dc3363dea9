// Out of memory at every allocation of the analysis of mixtures of experts.
#include "support/cmocka.h"

#include "larder/moe.h"
#include "support/fault_loop.h"

using namespace larder;

namespace {

void the_analysis(void**) {
    FaultCase c;
    c.name = "mixtures";
    c.classes = {};
    c.body = [](FaultEnv& env) -> larder_status {
        FaultEnv::Context context;
        LARDER_TRY(env.make_context(context));
        const uint8_t ids[16] = {0, 1, 1, 2, 3, 0, 0, 1, 1, 2, 3, 0, 2, 3, 2, 1};
        larder_moe_routing r = LARDER_MOE_ROUTING_INIT;
        r.type = LARDER_MOE_U8, r.n_layers = 2, r.n_experts = 4, r.k = 2, r.n_tokens = 4, r.n_bytes = 16, r.ids = ids;
        LARDER_TRY(larder_moe_check(context.get(), &r, nullptr));
        larder_moe_segments segments = LARDER_MOE_SEGMENTS_INIT;
        LARDER_TRY(larder_moe_measure_segments(context.get(), &r, 0, 2, 2, &segments));
        uint64_t hits[10];
        for (uint32_t layer = 0; layer < 2; ++layer)
            LARDER_TRY(larder_moe_measure_cache(context.get(), &r, layer, LARDER_MOE_KEEP_NEXT, 0, hits + layer * 5));
        larder_moe_advice_options o = LARDER_MOE_ADVICE_OPTIONS_INIT;
        o.n_layers = 2, o.n_experts = 4, o.k = 2, o.n_tokens = 4;
        uint32_t slots[2], order[4];
        larder_moe_advice advice = LARDER_MOE_ADVICE_INIT;
        LARDER_TRY(larder_moe_advise(context.get(), &o, hits, slots, &advice));
        uint64_t masks[4];
        LARDER_TRY(larder_moe_masks(context.get(), &r, 1, 1, masks));
        larder_moe_regrouping regrouping = LARDER_MOE_REGROUPING_INIT;
        return larder_moe_regroup(context.get(), masks, 1, 4, 2, order, &regrouping);
    };
    run_fault_loop(c);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(the_analysis)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
