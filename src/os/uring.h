// An IoRing over io_uring.
#pragma once

#include "os/os.h"

namespace larder {

// E_UNSUPPORTED when the kernel, a sandbox or a limit does not let a real request through.
Result<Owned<IoRing>> make_uring(const Allocator& a, uint32_t depth);

// A ring that carries requests out with pread and pwrite on a few threads.
Result<Owned<IoRing>> make_thread_ring(const Allocator& a, Os& os, uint32_t depth);

}  // namespace larder
