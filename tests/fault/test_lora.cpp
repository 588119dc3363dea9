// Out of memory at every allocation of the cache of adapters, and loads that fail: nothing is lost, nobody else is
// hurt.
#include "support/cmocka.h"

#include <memory>

#include "larder/lora.h"
#include "support/fault_loop.h"

using namespace larder;

namespace {

template <auto Destroy> struct Destroyer {
    template <class T> void operator()(T* p) const { Destroy(p); }
};
using Cells = std::unique_ptr<larder_cells, Destroyer<larder_cells_destroy>>;
using Lora = std::unique_ptr<larder_lora, Destroyer<larder_lora_destroy>>;

// Every third load fails.
larder_status load(void* ctx, const larder_lora_request*) {
    return ++*static_cast<int*>(ctx) % 3 ? LARDER_OK : LARDER_E_CORRUPT;
}

larder_status use(larder_lora* lora, larder_cells* cells) {
    larder_lora_adapter ids[6];
    larder_status statuses[6];
    for (uint32_t i = 0; i < 6; ++i) LARDER_TRY(larder_lora_register(lora, i + 1, 1, i, &ids[i]));
    LARDER_TRY(larder_lora_prefetch(lora, ids + 3, 3, statuses));
    if (larder_lora_acquire(lora, ids, 6, statuses) < 0) return LARDER_E_INTERNAL;
    for (uint32_t i = 0; i < 6; ++i) {
        if (statuses[i] < 0) {
            assert_int_equal(statuses[i], LARDER_E_CORRUPT);
            assert_int_equal(larder_lora_acquire(lora, &ids[i], 1, statuses + i), LARDER_OK);
        }
        assert_int_equal(larder_lora_release(lora, &ids[i], 1), LARDER_OK);
    }
    const larder_cells_move move = {0, 1};
    LARDER_TRY(larder_lora_move(lora, &move, 0));
    assert_int_equal(larder_lora_prefetch(lora, nullptr, 0, nullptr), LARDER_OK);
    assert_int_equal(larder_lora_make_room(lora, 100), LARDER_OK);
    larder_cells_state s = LARDER_CELLS_STATE_INIT;
    larder_cells_query(cells, &s);
    assert_int_equal(s.n_used, 0);
    return LARDER_OK;
}

void the_adapters(void**) {
    FaultCase c;
    c.name = "adapters";
    c.body = [](FaultEnv& env) -> larder_status {
        FaultEnv::Context context;
        Cells cells;
        Lora lora;
        int n_loads = 0;
        LARDER_TRY(env.make_context(context));
        larder_cells_options pool = LARDER_CELLS_OPTIONS_INIT;
        pool.n_cells = 100;
        larder_cells* raw_cells = nullptr;
        LARDER_TRY(larder_cells_create(context.get(), &pool, &raw_cells));
        cells.reset(raw_cells);
        larder_lora_options o = LARDER_LORA_OPTIONS_INIT;
        o.cells = cells.get();
        o.load.fn = load;
        o.load.ctx = &n_loads;
        larder_lora* raw = nullptr;
        LARDER_TRY(larder_lora_create(context.get(), &o, &raw));
        lora.reset(raw);
        return use(lora.get(), cells.get());
    };
    run_fault_loop(c);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(the_adapters)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
