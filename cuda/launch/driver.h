// The CUDA driver, found at run time: libcuda.so.1 is opened, never linked.
#pragma once

#include <cuda.h>

namespace larder_cuda {

// clang-format off
// X(name): the driver functions that are used, under their plain names.
#define LARDER_CUDA_DRIVER(X) \
    X(cuInit) X(cuDeviceGetCount) X(cuDeviceGet) X(cuDeviceGetName) X(cuDeviceTotalMem) \
    X(cuDeviceGetAttribute) X(cuDevicePrimaryCtxRetain) X(cuDevicePrimaryCtxRelease) X(cuCtxPushCurrent) \
    X(cuCtxPopCurrent) X(cuGetErrorString) X(cuMemAlloc) X(cuMemFree) X(cuMemAddressReserve) \
    X(cuMemAddressFree) X(cuMemCreate) X(cuMemRelease) X(cuMemMap) X(cuMemUnmap) X(cuMemSetAccess) \
    X(cuMemGetAllocationGranularity) X(cuStreamCreate) X(cuStreamDestroy) X(cuStreamWaitEvent) \
    X(cuStreamSynchronize) X(cuEventCreate) X(cuEventDestroy) X(cuEventRecord) X(cuEventQuery) \
    X(cuEventSynchronize) X(cuMemcpyHtoDAsync) X(cuMemcpyDtoHAsync) X(cuMemcpyDtoDAsync) X(cuMemsetD8Async) \
    X(cuModuleLoadData) X(cuModuleUnload) X(cuModuleGetFunction) X(cuMemHostAlloc) \
    X(cuMemHostGetDevicePointer) X(cuMemFreeHost) X(cuStreamWaitValue32) X(cuLaunchKernel)
// clang-format on

struct Driver {
#define LARDER_CUDA_MEMBER(name) decltype(&::name) name##_;
    LARDER_CUDA_DRIVER(LARDER_CUDA_MEMBER)
#undef LARDER_CUDA_MEMBER
    int n_devices;
};

// The driver, initialised, or NULL when there is none, it is too old, or it has no device. Asked for once.
const Driver* driver() noexcept;

}  // namespace larder_cuda
