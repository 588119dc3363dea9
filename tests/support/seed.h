// The seed of a test run and how long it may take, from the environment.
#pragma once

#include <cstdint>

// LARDER_SEED when set, otherwise a fresh one; printed once.
uint64_t test_seed();
// LARDER_LONG is set: spend minutes instead of seconds.
bool test_long();
// `n` rounds by default, twenty times as many in a long run.
inline uint64_t test_rounds(uint64_t n) { return test_long() ? 20 * n : n; }
