// Page-aligned memory for direct I/O, straight from the system.
#pragma once

#include <utility>

#include "os/os.h"

namespace larder {

class PageBuffer {
  public:
    PageBuffer() noexcept = default;
    PageBuffer(PageBuffer&& o) noexcept { swap(o); }
    PageBuffer& operator=(PageBuffer&& o) noexcept {
        PageBuffer t(std::move(o));
        swap(t);
        return *this;
    }
    ~PageBuffer() {
        if (p_) os_->release(p_, n_);
    }
    static Result<PageBuffer> make(Os& os, size_t n_bytes, uint32_t map_flags = 0) {
        const size_t page = os.topology().page_bytes;
        PageBuffer b;
        b.n_ = (n_bytes + page - 1) & ~(page - 1);
        LARDER_ASSIGN(b.p_, os.reserve(b.n_, page < 4096 ? 4096 : page));
        b.os_ = &os;
        LARDER_TRY(os.commit(b.p_, b.n_, map_flags));
        return b;
    }
    std::byte* data() const noexcept { return p_; }
    size_t size() const noexcept { return n_; }

  private:
    void swap(PageBuffer& o) noexcept {
        std::swap(os_, o.os_);
        std::swap(p_, o.p_);
        std::swap(n_, o.n_);
    }
    Os* os_ = nullptr;
    std::byte* p_ = nullptr;
    size_t n_ = 0;
};

}  // namespace larder
