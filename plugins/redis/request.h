// One batch on its way: cut into commands, sent to the nodes that have the keys, and put together again.
//
// A value is cut into parts, each under a key of its own and so perhaps on a node of its own. Part k holds the bytes
// from k * part_bytes on; the first begins with a head of 16 bytes that tells the value's size and the size of its
// parts, and the last may be longer by part_slack, so that a value of one part and a little is one part. Docs:
// docs/formats/redis.md.
#pragma once

#include "redis.h"

namespace larder_redis {

constexpr uint64_t part_slack = 4096;
constexpr uint32_t head_bytes = 16;
constexpr uint32_t max_parts = 1024;

// How a value is cut.
struct Cut {
    uint64_t total = 0, part_bytes = 0;
    uint32_t n_parts() const noexcept {
        return total <= part_bytes + part_slack ? 1 : uint32_t((total - part_slack + part_bytes - 1) / part_bytes);
    }
    uint64_t end_of(uint32_t part) const noexcept { return part + 1 == n_parts() ? total : (part + 1) * part_bytes; }
    void write_head(char* out) const noexcept;
    bool read_head(const char* in) noexcept;  // false: not ours
};

// A place in the memory of an item.
struct Cursor {
    const larder_remote_piece_v1* piece = nullptr;
    uint64_t offset = 0;  // in the piece
    void forward(uint64_t n) noexcept;
    // The next n bytes as vectors, as many as fit; returns how many bytes that is.
    uint64_t vectors(uint64_t n, iovec* out, int capacity, int* out_n) const noexcept;
};

enum class Kind : uint8_t { set, range, head, exists, unlink };

struct Command {
    Kind kind = Kind::set;
    uint8_t n_redirects = 0;
    uint8_t n_lanes = 0;                 // that carry it now
    bool done = false, claimed = false;  // one of them has begun to answer it
    bool second_chance = false;          // it went to a replica
    uint32_t item = 0, part = 0;
    uint64_t at = 0;                  // of a range: where it begins in the part, the head included
    uint64_t offset = 0, length = 0;  // of the value, without the head
    uint64_t got = 0;                 // bytes that came, without the head; what a number said
    bool with_head = false;
};

struct Item {
    char head[head_bytes];
    bool has_head = false, is_there = false, spoilt = false;
    uint8_t n_rounds = 0;
    uint32_t n_outstanding = 0;
    uint32_t first_command = 0, n_commands = 0;  // of the latest round
    uint64_t covered = 0;                        // get: up to where the value has been read
    larder_status worst = LARDER_OK;
    Cut cut;
};

// A connection that this request has, and what it is to do.
struct Lane {
    explicit Lane(const Host& h) : queue(h) {}
    static constexpr uint32_t asking = UINT32_MAX;
    uint32_t node = 0;
    Owned<Connection> connection;
    bool reused = false, spoke = false;
    bool fresh = true;    // it has got commands since it was advanced
    Vec<uint32_t> queue;  // commands, in order
    size_t n_sent = 0, n_answered = 0;
    uint64_t in_flight = 0;  // bytes asked for
    uint64_t silent_since = 0;
    uint64_t sent_before = 0, received_before = 0;  // by whoever had the connection before
    // The value that is being sent.
    uint32_t value_command = UINT32_MAX;
    Cursor value;
    uint64_t value_left = 0;
    // The answer that is being read.
    bool in_body = false, discard = false;
    uint32_t body_head_left = 0;
    uint64_t body_left = 0;
    Cursor body;

    bool idle() const noexcept { return n_answered == queue.size(); }
};

class Request {
  public:
    Request(Redis& r, const larder_remote_batch_v1& b);
    ~Request() {
        given_up_ = n_left_ != 0;
        end();
    }
    Request(const Request&) = delete;

    larder_status post(uint64_t timeout_ns);
    larder_status check(uint64_t wait_ns);

  private:
    // request.cpp: commands and items
    void begin_item(uint32_t i);
    void begin_put(uint32_t i);
    void begin_get(uint32_t i, uint64_t from);
    void route(uint32_t command);
    void enqueue(uint32_t node, uint32_t command, bool asking = false);
    void command_done(uint32_t command);
    void command_failed(uint32_t command, larder_status status);
    void item_answered(uint32_t i);
    void get_answered(uint32_t i);
    void remove_answered(uint32_t i);
    void finish(uint32_t i, larder_status status);
    void give_up(larder_status status) noexcept;
    void end() noexcept;
    std::string_view key_of(uint32_t item, uint32_t part);

    // lanes.cpp: connections
    void advance(Lane& l);
    larder_status exchange(Lane& l);
    Io send(Lane& l);
    bool encode(Lane& l);
    void encode_command(Lane& l, uint32_t command);
    Io receive(Lane& l);
    bool begin_reply(Lane& l, const ReplyLine& line);
    void error_reply(Lane& l, uint32_t command, std::string_view text);
    bool redirect(Lane& l, uint32_t command, std::string_view text);
    Io read_body(Lane& l);
    bool take_from_inbox(Lane& l);
    void reply_done(Lane& l);
    void leave(uint32_t command, larder_status status);
    void lane_failed(Lane& l, larder_status status);
    void hedge();
    void settle(Lane& l) noexcept;
    void wait(uint64_t until);

    Redis& redis_;
    const larder_remote_batch_v1 batch_;
    Vec<Item> items_;
    Vec<Command> commands_;
    Vec<Owned<Lane>> lanes_;
    uint64_t deadline_ns_ = 0, now_ = 0;
    uint32_t n_left_ = 0;
    bool posted_ = false, given_up_ = false;
    char key_[192];
};

}  // namespace larder_redis
