// Every allocation and every I/O of a piece of code fails once, and then for ever.
//
// For each fault class and n = 1, 2, 3, ...: prep() builds the state without faults, body() runs with the n-th
// operation failing, verdict() looks at what is left, again without faults. The loop ends when body() got through
// before the n-th operation came. Afterwards nothing may be left: no memory, no handle.
//
//     FaultCase c;
//     c.name = "queue";
//     c.body = [](FaultEnv& env) -> larder_status { ...make a context from env, work, tear down; return the first
//     failure... }; run_fault_loop(c);
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/context.h"
#include "os/fault_os.h"
#include "os/sim_os.h"
#include "support/fault_allocator.h"

struct FaultEnv {
    FaultAllocator& memory;
    larder::FaultOs& os;
    larder::SimOs* sim;           // the simulated system below, or NULL
    std::string dir;              // an empty directory
    std::shared_ptr<void> state;  // prep's, for body and verdict; dropped before leaks are counted

    // A context over this allocator and system, without workers. The caller destroys it.
    larder_status make_context(larder_context** out);
    // The same through an owner.
    struct ContextCloser {
        void operator()(larder_context* c) const;
    };
    using Context = std::unique_ptr<larder_context, ContextCloser>;
    larder_status make_context(Context& out);
};

struct FaultCase {
    const char* name = "";
    bool simulated = true;  // SimOs below; otherwise the real system and a temporary directory
    // Classes to fail besides allocations. The default is all that have a place in a simulated system.
    std::vector<larder::FaultClass> classes = default_classes();
    // Statuses that body may return besides the injected one: those that it documents.
    std::vector<larder_status> also_allowed;
    std::function<void(FaultEnv&)> prep = [](FaultEnv&) {};
    std::function<larder_status(FaultEnv&)> body;
    std::function<void(FaultEnv&, larder_status)> verdict = [](FaultEnv&, larder_status) {};

    static std::vector<larder::FaultClass> default_classes();
};

// Fails the running cmocka test, with class, n and seed in the message, when a run misbehaves.
// Beyond the first hundred (fewer with LARDER_TEST_PERCENT), n grows by 3 % a step unless LARDER_LONG is set.
void run_fault_loop(const FaultCase& c);
