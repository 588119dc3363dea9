// The kernels for AVX2.
#include <immintrin.h>

#include "base/numeric.h"
#include "codec/kernels.h"

namespace larder {
namespace {

#include "codec/kernels_body.h"
#include "codec/kernels_x86.h"

}  // namespace

const Kernels kernels_avx2 = {
    rans_decode_avx2, rans_encode_avx2,   to_f32_x86,      from_f32_x86,      transpose8_x86,
    split_x86,        join_x86,           nullptr,         classify_x86,      declassify_x86,
    find_escapes_x86, scales_to_f32_body, group_range_x86, column_range_body, quantize_x86,
    dequantize_x86,   mix_body,           rotate_x86,      pack_body,         unpack_body,
};

}  // namespace larder
