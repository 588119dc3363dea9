// An allocator that can fail, fills what it hands out and takes back with rubbish, and knows what is still out.
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "larder/base.h"

class FaultAllocator {
  public:
    FaultAllocator() { raw_ = {sizeof(larder_allocator), 0, this, alloc, free}; }
    // Whoever destroys it with memory still out has leaked; ask n_live() first.
    FaultAllocator(const FaultAllocator&) = delete;

    const larder_allocator* raw() const { return &raw_; }

    // Fail the n-th allocation from now on (from 1; 0: none), once or for ever.
    void arm(uint64_t nth, bool sticky);
    void disarm() { arm(0, false); }
    bool fired() const;

    uint64_t n_allocs() const;  // since the beginning
    uint64_t n_live() const;    // pieces out
    uint64_t live_bytes() const;
    uint64_t n_mismatches()
        const;  // frees of unknown pieces, or with another size or alignment than they were made with

  private:
    static void* alloc(void* ctx, uint64_t n_bytes, uint64_t align);
    static void free(void* ctx, void* p, uint64_t n_bytes, uint64_t align);

    struct Piece {
        uint64_t n_bytes, align;
    };
    larder_allocator raw_;
    mutable std::mutex mutex_;
    std::unordered_map<void*, Piece> pieces_;
    uint64_t nth_ = 0, n_counted_ = 0, n_allocs_ = 0, live_bytes_ = 0, n_mismatches_ = 0;
    bool sticky_ = false, fired_ = false;
};
