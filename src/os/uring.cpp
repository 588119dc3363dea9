#include "os/uring.h"

#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"

namespace larder {
namespace {

// Not here: SINGLE_ISSUER and DEFER_TASKRUN. They tie a ring to the thread that made it, while ours wander between
// worker threads.
#if defined(IORING_SETUP_COOP_TASKRUN)
constexpr unsigned wanted_flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CLAMP;
#else
constexpr unsigned wanted_flags = IORING_SETUP_CLAMP;
#endif

constexpr bool is_passing(int error) noexcept {
    return error == EINTR || error == EAGAIN || error == EBUSY;
}

class UringRing final : public IoRing {
  public:
    UringRing(const Allocator& a, uint32_t depth) : depth_(depth), queued_(a), failed_(a) {
        queued_.reserve(depth);
        failed_.reserve(depth);
    }
    ~UringRing() override {
        if (!open_) return;
        IoOp* out[16];
        while (n_taken_) {
            const Result<size_t> n = reap(out, 1);
            if (!n.ok()) break;
        }
        ::io_uring_queue_exit(&ring_);
    }

    // 0, or the errno of what did not work.
    int start() noexcept {
        io_uring_params params{};
        params.flags = wanted_flags;
        int r = ::io_uring_queue_init_params(depth_, &ring_, &params);
        if (r == -EINVAL) {
            params = {};
            r = ::io_uring_queue_init_params(depth_, &ring_, &params);
        }
        if (r < 0) return -r;
        open_ = true;
        return try_request();
    }

    Result<size_t> submit(std::span<IoOp* const> ops) override {
        if (broken_) return fail_os(LARDER_E_IO, broken_, "", "io_uring failed earlier: %s", std::strerror(broken_));
        size_t n = 0;
        for (; n < ops.size() && n_taken_ < depth_; ++n) {
            if (!enqueue(ops[n])) break;
            ++n_taken_;
        }
        flush();
        return n;
    }

    Result<size_t> reap(std::span<IoOp*> out, size_t min_done) override {
        const size_t must = std::min({min_done, n_taken_, out.size()});
        size_t n = 0;
        for (;;) {
            while (n < out.size() && !failed_.empty()) {
                out[n++] = failed_.back();
                failed_.pop_back();
                --n_taken_;
            }
            n += collect(out.subspan(n));
            flush();
            if (n >= must) return n;
            if (!failed_.empty()) continue;
            io_uring_cqe* cqe = nullptr;
            const int r = ::io_uring_wait_cqe(&ring_, &cqe);
            if (r < 0 && !is_passing(-r)) return fail_os(LARDER_E_IO, -r, "", "io_uring failed: %s", std::strerror(-r));
        }
    }
    uint32_t depth() const noexcept override { return depth_; }
    bool is_io_uring() const noexcept override { return true; }

  private:
    int try_request() noexcept {
        const int fd = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
        if (fd < 0) return errno;
        char byte = 1;
        IoOp op{.kind = IoOp::Kind::read, .file = {fd}, .buffer = &byte, .n_bytes = 1};
        IoOp* in = &op;
        IoOp* out = nullptr;
        Result<size_t> n = submit({&in, 1});
        if (n.ok() && *n == 1) n = reap({&out, 1}, 1);
        ::close(fd);
        if (!n.ok()) return broken_ ? broken_ : EIO;
        return op.result == 1 && byte == 0 ? 0 : op.result < 0 ? int(-op.result) : EIO;
    }

    // Fill a submission slot. At most depth requests are taken, so one is free.
    bool enqueue(IoOp* op) noexcept {
        io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
        if (!sqe) return false;
        queued_.push_back(op);
        switch (op->kind) {
        case IoOp::Kind::read:
            ::io_uring_prep_read(sqe, op->file.value, op->buffer, op->n_bytes, op->offset);
            break;
        case IoOp::Kind::write:
            ::io_uring_prep_write(sqe, op->file.value, op->buffer, op->n_bytes, op->offset);
            break;
        case IoOp::Kind::sync_data:
            ::io_uring_prep_fsync(sqe, op->file.value, IORING_FSYNC_DATASYNC);
            break;
        }
        ::io_uring_sqe_set_data(sqe, op);
        return true;
    }

    // Hand over what is queued. What the kernel cannot take now stays queued and is tried again by the next call.
    void flush() noexcept {
        while (!queued_.empty() && !broken_) {
            const int r = ::io_uring_submit(&ring_);
            if (r > 0)
                queued_.erase(queued_.begin(), queued_.begin() + std::min<ptrdiff_t>(r, ptrdiff_t(queued_.size())));
            if (r == -EINTR) continue;
            if (r == 0 || is_passing(-r)) return;
            if (r < 0) {
                // The ring is of no use any more; what the kernel has not seen is reported as failed.
                broken_ = -r;
                for (IoOp* op : queued_) {
                    op->result = r;
                    failed_.push_back(op);
                }
                queued_.clear();
            }
        }
    }

    size_t collect(std::span<IoOp*> out) noexcept {
        size_t n = 0;
        io_uring_cqe* cqe = nullptr;
        while (n < out.size() && ::io_uring_peek_cqe(&ring_, &cqe) == 0 && cqe) {
            auto* op = static_cast<IoOp*>(::io_uring_cqe_get_data(cqe));
            const int result = cqe->res;
            ::io_uring_cqe_seen(&ring_, cqe);
            // Nobody here cancels: the kernel does, with the requests of a thread that ends. They are handed over again
            // from this one.
            if ((result == -EINTR || result == -EAGAIN || result == -ECANCELED) && !broken_ && enqueue(op)) continue;
            op->result = result;
            out[n++] = op;
            --n_taken_;
        }
        return n;
    }

    const uint32_t depth_;
    io_uring ring_{};
    bool open_ = false;
    int broken_ = 0;      // errno of the failure that ended the ring
    size_t n_taken_ = 0;  // submitted and not reaped
    Vec<IoOp*> queued_;   // in the submission queue, not seen by the kernel yet
    Vec<IoOp*> failed_;
};

}  // namespace

Result<Owned<IoRing>> make_uring(const Allocator& a, uint32_t depth) {
    Owned<UringRing> ring = make_owned<UringRing>(a, a, depth);
    if (const int error = ring->start())
        return fail_os(LARDER_E_UNSUPPORTED, error, "", "io_uring does not work here: %s", std::strerror(error));
    return Owned<IoRing>(std::move(ring));
}

}  // namespace larder
