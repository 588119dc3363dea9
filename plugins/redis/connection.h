// A connection to one server: introduces itself, then carries commands out and answers in.
#pragma once

#include "resp.h"
#include "stream.h"

namespace larder_redis {

enum class Io { moved, blocked, closed };

class Connection {
  public:
    static constexpr size_t text_bytes = 16 << 10, inbox_bytes = 16 << 10;
    static constexpr int max_iov = 64;

    explicit Connection(const Host& host) noexcept : host_(host) {}

    // On its way; what is given stays until the end. `cluster`: reads are welcome at replicas.
    larder_status start(const Address& a, const Settings& s, const TlsContext* tls, bool cluster);
    // PENDING, OK (ready), or why not: PEER_DEAD, PERMISSION, VERSION (does not speak the protocol), BUSY (loading).
    larder_status advance();
    bool ready() const noexcept { return state_ == State::ready; }

    // --- out: text is copied, pieces are borrowed until flushed --------------------------------------------------
    bool out_room(size_t n_text, int n_iov) const noexcept {
        return text_bytes - n_text_ >= n_text && max_iov - iov_end_ >= n_iov;
    }
    int iov_room() const noexcept { return max_iov - iov_end_; }
    void put_text(std::string_view s) noexcept;
    void put_number(char before, uint64_t n) noexcept;  // the number of a line, and its end
    void put_argument(std::string_view s) noexcept;
    void put_piece(const void* data, size_t n) noexcept { iov_[iov_end_++] = {const_cast<void*>(data), n}; }
    bool out_empty() const noexcept { return iov_begin_ == iov_end_; }
    Io flush() noexcept;

    // --- in --------------------------------------------------------------------------------------------------------
    std::string_view inbox() const noexcept { return {inbox_ + in_begin_, in_end_ - in_begin_}; }
    void consume(size_t n) noexcept { in_begin_ += n; }
    Io fill() noexcept;
    // Into `dest` first, what comes behind into the inbox, which is empty. Tells how much of it went to `dest`.
    Io fill_into(iovec* dest, int n_dest, size_t capacity, size_t* out_n) noexcept;

    int fd() const noexcept { return stream_.fd(); }
    short events() const noexcept;
    uint64_t sent_bytes() const noexcept { return sent_bytes_; }
    uint64_t received_bytes() const noexcept { return received_bytes_; }
    // Nothing is under way: it can serve somebody else.
    bool clean() const noexcept { return ready() && out_empty() && inbox().empty(); }

  private:
    enum class State { idle, connecting, greeting, ready };
    void greet(const Settings& s, bool with_hello);
    larder_status greeted();
    larder_status refusal(std::string_view text);
    larder_status closed();

    const Host& host_;
    Stream stream_;
    State state_ = State::idle;
    const Address* address_ = nullptr;
    const Settings* settings_ = nullptr;
    const TlsContext* tls_ = nullptr;
    bool cluster_ = false, hello_sent_ = false, old_server_ = false;
    uint32_t n_greetings_ = 0;
    uint64_t sent_bytes_ = 0, received_bytes_ = 0;
    size_t n_text_ = 0, in_begin_ = 0, in_end_ = 0;
    int iov_begin_ = 0, iov_end_ = 0;
    iovec iov_[max_iov];
    char text_[text_bytes];
    char inbox_[inbox_bytes];
};

}  // namespace larder_redis
