/** @file status.h
 *  @brief Status codes and error detail.
 *
 *  The numbers are pinned for ever. Their range tells the caller what to throw away:
 *  -1..-99 the request (nothing else is harmed), -100..-199 the object (destroy this handle), -200..-299 the device,
 *  -300..-399 the context, -400..-499 stored data (a file, a stream, a record: the rest of the store goes on).
 */
#ifndef LARDER_STATUS_H
#define LARDER_STATUS_H

#include "larder/base.h"

LARDER_EXTERN_C_BEGIN

typedef int32_t larder_status;

/** X(NAME, number, text): the one list from which constants, names and docs are made. */
#define LARDER_STATUS_MAP(X)                                                                                           \
    X(OK, 0, "success")                                                                                                \
    X(PENDING, 1, "accepted; the result arrives later")                                                                \
    X(PARTIAL, 2, "done in part; look at the item statuses or the count")                                              \
    X(MISS, 3, "not there; a normal answer of a cache")                                                                \
    X(RETRY, 4, "on its way by somebody else; ask again")                                                              \
    X(E_INVALID, -1, "an argument is not valid")                                                                       \
    X(E_TOO_NEW, -2, "a struct carries fields that this library does not know")                                        \
    X(E_RANGE, -3, "a number is outside its range")                                                                    \
    X(E_UNSUPPORTED, -4, "not supported by this build, device or version")                                             \
    X(E_STALE, -5, "an id that is not, or no longer, valid")                                                           \
    X(E_NOT_FOUND, -6, "no such thing")                                                                                \
    X(E_EXISTS, -7, "it exists already")                                                                               \
    X(E_BUSY, -8, "in use; try again after its user is done")                                                          \
    X(E_NOSPACE, -9, "the budget or pool is full and nothing can be evicted")                                          \
    X(E_BUFFER_TOO_SMALL, -10, "the caller's buffer is too small; the needed size was returned")                       \
    X(E_TIMEOUT, -11, "the time given ran out")                                                                        \
    X(E_CANCELLED, -12, "cancelled before it was done")                                                                \
    X(E_PERMISSION, -13, "not allowed")                                                                                \
    X(E_QUOTA, -14, "the tenant's quota is used up")                                                                   \
    X(E_NOMEM, -15, "the allocator or the system gave no memory")                                                      \
    X(E_STATE, -16, "not legal in this state")                                                                         \
    X(E_CAPTURE, -17, "not legal while the stream is being captured")                                                  \
    X(E_CLOSED, -100, "the handle was destroyed or is not a handle")                                                   \
    X(E_BROKEN, -101, "an earlier failure left this object unusable")                                                  \
    X(E_PEER_DEAD, -102, "the process on the other side is gone")                                                      \
    X(E_DEVICE, -200, "the device reported an error")                                                                  \
    X(E_DEVICE_LOST, -201, "the device is gone")                                                                       \
    X(E_DEVICE_NOMEM, -202, "the device has no memory left")                                                           \
    X(E_NO_DEVICE, -203, "no such device, or its plug-in or driver is absent")                                         \
    X(E_FORKED, -300, "used in a child process after fork")                                                            \
    X(E_SYSTEM, -301, "the operating system refused; see os_errno")                                                    \
    X(E_INTERNAL, -399, "a bug in Larder")                                                                             \
    X(E_CORRUPT, -400, "a checksum or an invariant of stored data does not hold")                                      \
    X(E_FORMAT, -401, "not a file or stream of this kind")                                                             \
    X(E_VERSION, -402, "written by a newer, incompatible version")                                                     \
    X(E_IDENTITY, -403, "belongs to another model, layout, tenant or key")                                             \
    X(E_TRUNCATED, -404, "ends before its stated length")                                                              \
    X(E_IO, -405, "reading or writing failed; see os_errno")                                                           \
    X(E_DISK_FULL, -406, "the file system is full")                                                                    \
    X(E_READ_ONLY, -407, "the directory or file is read-only")                                                         \
    X(E_IN_USE, -408, "in use by another process")                                                                     \
    X(E_MISSING_PROFILE, -409, "the stream names a profile that is not registered")

enum {
#define LARDER_STATUS_ENUM(name, number, text) LARDER_##name = number,
    LARDER_STATUS_MAP(LARDER_STATUS_ENUM)
#undef LARDER_STATUS_ENUM
};

/** Detail of the last failure on the calling thread. Filled by larder_last_error(). */
typedef struct larder_error_info {
    uint32_t struct_size;
    larder_status status;
    int32_t os_errno;    /**< errno of the system call, or 0 */
    int32_t device_code; /**< the device's own code, or 0 */
    char field[64];      /**< the option, argument or file section at fault, or "" */
    char message[256];   /**< one English sentence, NUL-terminated */
} larder_error_info;

#define LARDER_ERROR_INFO_INIT                                                                                         \
    { sizeof(larder_error_info), 0, 0, 0, "", "" }

/** Copy the detail of the most recent failed call on this thread. Successful calls leave it alone.
 *  @param out  the caller sets struct_size; filled to that size. NULL is LARDER_E_INVALID.
 *  @return LARDER_OK; LARDER_E_INVALID when out is NULL or its struct_size is below 8.
 *  @threads any, each thread has its own  @blocking never  @since 0.1 */
LARDER_API larder_status larder_last_error(larder_error_info* out) LARDER_NOEXCEPT;

/** The constant's name without its prefix, such as "E_STALE"; "UNKNOWN" for a number that is not a status.
 *  Static storage.  @threads any  @since 0.1 */
LARDER_API const char* larder_status_name(larder_status status) LARDER_NOEXCEPT;

/** One line of English for a status. Static storage.  @threads any  @since 0.1 */
LARDER_API const char* larder_status_text(larder_status status) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
