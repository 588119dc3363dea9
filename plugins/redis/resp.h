// The Redis serialization protocol, versions 2 and 3, as far as a cache needs it. Nothing here does I/O; what is parsed
// may be hostile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace larder_redis {

enum class Parsed { ok, more, bad };

// The first line of a reply: of a bulk string its length, of an aggregate its number of elements.
struct ReplyLine {
    char type = 0;          // '+', '-', ':', '$', '*' ...
    std::string_view text;  // behind the type, without the line's end
    int64_t number = 0;     // of types that carry one; -1: null
};
constexpr size_t max_line = 4096;
Parsed parse_line(std::string_view in, ReplyLine& out, size_t& used) noexcept;

// How many bytes the whole reply at the beginning of `in` takes, aggregates included.
Parsed reply_length(std::string_view in, size_t& used) noexcept;

// Walks through a complete reply. After the first thing that is not as asked for, ok() is false and all answers are
// empty.
class ReplyWalker {
  public:
    explicit ReplyWalker(std::string_view reply) noexcept : left_(reply) {}
    bool ok() const noexcept { return ok_; }
    uint64_t array() noexcept;
    int64_t integer() noexcept;
    std::string_view string() noexcept;  // of a null: empty
    void skip() noexcept;

  private:
    bool line(ReplyLine& out) noexcept;
    std::string_view left_;
    bool ok_ = true;
};

// CRC16 (XMODEM) of what is hashed of a key, modulo 16384.
constexpr uint32_t n_slots = 16384;
uint32_t slot_of(std::string_view key) noexcept;

}  // namespace larder_redis
