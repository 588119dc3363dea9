// Entry points of the kernels; the bodies are headers under kernels/ that the host compiles too.
#include "../kernels/gather_blocks.h"

extern "C" __global__ void __launch_bounds__(larder::tile::gather_threads)
    larder_gather_blocks(const larder::tile::GatherArgs args) {
    __shared__ larder::tile::GpuBlock::Shared<int32_t, larder::tile::gather_table_entries> numbers;
    larder::tile::GpuBlock block;
    larder::tile::gather_blocks(block, numbers, args);
}
