// Segments on their way to the file: two staging buffers of one segment each, written in large pieces by a ring.
#pragma once

#include <span>

#include "base/atomic.h"
#include "core/stats.h"
#include "store/tiers/store_file.h"

namespace larder {

// Used by one thread at a time (under the file tier's append mutex).
class SegmentWriter {
  public:
    struct Staging {
        PageBuffer memory;
        PageBuffer opening;  // the last block while the segment is open
        uint32_t segment = no_segment;
        uint32_t submitted = 0;  // bytes handed to the ring; whole blocks
        uint32_t n_in_flight = 0;
        larder_status status = LARDER_OK;  // the first failure
        bool idle() const noexcept { return segment == no_segment; }
    };

    SegmentWriter(Os& os, const Allocator& a, StoreFile& file, Stats& stats) noexcept
        : os_(os), alloc_(a), file_(file), stats_(stats), ops_(a), idle_(a) {}
    ~SegmentWriter() { drop_ring(); }
    larder_status open(uint32_t depth, bool want_io_uring);

    std::span<Staging> stagings() noexcept { return stagings_; }
    // Write blocks [begin, end) of the staging buffer to their place in its segment. Failures show in s.status.
    void write(Staging& s, uint32_t begin, uint32_t end);
    // A copy of the segment's header over its last block: the footer of its former use is gone, and one damaged block
    // does not lose an open segment.
    void write_opening(Staging& s, const format::Place& place);
    // Until nothing of it is in flight.
    void wait(Staging& s);
    // Take what is finished, without waiting.
    void poll() { reap(0); }
    bool io_uring() const noexcept { return ring_ && ring_->is_io_uring(); }
    uint64_t written_bytes() const noexcept { return written_bytes_.load(relaxed); }

  private:
    struct Op {
        IoOp io;
        Staging* staging = nullptr;
    };
    void submit(Staging& s, const std::byte* from, uint32_t n_bytes, uint64_t offset);
    void submit_op(Op& op);
    void reap(size_t min_done);
    void finish(Op& op);
    void drop_ring() noexcept;

    static constexpr uint32_t piece_bytes = 1 << 20;
    Os& os_;
    const Allocator& alloc_;
    StoreFile& file_;
    Stats& stats_;
    Staging stagings_[2];
    Vec<Op> ops_;
    Vec<Op*> idle_;
    atomic<uint64_t> written_bytes_{0};
    Owned<IoRing> ring_;  // gone first: it may still refer to what is above
};

}  // namespace larder
