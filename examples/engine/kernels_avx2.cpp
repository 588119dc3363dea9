#define ENGINE_WIDTH 8
#define ENGINE_TILE 4
#include "kernels_body.h"

namespace engine {

extern const Kernels kernels_avx2;
const Kernels kernels_avx2 = {"avx2", product, norm, swiglu, attend, to_half, to_float};

}  // namespace engine
