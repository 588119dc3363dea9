// LARDER_ASSERT: an invariant that the code itself guarantees. Checked in debug and sanitizer builds only; the library
// never aborts in a release build.
#pragma once

#if defined(LARDER_DEBUG)
#define LARDER_ASSERT(cond) ((cond) ? (void)0 : __builtin_trap())
#else
#define LARDER_ASSERT(cond) ((void)sizeof(!(cond)))
#endif
