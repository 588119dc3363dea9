#include "support/fault_allocator.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

void FaultAllocator::arm(uint64_t nth, bool sticky) {
    std::lock_guard lock(mutex_);
    nth_ = nth;
    sticky_ = sticky;
    n_counted_ = 0;
    fired_ = false;
}

bool FaultAllocator::fired() const {
    std::lock_guard lock(mutex_);
    return fired_;
}

uint64_t FaultAllocator::n_allocs() const {
    std::lock_guard lock(mutex_);
    return n_allocs_;
}

uint64_t FaultAllocator::n_live() const {
    std::lock_guard lock(mutex_);
    return pieces_.size();
}

uint64_t FaultAllocator::live_bytes() const {
    std::lock_guard lock(mutex_);
    return live_bytes_;
}

uint64_t FaultAllocator::n_mismatches() const {
    std::lock_guard lock(mutex_);
    return n_mismatches_;
}

void* FaultAllocator::alloc(void* ctx, uint64_t n_bytes, uint64_t align) {
    auto* self = static_cast<FaultAllocator*>(ctx);
    std::lock_guard lock(self->mutex_);
    ++self->n_allocs_;
    if (self->nth_) {
        ++self->n_counted_;
        if (self->n_counted_ == self->nth_ || (self->sticky_ && self->n_counted_ > self->nth_)) {
            self->fired_ = true;
            return nullptr;
        }
    }
    void* p = nullptr;
    if (::posix_memalign(&p, std::max<size_t>(align, sizeof(void*)), n_bytes ? n_bytes : 1) != 0) return nullptr;
    // Larger pieces only at their ends: a test of big tables need not wait for its allocator.
    std::memset(p, 0xa5, std::min<size_t>(n_bytes, 4096));
    self->pieces_[p] = {n_bytes, align};
    self->live_bytes_ += n_bytes;
    return p;
}

void FaultAllocator::free(void* ctx, void* p, uint64_t n_bytes, uint64_t align) {
    if (!p) return;
    auto* self = static_cast<FaultAllocator*>(ctx);
    std::lock_guard lock(self->mutex_);
    const auto it = self->pieces_.find(p);
    if (it == self->pieces_.end()) {
        ++self->n_mismatches_;
        return;
    }
    if (it->second.n_bytes != n_bytes || it->second.align != align) ++self->n_mismatches_;
    self->live_bytes_ -= it->second.n_bytes;
    std::memset(p, 0xdd, std::min<size_t>(it->second.n_bytes, 4096));
    self->pieces_.erase(it);
    std::free(p);
}
