// TLS by libssl on a socket that never blocks. Without libssl at build time, asking for it is an error.
#pragma once

#include <sys/types.h>

#include "settings.h"

struct ssl_ctx_st;
struct ssl_st;
struct bio_method_st;

namespace larder_redis {

// Certificates and rules, for all connections.
class TlsContext {
  public:
    TlsContext() noexcept = default;
    ~TlsContext();
    TlsContext(const TlsContext&) = delete;
    larder_status open(const Host& host, const Settings& s);
    const char* name() const noexcept { return name_; }

  private:
    friend class TlsSession;
    ssl_ctx_st* context_ = nullptr;
    bio_method_st* method_ = nullptr;
    const char* name_ = nullptr;  // what the server's certificate must be for; the settings'
};

class TlsSession {
  public:
    TlsSession() noexcept = default;
    TlsSession(const TlsSession&) = delete;
    larder_status start(const Host& host, const TlsContext& c, int fd);
    larder_status handshake(const Host& host);
    ssize_t read(void* data, size_t n) noexcept;
    ssize_t write(const void* data, size_t n) noexcept;
    void end() noexcept;
    bool used() const noexcept { return session_ != nullptr; }
    short events() const noexcept { return events_; }
    // The other side has ended it with an alert: it wants a certificate that we have not got.
    bool refused() const noexcept { return refused_; }

  private:
    ssize_t outcome(int result) noexcept;
    ssl_st* session_ = nullptr;
    short events_ = 0;
    bool refused_ = false;
};

}  // namespace larder_redis
