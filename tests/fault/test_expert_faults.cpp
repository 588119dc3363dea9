// Every allocation, every read and every device call in the life of an expert cache fails once and for ever: what could
// not be loaded says so, the rest goes on, nothing is lost.
#include "support/cmocka.h"

#include <cstring>

#include "core/device_handle.h"
#include "device/sim_device.h"
#include "larder/larder.h"
#include "support/fault_loop.h"

using namespace larder;

namespace {

constexpr uint32_t n_layers = 2, n_experts = 6, n_slots = 3;
constexpr uint64_t n_bytes = 9000;

struct Handles {
    larder_device* device = nullptr;
    larder_queue* queue = nullptr;
    larder_expert_cache* cache = nullptr;
    ~Handles() {
        larder_expert_destroy(cache);
        larder_queue_destroy(queue);
        larder_device_close(device);
    }
};

unsigned char byte_of(uint64_t i) {
    return (unsigned char)(i * 2654435761u >> 11);
}

void write_file(FaultEnv& env) {
    std::vector<unsigned char> bytes(n_layers * n_experts * n_bytes);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = byte_of(i);
    const auto f = env.os.open((env.dir + "/experts").c_str(), open_flag::write | open_flag::create);
    assert_true(f.ok());
    assert_int_equal(env.os.write_all(f->handle, bytes.data(), bytes.size(), 0), LARDER_OK);
    env.os.close(f->handle);
}

larder_status make(FaultEnv& env, larder_context* c, bool on_device, Handles& h) {
    if (on_device) {
        larder_device_options d = LARDER_DEVICE_OPTIONS_INIT;
        d.name = "sim";
        LARDER_TRY(larder_device_open(c, &d, &h.device));
    }
    LARDER_TRY(larder_queue_create(c, nullptr, &h.queue));
    const std::string path = env.dir + "/experts";
    larder_expert_precision p = LARDER_EXPERT_PRECISION_INIT;
    p.source = LARDER_EXPERT_SOURCE_FILE;
    p.path = path.c_str();
    p.n_bytes = n_bytes;
    p.layer_slots = n_slots;
    larder_expert_options o = LARDER_EXPERT_OPTIONS_INIT;
    o.n_layers = n_layers;
    o.n_experts = n_experts;
    o.n_precisions = 1;
    o.precisions = &p;
    o.precision_stride = sizeof p;
    o.chunk_bytes = 4096;
    o.device = h.device;
    return larder_expert_create(c, &o, &h.cache);
}

void check_bytes(const Handles& h, uint32_t layer, uint32_t e, const larder_expert_view& v) {
    if (h.device || v.status != LARDER_OK) return;
    const auto* bytes = reinterpret_cast<const unsigned char*>(v.address);
    for (uint64_t i = 0; i < n_bytes; ++i) assert_int_equal(bytes[i], byte_of((layer * n_experts + e) * n_bytes + i));
}

// The first failure that was met, of the call or of an expert.
larder_status use(const Handles& h, uint32_t layer, std::vector<uint32_t> ids, bool by_job) {
    std::vector<larder_expert_view> v(ids.size());
    larder_expert_lease lease = 0;
    larder_job job = 0;
    larder_status s = larder_expert_acquire(h.cache, layer, ids.data(), uint32_t(ids.size()), v.data(), sizeof v[0],
                                            by_job ? h.queue : nullptr, 0, &job, &lease);
    assert_int_equal(larder_expert_verify(h.cache), LARDER_OK);
    if (s < 0) return s;
    if (s == LARDER_PENDING) {
        larder_completion c{};
        uint32_t n = 0;
        assert_int_equal(larder_queue_wait(h.queue, &c, sizeof c, 1, UINT64_MAX, &n), LARDER_OK);
        s = c.status;
    }
    larder_status first = s < 0 ? s : LARDER_OK;
    for (size_t i = 0; i < ids.size(); ++i) {
        assert_true(v[i].status <= 0);
        if (v[i].status < 0 && first >= 0) first = v[i].status;
        check_bytes(h, layer, ids[i], v[i]);
    }
    assert_int_equal(s == LARDER_PARTIAL, first < 0);
    assert_int_equal(larder_expert_release(h.cache, lease), LARDER_OK);
    assert_int_equal(larder_expert_verify(h.cache), LARDER_OK);
    return first;
}

larder_status life(FaultEnv& env, bool on_device) {
    FaultEnv::Context c;
    LARDER_TRY(env.make_context(c));
    Handles h;
    LARDER_TRY(make(env, c.get(), on_device, h));
    larder_status first = LARDER_OK;
    for (uint32_t step = 0; step < 8; ++step) {
        const larder_status s = use(h, step % n_layers, {step % 5, (step + 2) % 5, 5}, step & 2);
        if (s < 0 && first >= 0) first = s;
    }
    return first;
}

void run(const char* name, bool on_device) {
    FaultCase c;
    c.name = name;
    c.prep = write_file;
    c.body = [=](FaultEnv& env) { return life(env, on_device); };
    c.also_allowed = {LARDER_E_DEVICE_NOMEM, LARDER_E_PERMISSION};
    run_fault_loop(c);
}

void in_host_memory(void**) {
    run("experts in host memory", false);
}
void on_a_device(void**) {
    run("experts on a device", true);
}

// Device calls are not the system's: the simulated device fails them itself.
void device_calls(void**) {
    for (const auto fault : {SimDevice::Fault::call, SimDevice::Fault::lost})
        for (uint64_t nth = 1; nth < 40; ++nth) {
            larder_context* c = nullptr;
            larder_context_options co = LARDER_CONTEXT_OPTIONS_INIT;
            co.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
            assert_int_equal(larder_context_create(&co, &c), LARDER_OK);
            {
                Handles h;
                larder_device_options d = LARDER_DEVICE_OPTIONS_INIT;
                d.name = "sim";
                d.sim_latency_ns = 1;
                assert_int_equal(larder_device_open(c, &d, &h.device), LARDER_OK);
                assert_int_equal(larder_queue_create(c, nullptr, &h.queue), LARDER_OK);
                static const std::vector<unsigned char> weights(n_layers * n_experts * n_bytes, 7);
                larder_expert_precision p = LARDER_EXPERT_PRECISION_INIT;
                p.source = LARDER_EXPERT_SOURCE_MEMORY;
                p.memory = weights.data();
                p.n_bytes = n_bytes;
                p.layer_slots = n_slots;
                larder_expert_options o = LARDER_EXPERT_OPTIONS_INIT;
                o.n_layers = n_layers, o.n_experts = n_experts, o.n_precisions = 1, o.precisions = &p;
                o.precision_stride = sizeof p, o.chunk_bytes = 4096, o.device = h.device;
                assert_int_equal(larder_expert_create(c, &o, &h.cache), LARDER_OK);
                auto& sim = static_cast<SimDevice&>(*h.device->device);
                sim.fail_at(fault, nth, false);
                uint32_t n_bad = 0;
                for (uint32_t step = 0; step < 6; ++step)
                    n_bad += use(h, step % n_layers, {step % 5, (step + 2) % 5, 5}, step & 2) < 0;
                if (fault == SimDevice::Fault::call) assert_true(n_bad <= 1);
                if (nth == 1) assert_true(n_bad >= 1);
                assert_int_equal(sim.n_violations(), 0);
            }
            assert_int_equal(larder_context_destroy(c), LARDER_OK);
        }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(in_host_memory),
        cmocka_unit_test(on_a_device),
        cmocka_unit_test(device_calls),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
