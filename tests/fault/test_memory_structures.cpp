// Every allocation and every mapping in the lives of virtual tensors, cell pools, state pools, topologies and
// translation caches fails once and for ever.
#include "support/cmocka.h"

#include "core/device_handle.h"
#include "device/sim_device.h"
#include "larder/larder.h"
#include "support/fault_loop.h"

using namespace larder;

namespace {

struct Tensor {
    larder_device* device = nullptr;
    larder_vtensor* v = nullptr;
    ~Tensor() {
        larder_vtensor_destroy(v);
        larder_device_close(device);
    }
};

uint64_t mapped(larder_vtensor* v) {
    larder_vtensor_state s = LARDER_VTENSOR_STATE_INIT;
    assert_int_equal(larder_vtensor_query(v, &s), LARDER_OK);
    return s.mapped_bytes;
}

larder_status tensor_life(FaultEnv& env, bool simulated) {
    FaultEnv::Context c;
    LARDER_TRY(env.make_context(c));
    Tensor t;
    if (simulated) {
        larder_device_options d = LARDER_DEVICE_OPTIONS_INIT;
        d.name = "sim";
        d.sim_granularity_bytes = 4096;
        LARDER_TRY(larder_device_open(c.get(), &d, &t.device));
    }
    const uint64_t slot_bytes[2] = {6000, 8192};
    larder_vtensor_options o = LARDER_VTENSOR_OPTIONS_INIT;
    o.n_layers = 2;
    o.n_base = 4;
    o.max_adapters = 2;
    o.max_tuned = 2;
    o.n_matrices = 2;
    o.slot_bytes = slot_bytes;
    o.page_bytes = 4096;
    o.device = t.device;
    LARDER_TRY(larder_vtensor_create(c.get(), &o, &t.v));
    const uint64_t before = mapped(t.v);
    const uint32_t n_tuned[2] = {2, 1}, experts[3] = {3, 1, 0};
    larder_status first = LARDER_OK;
    for (int i = 0; i < 3; ++i) {
        uint64_t id = 0;
        int32_t row = 0;
        const larder_status s = larder_vtensor_map(t.v, n_tuned, experts, &id, &row);
        if (s < 0) {
            assert_int_equal(mapped(t.v), before);  // nothing of it stayed
            if (first >= 0) first = s;
            continue;
        }
        assert_int_equal(larder_vtensor_unmap(t.v, id), LARDER_OK);
        assert_int_equal(mapped(t.v), before);
    }
    return first;
}

larder_status cells_life(FaultEnv& env) {
    FaultEnv::Context c;
    LARDER_TRY(env.make_context(c));
    larder_cells_options o = LARDER_CELLS_OPTIONS_INIT;
    o.n_cells = 300;
    o.cell_bytes = 64;
    o.n_transient = 40;
    larder_cells* cells = nullptr;
    LARDER_TRY(larder_cells_create(c.get(), &o, &cells));
    int32_t list[280], first;
    uint32_t n_moves;
    larder_cells_move moves[40];
    larder_status s = larder_cells_alloc(cells, LARDER_CELLS_ANY, 280, list);  // calls neither allocator nor system
    if (s >= 0) s = larder_cells_free(cells, list, 100);
    if (s >= 0) s = larder_cells_transient_begin(cells, 40, moves, 40, &n_moves, &first);
    if (s >= 0) s = larder_cells_transient_end(cells);
    larder_cells_destroy(cells);
    assert_int_equal(s, LARDER_OK);
    return s;
}

larder_status states_life(FaultEnv& env) {
    FaultEnv::Context c;
    LARDER_TRY(env.make_context(c));
    larder_states_options o = LARDER_STATES_OPTIONS_INIT;
    o.n_slots = 4;
    o.state_bytes = 256;
    o.dtype = LARDER_DTYPE_BF16;
    larder_states* states = nullptr;
    LARDER_TRY(larder_states_create(c.get(), &o, &states));
    uint64_t id[2], fork = 0;
    larder_status s = larder_states_alloc(states, 2, id);  // calls neither allocator nor system
    if (s >= 0) s = larder_states_fork(states, id[0], 1, &fork);
    if (s >= 0) s = larder_states_add(states, fork, id, 2);
    if (s >= 0) s = larder_states_free(states, id, 2);
    assert_int_equal(s, LARDER_OK);
    assert_int_not_equal(larder_states_verify(states), LARDER_E_INTERNAL);
    larder_states_destroy(states);
    return s;
}

larder_status topology_life(FaultEnv& env) {
    FaultEnv::Context c;
    LARDER_TRY(env.make_context(c));
    larder_topology* t = nullptr;
    LARDER_TRY(larder_topology_create(c.get(), nullptr, &t));
    std::byte* p = nullptr;
    const uint64_t page = env.os.topology().page_bytes;
    if (auto r = env.os.reserve(4 * page, page); r.ok()) p = *r;
    larder_memory_object o = LARDER_MEMORY_OBJECT_INIT;
    o.access = LARDER_ACCESS_STREAM;
    o.n_bytes = 4 * page;
    larder_placement_part parts[64];
    uint32_t n = 0;
    larder_status s = larder_topology_place(t, &o, sizeof o, 1, page, parts, 64, &n);
    if (s >= 0 && p) s = larder_topology_bind(t, p, 4 * page, parts, n, page, LARDER_BIND_STRIPED);
    if (p) env.os.release(p, 4 * page);
    larder_topology_destroy(t);
    return s;
}

larder_status translation_life(FaultEnv& env) {
    FaultEnv::Context c;
    LARDER_TRY(env.make_context(c));
    int n_drops = 0;
    larder_translation_options o = LARDER_TRANSLATION_OPTIONS_INIT;
    o.walk.fn = [](void*, uint64_t first, int64_t* out) -> uint32_t {
        for (int i = 0; i < 8; ++i) out[i] = int64_t(first) + i;
        return 1;
    };
    o.walk.ctx = &n_drops;
    o.walk.drop = [](void* ctx) { ++*static_cast<int*>(ctx); };
    larder_translation* t = nullptr;
    const larder_status made = larder_translation_create(c.get(), &o, &t);
    if (made >= 0) {
        const uint64_t key = 77;
        int64_t value = 0;
        assert_int_equal(larder_translation_lookup(t, &key, 1, &value),
                         LARDER_OK);  // calls neither allocator nor system
        assert_int_equal(value, 77);
        larder_translation_destroy(t);
    }
    assert_int_equal(n_drops, made >= 0);
    return made;
}

void run(const char* name, std::function<larder_status(FaultEnv&)> body, bool simulated = false) {
    FaultCase c;
    c.name = name;
    c.simulated = simulated;
    c.classes = {FaultClass::memory, FaultClass::open, FaultClass::read, FaultClass::list};
    c.also_allowed = {LARDER_E_DEVICE_NOMEM, LARDER_E_UNSUPPORTED, LARDER_E_PERMISSION};
    c.body = std::move(body);
    run_fault_loop(c);
}

void tensors(void**) {
    run("virtual tensor", [](FaultEnv& env) { return tensor_life(env, false); });
}

void device_tensors(void**) {
    run("virtual tensor on a device", [](FaultEnv& env) { return tensor_life(env, true); });
}

void cell_pools(void**) {
    run("cell pool", cells_life);
}

void state_pools(void**) {
    run("state pool", states_life);
}

void topologies(void**) {
    run("topology", topology_life);
}

void translation_caches(void**) {
    run("translation cache", translation_life);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(tensors),     cmocka_unit_test(device_tensors), cmocka_unit_test(cell_pools),
        cmocka_unit_test(state_pools), cmocka_unit_test(topologies),     cmocka_unit_test(translation_caches),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
