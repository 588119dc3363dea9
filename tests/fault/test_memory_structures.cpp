// Every allocation and every mapping in the lives of virtual tensors, cell pools, state pools and topologies fails once
// and for ever.
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

void run(const char* name, std::function<larder_status(FaultEnv&)> body, bool simulated = false) {
    FaultCase c;
    c.name = name;
    c.simulated = simulated;
    c.classes = {FaultClass::memory, FaultClass::open, FaultClass::read, FaultClass::list};
    c.also_allowed = {LARDER_E_DEVICE_NOMEM};
    c.body = std::move(body);
    run_fault_loop(c);
}

void tensors(void**) {
    run("virtual tensor", [](FaultEnv& env) { return tensor_life(env, false); });
}

void device_tensors(void**) {
    run("virtual tensor on a device", [](FaultEnv& env) { return tensor_life(env, true); });
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(tensors),
        cmocka_unit_test(device_tensors),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
