// The kernels for AVX-512. GCC 12 takes the undefined pass-through operands of its own intrinsics for uninitialised
// variables.
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "base/numeric.h"
#include "codec/kernels.h"

namespace larder {
namespace {

#include "codec/kernels_body.h"
#include "codec/kernels_x86.h"
#include "codec/restore_avx512.h"

}  // namespace

const Kernels kernels_avx512 = {
    rans_decode_avx512, rans_encode_avx512, to_f32_x86,      from_f32_x86,      transpose8_x86,
    split_x86,          join_x86,           restore_avx512,  classify_x86,      declassify_x86,
    find_escapes_x86,   scales_to_f32_body, group_range_x86, column_range_body, quantize_x86,
    dequantize_x86,     mix_body,           rotate_x86,      pack_body,         unpack_body,
};

}  // namespace larder
