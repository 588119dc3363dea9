#include "store/tiers/segment_writer.h"

#include <algorithm>
#include <cerrno>

#include "os/errno_status.h"

namespace larder {

using namespace format;

larder_status SegmentWriter::open(uint32_t depth, bool want_io_uring) {
    for (Staging& s : stagings_) {
        LARDER_ASSIGN(s.memory, PageBuffer::make(os_, file_.segment_bytes()));
        LARDER_ASSIGN(s.opening, PageBuffer::make(os_, block_bytes));
    }
    LARDER_ASSIGN(ring_, os_.io_ring(alloc_, std::min(depth, 16u), want_io_uring));
    ops_.resize(ring_->depth());
    for (Op& op : ops_) idle_.push_back(&op);
    return LARDER_OK;
}

void SegmentWriter::write(Staging& s, uint32_t begin, uint32_t end) {
    const uint64_t base = file_.segment_offset(s.segment);
    for (uint32_t at = begin; at < end; at += piece_bytes)
        submit(s, s.memory.data() + at, std::min(piece_bytes, end - at), base + at);
}

void SegmentWriter::write_opening(Staging& s, const Place& place) {
    encode_segment_header(place, s.opening.data());  // the rest of the block is zeros
    submit(s, s.opening.data(), block_bytes, file_.segment_offset(s.segment) + file_.segment_bytes() - block_bytes);
}

void SegmentWriter::submit(Staging& s, const std::byte* from, uint32_t n_bytes, uint64_t offset) {
    while (idle_.empty()) reap(1);
    Op& op = *idle_.back();
    idle_.pop_back();
    op.staging = &s;
    op.io = IoOp{.kind = IoOp::Kind::write,
                 .file = file_.handle(),
                 .buffer = const_cast<std::byte*>(from),
                 .n_bytes = n_bytes,
                 .offset = offset,
                 .tag = uint64_t(&op - ops_.data()),
                 .result = 0};
    ++s.n_in_flight;
    submit_op(op);
}

void SegmentWriter::submit_op(Op& op) {
    IoOp* const one[] = {&op.io};
    for (;;) {
        Result<size_t> taken = ring_ ? ring_->submit(one) : Result<size_t>(LARDER_E_IO);
        if (taken.ok() && *taken == 1) return;
        if (taken.ok()) {
            reap(1);  // full although an operation was idle: something finished that was not taken yet
            continue;
        }
        if (op.staging->status >= 0) op.staging->status = taken.status();
        --op.staging->n_in_flight;
        idle_.push_back(&op);
        return;
    }
}

void SegmentWriter::reap(size_t min_done) {
    IoOp* done[16];
    if (!ring_) return;
    const auto n = ring_->reap(done, min_done);
    if (!n.ok()) return drop_ring();
    for (size_t i = 0; i < *n; ++i) finish(ops_[done[i]->tag]);
}

void SegmentWriter::finish(Op& op) {
    Staging& s = *op.staging;
    stats_.add(Stat::io_writes);
    if (op.io.result > 0) {
        written_bytes_.fetch_add(uint64_t(op.io.result), relaxed);
        stats_.add(Stat::io_write_bytes, uint64_t(op.io.result));
    }
    if (op.io.result > 0 && uint64_t(op.io.result) < op.io.n_bytes && op.io.result % block_bytes == 0) {
        // A short write: the rest is asked for again.
        op.io.buffer = static_cast<std::byte*>(op.io.buffer) + op.io.result;
        op.io.offset += uint64_t(op.io.result);
        op.io.n_bytes -= uint32_t(op.io.result);
        op.io.result = 0;
        return submit_op(op);
    }
    if (op.io.result != int64_t(op.io.n_bytes) && s.status >= 0) {
        const int error = op.io.result < 0 ? int(-op.io.result) : op.io.result == 0 ? ENOSPC : EIO;
        s.status = fail_os(file_status(error), error, "store.larder", "a write to the data file failed");
    }
    --s.n_in_flight;
    idle_.push_back(&op);
}

// A ring that cannot say what became of its requests: its destruction waits for them, and all of them count as failed.
void SegmentWriter::drop_ring() noexcept {
    ring_.reset();
    for (Op& op : ops_) {
        // Never used (open() failed half-way), or not in flight.
        if (!op.staging || std::find(idle_.begin(), idle_.end(), &op) != idle_.end()) continue;
        if (op.staging->status >= 0) op.staging->status = LARDER_E_IO;
        --op.staging->n_in_flight;
        idle_.push_back(&op);  // within the capacity that open() made
    }
}

void SegmentWriter::wait(Staging& s) {
    while (s.n_in_flight) reap(1);
}

}  // namespace larder
