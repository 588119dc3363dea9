// The kernel vocabulary: one source for the GPU and for the host.
//
// A kernel body is a function template over a Block. It is written in phases: block.phase(f) runs f(thread) for each
// thread of the block and then waits for all of them. On the GPU that is f(threadIdx.x) and a barrier; on the host
// (tile/host_block.h) a loop in a permuted order, with a check of shared memory. So a body can be tested, sanitised and
// fuzzed without a GPU, and a missing barrier shows as a race.
#pragma once

#include <cstdint>

#if defined(__CUDACC__) || defined(__HIPCC__)
#define LARDER_TILE __host__ __device__ inline
#else
#define LARDER_TILE inline
#endif

namespace larder::tile {

// What one thread moves at a time.
struct alignas(16) Vector16 {
    uint32_t w[4];
};

#if defined(__CUDACC__) || defined(__HIPCC__)
class GpuBlock {
  public:
    // Memory of the block. The thread is named at each access so that the host can check.
    template <class T, int n> class Shared {
      public:
        __device__ T load(int, int i) const { return v_[i]; }
        __device__ void store(int, int i, T x) { v_[i] = x; }

      private:
        T v_[n];
    };
    __device__ int64_t index() const { return blockIdx.x; }
    __device__ int n_threads() const { return int(blockDim.x); }
    template <class F> __device__ void phase(F f) {
        f(int(threadIdx.x));
        __syncthreads();
    }
};
#endif

}  // namespace larder::tile
