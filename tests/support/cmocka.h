/* cmocka with the headers that it wants before itself, for C and C++. */
#ifndef LARDER_TEST_CMOCKA_H
#define LARDER_TEST_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#include <cmocka.h>
}
#else
#include <cmocka.h>
#endif

/* Its macro of this name would swallow larder::fail() and std::ios::fail(). */
#undef fail

#endif
