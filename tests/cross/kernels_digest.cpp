// The kernels of the processor that this is built for: 0 when they give the pinned bytes.
#include <cinttypes>

#include "support/kernel_cases.h"

int main() {
    const uint64_t got = kernel_cases::digest(larder::kernels(larder::IsaLevel::avx512));
    std::printf("%#018" PRIx64 "\n", got);
    return got != kernel_cases::pinned_digest;
}
