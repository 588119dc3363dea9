// The portable kernels: the oracle that every other instruction set must equal, and what other processors run.
#include "base/numeric.h"
#include "codec/kernels.h"

namespace larder {
namespace {

#include "codec/kernels_body.h"

void rans_decode_all(RansJob* const* jobs, uint32_t n_jobs) noexcept {
    for (uint32_t i = 0; i < n_jobs; ++i) rans_decode_scalar(*jobs[i], 0);
}

}  // namespace

const Kernels kernels_scalar = {
    rans_decode_all,   rans_encode_scalar, to_f32_body,      from_f32_body,     transpose8_body,
    split_body,        join_body,          nullptr,          classify_body,     declassify_body,
    find_escapes_body, scales_to_f32_body, group_range_body, column_range_body, quantize_body,
    dequantize_body,   mix_body,           rotate_body,      pack_body,         unpack_body,
};

const Kernels& kernels(IsaLevel level) noexcept {
#if defined(__x86_64__)
    const IsaLevel have = cpu_isa_level();
    if (level > have) level = have;
    if (level == IsaLevel::avx512) return kernels_avx512;
    if (level == IsaLevel::avx2) return kernels_avx2;
#endif
    (void)level;
    return kernels_scalar;
}

}  // namespace larder
