#include "memory/block_pool.h"

#include <algorithm>

namespace larder {

BlockPool::BlockPool(const Allocator& a, uint32_t first_index, uint32_t n_blocks, uint32_t first_generation,
                     const Cpus& cpus, uint32_t n_generations, bool empty)
    : first_index_(first_index), n_blocks_(n_blocks), first_generation_(first_generation),
      n_generations_(n_generations), n_absent_(empty ? n_blocks - 1 : 0), words_(a, n_blocks),
      slots_(a, 1, n_blocks, cpus, empty), runs_(nullptr, {a}) {}

bool BlockPool::alloc(std::span<uint32_t> out, uint32_t owner) noexcept {
    if (!(runs_ ? runs_->take(out, owner) : slots_.take(out))) return false;
    // Free blocks are nobody's: a plain store suffices, and a stale try_ref() meets either no references or another
    // generation.
    for (uint32_t b : out) words_[b].store(words_[b].load(relaxed) | 1, release);
    return true;
}

bool BlockPool::alloc_ids(std::span<larder_block> out) noexcept {
    uint32_t numbers[SlotPool::chain_slots];
    LARDER_ASSERT(out.size() <= std::size(numbers) && !runs_);
    if (!slots_.take({numbers, out.size()})) return false;
    const uint32_t key = first_key();
    for (size_t i = 0; i < out.size(); ++i) {
        const uint64_t w = words_[numbers[i]].load(relaxed);
        words_[numbers[i]].store(w | 1, release);
        out[i] = uint64_t(key + numbers[i]) << 32 | generation_of(w);
    }
    return true;
}

uint32_t BlockPool::drop_plain(std::span<const larder_block> blocks, uint32_t* out) noexcept {
    const uint32_t key = first_key();
    uint32_t n = 0;
    for (larder_block id : blocks) {
        const uint32_t number = uint32_t(id >> 32) - key, uses = Id::generation(id) - first_generation_;
        if (number >= n_blocks_ || words_[number].load(acquire) != (uint64_t(uses) << 32 | 1) ||
            uses + 1 == n_generations_)
            break;
        words_[number].store(uint64_t(uses + 1) << 32, release);
        out[n++] = number;
    }
    return n;
}

larder_status BlockPool::try_ref(uint32_t block, uint32_t generation) noexcept {
    uint64_t w = words_[block].load(acquire);
    do {
        if (generation_of(w) != generation || !refs_of(w)) return LARDER_E_STALE;
        if (refs_of(w) >= max_refs) return LARDER_E_RANGE;
    } while (!words_[block].compare_exchange_weak(w, (w | known_bit) + 1, acq_rel, acquire));
    return LARDER_OK;
}

larder_status BlockPool::try_unref_known(uint32_t block, uint32_t generation, Last& out_last) noexcept {
    uint64_t w = words_[block].load(acquire);
    do {
        if (generation_of(w) != generation || !refs_of(w)) return LARDER_E_STALE;
    } while (!words_[block].compare_exchange_weak(w, refs_of(w) == 1 ? freed(w) : w - 1, acq_rel, acquire));
    out_last = refs_of(w) == 1 ? last_of(w) : Last::no;
    return LARDER_OK;
}

larder_status BlockPool::try_seal(uint32_t block, uint32_t generation) noexcept {
    uint64_t w = words_[block].load(acquire);
    do {
        if (generation_of(w) != generation || !refs_of(w)) return LARDER_E_STALE;
    } while (!words_[block].compare_exchange_weak(w, w | sealed_bit | known_bit, acq_rel, acquire));
    return LARDER_OK;
}

void BlockPool::ref(uint32_t block) noexcept {
    uint64_t w = words_[block].load(relaxed);
    LARDER_ASSERT(refs_of(w) > 0 && refs_of(w) < 2 * max_refs - 1);
    while (!words_[block].compare_exchange_weak(w, (w | known_bit) + 1, relaxed, relaxed)) {
    }
}

}  // namespace larder
