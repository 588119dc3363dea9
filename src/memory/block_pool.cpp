#include "memory/block_pool.h"

#include <algorithm>

namespace larder {

BlockPool::BlockPool(const Allocator& a, uint32_t first_index, uint32_t n_blocks, uint32_t first_generation,
                     uint32_t n_cpus, uint32_t n_generations)
    : first_index_(first_index), n_blocks_(n_blocks), first_generation_(first_generation),
      n_generations_(n_generations), words_(a, n_blocks), slots_(a, 1, n_blocks, n_cpus), runs_(nullptr, {a}) {}

bool BlockPool::alloc(std::span<uint32_t> out, uint32_t owner) noexcept {
    if (!(runs_ ? runs_->take(out, owner) : slots_.take(out))) return false;
    // Free blocks are nobody's: a plain store suffices, and a stale try_ref() meets either no references or another
    // generation.
    for (uint32_t b : out) words_[b].store(words_[b].load(relaxed) | 1, release);
    return true;
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
