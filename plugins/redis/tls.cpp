#include "tls.h"

#include "stream.h"

#ifdef LARDER_REDIS_TLS

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <climits>
#include <cstring>

namespace larder_redis {
namespace {

// libssl's own socket BIO writes with write(), which raises SIGPIPE; this one does not.
int fd_of(BIO* b) noexcept {
    return int(reinterpret_cast<intptr_t>(BIO_get_data(b)));
}
int bio_write(BIO* b, const char* data, int n) {
    BIO_clear_retry_flags(b);
    const ssize_t done = ::send(fd_of(b), data, size_t(n), MSG_NOSIGNAL);
    if (done < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(b);
    return int(done);
}
int bio_read(BIO* b, char* data, int n) {
    BIO_clear_retry_flags(b);
    const ssize_t done = ::recv(fd_of(b), data, size_t(n), 0);
    if (done < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(b);
    return int(done);
}
long bio_control(BIO*, int command, long, void*) {
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}
int bio_create(BIO* b) {
    BIO_set_init(b, 1);
    return 1;
}

// The other side refused us.
bool is_alert(unsigned long e) noexcept {
    return ERR_GET_REASON(e) >= SSL_AD_REASON_OFFSET;
}

// The first thing that libssl has to say, without paths.
const char* reason() noexcept {
    const unsigned long e = ERR_get_error();
    ERR_clear_error();
    const char* s = e ? ERR_reason_error_string(e) : nullptr;
    return s ? s : "no reason given";
}

}  // namespace

TlsContext::~TlsContext() {
    SSL_CTX_free(context_);
    BIO_meth_free(method_);
}

larder_status TlsContext::open(const Host& host, const Settings& s) {
    ERR_clear_error();
    context_ = SSL_CTX_new(TLS_client_method());
    method_ = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "larder");
    if (!context_ || !method_) return fail(host, LARDER_E_NOMEM, 0, "no memory for TLS");
    BIO_meth_set_write(method_, bio_write);
    BIO_meth_set_read(method_, bio_read);
    BIO_meth_set_ctrl(method_, bio_control);
    BIO_meth_set_create(method_, bio_create);
    SSL_CTX_set_min_proto_version(context_, TLS1_2_VERSION);
    SSL_CTX_set_mode(context_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
    const int trusted = s.tls_ca.empty() ? SSL_CTX_set_default_verify_paths(context_)
                                         : SSL_CTX_load_verify_locations(context_, s.tls_ca.c_str(), nullptr);
    if (trusted != 1) return fail(host, LARDER_E_INVALID, 0, "the setting 'tls_ca' cannot be used: %s", reason());
    if (!s.tls_cert.empty() && SSL_CTX_use_certificate_chain_file(context_, s.tls_cert.c_str()) != 1)
        return fail(host, LARDER_E_INVALID, 0, "the setting 'tls_cert' cannot be used: %s", reason());
    if (!s.tls_key.empty() && SSL_CTX_use_PrivateKey_file(context_, s.tls_key.c_str(), SSL_FILETYPE_PEM) != 1)
        return fail(host, LARDER_E_INVALID, 0, "the setting 'tls_key' cannot be used: %s", reason());
    if (s.tls_name.empty()) return fail(host, LARDER_E_INVALID, 0, "TLS needs the setting 'tls_name'");
    name_ = s.tls_name.c_str();
    return LARDER_OK;
}

larder_status TlsSession::start(const Host& host, const TlsContext& c, int fd) {
    end();
    session_ = SSL_new(c.context_);
    BIO* bio = BIO_new(c.method_);
    if (!session_ || !bio) {
        BIO_free(bio);
        end();
        return fail(host, LARDER_E_NOMEM, 0, "no memory for TLS");
    }
    BIO_set_data(bio, reinterpret_cast<void*>(intptr_t(fd)));
    SSL_set_bio(session_, bio, bio);
    SSL_set_connect_state(session_);
    // A name, or an address in figures.
    X509_VERIFY_PARAM* rules = SSL_get0_param(session_);
    if (X509_VERIFY_PARAM_set1_ip_asc(rules, c.name()) != 1) {
        ERR_clear_error();
        if (SSL_set1_host(session_, c.name()) != 1 || SSL_set_tlsext_host_name(session_, c.name()) != 1)
            return fail(host, LARDER_E_INVALID, 0, "the setting 'tls_name' is neither a name nor an address");
    }
    return LARDER_OK;
}

larder_status TlsSession::handshake(const Host& host) {
    if (SSL_is_init_finished(session_)) return LARDER_OK;
    ERR_clear_error();
    const int r = SSL_do_handshake(session_);
    if (r == 1) {
        events_ = 0;
        return LARDER_OK;
    }
    const ssize_t what = outcome(r);
    if (what == Stream::would_block) return LARDER_PENDING;
    const long verdict = SSL_get_verify_result(session_);
    if (verdict != X509_V_OK)
        return fail(host, LARDER_E_PERMISSION, 0, "the server's certificate does not hold: %s",
                    X509_verify_cert_error_string(verdict));
    const unsigned long e = ERR_peek_error();
    if (ERR_GET_LIB(e) != ERR_LIB_SSL) {
        ERR_clear_error();
        return fail(host, LARDER_E_PEER_DEAD, 0, "the connection ended during the TLS handshake");
    }
    return fail(host, is_alert(e) ? LARDER_E_PERMISSION : LARDER_E_VERSION, 0, "no TLS with this server: %s", reason());
}

ssize_t TlsSession::outcome(int result) noexcept {
    switch (SSL_get_error(session_, result)) {
    case SSL_ERROR_WANT_READ:
        events_ = POLLIN;
        return Stream::would_block;
    case SSL_ERROR_WANT_WRITE:
        events_ = POLLOUT;
        return Stream::would_block;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default: {
        const unsigned long e = ERR_peek_error();
        refused_ |= ERR_GET_LIB(e) == ERR_LIB_SSL && is_alert(e);
        return Stream::failed;
    }
    }
}

ssize_t TlsSession::read(void* data, size_t n) noexcept {
    ERR_clear_error();
    const int r = SSL_read(session_, data, int(n < INT_MAX ? n : INT_MAX));
    events_ = 0;
    return r > 0 ? r : outcome(r);
}

ssize_t TlsSession::write(const void* data, size_t n) noexcept {
    ERR_clear_error();
    const int r = SSL_write(session_, data, int(n < INT_MAX ? n : INT_MAX));
    events_ = 0;
    return r > 0 ? r : outcome(r) == Stream::would_block ? Stream::would_block : Stream::failed;
}

void TlsSession::end() noexcept {
    SSL_free(session_);
    session_ = nullptr;
    events_ = 0;
    refused_ = false;
}

}  // namespace larder_redis

#else

namespace larder_redis {

TlsContext::~TlsContext() = default;
larder_status TlsContext::open(const Host& host, const Settings&) {
    return fail(host, LARDER_E_UNSUPPORTED, 0, "this plug-in was built without TLS");
}
larder_status TlsSession::start(const Host& host, const TlsContext&, int) {
    return fail(host, LARDER_E_UNSUPPORTED, 0, "this plug-in was built without TLS");
}
larder_status TlsSession::handshake(const Host&) {
    return LARDER_OK;
}
ssize_t TlsSession::outcome(int) noexcept {
    return Stream::failed;
}
ssize_t TlsSession::read(void*, size_t) noexcept {
    return Stream::failed;
}
ssize_t TlsSession::write(const void*, size_t) noexcept {
    return Stream::failed;
}
void TlsSession::end() noexcept {}

}  // namespace larder_redis

#endif
