#include "connection.h"

#include <poll.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace larder_redis {

larder_status Connection::start(const Address& a, const Settings& s, const TlsContext* tls, bool cluster) {
    address_ = &a;
    settings_ = &s;
    tls_ = tls;
    cluster_ = cluster;
    state_ = State::connecting;
    return stream_.start(host_, a, tls);
}

// The last greeting is PING: who answers it has let us in.
void Connection::greet(const Settings& s, bool with_hello) {
    const std::string_view user = s.user.empty() ? std::string_view("default") : std::string_view(s.user);
    n_greetings_ = 0;
    hello_sent_ = with_hello;
    if (with_hello) {
        put_number('*', s.password.empty() ? 2 : 5);
        put_argument("HELLO");
        put_argument("3");
        if (!s.password.empty()) {
            put_argument("AUTH");
            put_argument(user);
            put_argument(s.password);
        }
        ++n_greetings_;
    } else if (!s.password.empty()) {
        put_number('*', s.user.empty() ? 2 : 3);
        put_argument("AUTH");
        if (!s.user.empty()) put_argument(user);
        put_argument(s.password);
        ++n_greetings_;
    }
    if (cluster_) {
        put_number('*', 1);
        put_argument("READONLY");
        ++n_greetings_;
    }
    put_number('*', 1);
    put_argument("PING");
    ++n_greetings_;
}

larder_status Connection::refusal(std::string_view text) {
    const auto begins = [&](std::string_view s) { return text.substr(0, s.size()) == s; };
    if (begins("WRONGPASS") || begins("NOAUTH") || begins("NOPERM") || begins("ERR invalid password") ||
        begins("ERR AUTH") || begins("ERR Client sent AUTH"))
        return fail(host_, LARDER_E_PERMISSION, 0, "the server does not let us in: user or password is wrong");
    if (begins("LOADING") || begins("MASTERDOWN") || begins("BUSY"))
        return fail(host_, LARDER_E_BUSY, 0, "the server asks for patience");
    return fail(host_, LARDER_E_PEER_DEAD, 0, "the server refuses: %.*s", int(std::min<size_t>(text.size(), 80)),
                text.data());
}

larder_status Connection::closed() {
    if (stream_.refused()) return fail(host_, LARDER_E_PERMISSION, 0, "the server does not accept our certificate");
    return fail(host_, LARDER_E_PEER_DEAD, 0, "the server closed the connection");
}

larder_status Connection::greeted() {
    while (n_greetings_) {
        size_t n = 0;
        const Parsed p = reply_length(inbox(), n);
        if (p == Parsed::bad || (p == Parsed::more && inbox().size() == inbox_bytes))
            return fail(host_, LARDER_E_VERSION, 0, "what listens there does not speak the Redis protocol");
        if (p == Parsed::more) {
            const Io io = fill();
            if (io == Io::blocked) return LARDER_PENDING;
            if (io == Io::closed) return closed();
            continue;
        }
        const std::string_view reply = inbox().substr(0, n);
        const std::string_view text = reply.substr(1, n > 3 ? n - 3 : 0);
        const bool error = reply[0] == '-';
        // A server from before HELLO, or one that speaks version 2 only: once more, the old way.
        if (error && hello_sent_ && (text.starts_with("NOPROTO") || text.starts_with("ERR unknown command"))) {
            old_server_ = true;
            state_ = State::connecting;
            in_begin_ = in_end_ = 0;
            const larder_status s = stream_.start(host_, *address_, tls_);
            return s < 0 ? s : LARDER_PENDING;
        }
        // READONLY means nothing to a server that stands alone.
        const bool alone = error && (text.starts_with("ERR This instance has cluster support disabled") ||
                                     text.starts_with("ERR unknown command"));
        if (error && !alone) return refusal(text);
        consume(n);
        --n_greetings_;
    }
    state_ = State::ready;
    return LARDER_OK;
}

larder_status Connection::advance() {
    if (state_ == State::connecting) {
        const larder_status s = stream_.advance(host_);
        if (s != LARDER_OK) return s;
        greet(*settings_, settings_->protocol == 3 && !old_server_);
        state_ = State::greeting;
    }
    if (state_ == State::greeting) {
        if (!out_empty() && flush() == Io::closed) return closed();
        return greeted();
    }
    return LARDER_OK;
}

void Connection::put_text(std::string_view s) noexcept {
    char* at = text_ + n_text_;
    std::memcpy(at, s.data(), s.size());
    n_text_ += s.size();
    iovec* last = iov_end_ > iov_begin_ ? &iov_[iov_end_ - 1] : nullptr;
    if (last && static_cast<char*>(last->iov_base) + last->iov_len == at)
        last->iov_len += s.size();
    else
        iov_[iov_end_++] = {at, s.size()};
}

void Connection::put_number(char before, uint64_t n) noexcept {
    char line[32] = {before};
    char* end = std::to_chars(line + 1, line + 28, n).ptr;
    *end++ = '\r';
    *end++ = '\n';
    put_text({line, size_t(end - line)});
}

void Connection::put_argument(std::string_view s) noexcept {
    put_number('$', s.size());
    put_text(s);
    put_text("\r\n");
}

Io Connection::flush() noexcept {
    while (iov_begin_ < iov_end_) {
        ssize_t n = stream_.write(iov_ + iov_begin_, iov_end_ - iov_begin_);
        if (n == Stream::would_block) return Io::blocked;
        if (n <= 0) return Io::closed;
        sent_bytes_ += uint64_t(n);
        while (n) {
            iovec& v = iov_[iov_begin_];
            const size_t step = std::min(size_t(n), v.iov_len);
            v.iov_base = static_cast<char*>(v.iov_base) + step;
            v.iov_len -= step;
            n -= ssize_t(step);
            if (!v.iov_len) ++iov_begin_;
        }
    }
    iov_begin_ = iov_end_ = 0;
    n_text_ = 0;
    return Io::moved;
}

Io Connection::fill() noexcept {
    if (in_begin_) {
        std::memmove(inbox_, inbox_ + in_begin_, in_end_ - in_begin_);
        in_end_ -= in_begin_;
        in_begin_ = 0;
    }
    const iovec v{inbox_ + in_end_, inbox_bytes - in_end_};
    const ssize_t n = stream_.read(&v, 1);
    if (n == Stream::would_block) return Io::blocked;
    if (n <= 0) return Io::closed;
    in_end_ += size_t(n);
    received_bytes_ += uint64_t(n);
    return Io::moved;
}

Io Connection::fill_into(iovec* dest, int n_dest, size_t capacity, size_t* out_n) noexcept {
    in_begin_ = in_end_ = 0;
    dest[n_dest] = {inbox_, inbox_bytes};
    const ssize_t n = stream_.read(dest, n_dest + 1);
    if (n == Stream::would_block) return Io::blocked;
    if (n <= 0) return Io::closed;
    received_bytes_ += uint64_t(n);
    *out_n = std::min(size_t(n), capacity);
    in_end_ = size_t(n) - *out_n;
    return Io::moved;
}

short Connection::events() const noexcept {
    if (state_ == State::connecting) return stream_.tls_events() ? stream_.tls_events() : short(POLLOUT);
    if (stream_.tls_events() == POLLOUT) return POLLOUT;
    return short(POLLIN | (out_empty() ? 0 : POLLOUT));
}

}  // namespace larder_redis
