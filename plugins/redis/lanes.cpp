// A request's connections: commands out, answers in, straight from and into the caller's memory.
#include <poll.h>
#include <time.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "request.h"

namespace larder_redis {

namespace {

constexpr uint8_t max_redirects = 6;

bool reads(uint32_t op) noexcept {
    return op == LARDER_REMOTE_GET || op == LARDER_REMOTE_EXISTS;
}

void put_decimal(Connection& c, uint64_t n) noexcept {
    char digits[24];
    c.put_argument({digits, size_t(std::to_chars(digits, digits + sizeof digits, n).ptr - digits)});
}

}  // namespace

void Request::advance(Lane& l) {
    larder_status s = LARDER_OK;
    if (!l.connection->ready()) {
        s = l.connection->advance();
        if (s == LARDER_PENDING && now_ - l.silent_since < redis_.settings.connect_timeout_ns) return;
        if (s == LARDER_PENDING) s = LARDER_E_TIMEOUT;
        if (s == LARDER_OK) l.silent_since = now_;
    }
    if (s == LARDER_OK) s = exchange(l);
    if (s < 0) lane_failed(l, s);
}

larder_status Request::exchange(Lane& l) {
    for (;;) {
        const bool quiet = l.n_answered == l.n_sent;
        if (send(l) == Io::closed) return LARDER_E_PEER_DEAD;
        // No answer can be here yet.
        if (quiet) return LARDER_OK;
        const size_t n_answered = l.n_answered;
        if (receive(l) == Io::closed) return l.in_body && l.body_left == UINT64_MAX ? LARDER_E_IO : LARDER_E_PEER_DEAD;
        if (l.n_answered == n_answered || l.n_sent == l.queue.size() || !n_left_) return LARDER_OK;
    }
}

// --- out -----------------------------------------------------------------------------------------------------------

Io Request::send(Lane& l) {
    for (;;) {
        const bool more = encode(l);
        if (l.connection->out_empty()) return Io::moved;
        const Io io = l.connection->flush();
        if (io != Io::moved || !more) return io;
    }
}

// As much as there is room for; true: there is more.
bool Request::encode(Lane& l) {
    Connection& c = *l.connection;
    while (c.out_room(1024, 8)) {
        if (l.value_left) {
            iovec v[Connection::max_iov];
            int n = 0;
            const uint64_t bytes = l.value.vectors(l.value_left, v, std::min(c.iov_room() - 2, 32), &n);
            for (int i = 0; i < n; ++i) c.put_piece(v[i].iov_base, v[i].iov_len);
            l.value_left -= bytes;
            if (l.value_left) {
                l.value.forward(bytes);
                continue;
            }
            c.put_text("\r\n");
            if (batch_.ttl_ms) {
                c.put_argument("PX");
                put_decimal(c, batch_.ttl_ms);
            }
        }
        if (l.n_sent == l.queue.size()) return false;
        const uint32_t command = l.queue[l.n_sent];
        const uint64_t bytes = command == Lane::asking                  ? 0
                               : commands_[command].kind == Kind::range ? commands_[command].length
                                                                        : 64;
        if (l.in_flight && l.in_flight + bytes > redis_.settings.window_bytes) return false;
        if (l.n_sent == l.n_answered) {
            redis_.counters.round_trips.fetch_add(1, std::memory_order_relaxed);
            l.silent_since = now_;
        }
        l.in_flight += bytes;
        ++l.n_sent;
        if (command != Lane::asking) {
            encode_command(l, command);
            continue;
        }
        c.put_number('*', 1);
        c.put_argument("ASKING");
    }
    return true;
}

void Request::encode_command(Lane& l, uint32_t command) {
    Connection& c = *l.connection;
    const Command& m = commands_[command];
    const std::string_view key = key_of(m.item, m.part);
    redis_.counters.commands.fetch_add(1, std::memory_order_relaxed);
    switch (m.kind) {
    case Kind::set:
        c.put_number('*', batch_.ttl_ms ? 5 : 3);
        c.put_argument("SET");
        c.put_argument(key);
        c.put_number('$', m.length + (m.with_head ? head_bytes : 0));
        if (m.with_head) c.put_text({items_[m.item].head, head_bytes});
        l.value = {batch_.items[m.item].pieces, 0};
        l.value.forward(m.offset);
        l.value_left = m.length;
        return;
    case Kind::range:
    case Kind::head: {
        const uint64_t n = m.kind == Kind::head ? head_bytes : m.length + (m.with_head ? head_bytes : 0);
        c.put_number('*', 4);
        c.put_argument("GETRANGE");
        c.put_argument(key);
        put_decimal(c, m.at);
        put_decimal(c, m.at + n - 1);
        return;
    }
    case Kind::exists:
    case Kind::unlink:
        c.put_number('*', 2);
        c.put_argument(m.kind == Kind::exists ? "EXISTS" : "UNLINK");
        c.put_argument(key);
        return;
    }
}

// --- in --------------------------------------------------------------------------------------------------------------

// Until nothing is there to be read. `closed` with body_left UINT64_MAX: what came was not of the protocol.
Io Request::receive(Lane& l) {
    Connection& c = *l.connection;
    while (l.n_answered < l.n_sent && n_left_) {
        Io io = Io::moved;
        if (l.in_body) {
            io = read_body(l);
        } else {
            ReplyLine line;
            size_t used = 0;
            const Parsed p = parse_line(c.inbox(), line, used);
            bool good = p != Parsed::bad;
            if (p == Parsed::ok) {
                // The text of the line stays readable until the inbox is filled again.
                c.consume(used);
                good = begin_reply(l, line);
            } else if (good) {
                io = c.fill();
            }
            if (!good) {
                redis_.counters.malformed.fetch_add(1, std::memory_order_relaxed);
                l.in_body = true;
                l.body_left = UINT64_MAX;
                return Io::closed;
            }
        }
        if (io != Io::moved) return io;
        l.spoke = true;
        l.silent_since = now_;
    }
    return Io::moved;
}

// False: that is no answer to the command.
bool Request::begin_reply(Lane& l, const ReplyLine& line) {
    const uint32_t command = l.queue[l.n_answered];
    if (command == Lane::asking) {
        reply_done(l);
        return line.type == '+' || line.type == '-';
    }
    if (line.type == '-') {
        // The text lies in the inbox, which nobody fills before this is over.
        reply_done(l);
        error_reply(l, command, line.text);
        return true;
    }
    Command& m = commands_[command];
    if (m.kind == Kind::range || m.kind == Kind::head) {
        const uint64_t head = m.kind == Kind::head || m.with_head ? head_bytes : 0;
        const uint64_t most = head + (m.kind == Kind::head ? 0 : m.length);
        if (line.type != '$' || line.number > int64_t(most)) return false;
        const uint64_t n = line.number < 0 ? 0 : uint64_t(line.number);
        // That a replica has nothing says little while its master may still answer.
        l.discard = m.done || m.claimed || (!n && m.n_lanes > 1);
        if (!l.discard) {
            m.claimed = true;
            m.got = n;
        }
        l.in_body = true;
        l.body_head_left = uint32_t(std::min(head, n));
        l.body_left = n - l.body_head_left;
        l.body = {batch_.items[m.item].pieces, 0};
        if (l.body_left) l.body.forward(m.offset - batch_.items[m.item].offset);
        if (line.number < 0) {
            l.in_body = false;
            reply_done(l);
            if (!l.discard) command_done(command);
        }
        return true;
    }
    if (m.kind == Kind::set ? line.type != '+' : line.type != ':' || line.number < 0) return false;
    const bool says_little = m.kind == Kind::exists && !line.number && m.n_lanes > 1;
    reply_done(l);
    if (m.done || says_little) return true;
    m.got = uint64_t(line.number);
    command_done(command);
    return true;
}

void Request::reply_done(Lane& l) {
    const uint32_t command = l.queue[l.n_answered++];
    if (command == Lane::asking) return;
    Command& m = commands_[command];
    --m.n_lanes;
    l.in_flight -= m.kind == Kind::range ? m.length : 64;
}

// What of the answer has come along with earlier ones. True: all of it.
bool Request::take_from_inbox(Lane& l) {
    Connection& c = *l.connection;
    const uint32_t command = l.queue[l.n_answered];
    Item& item = items_[commands_[command].item];
    if (l.body_head_left) {
        const std::string_view in = c.inbox().substr(0, l.body_head_left);
        const uint32_t at = uint32_t(std::min<uint64_t>(head_bytes, commands_[command].got)) - l.body_head_left;
        if (!l.discard) std::memcpy(item.head + at, in.data(), in.size());
        l.body_head_left -= uint32_t(in.size());
        c.consume(in.size());
        if (l.body_head_left) return false;
    }
    while (l.body_left && !c.inbox().empty()) {
        const std::string_view in = c.inbox();
        uint64_t n = std::min<uint64_t>(in.size(), l.body_left);
        if (!l.discard) {
            iovec v;
            int n_v = 0;
            n = l.body.vectors(n, &v, 1, &n_v);
            std::memcpy(v.iov_base, in.data(), n);
            l.body.forward(n);
        }
        l.body_left -= n;
        c.consume(n);
    }
    return !l.body_left && c.inbox().size() >= 2;
}

Io Request::read_body(Lane& l) {
    Connection& c = *l.connection;
    if (!take_from_inbox(l)) {
        if (!l.body_left || l.body_head_left || l.discard) return c.fill();
        iovec v[Connection::max_iov + 1];
        int n_v = 0;
        const uint64_t capacity = l.body.vectors(l.body_left, v, Connection::max_iov, &n_v);
        size_t n = 0;
        const Io io = c.fill_into(v, n_v, capacity, &n);
        if (io != Io::moved) return io;
        l.body_left -= n;
        l.body.forward(n);
        if (!take_from_inbox(l)) return Io::moved;
    }
    const bool whole = c.inbox().substr(0, 2) == "\r\n";
    c.consume(2);
    const uint32_t command = l.queue[l.n_answered];
    if (!whole) {
        redis_.counters.malformed.fetch_add(1, std::memory_order_relaxed);
        l.body_left = UINT64_MAX;
        return Io::closed;
    }
    l.in_body = false;
    reply_done(l);
    if (!l.discard) command_done(command);
    return Io::moved;
}

// --- what goes wrong
// ---------------------------------------------------------------------------------------------------

void Request::error_reply(Lane& l, uint32_t command, std::string_view text) {
    if (commands_[command].done || commands_[command].n_lanes) return;  // somebody else answers it
    if (text.starts_with("MOVED ") || text.starts_with("ASK ")) {
        if (redirect(l, command, text)) return;
        return command_failed(command, LARDER_E_BUSY);
    }
    const auto begins = [&](std::initializer_list<std::string_view> all) {
        return std::any_of(all.begin(), all.end(), [&](std::string_view s) { return text.starts_with(s); });
    };
    larder_status status = LARDER_E_IO;
    if (begins({"OOM"})) status = LARDER_E_NOSPACE;
    if (begins({"NOAUTH", "NOPERM", "WRONGPASS"})) status = LARDER_E_PERMISSION;
    if (begins({"WRONGTYPE"})) status = LARDER_E_CORRUPT;
    if (status == LARDER_E_CORRUPT) redis_.counters.foreign.fetch_add(1, std::memory_order_relaxed);
    if (begins({"LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY"})) status = LARDER_E_BUSY;
    if (begins({"CLUSTERDOWN", "READONLY"})) redis_.learn_topology();
    fail(redis_.host, status, 0, "the server refuses a command: %.*s", int(std::min<size_t>(text.size(), 60)),
         text.data());
    command_failed(command, status);
}

bool Request::redirect(Lane& l, uint32_t command, std::string_view text) {
    const bool for_good = text[0] == 'M';
    if (++commands_[command].n_redirects > max_redirects) return false;
    text.remove_prefix(text.find(' ') + 1);
    uint32_t slot = n_slots;
    const auto r = std::from_chars(text.data(), text.data() + text.size(), slot);
    if (r.ec != std::errc() || slot >= n_slots || r.ptr == text.data() + text.size() || *r.ptr != ' ') return false;
    const Text address(text.substr(size_t(r.ptr - text.data()) + 1), HostAlloc<char>(redis_.host));
    const uint32_t node = redis_.redirected(l.node, address, slot, for_good);
    if (node == no_node) return false;
    redis_.counters.redirects.fetch_add(1, std::memory_order_relaxed);
    enqueue(node, command, !for_good);
    return true;
}

// A lane that carried the command is gone.
void Request::leave(uint32_t command, larder_status status) {
    Command& m = commands_[command];
    --m.n_lanes;
    if (m.done || m.n_lanes) return;
    const uint32_t slot = slot_of(key_of(m.item, m.part));
    const uint32_t node = reads(batch_.op) && !m.second_chance && redis_.is_cluster() ? redis_.node_of(slot) : no_node;
    const uint32_t replica = node == no_node ? no_node : redis_.replica_of(node);
    if (replica == no_node) return command_failed(command, status);
    m.second_chance = true;
    enqueue(replica, command);
}

void Request::lane_failed(Lane& l, larder_status status) {
    if (status == LARDER_E_TIMEOUT) redis_.node_silent(l.node, now_ - l.silent_since, now_);
    // A server that was started anew, or grew tired of waiting: once more with a fresh connection.
    if (l.reused && !l.spoke && status == LARDER_E_PEER_DEAD) {
        l.reused = false;
        l.n_sent = l.n_answered;
        l.in_flight = l.value_left = 0;
        l.silent_since = now_;
        l.sent_before = l.received_before = 0;
        l.fresh = true;
        if (redis_.reconnect(l.node, l.connection) >= 0) return;
    }
    if (status != LARDER_E_NOMEM) redis_.node_failed(l.node, status, now_);
    if (l.in_body && !l.discard && l.n_answered < l.n_sent) {
        const uint32_t cut_short = l.queue[l.n_answered];
        if (cut_short != Lane::asking) commands_[cut_short].claimed = false;
    }
    l.connection.reset();
    for (size_t k = l.n_answered; k < l.queue.size(); ++k)
        if (l.queue[k] != Lane::asking) leave(l.queue[k], status);
}

// Reads that have waited long enough go to a replica as well; whoever begins to answer first answers.
void Request::hedge() {
    if (!reads(batch_.op)) return;
    for (size_t i = 0; i < lanes_.size(); ++i) {
        Lane& l = *lanes_[i];
        if (!l.connection || l.idle() || now_ - l.silent_since < redis_.settings.hedge_ns) continue;
        const uint32_t replica = redis_.replica_of(l.node);
        if (replica == no_node || replica == l.node) continue;
        for (size_t k = l.n_answered; k < l.queue.size(); ++k) {
            const uint32_t command = l.queue[k];
            if (command == Lane::asking) continue;
            Command& m = commands_[command];
            if (m.done || m.claimed || m.second_chance) continue;
            m.second_chance = true;
            redis_.counters.hedges.fetch_add(1, std::memory_order_relaxed);
            enqueue(replica, command);
        }
    }
}

// Give the connection back, or away when answers are still to come.
void Request::settle(Lane& l) noexcept {
    if (!l.connection) return;
    redis_.counters.sent_bytes.fetch_add(l.connection->sent_bytes() - l.sent_before, std::memory_order_relaxed);
    redis_.counters.received_bytes.fetch_add(l.connection->received_bytes() - l.received_before,
                                             std::memory_order_relaxed);
    const bool owed = l.n_sent > l.n_answered || !l.connection->ready();
    // Whoever gives up early has not waited in vain.
    if (owed && !given_up_ && now_ > l.silent_since) redis_.node_silent(l.node, now_ - l.silent_since, now_);
    if (!owed && l.connection->clean())
        redis_.give_back(l.node, std::move(l.connection));
    else
        l.connection.reset();
}

void Request::wait(uint64_t until) {
    constexpr size_t max_fds = 256;
    pollfd fds[max_fds];
    size_t n = 0;
    for (const auto& l : lanes_) {
        if (!l->connection || (l->idle() && l->connection->ready()) || n == max_fds) continue;
        fds[n++] = {l->connection->fd(), l->connection->events(), 0};
    }
    if (redis_.settings.hedge_ns) until = std::min(until, later(now_, redis_.settings.hedge_ns));
    const uint64_t ns = std::min<uint64_t>(until - now_, 100000000);
    const timespec t{time_t(ns / 1000000000), long(ns % 1000000000)};
    ::ppoll(fds, n, &t, nullptr);
}

}  // namespace larder_redis
