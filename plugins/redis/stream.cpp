#include "stream.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace larder_redis {

bool Address::operator==(const Address& o) const noexcept {
    return n_bytes == o.n_bytes && std::memcmp(&bytes, &o.bytes, n_bytes) == 0;
}

larder_status Address::resolve(const Host& host, std::string_view text, Address& out) {
    out = {};
    if (!text.empty() && text[0] == '/') {
        sockaddr_un a{};
        a.sun_family = AF_UNIX;
        if (text.size() >= sizeof a.sun_path) return fail(host, LARDER_E_RANGE, 0, "a socket's path is too long");
        std::memcpy(a.sun_path, text.data(), text.size());
        std::memcpy(&out.bytes, &a, sizeof a);
        out.n_bytes = sizeof a;
        return LARDER_OK;
    }
    const size_t colon = text.rfind(':');
    if (colon == std::string_view::npos || colon == 0 || colon + 1 == text.size() || text.size() > 300)
        return fail(host, LARDER_E_INVALID, 0, "a node is named host:port");
    std::string_view name = text.substr(0, colon);
    if (name.size() > 2 && name.front() == '[' && name.back() == ']') name = name.substr(1, name.size() - 2);
    char node[304], service[304];
    std::memcpy(node, name.data(), name.size());
    node[name.size()] = 0;
    const std::string_view port = text.substr(colon + 1);
    std::memcpy(service, port.data(), port.size());
    service[port.size()] = 0;
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG;
    int error = ::getaddrinfo(node, service, &hints, &found);
    if (error == EAI_NONAME || error == EAI_ADDRFAMILY) {
        hints.ai_flags = AI_NUMERICSERV;  // a loopback without any other address
        error = ::getaddrinfo(node, service, &hints, &found);
    }
    if (error) return fail(host, LARDER_E_NOT_FOUND, 0, "a node's name has no address: %s", ::gai_strerror(error));
    std::memcpy(&out.bytes, found->ai_addr, found->ai_addrlen);
    out.n_bytes = found->ai_addrlen;
    ::freeaddrinfo(found);
    return LARDER_OK;
}

larder_status Stream::start(const Host& host, const Address& a, const TlsContext* tls) {
    close();
    fd_ = ::socket(a.bytes.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd_ < 0) return fail(host, LARDER_E_SYSTEM, errno, "no socket: %s", std::strerror(errno));
    if (a.bytes.ss_family != AF_UNIX) {
        const int on = 1;
        ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        ::setsockopt(fd_, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    int r;
    do r = ::connect(fd_, reinterpret_cast<const sockaddr*>(&a.bytes), a.n_bytes);
    while (r < 0 && errno == EINTR);
    connected_ = r == 0;
    if (r < 0 && errno != EINPROGRESS) {
        const int error = errno;
        close();
        return fail(host, LARDER_E_PEER_DEAD, error, "cannot connect: %s", std::strerror(error));
    }
    return tls ? tls_.start(host, *tls, fd_) : LARDER_OK;
}

larder_status Stream::advance(const Host& host) {
    if (!connected_) {
        pollfd p{fd_, POLLOUT, 0};
        if (::poll(&p, 1, 0) <= 0) return LARDER_PENDING;
        int error = 0;
        socklen_t n = sizeof error;
        ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &n);
        if (error) return fail(host, LARDER_E_PEER_DEAD, error, "cannot connect: %s", std::strerror(error));
        connected_ = true;
    }
    return tls_.used() ? tls_.handshake(host) : LARDER_OK;
}

ssize_t Stream::read(const iovec* v, int n_v) noexcept {
    if (tls_.used()) return tls_.read(v[0].iov_base, v[0].iov_len);
    ssize_t n;
    do n = ::readv(fd_, v, n_v);
    while (n < 0 && errno == EINTR);
    if (n >= 0) return n;
    return errno == EAGAIN ? would_block : failed;
}

ssize_t Stream::write(const iovec* v, int n_v) noexcept {
    if (tls_.used()) return tls_.write(v[0].iov_base, v[0].iov_len);
    msghdr m{};
    m.msg_iov = const_cast<iovec*>(v);
    m.msg_iovlen = size_t(n_v);
    ssize_t n;
    do n = ::sendmsg(fd_, &m, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0) return n;
    return errno == EAGAIN ? would_block : failed;
}

void Stream::close() noexcept {
    tls_.end();
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    connected_ = false;
}

}  // namespace larder_redis
