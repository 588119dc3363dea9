// The generations of a stream: a whole stream, and behind it what was appended, each with header, index and trailer of
// its own, tied to the bytes before it by a link.
#pragma once

#include "base/result.h"
#include "codec/frame.h"

namespace larder {

// One after the other, from the first. Total over hostile bytes.
class Generations {
  public:
    // With Reach::head only what the bytes reach is looked at; with Reach::remains every extent is checked, and what is
    // not there, or torn, is left out.
    Generations(ByteSpan stream, Reach reach) noexcept : stream_(stream), reach_(reach) {}
    // False at the end.
    Result<bool> next() noexcept;

    const Frame& frame() const noexcept { return frame_; }
    uint32_t first_token() const noexcept { return first_token_; }  // of this generation in the stream
    uint64_t offset() const noexcept { return offset_; }
    // Of this generation, all of whose extents can be decoded: all, but with Reach::remains perhaps fewer.
    uint32_t n_levels() const noexcept { return n_levels_; }
    // Reach::remains: something is missing, here or later.
    bool is_cut() const noexcept { return cut_; }
    // What ties the next generation to those so far. The current one is whole.
    Link next_link() const noexcept;

  private:
    larder_status read(ByteSpan rest) noexcept;
    larder_status check_successor(const Frame& f) const noexcept;
    larder_status count_levels(const Frame& f, uint32_t& n_levels) const noexcept;

    ByteSpan stream_;
    Reach reach_;
    Frame frame_{};
    uint64_t offset_ = 0;
    uint32_t first_token_ = 0, n_levels_ = 0;
    bool begun_ = false, cut_ = false;
};

}  // namespace larder
