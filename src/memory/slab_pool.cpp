#include "memory/slab_pool.h"

#include <cstring>

#include "base/assert.h"

namespace larder {

SlabPool::SlabPool(larder_context& c, uint64_t max_bytes)
    : context_(c), max_bytes_(max_bytes < slab_bytes ? slab_bytes : max_bytes / slab_bytes * slab_bytes),
      map_flags_(c.param(LARDER_PARAM_HUGE_PAGES) && c.os.topology().huge_pages ? map_flag::huge : 0), idle_(c.alloc) {}

SlabPool::~SlabPool() {
    trim(0);
    LARDER_ASSERT(held_bytes_ == 0);
}

Result<std::byte*> SlabPool::take(bool zeroed) {
    return take_run(1, zeroed);
}

Result<std::byte*> SlabPool::take_run(size_t n_slabs, bool zeroed) {
    if (n_slabs == 0) return fail(LARDER_E_INVALID, "n_slabs", "a run has at least one slab");
    if (n_slabs > max_bytes_ / slab_bytes)
        return fail(LARDER_E_NOSPACE, "max_bytes", "%zu slabs are asked for; the budget holds %llu", n_slabs,
                    (unsigned long long)(max_bytes_ / slab_bytes));
    const uint64_t n_bytes = uint64_t(n_slabs) * slab_bytes;
    {
        std::unique_lock lock(mutex_);
        if (std::byte* p = pop_idle(n_slabs)) {
            lock.unlock();
            if (zeroed) std::memset(p, 0, n_bytes);
            return p;
        }
        // Idle runs of another size give way before the budget counts as used up.
        while (held_bytes_ + n_bytes > max_bytes_ && !idle_.empty()) drop_newest_idle();
        if (held_bytes_ + n_bytes > max_bytes_)
            return fail(LARDER_E_NOSPACE, "max_bytes", "%llu of %llu slab bytes are in use",
                        (unsigned long long)held_bytes_, (unsigned long long)max_bytes_);
        // give_back() must never allocate: there is room for every live run.
        if (idle_.capacity() <= n_runs_) idle_.reserve(2 * n_runs_ + 16);
        ++n_runs_;
        held_bytes_ += n_bytes;
    }
    auto mapped = map_run(n_bytes);
    if (!mapped.ok()) {
        std::lock_guard lock(mutex_);
        --n_runs_;
        held_bytes_ -= n_bytes;
        return mapped;
    }
    context_.stats.add(Stat::slab_bytes, n_bytes);
    if (map_flags_ & map_flag::huge) context_.stats.add(Stat::slab_huge_bytes, n_bytes);
    return mapped;
}

void SlabPool::give_back(std::byte* slab, size_t n_slabs) noexcept {
    if (!slab) return;
    std::lock_guard lock(mutex_);
    LARDER_ASSERT(idle_.size() < n_runs_ && idle_.size() < idle_.capacity());
    idle_.push_back(Run{slab, n_slabs});
    idle_bytes_ += uint64_t(n_slabs) * slab_bytes;
}

void SlabPool::trim(uint64_t keep_bytes) noexcept {
    std::lock_guard lock(mutex_);
    while (idle_bytes_ > keep_bytes) drop_newest_idle();
}

uint64_t SlabPool::held_bytes() const noexcept {
    std::lock_guard lock(mutex_);
    return held_bytes_;
}

uint64_t SlabPool::idle_bytes() const noexcept {
    std::lock_guard lock(mutex_);
    return idle_bytes_;
}

// The newest run of that size: its lines are the likeliest to be in a cache.
std::byte* SlabPool::pop_idle(size_t n_slabs) noexcept {
    for (size_t i = idle_.size(); i-- > 0;) {
        if (idle_[i].n_slabs != n_slabs) continue;
        std::byte* p = idle_[i].p;
        idle_.erase(idle_.begin() + ptrdiff_t(i));
        idle_bytes_ -= uint64_t(n_slabs) * slab_bytes;
        return p;
    }
    return nullptr;
}

void SlabPool::drop_newest_idle() noexcept {
    const Run run = idle_.back();
    const uint64_t n_bytes = uint64_t(run.n_slabs) * slab_bytes;
    idle_.pop_back();
    --n_runs_;
    idle_bytes_ -= n_bytes;
    held_bytes_ -= n_bytes;
    context_.os.release(run.p, n_bytes);
    context_.stats.sub(Stat::slab_bytes, n_bytes);
    if (map_flags_ & map_flag::huge) context_.stats.sub(Stat::slab_huge_bytes, n_bytes);
}

Result<std::byte*> SlabPool::map_run(uint64_t n_bytes) {
    LARDER_ASSIGN(std::byte * p, context_.os.reserve(n_bytes, slab_bytes));
    const larder_status committed = context_.os.commit(p, n_bytes, map_flags_);
    if (is_error(committed)) {
        context_.os.release(p, n_bytes);
        return committed;
    }
    return p;
}

}  // namespace larder
