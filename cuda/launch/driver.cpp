#include "driver.h"

#include <dlfcn.h>

namespace larder_cuda {
namespace {

constexpr int wanted_version = 12000;  // of the entry points; a driver that is newer still has them

bool load(Driver& d) noexcept {
    void* library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return false;
    using GetProcAddress = CUresult (*)(const char*, void**, int, cuuint64_t, CUdriverProcAddressQueryResult*);
    const auto find = reinterpret_cast<GetProcAddress>(::dlsym(library, "cuGetProcAddress_v2"));
    if (!find) return false;  // before CUDA 12
#define LARDER_CUDA_FIND(name)                                                                                         \
    {                                                                                                                  \
        void* f = nullptr;                                                                                             \
        if (find(#name, &f, wanted_version, CU_GET_PROC_ADDRESS_DEFAULT, nullptr) != CUDA_SUCCESS || !f) return false; \
        d.name##_ = reinterpret_cast<decltype(d.name##_)>(f);                                                          \
    }
    LARDER_CUDA_DRIVER(LARDER_CUDA_FIND)
#undef LARDER_CUDA_FIND
    return d.cuInit_(0) == CUDA_SUCCESS && d.cuDeviceGetCount_(&d.n_devices) == CUDA_SUCCESS && d.n_devices > 0;
}

}  // namespace

const Driver* driver() noexcept {
    static Driver d{};
    static const bool good = load(d);
    return good ? &d : nullptr;
}

}  // namespace larder_cuda
