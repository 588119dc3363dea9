// One connection's bytes: TCP or a Unix socket, plain or by TLS; never blocks.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include "settings.h"
#include "tls.h"

namespace larder_redis {

struct Address {
    sockaddr_storage bytes{};
    socklen_t n_bytes = 0;
    // "host:port", "[v6]:port", or a path. Names are looked up, which may take its time.
    static larder_status resolve(const Host& host, std::string_view text, Address& out);
    bool operator==(const Address& o) const noexcept;
};

class Stream {
  public:
    Stream() noexcept = default;
    ~Stream() { close(); }
    Stream(const Stream&) = delete;

    // LARDER_OK: on its way.
    larder_status start(const Host& host, const Address& a, const TlsContext* tls);
    // PENDING: wait for events(). OK: bytes can flow.
    larder_status advance(const Host& host);
    // Bytes moved; would_block; 0 (the other side has closed, reading only); failed.
    static constexpr ssize_t would_block = -1, failed = -2;
    ssize_t read(const iovec* v, int n_v) noexcept;
    ssize_t write(const iovec* v, int n_v) noexcept;
    void close() noexcept;

    int fd() const noexcept { return fd_; }
    // What TLS waits for to go on, whichever way the data are to go; 0: nothing of its own.
    short tls_events() const noexcept { return tls_.events(); }
    bool refused() const noexcept { return tls_.refused(); }

  private:
    int fd_ = -1;
    bool connected_ = false;
    TlsSession tls_;
};

}  // namespace larder_redis
