// The blocks of one layer group: free lists, reference counts and generations. Knows nothing of bytes.
#pragma once

#include "base/ids.h"
#include "memory/run_pool.h"
#include "memory/slot_pool.h"

namespace larder {

// A block's word: generation (counted from 0) in the upper half, sealed bit, known bit, references. Free blocks have no
// references.
//
// The known bit is set by the first seal or second reference and stays until the block is free. Without it only the one
// holder can name the block, so its references need no atomic exchange: an id must not be passed to another thread
// before.
class BlockPool {
  public:
    static constexpr uint32_t max_refs = 1u << 29;
    // What dropping a reference came to. A retired block is out of service for good.
    enum class Last { no, yes, retired };
    static constexpr uint32_t null_block = 0;

    // Blocks 1 .. n_blocks-1 can be taken; 0 is the null block. The id of block b has index first_index + b.
    // Generations run from first_generation; after n_generations uses (0: 2^32) a block is retired.
    BlockPool(const Allocator& a, uint32_t first_index, uint32_t n_blocks, uint32_t first_generation, const Cpus& cpus,
              uint32_t n_generations = 0, bool empty = false);
    // A pool made empty has what it was given.
    void add(uint32_t first, uint32_t n) noexcept {
        slots_.add(first, n);
        n_absent_.fetch_sub(n, relaxed);
    }
    // Keep the blocks of each of n_owners together in runs. Before the first block is taken.
    void use_runs(const Allocator& a, uint32_t n_owners, uint32_t run_blocks) {
        runs_ = make_owned<RunPool>(a, a, 1u, n_blocks_, n_owners, run_blocks);
    }

    BlockPool(const BlockPool&) = delete;

    uint32_t n_blocks() const noexcept { return n_blocks_; }
    uint32_t first_index() const noexcept { return first_index_; }
    larder_block id(uint32_t block) const noexcept {
        return block == null_block
                   ? 0
                   : Id::make(IdKind::block, first_index_ + block, generation_of(words_[block].load(relaxed)));
    }
    uint32_t refs(uint32_t block) const noexcept { return refs_of(words_[block].load(acquire)); }
    bool sealed(uint32_t block) const noexcept { return words_[block].load(acquire) & sealed_bit; }
    bool live(uint32_t block, uint32_t generation) const noexcept {
        const uint64_t w = words_[block].load(acquire);
        return generation_of(w) == generation && refs_of(w);
    }

    // One reference each; all or nothing. With runs, next to what the owner had last.
    bool alloc(std::span<uint32_t> out, uint32_t owner = RunPool::none) noexcept;
    // The same for callers that want ids; without runs.
    bool alloc_ids(std::span<larder_block> out) noexcept;
    bool has_runs() const noexcept { return bool(runs_); }
    // 0: none is left on this path.
    larder_block alloc_one() noexcept {
        const uint32_t number = slots_.take_one();
        if (number == SlotPool::none) [[unlikely]]
            return 0;
        const uint64_t w = words_[number].load(relaxed);
        words_[number].store(w | 1, release);
        return uint64_t(first_key() + number) << 32 | generation_of(w);
    }
    // drop_plain() of one, with its way back to the free lists.
    bool free_one(larder_block id) noexcept {
        const uint32_t number = uint32_t(id >> 32) - first_key(), uses = Id::generation(id) - first_generation_;
        if (number >= n_blocks_ || words_[number].load(acquire) != (uint64_t(uses) << 32 | 1) ||
            uses + 1 == n_generations_ || runs_)
            return false;
        words_[number].store(uint64_t(uses + 1) << 32, release);
        slots_.give_one(number);
        return true;
    }
    // Free the blocks at the head of `blocks` as long as they are this pool's, held once and unknown, and list them.
    // Returns how many; with the one that comes then anything can be the matter.
    uint32_t drop_plain(std::span<const larder_block> blocks, uint32_t* out) noexcept;
    void release_owner(uint32_t owner) noexcept {
        if (runs_) runs_->release(owner);
    }
    // For an id that may be stale.
    larder_status try_ref(uint32_t block, uint32_t generation) noexcept;
    larder_status try_unref(uint32_t block, uint32_t generation, Last& out_last) noexcept {
        const uint64_t w = words_[block].load(acquire);
        if (generation_of(w) != generation || (w & known_bit) || !refs_of(w))
            return try_unref_known(block, generation, out_last);
        words_[block].store(freed(w), release);
        out_last = last_of(w);
        return LARDER_OK;
    }
    larder_status try_seal(uint32_t block, uint32_t generation) noexcept;
    // For a block that the caller holds. After Last::yes the caller recycles the block; unref() is the same with
    // "recycle it" as true.
    void ref(uint32_t block) noexcept;
    bool unref(uint32_t block) noexcept { return drop(block) == Last::yes; }
    Last drop(uint32_t block) noexcept {
        uint64_t w = words_[block].load(acquire);
        LARDER_ASSERT(refs_of(w) > 0);
        if (w & known_bit) {
            w = words_[block].fetch_sub(1, acq_rel);
            if (refs_of(w) != 1) return Last::no;
        }
        words_[block].store(freed(w), release);
        return last_of(w);
    }
    // Hand blocks without references back to the free lists.
    void recycle(std::span<const uint32_t> blocks) noexcept { runs_ ? runs_->give(blocks) : slots_.give(blocks); }

    uint64_t n_allocs() const noexcept { return runs_ ? runs_->n_taken() : slots_.n_taken(); }
    uint64_t n_retired() const noexcept { return n_retired_.load(relaxed); }
    uint64_t n_free() const noexcept { return runs_ ? runs_->n_free() : slots_.n_free(); }
    uint64_t n_absent() const noexcept { return n_absent_.load(relaxed); }
    uint64_t n_used() const noexcept { return n_blocks_ - 1 - n_free() - n_retired() - n_absent(); }
    template <class F> void for_each_free(F f) const { runs_ ? runs_->for_each_free(f) : slots_.for_each_free(f); }

  private:
    static constexpr uint64_t sealed_bit = uint64_t(1) << 31, known_bit = uint64_t(1) << 30;
    uint32_t generation_of(uint64_t w) const noexcept { return uint32_t(w >> 32) + first_generation_; }
    // Without references, of the next generation, not sealed.
    static uint64_t freed(uint64_t w) noexcept { return ((w >> 32) + 1) << 32; }
    // The word before the last reference went. A block that has used all its generations is retired: an id handed out
    // later could repeat an old one.
    Last last_of(uint64_t w) noexcept {
        if (uint32_t(freed(w) >> 32) != n_generations_) [[likely]]
            return Last::yes;
        n_retired_.fetch_add(1, relaxed);
        return Last::retired;
    }
    larder_status try_unref_known(uint32_t block, uint32_t generation, Last& out_last) noexcept;
    uint32_t first_key() const noexcept { return uint32_t(Id::make(IdKind::block, first_index_, 0) >> 32); }
    static uint32_t refs_of(uint64_t w) noexcept { return uint32_t(w) & 0x3fffffff; }

    const uint32_t first_index_, n_blocks_, first_generation_, n_generations_;
    atomic<uint64_t> n_retired_{0}, n_absent_;
    AtomicArray<uint64_t> words_;
    SlotPool slots_;       // unused with runs
    Owned<RunPool> runs_;  // or NULL
};

// Collects blocks whose last reference went, and hands them back in batches.
class Recycler {
  public:
    // clear (may be NULL) wipes a block's bytes before it can be taken again.
    using ClearFn = void (*)(void* ctx, uint32_t block);
    Recycler(BlockPool& pool, ClearFn clear, void* ctx) noexcept : pool_(pool), clear_(clear), ctx_(ctx) {}
    ~Recycler() { flush(); }
    Recycler(const Recycler&) = delete;
    BlockPool& pool() noexcept { return pool_; }
    void unref(uint32_t block) noexcept {
        if (block != BlockPool::null_block) add(block, pool_.drop(block));
    }
    void add(uint32_t block, BlockPool::Last last) noexcept {
        if (last == BlockPool::Last::no) return;
        if (clear_) clear_(ctx_, block);
        if (last == BlockPool::Last::retired) return;
        blocks_[n_++] = block;
        if (n_ == capacity) flush();
    }
    void flush() noexcept {
        if (n_) pool_.recycle({blocks_, n_});
        n_ = 0;
    }

  private:
    static constexpr uint32_t capacity = 64;
    BlockPool& pool_;
    ClearFn clear_;
    void* ctx_;
    uint32_t n_ = 0;
    uint32_t blocks_[capacity];
};

}  // namespace larder
