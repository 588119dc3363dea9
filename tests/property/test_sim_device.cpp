// The simulated device: time, mapping, ordering errors, faults, and gather against a plain loop.
#include "support/cmocka.h"

#include <cstring>
#include <vector>

#include "device/sim_device.h"
#include "os/sim_os.h"
#include "support/fault_allocator.h"
#include "support/seed.h"

using namespace larder;

namespace {

constexpr SimDeviceOptions small{
    .memory_bytes = 1 << 20, .granularity_bytes = 65536, .bandwidth_bytes_per_s = 1000000000, .latency_ns = 1000};

void work_takes_its_time(void**) {
    SimOs os;
    SimDevice d(Allocator(), os, small);
    const DevicePtr p = *d.alloc(10000);
    const StreamId s = *d.stream_create();
    const EventId e = *d.event_create();
    std::vector<char> in(10000, 'x'), out(10000, 0);
    assert_int_equal(d.copy_in(p, in.data(), in.size(), s), LARDER_OK);
    assert_int_equal(d.copy_out(out.data(), p, out.size(), s), LARDER_OK);
    assert_int_equal(d.event_record(e, s), LARDER_OK);
    assert_int_equal(d.event_query(e), LARDER_PENDING);
    assert_int_equal(out[0], 0);  // not yet
    os.advance_ns(2 * (1000 + 10000) - 1);
    assert_int_equal(d.event_query(e), LARDER_PENDING);
    os.advance_ns(1);
    assert_int_equal(d.event_query(e), LARDER_OK);
    assert_memory_equal(in.data(), out.data(), in.size());
    const uint64_t before = os.now_ns();
    d.fill_zero(p, 10000, s);
    d.event_record(e, s);
    assert_int_equal(d.event_wait(e), LARDER_OK);
    assert_int_equal(os.now_ns() - before, 1000 + 1000);
    d.free(p, 10000);
    d.stream_destroy(s);
    d.event_destroy(e);
    assert_int_equal(d.n_violations(), 0);
    assert_int_equal(d.n_live(), 0);
    assert_int_equal(d.used_bytes(), 0);
}

// A gate holds a stream and whatever waits for its events; other streams go on.
void gates_hold_streams(void**) {
    SimOs os;
    SimDevice d(Allocator(), os, small);
    const DevicePtr p = *d.alloc(100), q = *d.alloc(100);
    const StreamId s = *d.stream_create(), t = *d.stream_create(), u = *d.stream_create();
    const EventId e = *d.event_create(), f = *d.event_create(), g = *d.event_create();
    const GateId gate = *d.gate_create();
    char in[100], out[100] = "";
    std::memset(in, 'x', sizeof in);
    assert_int_equal(d.stream_wait_gate(s, gate), LARDER_OK);
    assert_int_equal(d.copy_in(p, in, 100, s), LARDER_OK);
    assert_int_equal(d.event_record(e, s), LARDER_OK);
    assert_int_equal(d.stream_wait(t, e), LARDER_OK);
    assert_int_equal(d.copy_out(out, p, 100, t), LARDER_OK);
    assert_int_equal(d.event_record(f, t), LARDER_OK);
    assert_int_equal(d.fill_zero(q, 100, u), LARDER_OK);
    assert_int_equal(d.event_record(g, u), LARDER_OK);
    d.stream_destroy(t);  // its work goes to its end
    assert_int_equal(d.event_record(f, t), LARDER_E_INVALID);
    os.advance_ns(1000000000);
    assert_int_equal(d.event_query(g), LARDER_OK);
    assert_int_equal(d.event_query(e), LARDER_PENDING);
    assert_int_equal(d.event_query(f), LARDER_PENDING);
    assert_int_equal(out[0], 0);
    d.gate_open(gate);
    const uint64_t opened = os.now_ns();
    assert_int_equal(d.event_query(e), LARDER_PENDING);  // the work itself takes time
    assert_int_equal(d.event_wait(f), LARDER_OK);
    assert_int_equal(os.now_ns() - opened, 2 * (1000 + 100));
    assert_memory_equal(in, out, 100);
    assert_int_equal(d.stream_wait_gate(s, gate), LARDER_OK);  // an open gate holds nothing
    assert_int_equal(d.event_record(e, s), LARDER_OK);
    assert_int_equal(d.event_query(e), LARDER_OK);
    assert_int_equal(d.stream_wait_gate(s, 1ull << 40), LARDER_E_INVALID);
    d.free(p, 100);
    d.free(q, 100);
    for (EventId x : {e, f, g}) d.event_destroy(x);
    d.stream_destroy(s);
    d.stream_destroy(u);
    assert_int_equal(d.n_violations(), 0);
    assert_int_equal(d.n_live(), 0);
}

void mapping_follows_the_rules(void**) {
    SimOs os;
    SimDevice d(Allocator(), os, small);
    const uint64_t g = small.granularity_bytes;
    assert_int_equal(d.reserve(g / 2).status(), LARDER_E_INVALID);
    const DevicePtr r = *d.reserve(8 * g);
    const uint64_t a = *d.page_create(g), b = *d.page_create(2 * g);
    assert_int_equal(d.page_create(14 * g).status(), LARDER_E_DEVICE_NOMEM);
    assert_int_equal(d.map(r, g, a, 0), LARDER_OK);
    assert_int_equal(d.map(r, g, a, 0), LARDER_E_INVALID);
    assert_int_equal(d.map(r + 4 * g, 2 * g, a, 0), LARDER_E_INVALID);
    assert_int_equal(d.map(r + 7 * g, 2 * g, b, 0), LARDER_E_INVALID);
    assert_int_equal(d.map(r + g, 2 * g, b, 0), LARDER_OK);
    assert_int_equal(d.map(r + 3 * g, g, a, 0), LARDER_OK);  // the same page again
    std::vector<char> in(3 * g), out(g);
    for (size_t i = 0; i < in.size(); ++i) in[i] = char(i / 100);
    assert_int_equal(d.copy_in(r, in.data(), in.size(), 0), LARDER_OK);  // over two mappings
    assert_int_equal(d.copy_in(r, in.data(), 5 * g, 0), LARDER_E_INVALID);
    assert_int_equal(d.copy_out(out.data(), r + 3 * g, g, 0), LARDER_OK);
    d.drain();
    assert_memory_equal(out.data(), in.data(), g);
    assert_int_equal(d.unmap(r + g, g), LARDER_E_INVALID);
    d.page_release(a);
    assert_int_equal(d.map(r + 5 * g, g, a, 0), LARDER_E_INVALID);
    assert_int_equal(d.unmap(r, 4 * g), LARDER_OK);
    assert_int_equal(d.used_bytes(), 2 * g);
    d.page_release(b);
    d.unreserve(r, 8 * g);
    assert_int_equal(d.n_violations(), 0);
    assert_int_equal(d.n_live(), 0);
}

void missing_events_are_seen(void**) {
    for (int variant = 0; variant < 5; ++variant) {
        SimOs os;
        SimDevice d(Allocator(), os, small);
        const DevicePtr p = *d.alloc(4096), q = *d.alloc(4096);
        const StreamId s = *d.stream_create(), t = *d.stream_create();
        const EventId e = *d.event_create();
        char buffer[4096] = {};
        d.copy_in(p, buffer, 4096, s);
        if (variant != 0) d.event_record(e, s);
        if (variant == 1) d.stream_wait(t, e);
        if (variant == 2) d.event_wait(e);
        if (variant == 3) d.event_query(e);  // still pending: proves nothing
        d.copy(q, variant == 4 ? p + 2048 : p, 2048, t);
        assert_int_equal(d.n_violations() != 0, variant == 0 || variant >= 3);
        d.drain();
    }
    SimOs os;
    SimDevice d(Allocator(), os, small);
    const DevicePtr p = *d.alloc(4096);
    char buffer[4096] = {};
    d.copy_in(p, buffer, 4096, 0);
    d.free(p, 4096);
    assert_int_equal(d.n_violations(), 1);
    assert_non_null(std::strstr(d.first_violation(), "in flight"));
    assert_int_equal(d.copy_in(p, buffer, 16, 0), LARDER_E_INVALID);
}

// Reads by several streams at once are fine.
void shared_reads_are_no_violation(void**) {
    SimOs os;
    SimDevice d(Allocator(), os, small);
    const DevicePtr p = *d.alloc(4096), q = *d.alloc(8192);
    const StreamId s = *d.stream_create(), t = *d.stream_create();
    d.copy(q, p, 4096, s);
    d.copy(q + 4096, p, 4096, t);
    assert_int_equal(d.n_violations(), 0);
}

void gather_matches_a_loop(void**) {
    Rng rng(test_seed());
    for (uint64_t round = 0; round < test_rounds(50); ++round) {
        SimOs os;
        SimDevice sim(Allocator(), os, small);
        Owned<Device> host = make_host_device(Allocator(), posix_os());
        const uint64_t block = 16 * (1 + rng.below(20)), stride = block + 16 * rng.below(3), n_pool = 1 + rng.below(30),
                       n = 1 + rng.below(20);
        std::vector<unsigned char> pool(stride * n_pool), packed(block * n);
        for (auto& c : pool) c = static_cast<unsigned char>(rng.next());
        for (auto& c : packed) c = static_cast<unsigned char>(rng.next());
        std::vector<int32_t> table(n);
        std::vector<bool> used(n_pool, false);
        const bool scatter = rng.below(2);
        for (auto& b : table) {
            b = int32_t(rng.below(n_pool + 1)) - 1;
            if (scatter && b >= 0 && used[size_t(b)]) b = -1;
            if (b >= 0) used[size_t(b)] = true;
        }
        std::vector<unsigned char> want_pool = pool, want_packed = packed;
        for (size_t i = 0; i < n; ++i) {
            if (table[i] < 0) continue;
            unsigned char* in_pool = &want_pool[size_t(table[i]) * stride];
            if (scatter)
                std::memcpy(in_pool, &packed[i * block], block);
            else
                std::memcpy(&want_packed[i * block], in_pool, block);
        }
        for (Device* d : {static_cast<Device*>(&sim), host.get()}) {
            const DevicePtr dp = *d->alloc(pool.size()), dq = *d->alloc(packed.size()), dt = *d->alloc(4 * n);
            const EventId e = *d->event_create();
            d->copy_in(dp, pool.data(), pool.size(), 0);
            d->copy_in(dq, packed.data(), packed.size(), 0);
            d->copy_in(dt, table.data(), 4 * n, 0);
            assert_int_equal(d->gather({dp, dq, dt, block, stride, uint32_t(n), scatter}, 0), LARDER_OK);
            std::vector<unsigned char> got_pool(pool.size()), got_packed(packed.size());
            d->copy_out(got_pool.data(), dp, pool.size(), 0);
            d->copy_out(got_packed.data(), dq, packed.size(), 0);
            d->event_record(e, 0);
            assert_int_equal(d->event_wait(e), LARDER_OK);
            assert_memory_equal(got_pool.data(), want_pool.data(), pool.size());
            assert_memory_equal(got_packed.data(), want_packed.data(), packed.size());
            d->event_destroy(e);
            d->free(dp, pool.size()), d->free(dq, packed.size()), d->free(dt, 4 * n);
            assert_int_equal(d->gather({8, 0, 0, 16, 16, 1, false}, 0), LARDER_E_INVALID);
        }
        assert_int_equal(sim.n_violations(), 0);
        assert_int_equal(sim.n_live(), 0);
    }
}

void faults_are_statuses(void**) {
    FaultAllocator memory;
    SimOs os;
    {
        SimDevice d(Allocator(*memory.raw()), os, small);
        d.fail_at(SimDevice::Fault::memory, 2, false);
        const DevicePtr p = *d.alloc(100);
        assert_int_equal(d.alloc(100).status(), LARDER_E_DEVICE_NOMEM);
        d.fail_at(SimDevice::Fault::call, 1, true);
        assert_int_equal(d.fill_zero(p, 100, 0), LARDER_E_DEVICE);
        assert_int_equal(d.stream_create().status(), LARDER_E_DEVICE);
        d.fail_at(SimDevice::Fault::lost, 1, false);
        assert_int_equal(d.fill_zero(p, 100, 0), LARDER_E_DEVICE_LOST);
        assert_int_equal(d.fill_zero(p, 100, 0), LARDER_E_DEVICE_LOST);
        assert_int_equal(d.alloc(100).status(), LARDER_E_DEVICE_LOST);
        d.free(p, 100);
        assert_int_equal(d.n_live(), 0);
    }
    // Each allocation of the device's own structures fails once.
    for (uint64_t n = 1, fired = 1; fired; ++n) {
        memory.arm(n, false);
        try {
            SimDevice d(Allocator(*memory.raw()), os, small);
            const auto p = d.alloc(100);
            if (p.ok()) {
                const auto s = d.stream_create();
                if (s.ok()) d.copy(*p, *p + 50, 50, *s);
                d.free(*p, 100);
            }
        } catch (const std::bad_alloc&) {
        }
        fired = memory.fired();
        memory.disarm();
        assert_int_equal(memory.n_live(), 0);
        assert_int_equal(memory.n_mismatches(), 0);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(work_takes_its_time),           cmocka_unit_test(gates_hold_streams),
        cmocka_unit_test(mapping_follows_the_rules),     cmocka_unit_test(missing_events_are_seen),
        cmocka_unit_test(shared_reads_are_no_violation), cmocka_unit_test(gather_matches_a_loop),
        cmocka_unit_test(faults_are_statuses),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
