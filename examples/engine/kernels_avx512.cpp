#define ENGINE_WIDTH 16
#define ENGINE_TILE 8
#include "kernels_body.h"

namespace engine {

extern const Kernels kernels_avx512;
const Kernels kernels_avx512 = {"avx512", product, norm, swiglu, attend, to_half, to_float};

}  // namespace engine
