#include "memory/block_pool.h"

#include <algorithm>

namespace larder {

BlockPool::BlockPool(const Allocator& a, uint32_t first_index, uint32_t n_blocks, uint32_t first_generation, uint32_t n_cpus, uint32_t n_generations)
    : first_index_(first_index), n_blocks_(n_blocks), first_generation_(first_generation), n_generations_(n_generations), words_(a, n_blocks),
      slots_(a, 1, n_blocks, n_cpus) {}

bool BlockPool::alloc(std::span<uint32_t> out) noexcept {
    if (!slots_.take(out)) return false;
    // Free blocks are nobody's: a plain store suffices, and a stale try_ref() meets either no references or another generation.
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

larder_status BlockPool::try_unref(uint32_t block, uint32_t generation, Last& out_last) noexcept {
    uint64_t w = words_[block].load(acquire);
    if (generation_of(w) != generation || !refs_of(w)) return LARDER_E_STALE;
    if (!(w & known_bit)) {
        words_[block].store(freed(w), release);
        out_last = last_of(w);
        return LARDER_OK;
    }
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

BlockPool::Last BlockPool::unref(uint32_t block) noexcept {
    uint64_t w = words_[block].load(acquire);
    LARDER_ASSERT(refs_of(w) > 0);
    if (w & known_bit) {
        w = words_[block].fetch_sub(1, acq_rel);
        if (refs_of(w) != 1) return Last::no;
    }
    words_[block].store(freed(w), release);
    return last_of(w);
}

// The word before the last reference went. A block that has used all its generations is retired: an id handed out later could repeat an old one.
BlockPool::Last BlockPool::last_of(uint64_t w) noexcept {
    if (uint32_t(freed(w) >> 32) != n_generations_) [[likely]] return Last::yes;
    n_retired_.fetch_add(1, relaxed);
    return Last::retired;
}

} // namespace larder
