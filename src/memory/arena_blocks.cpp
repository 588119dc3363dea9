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

Recycler::ClearFn larder_arena::clear_of(const Group& g) const noexcept {
    const bool clear = (options_.flags & LARDER_ARENA_ZERO_ON_FREE) && g.storage->host_visible();
    return clear ? clear_block : nullptr;
}

Recycler larder_arena::recycler(Group& g) noexcept {
    return Recycler(g.pool, clear_of(g), &g);
}

bool larder_arena::take_blocks(uint32_t group, std::span<uint32_t> out, uint32_t owner) noexcept {
    Group& g = *groups_[group];
    if (!g.pool.alloc(out, owner) && !take_scarce(group, out, owner)) [[unlikely]] {
        g.n_failures.fetch_add(1, relaxed);
        return false;
    }
    if ((options_.flags & LARDER_ARENA_ZERO_ON_HANDOVER) && storage_->host_visible())
        for (uint32_t b : out) storage_->zero_block(group, b);
    return true;
}

// The pool is empty: blocks that no process has, blocks of dead processes, blocks that the caller's callback frees.
bool larder_arena::take_scarce(uint32_t group, std::span<uint32_t> out, uint32_t owner) noexcept {
    Group& g = *groups_[group];
    while (record_ && claim_chunk(group))
        if (g.pool.alloc(out, owner)) return true;
    if (!options_.reclaim.fn) return false;
    for (uint32_t i = 0; i < reclaim_rounds; ++i) {
        const uint64_t n_free = g.pool.n_free();
        if (!options_.reclaim.fn(options_.reclaim.ctx, group, out.size() > n_free ? out.size() - n_free : 1)) break;
        if (g.pool.alloc(out, owner)) return true;
    }
    return false;
}

bool larder_arena::claim_chunk(uint32_t group) noexcept {
    auto chunk = record_->claim(group);
    if (!chunk.n && record_->reap()) chunk = record_->claim(group);
    if (chunk.n) groups_[group]->pool.add(chunk.first, chunk.n);
    return chunk.n;
}

larder_status larder_arena::no_space(uint32_t group, uint64_t n) noexcept {
    const BlockPool& p = groups_[group]->pool;
    return fail(LARDER_E_NOSPACE, "n_blocks", "group %u has %llu of %u blocks free; %llu are needed", group,
                (unsigned long long)p.n_free(), p.n_blocks() - 1, (unsigned long long)n);
}

larder_status larder_arena::alloc_any(uint32_t group, std::span<larder_block> out) noexcept {
    if (group >= groups_.size()) [[unlikely]] {
        LARDER_TRY(check_paged());
        return check_group(group);
    }
    BlockPool& pool = groups_[group]->pool;
    for (size_t done = 0; done < out.size();) {
        const auto piece = out.subspan(done, std::min(out.size() - done, batch));
        if (!groups_[group]->plain_alloc || !pool.alloc_ids(piece)) [[unlikely]]
            if (!take_ids(group, piece)) {
                (void)unref(out.first(done));
                return no_space(group, out.size());
            }
        done += piece.size();
    }
    return LARDER_OK;
}

bool larder_arena::take_ids(uint32_t group, std::span<larder_block> out) noexcept {
    uint32_t numbers[batch];
    if (!take_blocks(group, {numbers, out.size()})) return false;
    for (size_t i = 0; i < out.size(); ++i) out[i] = groups_[group]->pool.id(numbers[i]);
    return true;
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

larder_status larder_arena::unref_any(std::span<const larder_block> blocks) noexcept {
    if (!paged()) [[unlikely]]
        return check_paged();
    larder_status worst = LARDER_OK;
    while (!blocks.empty()) {
        Group* g = group_of(blocks[0]);
        if (!g) {
            worst = stale(blocks[0]);
            blocks = blocks.subspan(1);
            continue;
        }
        uint32_t numbers[batch];
        const uint32_t n =
            g->plain_free ? g->pool.drop_plain(blocks.first(std::min(blocks.size(), batch)), numbers) : 0;
        if (n) {
            g->pool.recycle({numbers, n});
            blocks = blocks.subspan(n);
        } else {
            blocks = blocks.subspan(unref_run(*g, blocks, worst));
        }
    }
    return worst;
}

// Blocks of one group, so that they go back in batches. Returns how many there were.
size_t larder_arena::unref_run(Group& g, std::span<const larder_block> blocks, larder_status& worst) noexcept {
    Recycler r = recycler(g);
    size_t i = 0;
    for (; i < blocks.size(); ++i) {
        const uint32_t number = Id::index(blocks[i]) - g.pool.first_index();
        if (Id::kind(blocks[i]) != IdKind::block || number >= g.pool.n_blocks()) break;
        auto last = BlockPool::Last::no;
        if (g.pool.try_unref(number, Id::generation(blocks[i]), last) < 0)
            worst = stale(blocks[i]);
        else
            r.add(number, last);
    }
    return i;
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
