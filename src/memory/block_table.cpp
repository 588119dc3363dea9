#include "memory/block_table.h"

#include <algorithm>
#include <cstring>

namespace larder {
namespace {

constexpr uint32_t bits = 6;
static_assert(BlockTables::fanout == 1u << bits);

// Entries below one child of a node of this height.
constexpr uint64_t child_span(uint32_t height) {
    return uint64_t(1) << bits * (height - 1);
}
constexpr uint32_t child_index(uint64_t i, uint32_t height) {
    return uint32_t(i >> bits * (height - 1)) % BlockTables::fanout;
}
constexpr uint32_t max_height = 6;

}  // namespace

const uint32_t* BlockTables::leaf_of(const TableRoot& t, uint64_t i) const noexcept {
    uint32_t node = t.node;
    for (uint32_t h = t.height; h > 1; --h) node = entries_[size_t(node) * fanout + child_index(i, h)];
    return entries_.data() + size_t(node) * fanout;
}

uint32_t BlockTables::get(const TableRoot& t, uint64_t i) const noexcept {
    LARDER_ASSERT(i < t.n_blocks);
    return leaf_of(t, i)[i % fanout];
}

// A loop for each usual height: what the loops save is the instructions of a walk, not its memory accesses.
void BlockTables::get_many(const TableRoot& t, std::span<const uint32_t> at, int32_t* out) const noexcept {
    const uint32_t* const all = entries_.data();
    const uint32_t* const root = all + size_t(t.node) * fanout;
    const size_t n = at.size();
    auto child = [all](uint32_t node, uint32_t i) { return all[size_t(node) * fanout + i % fanout]; };
    switch (t.height) {
    case 1:
        for (size_t i = 0; i < n; ++i) out[i] = int32_t(root[at[i]]);
        return;
    case 2:
        for (size_t i = 0; i < n; ++i) out[i] = int32_t(child(root[at[i] >> bits], at[i]));
        return;
    case 3:
        for (size_t i = 0; i < n; ++i) out[i] = int32_t(child(child(root[at[i] >> 2 * bits], at[i] >> bits), at[i]));
        return;
    default:
        for (size_t i = 0; i < n; ++i) out[i] = int32_t(get(t, at[i]));
    }
}

// Replace a shared node by a copy that is this table's alone. What the table reads does not change, so a caller that
// fails later has nothing to undo.
bool BlockTables::unshare(uint32_t& node, uint32_t height, BlockPool& pool, Recycler& r) noexcept {
    if (refs_[node].load(acquire) == 1) return true;
    uint32_t copy;
    if (!slots_.take({&copy, 1})) return false;
    const uint32_t n = counts_[node];
    std::memcpy(entries(copy), entries(node), n * sizeof(uint32_t));
    counts_[copy] = uint8_t(n);
    for (uint32_t i = 0; i < n; ++i) {
        const uint32_t e = entries(copy)[i];
        if (height > 1)
            refs_[e].fetch_add(1, relaxed);
        else if (e != BlockPool::null_block)
            pool.ref(e);
    }
    refs_[copy].store(1, relaxed);
    drop(node, height, r);
    node = copy;
    return true;
}

void BlockTables::drop(uint32_t node, uint32_t height, Recycler& r) noexcept {
    if (refs_[node].fetch_sub(1, acq_rel) != 1) return;
    for (uint32_t i = 0, n = counts_[node]; i < n; ++i) {
        if (height > 1)
            drop(entries(node)[i], height - 1, r);
        else
            r.unref(entries(node)[i]);
    }
    slots_.give({&node, 1});
}

uint32_t* BlockTables::writable(TableRoot& t, Recycler& r, uint64_t i) noexcept {
    LARDER_ASSERT(i < t.n_blocks);
    uint32_t* at = &t.node;
    for (uint32_t h = t.height;; --h) {
        if (!unshare(*at, h, r.pool(), r)) return nullptr;
        at = entries(*at) + child_index(i, h);
        if (h == 1) return at;
    }
}

// An empty leaf behind the last full one. All new nodes are taken before the first is linked.
bool BlockTables::grow_one_leaf(TableRoot& t, Recycler& r) noexcept {
    const uint64_t n = t.n_blocks;
    uint32_t fresh[max_height + 1];
    const bool new_root = t.height == 0 || n == child_span(t.height) * fanout;
    uint32_t* at = &t.node;
    uint32_t h = t.height;
    if (!new_root) {
        // Down to where the child is missing.
        for (;; --h) {
            if (!unshare(*at, h, r.pool(), r)) return false;
            const uint32_t i = child_index(n, h);
            if (i == counts_[*at]) break;
            at = entries(*at) + i;
        }
    }
    const uint32_t parent = *at;
    const uint32_t n_fresh = new_root ? t.height + 1 : h - 1;
    LARDER_ASSERT(n_fresh >= 1 && n_fresh <= max_height);
    if (!slots_.take({fresh, n_fresh})) return false;
    for (uint32_t k = 0; k < n_fresh; ++k) {
        refs_[fresh[k]].store(1, relaxed);
        counts_[fresh[k]] = k + 1 < n_fresh;
        if (k + 1 < n_fresh) entries(fresh[k])[0] = fresh[k + 1];
    }
    if (!new_root) {
        entries(parent)[counts_[parent]++] = fresh[0];
        return true;
    }
    if (t.height) {
        // fresh[0] is the new root: the old one comes first.
        entries(fresh[0])[1] = entries(fresh[0])[0];
        entries(fresh[0])[0] = parent;
        counts_[fresh[0]] = 2;
    }
    t.node = fresh[0];
    ++t.height;
    return true;
}

bool BlockTables::append(TableRoot& t, Recycler& r, std::span<const uint32_t> blocks) noexcept {
    const uint64_t before = t.n_blocks;
    while (!blocks.empty()) {
        const auto at = uint32_t(t.n_blocks % fanout);
        if (at == 0 ? !grow_one_leaf(t, r) : !writable(t, r, t.n_blocks - 1)) {
            // The references are still the caller's: forget the entries before the leaves go.
            for (uint64_t i = before; i < t.n_blocks; ++i) *writable(t, r, i) = BlockPool::null_block;
            truncate(t, r, before);
            return false;
        }
        auto* leaf = const_cast<uint32_t*>(leaf_of(t, t.n_blocks));
        const size_t k = std::min<size_t>(blocks.size(), fanout - at);
        std::memcpy(leaf + at, blocks.data(), k * sizeof(uint32_t));
        counts_[size_t(leaf - entries_.data()) / fanout] = uint8_t(at + k);
        t.n_blocks += k;
        blocks = blocks.subspan(k);
    }
    return true;
}

// Nodes are only unshared on the way down and dropped on the way up: a failure leaves the table as it was.
bool BlockTables::trim(uint32_t& node, uint32_t height, Recycler& r, uint64_t n_keep) noexcept {
    if (!unshare(node, height, r.pool(), r)) return false;
    const uint64_t span = child_span(height);
    const auto last = uint32_t((n_keep - 1) / span);
    if (height > 1 && n_keep < (last + 1) * span && !trim(entries(node)[last], height - 1, r, n_keep - last * span))
        return false;
    for (uint32_t i = last + 1; i < counts_[node]; ++i) {
        if (height > 1)
            drop(entries(node)[i], height - 1, r);
        else
            r.unref(entries(node)[i]);
    }
    counts_[node] = uint8_t(last + 1);
    return true;
}

bool BlockTables::truncate(TableRoot& t, Recycler& r, uint64_t n_blocks) noexcept {
    if (n_blocks >= t.n_blocks) return true;
    if (n_blocks == 0) {
        release(t, r);
        return true;
    }
    if (!trim(t.node, t.height, r, n_blocks)) return false;
    t.n_blocks = n_blocks;
    while (t.height > 1 && n_blocks <= child_span(t.height)) {
        // The root is ours alone: its only child takes its place.
        const uint32_t root = t.node;
        t.node = entries(root)[0];
        --t.height;
        refs_[root].store(0, relaxed);
        slots_.give({&root, 1});
    }
    return true;
}

void BlockTables::release(TableRoot& t, Recycler& r) noexcept {
    if (t.height) drop(t.node, t.height, r);
    t = TableRoot{};
}

}  // namespace larder
