#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "os/posix.h"

namespace larder {
namespace {

int64_t transfer(const IoOp& op) noexcept {
    for (;;) {
        int64_t n;
        switch (op.kind) {
        case IoOp::Kind::read: n = ::pread(op.file.value, op.buffer, op.n_bytes, off_t(op.offset)); break;
        case IoOp::Kind::write: n = ::pwrite(op.file.value, op.buffer, op.n_bytes, off_t(op.offset)); break;
        default: n = ::fdatasync(op.file.value); break;
        }
        if (n >= 0) return n;
        if (errno != EINTR && errno != EAGAIN) return -errno;
    }
}

// Each request is done when it is submitted.
class PlainRing final : public IoRing {
  public:
    PlainRing(const Allocator& a, uint32_t depth) : depth_(depth), done_(a) { done_.reserve(depth); }
    Result<size_t> submit(std::span<IoOp* const> ops) override {
        const size_t n = std::min<size_t>(ops.size(), depth_ - done_.size());
        for (size_t i = 0; i < n; ++i) {
            ops[i]->result = transfer(*ops[i]);
            done_.push_back(ops[i]);
        }
        return n;
    }
    Result<size_t> reap(std::span<IoOp*> out, size_t) override {
        const size_t n = std::min(out.size(), done_.size());
        std::copy_n(done_.begin(), n, out.begin());
        done_.erase(done_.begin(), done_.begin() + ptrdiff_t(n));
        return n;
    }
    uint32_t depth() const noexcept override { return depth_; }
    bool is_io_uring() const noexcept override { return false; }

  private:
    const uint32_t depth_;
    Vec<IoOp*> done_;
};

} // namespace

Result<Owned<IoRing>> PosixOs::io_ring(const Allocator& a, uint32_t depth, bool) {
    if (depth < 1 || depth > 4096) return fail(LARDER_E_RANGE, "depth", "the depth of a ring is 1 to 4096, not %u", depth);
    return Owned<IoRing>(make_owned<PlainRing>(a, a, depth));
}

} // namespace larder
