// The seed of a test run and how long it may take, from the environment.
#pragma once

#include <cstdint>

// LARDER_SEED when set, otherwise a fresh one; printed once.
uint64_t test_seed();
// LARDER_LONG is set: spend minutes instead of seconds.
bool test_long();
// LARDER_TEST_PERCENT: less work where the build is slow (sanitizers), 1 to 100.
uint64_t test_percent();
// `n` rounds by default, twenty times as many in a long run, a share of them in a slow build.
inline uint64_t test_rounds(uint64_t n) {
    const uint64_t rounds = (test_long() ? 20 * n : n) * test_percent() / 100;
    return rounds ? rounds : 1;
}
