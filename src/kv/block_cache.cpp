#include "kv/block_cache.h"

#include <bit>

namespace larder {

BlockCache::BlockCache(larder_context& c, uint32_t n_blocks, bool has_store)
    : has_store_(has_store), pool_(c.alloc, 0, n_blocks, c.random_generation(), 1),
      info_(n_blocks, BlockInfo{}, c.alloc) {}

bool BlockCache::alloc(std::span<uint32_t> out) noexcept {
    if (!pool_.alloc(out)) return false;
    for (uint32_t b : out) info_[b] = BlockInfo{};
    return true;
}

void BlockCache::get(uint32_t b) noexcept {
    if (info_[b].list) list_remove(b);
    pool_.ref(b);
}

void BlockCache::put(uint32_t b) noexcept {
    if (pool_.unref(b)) {
        LARDER_ASSERT(!info_[b].entry && !info_[b].list);
        pool_.recycle({&b, 1});
    } else if (info_[b].entry && pool_.refs(b) == 1) {
        list_add(b, false);
    }
}

void BlockCache::put_all(std::span<const uint32_t> blocks) noexcept {
    for (size_t i = blocks.size(); i-- > 0;) put(blocks[i]);
}

void BlockCache::publish(uint32_t b, uint64_t entry) noexcept {
    LARDER_ASSERT(!info_[b].entry);
    pool_.ref(b);
    info_[b].entry = entry;
    ++n_published_;
}

void BlockCache::unpublish(uint32_t b) noexcept {
    if (!info_[b].entry) return;
    if (info_[b].list) list_remove(b);
    info_[b].entry = 0;
    --n_published_;
    if (pool_.unref(b)) pool_.recycle({&b, 1});
}

void BlockCache::set_stored(uint32_t b, bool stored, bool refused) noexcept {
    const bool listed = info_[b].list != 0;
    if (listed) list_remove(b);
    info_[b].stored = stored;
    info_[b].refused = refused;
    // It waited for this: the next to go.
    if (listed) list_add(b, true);
}

void BlockCache::raise_priority(uint32_t b, uint32_t priority) noexcept {
    if (priority <= info_[b].priority) return;
    const bool listed = info_[b].list != 0;
    if (listed) list_remove(b);
    info_[b].priority = uint8_t(priority);
    if (listed) list_add(b, false);
}

void BlockCache::list_add(uint32_t b, bool cold_end) noexcept {
    BlockInfo& i = info_[b];
    const uint32_t kind = clean(b) ? 0 : 1;
    List& l = lists_[kind][i.priority];
    i.list = uint8_t(kind + 1);
    i.prev = cold_end ? 0 : l.tail;
    i.next = cold_end ? l.head : 0;
    (i.prev ? info_[i.prev].next : l.head) = b;
    (i.next ? info_[i.next].prev : l.tail) = b;
    non_empty_[kind][i.priority / 64] |= uint64_t(1) << i.priority % 64;
    ++n_unused_[kind];
}

void BlockCache::list_remove(uint32_t b) noexcept {
    BlockInfo& i = info_[b];
    const uint32_t kind = i.list - 1u;
    List& l = lists_[kind][i.priority];
    (i.prev ? info_[i.prev].next : l.head) = i.next;
    (i.next ? info_[i.next].prev : l.tail) = i.prev;
    if (!l.head) non_empty_[kind][i.priority / 64] &= ~(uint64_t(1) << i.priority % 64);
    i.list = 0;
    i.prev = i.next = 0;
    --n_unused_[kind];
}

uint32_t BlockCache::lowest(uint32_t kind) const noexcept {
    for (uint32_t word = 0; word < 2; ++word)
        if (non_empty_[kind][word]) return word * 64 + uint32_t(std::countr_zero(non_empty_[kind][word]));
    return n_priorities;
}

uint32_t BlockCache::coldest() const noexcept {
    const uint32_t clean = lowest(0), dirty = lowest(1);
    if (clean == n_priorities && dirty == n_priorities) return 0;
    return clean <= dirty ? lists_[0][clean].head : lists_[1][dirty].head;
}

uint32_t BlockCache::coldest_dirty() const noexcept {
    const uint32_t dirty = lowest(1);
    return dirty == n_priorities ? 0 : lists_[1][dirty].head;
}

}  // namespace larder
