#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "os/posix.h"

namespace larder {
namespace {

constexpr size_t max_passed = 64;

larder_status socket_error(int error, const char* what) noexcept {
    larder_status status = LARDER_E_SYSTEM;
    if (error == EPIPE || error == ECONNRESET || error == ECONNREFUSED || error == ENOTCONN)
        status = LARDER_E_PEER_DEAD;
    if (error == ENOENT) status = LARDER_E_NOT_FOUND;
    if (error == EACCES || error == EPERM) status = LARDER_E_PERMISSION;
    if (error == EADDRINUSE) status = LARDER_E_IN_USE;
    return fail_os(status, error, "", "%s: %s", what, std::strerror(error));
}

larder_status make_address(const char* path, sockaddr_un& out, socklen_t& out_len) noexcept {
    const size_t n = std::strlen(path);
    out = {};
    out.sun_family = AF_UNIX;
    if (!n || n >= sizeof out.sun_path)
        return fail(LARDER_E_INVALID, "path", "a socket path has 1 to %zu bytes, not %zu", sizeof out.sun_path - 1, n);
    std::memcpy(out.sun_path, path, n);
    if (path[0] == '@') out.sun_path[0] = 0;
    out_len = socklen_t(offsetof(sockaddr_un, sun_path) + n + (path[0] == '@' ? 0 : 1));
    return LARDER_OK;
}

Result<OsHandle> make_socket() noexcept {
    const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0) return socket_error(errno, "no socket");
    return OsHandle{fd};
}

// Readable before the time is over: 1. Not: 0.
int wait_readable(int fd, uint64_t timeout_ns) noexcept {
    const uint64_t start = posix_os().now_ns();
    for (;;) {
        const uint64_t spent = posix_os().now_ns() - start, left = spent < timeout_ns ? timeout_ns - spent : 0;
        // An hour at a time: no time_t overflows, and for ever is many hours.
        const uint64_t slice = std::min<uint64_t>(left, 3600000000000u);
        const timespec t{time_t(slice / 1000000000u), long(slice % 1000000000u)};
        pollfd p{fd, POLLIN, 0};
        const int n = ::ppoll(&p, 1, &t, nullptr);
        if (n > 0) return 1;
        if (n < 0 && errno != EINTR) return -1;
        if (left == 0) return 0;
    }
}

void keep_descriptors(msghdr& m, std::span<OsHandle> got, size_t& n_got) noexcept {
    for (cmsghdr* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; ++i) {
            int fd;
            std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
            if (n_got < got.size())
                got[n_got++].value = fd;
            else
                ::close(fd);
        }
    }
}

}  // namespace

Result<OsHandle> PosixOs::socket_listen(const char* path) {
    sockaddr_un address{};
    socklen_t len = 0;
    LARDER_TRY(make_address(path, address, len));
    LARDER_ASSIGN(const OsHandle s, make_socket());
    if (::bind(s.value, reinterpret_cast<sockaddr*>(&address), len) == 0 && ::listen(s.value, 64) == 0) return s;
    const int error = errno;
    ::close(s.value);
    return socket_error(error, "cannot listen");
}

Result<OsHandle> PosixOs::socket_accept(OsHandle listener, uint64_t timeout_ns) {
    const int ready = wait_readable(listener.value, timeout_ns);
    if (ready == 0) return fail(LARDER_E_TIMEOUT, "timeout_ns", "nobody connected in time");
    int fd;
    do fd = ::accept4(listener.value, nullptr, nullptr, SOCK_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) return socket_error(errno, "cannot accept");
    return OsHandle{fd};
}

Result<OsHandle> PosixOs::socket_connect(const char* path) {
    sockaddr_un address{};
    socklen_t len = 0;
    LARDER_TRY(make_address(path, address, len));
    LARDER_ASSIGN(const OsHandle s, make_socket());
    int r;
    do r = ::connect(s.value, reinterpret_cast<sockaddr*>(&address), len);
    while (r < 0 && errno == EINTR);
    if (r == 0) return s;
    const int error = errno;
    ::close(s.value);
    return socket_error(error, "cannot connect");
}

larder_status PosixOs::socket_send(OsHandle s, const void* data, size_t n_bytes, std::span<const OsHandle> pass) {
    if (!n_bytes || pass.size() > max_passed)
        return fail(LARDER_E_INVALID, "n_bytes", "a message has at least 1 byte and at most %zu handles", max_passed);
    iovec io{const_cast<void*>(data), n_bytes};
    alignas(cmsghdr) char control[CMSG_SPACE(max_passed * sizeof(int))] = {};
    msghdr m{};
    m.msg_iov = &io;
    m.msg_iovlen = 1;
    if (!pass.empty()) {
        m.msg_control = control;
        m.msg_controllen = CMSG_SPACE(pass.size() * sizeof(int));
        cmsghdr* c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(pass.size() * sizeof(int));
        for (size_t i = 0; i < pass.size(); ++i)
            std::memcpy(CMSG_DATA(c) + i * sizeof(int), &pass[i].value, sizeof(int));
    }
    ssize_t n;
    do n = ::sendmsg(s.value, &m, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? socket_error(errno, "cannot send") : LARDER_OK;
}

Result<size_t> PosixOs::socket_receive(OsHandle s, void* data, size_t capacity, std::span<OsHandle> got, size_t* n_got,
                                       uint64_t timeout_ns) {
    size_t n_kept = 0;
    if (n_got) *n_got = 0;
    if (wait_readable(s.value, timeout_ns) == 0) return fail(LARDER_E_TIMEOUT, "timeout_ns", "no message came in time");
    iovec io{data, capacity};
    alignas(cmsghdr) char control[CMSG_SPACE(max_passed * sizeof(int))];
    msghdr m{};
    m.msg_iov = &io;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    ssize_t n;
    do n = ::recvmsg(s.value, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == ECONNRESET ? Result<size_t>(size_t(0)) : Result<size_t>(socket_error(errno, "cannot receive"));
    const bool cut = m.msg_flags & MSG_TRUNC;
    keep_descriptors(m, cut ? std::span<OsHandle>{} : got, n_kept);
    if (n_got) *n_got = n_kept;
    if (cut)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "a message was longer than the buffer of %zu bytes",
                    capacity);
    return size_t(n);
}

Result<ProcessRef> PosixOs::socket_peer(OsHandle s) {
    ucred c{};
    socklen_t n = sizeof c;
    if (::getsockopt(s.value, SOL_SOCKET, SO_PEERCRED, &c, &n) != 0) return socket_error(errno, "the peer is unknown");
    return process_ref(c.pid);
}

}  // namespace larder
