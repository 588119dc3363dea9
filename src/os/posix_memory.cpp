#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "os/posix.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace larder {
namespace {

constexpr int map_nothing = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

larder_status populate(std::byte* p, size_t n_bytes, size_t page) noexcept {
    while (::madvise(p, n_bytes, MADV_POPULATE_WRITE) != 0) {
        if (errno == EINTR || errno == EAGAIN) continue;
        if (errno != EINVAL)
            return fail_os(LARDER_E_NOMEM, errno, "", "the system could not supply %zu bytes of memory: %s", n_bytes,
                           std::strerror(errno));
        // Before Linux 5.14: touch the pages.
        for (size_t i = 0; i < n_bytes; i += page) const_cast<volatile std::byte*>(p)[i] = std::byte{0};
        break;
    }
    return LARDER_OK;
}

}  // namespace

Result<std::byte*> PosixOs::reserve(size_t n_bytes, size_t align) {
    const size_t page = topology_.page_bytes;
    if (!n_bytes || n_bytes % page || align < page || align & (align - 1))
        return fail(LARDER_E_INVALID, "n_bytes", "a reservation of %zu bytes aligned to %zu is not whole pages",
                    n_bytes, align);
    const size_t slack = align - page;
    if (n_bytes > SIZE_MAX - slack)
        return fail(LARDER_E_NOMEM, "n_bytes", "%zu bytes do not fit the address space", n_bytes);
    void* whole = ::mmap(nullptr, n_bytes + slack, PROT_NONE, map_nothing, -1, 0);
    if (whole == MAP_FAILED)
        return fail_os(LARDER_E_NOMEM, errno, "n_bytes", "%zu bytes of address space could not be reserved", n_bytes);
    // Cut the unaligned ends off.
    const auto begin = reinterpret_cast<uintptr_t>(whole), aligned = (begin + align - 1) & ~uintptr_t(align - 1);
    if (aligned != begin) ::munmap(whole, aligned - begin);
    if (const size_t tail = begin + slack - aligned) ::munmap(reinterpret_cast<void*>(aligned + n_bytes), tail);
    return reinterpret_cast<std::byte*>(aligned);
}

larder_status PosixOs::commit(std::byte* p, size_t n_bytes, uint32_t map_flags) {
    // Both calls below would wait for whoever faults memory in, even where they change nothing.
    if (!(map_flags & map_flag::usable)) {
        if (::mprotect(p, n_bytes, PROT_READ | PROT_WRITE) != 0)
            return fail_os(LARDER_E_NOMEM, errno, "n_bytes", "%zu bytes of memory could not be committed", n_bytes);
        if (map_flags & map_flag::huge) ::madvise(p, n_bytes, MADV_HUGEPAGE);
    }
    larder_status status = LARDER_OK;
    if (map_flags & map_flag::locked) {
        if (::mlock(p, n_bytes) != 0)
            status = fail_os(LARDER_E_NOMEM, errno, "locked",
                             "%zu bytes could not be locked in memory (see RLIMIT_MEMLOCK)", n_bytes);
    } else if (map_flags & map_flag::populate) {
        status = populate(p, n_bytes, topology_.page_bytes);
    }
    if (status < 0) decommit(p, n_bytes);
    return status;
}

larder_status PosixOs::decommit(std::byte* p, size_t n_bytes) {
    // A fresh mapping in place of the old one: also ends its commit charge, its locks and any memfd behind it.
    if (::mmap(p, n_bytes, PROT_NONE, map_nothing | MAP_FIXED, -1, 0) == MAP_FAILED)
        return fail_os(LARDER_E_NOMEM, errno, "", "%zu bytes could not be given back (too many mappings)", n_bytes);
    return LARDER_OK;
}

void PosixOs::release(std::byte* p, size_t n_bytes) noexcept {
    if (p) ::munmap(p, n_bytes);
}

Result<OsHandle> PosixOs::memfd(const char* name, size_t n_bytes) {
    const int fd = ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return fail_os(LARDER_E_SYSTEM, errno, "", "no shared memory: memfd_create failed: %s", std::strerror(errno));
    if (::ftruncate(fd, off_t(n_bytes)) != 0 || ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
        const int error = errno;
        ::close(fd);
        return fail_os(error == ENOMEM || error == ENOSPC ? LARDER_E_NOMEM : LARDER_E_SYSTEM, error, "n_bytes",
                       "%zu bytes of shared memory could not be made", n_bytes);
    }
    return OsHandle{fd};
}

Result<std::byte*> PosixOs::map_handle(std::byte* p, size_t n_bytes, OsHandle h, uint64_t offset, bool writable) {
    struct stat st;
    const int seals = ::fcntl(h.value, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK))
        return fail(LARDER_E_INVALID, "handle", "the shared memory is not sealed against shrinking");
    if (::fstat(h.value, &st) != 0 || offset > uint64_t(st.st_size) || n_bytes > uint64_t(st.st_size) - offset)
        return fail(LARDER_E_INVALID, "handle", "the shared memory is shorter than the range to map");
    void* m = ::mmap(p, n_bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | (p ? MAP_FIXED : 0),
                     h.value, off_t(offset));
    if (m == MAP_FAILED)
        return fail_os(LARDER_E_NOMEM, errno, "", "%zu bytes of shared memory could not be mapped: %s", n_bytes,
                       std::strerror(errno));
    return static_cast<std::byte*>(m);
}

}  // namespace larder
