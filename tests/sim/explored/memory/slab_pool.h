// Stands before the real header where the schedule explorer compiles the index a second time: slabs from the C library,
// and no more of a context than an allocator.
#pragma once

#include <cstdlib>

#include "base/alloc.h"
#include "base/result.h"

struct explored_context {
    larder::Allocator alloc;
};
#define larder_context explored_context

namespace larder {

class SlabPool {
  public:
    static constexpr size_t slab_bytes = 32 << 10;
    Result<std::byte*> take(bool) noexcept { return static_cast<std::byte*>(std::calloc(1, slab_bytes)); }
    void give_back(std::byte* p) noexcept { std::free(p); }
};

}  // namespace larder
