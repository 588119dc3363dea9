// The arena's blocks by id: allocation, references, addresses.
#include <algorithm>

#include "memory/arena.h"

using namespace larder;

namespace {
constexpr size_t batch = 64;
constexpr uint32_t reclaim_rounds = 4;

larder_status stale(larder_block block) {
    return fail(LARDER_E_STALE, "block", "block %016llx is not, or no longer, a block of this arena",
                (unsigned long long)block);
}

void clear_block(void* ctx, uint32_t block) {
    auto* g = static_cast<ArenaGroup*>(ctx);
    g->storage->zero_block(g->index, block);
}
}  // namespace

Recycler larder_arena::recycler(Group& g) noexcept {
    const bool clear = (options_.flags & LARDER_ARENA_ZERO_ON_FREE) && storage_->host_visible();
    return Recycler(g.pool, clear ? clear_block : nullptr, &g);
}

bool larder_arena::take_blocks(uint32_t group, std::span<uint32_t> out, uint32_t owner) noexcept {
    Group& g = *groups_[group];
    if (g.pool.alloc(out, owner)) [[likely]]
        return true;
    if (options_.reclaim.fn)
        for (uint32_t i = 0; i < reclaim_rounds; ++i) {
            const uint64_t n_free = g.pool.n_free();
            if (!options_.reclaim.fn(options_.reclaim.ctx, group, out.size() > n_free ? out.size() - n_free : 1)) break;
            if (g.pool.alloc(out, owner)) return true;
        }
    g.n_failures.fetch_add(1, relaxed);
    return false;
}

larder_status larder_arena::no_space(uint32_t group, uint64_t n) noexcept {
    const BlockPool& p = groups_[group]->pool;
    return fail(LARDER_E_NOSPACE, "n_blocks", "group %u has %llu of %u blocks free; %llu are needed", group,
                (unsigned long long)p.n_free(), p.n_blocks() - 1, (unsigned long long)n);
}

larder_status larder_arena::alloc(uint32_t group, std::span<larder_block> out) noexcept {
    LARDER_TRY(check_paged());
    LARDER_TRY(check_group(group));
    const BlockPool& pool = groups_[group]->pool;
    uint32_t numbers[batch];
    for (size_t done = 0; done < out.size();) {
        const size_t k = std::min(out.size() - done, batch);
        if (!take_blocks(group, {numbers, k})) [[unlikely]] {
            (void)unref(out.first(done));
            return no_space(group, out.size());
        }
        for (size_t i = 0; i < k; ++i) out[done + i] = pool.id(numbers[i]);
        done += k;
    }
    return LARDER_OK;
}

// Whose index it is; the generation may be stale.
ArenaGroup* larder_arena::group_of(larder_block block) noexcept {
    if (Id::kind(block) != IdKind::block) return nullptr;
    for (auto& g : groups_)
        if (Id::index(block) - g->pool.first_index() < g->pool.n_blocks()) return g.get();
    return nullptr;
}

Result<BlockRef> larder_arena::resolve(larder_block block) noexcept {
    if (const Group* g = group_of(block)) [[likely]]
        if (const uint32_t number = Id::index(block) - g->pool.first_index();
            g->pool.live(number, Id::generation(block)))
            return BlockRef{g->index, number};
    return stale(block);
}

larder_status larder_arena::ref(std::span<const larder_block> blocks) noexcept {
    LARDER_TRY(check_paged());
    for (size_t i = 0; i < blocks.size(); ++i) {
        auto b = resolve(blocks[i]);
        larder_status s = b.status();
        if (b.ok()) {
            s = groups_[b->group]->pool.try_ref(b->number, Id::generation(blocks[i]));
            if (s == LARDER_E_RANGE)
                s = fail(s, "block", "block %016llx has %u references already", (unsigned long long)blocks[i],
                         BlockPool::max_refs);
            if (s == LARDER_E_STALE)
                s = fail(s, "block", "block %016llx was freed meanwhile", (unsigned long long)blocks[i]);
        }
        if (s < 0) {
            const larder_error_info why = last_error();
            (void)unref(blocks.first(i));
            set_last_error(why);
            return s;
        }
    }
    return LARDER_OK;
}

larder_status larder_arena::unref(std::span<const larder_block> blocks) noexcept {
    LARDER_TRY(check_paged());
    larder_status worst = LARDER_OK;
    for (size_t i = 0; i < blocks.size();) {
        // One run of blocks of the same group at a time, so that they go back in batches.
        Group* owner = group_of(blocks[i]);
        if (!owner) {
            worst = stale(blocks[i++]);
            continue;
        }
        Group& g = *owner;
        Recycler r = recycler(g);
        for (; i < blocks.size(); ++i) {
            const uint32_t number = Id::index(blocks[i]) - g.pool.first_index();
            if (Id::kind(blocks[i]) != IdKind::block || number >= g.pool.n_blocks()) break;
            auto last = BlockPool::Last::no;
            if (g.pool.try_unref(number, Id::generation(blocks[i]), last) < 0)
                worst = stale(blocks[i]);
            else
                r.add(number, last);
        }
    }
    return worst;
}

larder_status larder_arena::seal(std::span<const larder_block> blocks) noexcept {
    LARDER_TRY(check_paged());
    for (larder_block id : blocks) {
        LARDER_ASSIGN(const BlockRef b, resolve(id));
        if (groups_[b.group]->pool.try_seal(b.number, Id::generation(id)) < 0)
            return fail(LARDER_E_STALE, "block", "block %016llx was freed meanwhile", (unsigned long long)id);
    }
    return LARDER_OK;
}

larder_status larder_arena::block_query(larder_block block, larder_arena_block_state& out) noexcept {
    LARDER_TRY(check_paged());
    LARDER_ASSIGN(const BlockRef b, resolve(block));
    const BlockPool& pool = groups_[b.group]->pool;
    out = LARDER_ARENA_BLOCK_STATE_INIT;
    out.group = b.group;
    out.number = int32_t(b.number);
    out.n_refs = pool.refs(b.number);
    out.sealed = pool.sealed(b.number);
    return LARDER_OK;
}

larder_status larder_arena::block_address(larder_block block, uint32_t layer, larder_plane plane, void** out) noexcept {
    LARDER_TRY(check_paged());
    LARDER_ASSIGN(const BlockRef b, resolve(block));
    LARDER_TRY(check_plane(b.group, layer, plane));
    *out = address(b, layer, plane);
    return LARDER_OK;
}
