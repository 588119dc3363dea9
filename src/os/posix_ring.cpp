#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>

#include "os/posix.h"
#include "os/uring.h"

namespace larder {
namespace {

constexpr uint32_t max_threads = 4;

int64_t transfer(const IoOp& op) noexcept {
    for (;;) {
        int64_t n;
        switch (op.kind) {
        case IoOp::Kind::read:
            n = ::pread(op.file.value, op.buffer, op.n_bytes, off_t(op.offset));
            break;
        case IoOp::Kind::write:
            n = ::pwrite(op.file.value, op.buffer, op.n_bytes, off_t(op.offset));
            break;
        default:
            n = ::fdatasync(op.file.value);
            break;
        }
        if (n >= 0) return n;
        if (errno != EINTR && errno != EAGAIN) return -errno;
    }
}

// Requests wait in a ring buffer for the next free thread; finished ones in another to be reaped.
class ThreadRing final : public IoRing {
  public:
    ThreadRing(const Allocator& a, Os& os, uint32_t depth)
        : os_(os), depth_(depth), waiting_(depth, nullptr, a), done_(a), threads_(a) {
        done_.reserve(depth);
        threads_.reserve(max_threads);
    }
    ~ThreadRing() override {
        {
            std::lock_guard lock(mutex_);
            quit_ = true;
        }
        work_.notify_all();
        for (uint64_t t : threads_) os_.thread_join(t);
    }
    // With fewer threads than wished for, or none, requests are merely slower.
    void start() {
        for (uint32_t i = 0; i < std::min(depth_, max_threads); ++i) {
            const Result<uint64_t> t = os_.thread_start(thread_main, this, "larder-io");
            if (!t.ok()) break;
            threads_.push_back(*t);
        }
    }

    Result<size_t> submit(std::span<IoOp* const> ops) override {
        std::unique_lock lock(mutex_);
        const size_t n = std::min(ops.size(), depth_ - n_taken_);
        n_taken_ += n;
        for (size_t i = 0; i < n; ++i) {
            if (threads_.empty()) {
                ops[i]->result = transfer(*ops[i]);
                done_.push_back(ops[i]);
            } else {
                waiting_[(head_ + n_waiting_++) % depth_] = ops[i];
            }
        }
        lock.unlock();
        for (size_t i = 0; i < std::min(n, threads_.size()); ++i) work_.notify_one();
        return n;
    }
    Result<size_t> reap(std::span<IoOp*> out, size_t min_done) override {
        std::unique_lock lock(mutex_);
        const size_t must = std::min({min_done, n_taken_, out.size()});
        finished_.wait(lock, [&] { return done_.size() >= must; });
        const size_t n = std::min(out.size(), done_.size());
        std::copy_n(done_.begin(), n, out.begin());
        done_.erase(done_.begin(), done_.begin() + ptrdiff_t(n));
        n_taken_ -= n;
        return n;
    }
    uint32_t depth() const noexcept override { return depth_; }
    bool is_io_uring() const noexcept override { return false; }

  private:
    static void thread_main(void* self) {
        auto& r = *static_cast<ThreadRing*>(self);
        std::unique_lock lock(r.mutex_);
        for (;;) {
            r.work_.wait(lock, [&] { return r.n_waiting_ || r.quit_; });
            if (!r.n_waiting_) return;
            IoOp* op = r.waiting_[r.head_];
            r.head_ = (r.head_ + 1) % r.depth_;
            --r.n_waiting_;
            lock.unlock();
            op->result = transfer(*op);
            lock.lock();
            r.done_.push_back(op);
            r.finished_.notify_one();
        }
    }

    Os& os_;
    const uint32_t depth_;
    std::mutex mutex_;
    std::condition_variable work_, finished_;
    Vec<IoOp*> waiting_;
    size_t head_ = 0, n_waiting_ = 0;
    size_t n_taken_ = 0;  // submitted and not reaped
    Vec<IoOp*> done_;
    Vec<uint64_t> threads_;
    bool quit_ = false;
};

}  // namespace

Result<Owned<IoRing>> make_thread_ring(const Allocator& a, Os& os, uint32_t depth) {
    Owned<ThreadRing> ring = make_owned<ThreadRing>(a, a, os, depth);
    ring->start();
    return Owned<IoRing>(std::move(ring));
}

Result<Owned<IoRing>> PosixOs::io_ring(const Allocator& a, uint32_t depth, bool want_io_uring) {
    if (depth < 1 || depth > 4096)
        return fail(LARDER_E_RANGE, "depth", "the depth of a ring is 1 to 4096, not %u", depth);
    if (want_io_uring) {
        Result<Owned<IoRing>> ring = make_uring(a, depth);
        if (ring.ok()) return ring;
    }
    return make_thread_ring(a, *this, depth);
}

}  // namespace larder
