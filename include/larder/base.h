/** @file base.h
 *  @brief Types, allocator and version: what every other header of Larder builds on.
 *
 *  Larder is one shared library with a C11 interface. Conventions that hold everywhere:
 *  - A function that can fail returns a larder_status (status.h): 0 is OK, negative an error, positive "not an error,
 * look".
 *  - An option struct begins with its own size; zero means "default" for every field; NULL means all defaults.
 *  - A handle is an opaque pointer. Destroying NULL is allowed. Nothing that Larder returns is freed by the caller
 *    except through the destroy or close function of its own handle.
 *  - A const handle may be used by many threads at once; so may any handle whose functions say "internally
 * synchronised".
 *  - Not repeated at each function: LARDER_E_INVALID when a handle or pointer that must be given is NULL, when a
 *    reserved member is not zero, when a struct_size is too small; LARDER_E_TOO_NEW when a struct has fields that this
 *    library does not know and they are not zero; LARDER_E_RANGE when the stride of an array is out of range;
 *    LARDER_E_NOMEM where something is allocated; in debug builds LARDER_E_CLOSED for a destroyed handle.
 *  - Arrays are as long as their count says: Larder cannot check that.
 *  - Handles do not survive fork(): in the child every call returns LARDER_E_FORKED.
 */
#ifndef LARDER_BASE_H
#define LARDER_BASE_H

#include <stddef.h>
#include <stdint.h>

#if defined(LARDER_STATIC)
#define LARDER_API
#elif defined(__GNUC__)
#define LARDER_API __attribute__((visibility("default")))
#else
#define LARDER_API
#endif

#ifdef __cplusplus
#define LARDER_NOEXCEPT noexcept
#define LARDER_EXTERN_C_BEGIN extern "C" {
#define LARDER_EXTERN_C_END }
#else
#define LARDER_NOEXCEPT
#define LARDER_EXTERN_C_BEGIN
#define LARDER_EXTERN_C_END
#endif

/** Version of the headers. The library's own is larder_version(). */
#define LARDER_VERSION_MAJOR 0
#define LARDER_VERSION_MINOR 1
#define LARDER_VERSION_PATCH 0
#define LARDER_VERSION_HEX ((LARDER_VERSION_MAJOR << 16) | (LARDER_VERSION_MINOR << 8) | LARDER_VERSION_PATCH)

LARDER_EXTERN_C_BEGIN

/** Opaque 64-bit id: kind (4 bits), index (28), generation (32). 0 is never a valid id. A stale or foreign id
 *  is answered by LARDER_E_STALE, never by undefined behaviour. */
typedef uint64_t larder_id;

/** A sequence: one request's tokens and their blocks (kv.h, arena.h). */
typedef larder_id larder_seq;
/** A block of an arena (arena.h). */
typedef larder_id larder_block;
/** An asynchronous job (job.h). */
typedef larder_id larder_job;
/** A lease on matched blocks (kv.h, prefix.h). */
typedef larder_id larder_lease;

/** A content key: 256 bits, opaque, compared whole. Made by prefix.h or supplied by the caller. */
typedef struct larder_key {
    uint8_t bytes[32];
} larder_key;

/** A borrowed range of bytes. */
typedef struct larder_span {
    const void* data;
    uint64_t n_bytes;
} larder_span;

/** Memory for Larder's own structures. Large arenas and slabs come from the operating system, not from here.
 *  alloc returns NULL when there is no memory (never throws, never longjmps); align is a power of two.
 *  free receives the same size and alignment that alloc was given.
 *  @threads Both functions are called from any thread at once, Larder's workers included. */
typedef struct larder_allocator {
    uint32_t struct_size;
    uint32_t reserved0;
    void* ctx;
    void* (*alloc)(void* ctx, uint64_t n_bytes, uint64_t align);
    void (*free)(void* ctx, void* ptr, uint64_t n_bytes, uint64_t align);
} larder_allocator;

#define LARDER_ALLOCATOR_INIT                                                                                          \
    { sizeof(larder_allocator), 0, 0, 0, 0 }

/** The library's version as (major << 16 | minor << 8 | patch).
 *  @threads any  @blocking never  @since 0.1 */
LARDER_API uint32_t larder_version(void) LARDER_NOEXCEPT;

/** The library's version as text, such as "0.1.0". Static storage, never freed.
 *  @threads any  @blocking never  @since 0.1 */
LARDER_API const char* larder_version_string(void) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
