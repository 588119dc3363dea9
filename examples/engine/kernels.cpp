#include "kernels.h"

#include <initializer_list>

namespace engine {

extern const Kernels kernels_baseline;
#if defined(__x86_64__)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif

const Kernels* kernels_for(Isa isa) noexcept {
    switch (isa) {
    case Isa::baseline:
        return &kernels_baseline;
#if defined(__x86_64__)
    case Isa::avx2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c") ? &kernels_avx2 : nullptr;
    case Isa::avx512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("f16c")
                   ? &kernels_avx512
                   : nullptr;
#endif
    default:
        return nullptr;
    }
}

const Kernels& kernels() noexcept {
    for (Isa isa : {Isa::avx512, Isa::avx2})
        if (const Kernels* k = kernels_for(isa)) return *k;
    return kernels_baseline;
}

}  // namespace engine
