#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "os/errno_status.h"
#include "os/posix.h"

namespace larder {
namespace {

larder_status path_error(const char* what, const char* path) noexcept {
    const int error = errno;
    return fail_os(file_status(error), error, "path", "%s %s: %s", what, path, std::strerror(error));
}

larder_status handle_error(const char* what) noexcept {
    const int error = errno;
    return fail_os(file_status(error), error, "", "%s: %s", what, std::strerror(error));
}

template <class F> auto retry(F f) noexcept {
    auto r = f();
    while (r < 0 && errno == EINTR) r = f();
    return r;
}

// The unit of direct transfers, found by trying: a file system may accept the flag and then refuse each transfer.
uint32_t probe_direct(int fd, bool readable) noexcept {
#if defined(STATX_DIOALIGN)
    struct statx sx;
    if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 && sx.stx_mask & STATX_DIOALIGN) {
        const uint32_t unit = std::max(sx.stx_dio_mem_align, sx.stx_dio_offset_align);
        if (!sx.stx_dio_offset_align || unit > 65536 || unit & (unit - 1)) return 0;
        return std::max(unit, 4096u);
    }
#endif
    if (!readable) return 4096;
    alignas(4096) static thread_local std::byte page[4096];
    return retry([&] { return ::pread(fd, page, sizeof page, 0); }) < 0 ? 0 : 4096;
}

}  // namespace

Result<OpenFile> PosixOs::open(const char* path, uint32_t flags) {
    const bool readable = flags & open_flag::read, writable = flags & open_flag::write;
    int f = O_CLOEXEC | O_NOCTTY | (writable ? readable ? O_RDWR : O_WRONLY : O_RDONLY);
    if (flags & open_flag::create) f |= O_CREAT;
    if (flags & open_flag::exclusive) f |= O_EXCL;
    if (flags & open_flag::truncate) f |= O_TRUNC;
    OpenFile out;
    int fd = retry([&] { return ::open(path, f, 0600); });
    if (fd < 0) return path_error("cannot open", path);
    out.handle.value = fd;
    struct stat st;
    if (::fstat(fd, &st) != 0) {
        const larder_status status = path_error("cannot read the size of", path);
        ::close(fd);
        return status;
    }
    out.n_bytes = uint64_t(st.st_size);
    // Switched on afterwards: tmpfs and some overlays refuse O_DIRECT, and then buffered I/O is what there is.
    if (flags & open_flag::direct && S_ISREG(st.st_mode)) {
        const int now = ::fcntl(fd, F_GETFL);
        if (now >= 0 && ::fcntl(fd, F_SETFL, now | O_DIRECT) == 0) {
            out.direct_align = probe_direct(fd, readable);
            if (!out.direct_align) ::fcntl(fd, F_SETFL, now);
        }
    }
    return out;
}

void PosixOs::close(OsHandle h) noexcept {
    // Not repeated on EINTR: on Linux the descriptor is gone by then.
    if (h.valid()) ::close(h.value);
}

Result<uint64_t> PosixOs::size(OsHandle h) {
    struct stat st;
    if (::fstat(h.value, &st) != 0) return handle_error("cannot read the size of a file");
    return uint64_t(st.st_size);
}

larder_status PosixOs::truncate(OsHandle h, uint64_t n_bytes) {
    return retry([&] { return ::ftruncate(h.value, off_t(n_bytes)); }) == 0
               ? LARDER_OK
               : handle_error("cannot change the size of a file");
}

larder_status PosixOs::allocate(OsHandle h, uint64_t offset, uint64_t n_bytes) {
    return retry([&] { return ::fallocate(h.value, 0, off_t(offset), off_t(n_bytes)); }) == 0
               ? LARDER_OK
               : handle_error("cannot reserve disk space");
}

larder_status PosixOs::read_all(OsHandle h, void* buffer, size_t n_bytes, uint64_t offset) {
    auto* p = static_cast<std::byte*>(buffer);
    while (n_bytes) {
        const ssize_t n = retry([&] { return ::pread(h.value, p, n_bytes, off_t(offset)); });
        if (n < 0) return handle_error("cannot read a file");
        if (n == 0) return fail(LARDER_E_TRUNCATED, "", "the file ends %zu bytes before the end of the range", n_bytes);
        p += n, offset += uint64_t(n), n_bytes -= size_t(n);
    }
    return LARDER_OK;
}

larder_status PosixOs::write_all(OsHandle h, const void* buffer, size_t n_bytes, uint64_t offset) {
    auto* p = static_cast<const std::byte*>(buffer);
    while (n_bytes) {
        const ssize_t n = retry([&] { return ::pwrite(h.value, p, n_bytes, off_t(offset)); });
        if (n < 0) return handle_error("cannot write a file");
        if (n == 0) return fail_os(LARDER_E_DISK_FULL, ENOSPC, "", "a file takes no more bytes");
        p += n, offset += uint64_t(n), n_bytes -= size_t(n);
    }
    return LARDER_OK;
}

larder_status PosixOs::sync(OsHandle h) {
    if (retry([&] { return ::fdatasync(h.value); }) != 0) return handle_error("cannot make a file durable");
    struct stat st;
    if (::fstat(h.value, &st) == 0 && !st.st_nlink)
        return fail_os(LARDER_E_IO, ENOENT, "", "the file has been removed: nothing in it is durable");
    return LARDER_OK;
}

larder_status PosixOs::sync_dir(const char* path) {
    const int fd = retry([&] { return ::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
    if (fd < 0) return path_error("cannot open the directory", path);
    larder_status status = LARDER_OK;
    // Some file systems cannot sync a directory and say EINVAL; their directory changes are durable by themselves or
    // never.
    if (retry([&] { return ::fsync(fd); }) != 0 && errno != EINVAL)
        status = path_error("cannot make durable the directory", path);
    ::close(fd);
    return status;
}

larder_status PosixOs::make_dir(const char* path) {
    if (::mkdir(path, 0700) == 0) return LARDER_OK;
    if (errno == EEXIST) {
        struct stat st;
        if (::stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return LARDER_OK;
        errno = ENOTDIR;
    }
    return path_error("cannot make the directory", path);
}

Result<Vec<DirEntry>> PosixOs::list_dir(const Allocator& a, const char* path) {
    struct Closer {
        DIR* d;
        ~Closer() { ::closedir(d); }
    };
    DIR* d = ::opendir(path);
    if (!d) return path_error("cannot list", path);
    Closer closer{d};
    Vec<DirEntry> entries(a);
    for (;;) {
        errno = 0;
        const dirent* e = ::readdir(d);
        if (!e) break;
        if (!std::strcmp(e->d_name, ".") || !std::strcmp(e->d_name, "..")) continue;
        struct stat st;
        // An entry that went away in between is left out.
        if (::fstatat(::dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
        entries.push_back({String(e->d_name, a), uint64_t(st.st_size), S_ISDIR(st.st_mode)});
    }
    if (errno) return path_error("cannot list", path);
    return entries;
}

larder_status PosixOs::unlink(const char* path) {
    return ::unlink(path) == 0 || errno == ENOENT ? LARDER_OK : path_error("cannot remove", path);
}

larder_status PosixOs::rename(const char* from, const char* to) {
    return ::rename(from, to) == 0 ? LARDER_OK : path_error("cannot rename", from);
}

larder_status PosixOs::lock(OsHandle h) {
    if (retry([&] { return ::flock(h.value, LOCK_EX | LOCK_NB); }) == 0) return LARDER_OK;
    if (errno == EWOULDBLOCK) return fail_os(LARDER_E_IN_USE, errno, "", "another process or handle holds the lock");
    return handle_error("cannot lock a file");
}

Result<uint64_t> PosixOs::free_bytes(const char* path) {
    struct statvfs v;
    if (retry([&] { return ::statvfs(path, &v); }) != 0) return path_error("cannot read the free space of", path);
    return uint64_t(v.f_bavail) * v.f_frsize;
}

}  // namespace larder
