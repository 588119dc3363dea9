// The fence between the C ABI and C++: exceptions stop here, handles are checked here.
#pragma once

#include <new>

#include "base/options.h"
#include "base/result.h"

#define LARDER_API_BEGIN try {
#define LARDER_API_END                                                                                                 \
    }                                                                                                                  \
    catch (const std::bad_alloc&) {                                                                                    \
        return ::larder::fail(LARDER_E_NOMEM, "", "the allocator gave no memory");                                     \
    }                                                                                                                  \
    catch (...) {                                                                                                      \
        return ::larder::fail(LARDER_E_INTERNAL, "", "an unexpected exception");                                       \
    }

// The argument must not be NULL.
#define LARDER_API_NONNULL(arg)                                                                                        \
    do {                                                                                                               \
        if (!(arg)) return ::larder::fail(LARDER_E_INVALID, #arg, #arg " is NULL");                                    \
    } while (0)
