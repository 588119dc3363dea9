#define ENGINE_WIDTH 4
#define ENGINE_TILE 2
#include "kernels_body.h"

namespace engine {

extern const Kernels kernels_baseline;
const Kernels kernels_baseline = {"baseline", product, norm, swiglu, attend, to_half, to_float};

}  // namespace engine
