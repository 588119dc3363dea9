// Which instruction sets this processor has; the choice is made once per call site and never changes any bit of a
// result.
#pragma once

#include <sched.h>

namespace larder {

// The CPU this thread runs on now: a hint for choosing a stripe, never for correctness. A load from the thread's
// restartable-sequence area, not a system call.
inline unsigned current_cpu() noexcept {
    const int cpu = sched_getcpu();
    return cpu < 0 ? 0 : unsigned(cpu);
}

enum class IsaLevel : int { scalar = 0, avx2 = 1, avx512 = 2 };  // avx512: F, BW, DQ, VL, VBMI

inline IsaLevel cpu_isa_level() noexcept {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi"))
        return IsaLevel::avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        return IsaLevel::avx2;
#endif
    return IsaLevel::scalar;
}

}  // namespace larder
