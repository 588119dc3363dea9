#include "base/alloc.h"

#include <cstddef>
#include <cstdlib>

namespace larder {
namespace {

void* system_alloc(void*, uint64_t n_bytes, uint64_t align) {
    if (align <= alignof(std::max_align_t)) return std::malloc(n_bytes ? n_bytes : 1);
    return std::aligned_alloc(align, (n_bytes + align - 1) / align * align);
}

void system_free(void*, void* p, uint64_t, uint64_t) {
    std::free(p);
}

}  // namespace

Allocator::Allocator() noexcept : raw_{sizeof(larder_allocator), 0, nullptr, system_alloc, system_free} {}

}  // namespace larder
