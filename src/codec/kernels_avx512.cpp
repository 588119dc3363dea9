// The same kernels for AVX512.
#include "codec/kernels.h"
#include "codec/numeric.h"

namespace larder {
namespace {

#include "codec/kernels_body.h"

void rans_decode_all(RansJob* const* jobs, uint32_t n_jobs) noexcept {
    for (uint32_t i = 0; i < n_jobs; ++i) rans_decode_scalar(*jobs[i], 0);
}

} // namespace

const Kernels kernels_avx512 = {
    rans_decode_all, rans_encode_scalar, to_f32_body,       from_f32_body,     transpose8_body, split_body, join_body, classify_body,
    declassify_body, group_range_body,   column_range_body, quantize_body, dequantize_body, rotate_body, pack_body,  unpack_body,
};

} // namespace larder
