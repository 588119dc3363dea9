#include "support/fault_loop.h"

#include <algorithm>
#include <cstdio>

#include "support/cmocka.h"
#include "support/seed.h"
#include "support/temp_dir.h"

using namespace larder;

namespace {

struct Injection {
    int cls;  // -1: allocations, otherwise a FaultClass
    uint64_t nth;
    bool sticky;
};

void describe(const FaultCase& c, const Injection& in, const char* what) {
    print_error("%s: %s; %s %llu failing %s (LARDER_SEED=%llu)\n", c.name, what,
                in.cls < 0 ? "allocation" : fault_class_name(FaultClass(in.cls)), (unsigned long long)in.nth,
                in.sticky ? "for ever" : "once", (unsigned long long)test_seed());
}

bool is_allowed(const FaultCase& c, const Injection& in, larder_status s) {
    if (s >= 0) return true;
    if (in.cls < 0 ? s == LARDER_E_NOMEM : s == fault_class_status(FaultClass(in.cls))) return true;
    return std::find(c.also_allowed.begin(), c.also_allowed.end(), s) != c.also_allowed.end();
}

// True when the fault was reached.
bool run_once(const FaultCase& c, const Injection& in) {
    FaultAllocator memory;
    SimOs sim(test_seed());
    FaultOs os(c.simulated ? static_cast<Os&>(sim) : posix_os());
    std::unique_ptr<TempDir> temp;
    if (!c.simulated) temp = std::make_unique<TempDir>("/dev/shm");
    FaultEnv env{memory, os, c.simulated ? &sim : nullptr, c.simulated ? "/data" : temp->path(), nullptr};
    if (c.simulated) sim.make_dir("/data"), sim.sync_dir("/");

    c.prep(env);
    if (in.cls < 0)
        memory.arm(in.nth, in.sticky);
    else
        os.arm({.classes = FaultPlan::bit(FaultClass(in.cls)), .nth = in.nth, .sticky = in.sticky});
    const larder_status status = c.body(env);
    const bool fired = memory.fired() || os.fired();
    memory.disarm();
    os.disarm();

    bool good = true;
    if (!fired && is_error(status)) describe(c, in, "failed without a fault"), good = false;
    if (!is_allowed(c, in, status)) {
        char what[400];
        std::snprintf(what, sizeof what, "status E_%d is not documented for this fault (%s)", int(-status),
                      last_error().message);
        describe(c, in, what), good = false;
    }
    c.verdict(env, status);
    env.state.reset();
    if (memory.n_mismatches())
        describe(c, in, "memory was freed with another size than it was made with"), good = false;
    if (memory.n_live()) {
        char what[100];
        std::snprintf(what, sizeof what, "%llu pieces of memory leaked, %llu bytes",
                      (unsigned long long)memory.n_live(), (unsigned long long)memory.live_bytes());
        describe(c, in, what), good = false;
    }
    if (os.n_live()) {
        char what[100];
        std::snprintf(what, sizeof what, "%lld handles, rings, threads or reservations leaked", (long long)os.n_live());
        describe(c, in, what), good = false;
    }
    assert_true(good);
    return fired;
}

}  // namespace

larder_status FaultEnv::make_context(larder_context** out) {
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.allocator = memory.raw();
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    o.seed = test_seed();
    try {
        return larder_context::create(&o, os, out);
    } catch (const std::bad_alloc&) {
        return LARDER_E_NOMEM;
    }
}

void FaultEnv::ContextCloser::operator()(larder_context* c) const {
    const larder_status s = larder_context_destroy(c);
    if (s < 0) print_error("a context could not be destroyed: %s\n", last_error().message);
    assert_int_equal(s, LARDER_OK);
}

larder_status FaultEnv::make_context(Context& out) {
    larder_context* c = nullptr;
    LARDER_TRY(make_context(&c));
    out.reset(c);
    return LARDER_OK;
}

std::vector<FaultClass> FaultCase::default_classes() {
    std::vector<FaultClass> all;
    for (size_t i = 0; i < n_fault_classes; ++i)
        if (FaultClass(i) != FaultClass::socket) all.push_back(FaultClass(i));
    return all;
}

void run_fault_loop(const FaultCase& c) {
    const uint64_t dense = test_percent();  // so many are tried one by one
    std::vector<int> classes{-1};
    for (FaultClass f : c.classes) classes.push_back(int(f));
    for (int cls : classes)
        for (bool sticky : {false, true})
            for (uint64_t n = 1; run_once(c, {cls, n, sticky});) {
                n += test_long() ? 1 : n < dense ? 1 : std::max<uint64_t>(1, n * 100 / (32 * test_percent()));
                if (n > 1000000) {
                    describe(c, {cls, n, sticky}, "does not end");
                    assert_true(false);
                }
            }
}
