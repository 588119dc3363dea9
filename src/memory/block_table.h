// Block tables as persistent trees: forks share them, a write copies one path.
//
// A table of n blocks is a tree of nodes with 64 entries: leaves hold block numbers, inner nodes hold node numbers. A
// node that two tables share is never written. A leaf holds one reference on each block in it, so a block's count rises
// with the leaves that name it, not with the sequences.
#pragma once

#include "memory/block_pool.h"

namespace larder {

struct TableRoot {
    uint32_t node = SlotPool::none;
    uint32_t height = 0;  // 0: empty; 1: the root is a leaf
    uint64_t n_blocks = 0;
    uint64_t n_released = 0;  // entries below, behind the sinks of a window, are the null block already
};

class BlockTables {
  public:
    static constexpr uint32_t fanout = 64;

    BlockTables(const Allocator& a, uint32_t n_nodes, const Cpus& cpus)
        : slots_(a, 0, n_nodes, cpus), refs_(a, n_nodes), counts_(a), entries_(a) {
        counts_.resize(n_nodes);
        entries_.resize(size_t(n_nodes) * fanout);
    }

    // Every change returns false when no nodes are left; the table then reads as before.

    // Entries at the end; the leaf takes over the caller's references. Null entries are allowed.
    bool append(TableRoot& t, Recycler& r, std::span<const uint32_t> blocks) noexcept;
    // The entry for writing: the path to it is this table's alone afterwards. NULL when no nodes are left.
    uint32_t* writable(TableRoot& t, Recycler& r, uint64_t i) noexcept;
    // Drop the entries from n_blocks on, and their references.
    bool truncate(TableRoot& t, Recycler& r, uint64_t n_blocks) noexcept;
    void release(TableRoot& t, Recycler& r) noexcept;
    TableRoot share(const TableRoot& t) noexcept {
        if (t.height) refs_[t.node].fetch_add(1, relaxed);
        return t;
    }

    uint32_t get(const TableRoot& t, uint64_t i) const noexcept;
    // Many at once, in any order: independent look-ups that the processor may overlap.
    void get_many(const TableRoot& t, std::span<const uint32_t> entries, int32_t* out) const noexcept;
    // Call f(span of block numbers) over entries [first, first + n), in order.
    template <class F> void for_range(const TableRoot& t, uint64_t first, uint64_t n, F f) const {
        while (n) {
            const uint32_t at = uint32_t(first % fanout), k = uint32_t(n < fanout - at ? n : fanout - at);
            f(std::span<const uint32_t>(leaf_of(t, first) + at, k));
            first += k;
            n -= k;
        }
    }

    const SlotPool& slots() const noexcept { return slots_; }
    // For verification: a node's references, its number of entries, and the entries.
    uint32_t node_refs(uint32_t node) const noexcept { return refs_[node].load(acquire); }
    std::span<const uint32_t> node_entries(uint32_t node) const noexcept {
        return {entries_.data() + size_t(node) * fanout, counts_[node]};
    }

  private:
    uint32_t* entries(uint32_t node) noexcept { return entries_.data() + size_t(node) * fanout; }
    const uint32_t* leaf_of(const TableRoot& t, uint64_t i) const noexcept;
    bool unshare(uint32_t& node, uint32_t height, BlockPool& pool, Recycler& r) noexcept;
    void drop(uint32_t node, uint32_t height, Recycler& r) noexcept;
    bool grow_one_leaf(TableRoot& t, Recycler& r) noexcept;
    bool trim(uint32_t& node, uint32_t height, Recycler& r, uint64_t n_keep) noexcept;

    SlotPool slots_;
    AtomicArray<uint32_t> refs_;
    Vec<uint8_t> counts_;  // entries in use; fixed while the node is shared
    Vec<uint32_t> entries_;
};

}  // namespace larder
