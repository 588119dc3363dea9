// Sequences: what changes their tables.
//
// Each change is all or nothing over the groups. The pattern: first whatever can fail without being seen (unsharing
// table nodes, copying blocks that read the same afterwards, growing tables that a truncation takes back), then what
// cannot fail.
#include <algorithm>

#include "base/options.h"
#include "memory/arena.h"

using namespace larder;

namespace {
constexpr size_t batch = 64;
constexpr uint32_t max_groups = 64;  // of a layout
}  // namespace

larder_seq larder_arena::seq_id(uint32_t index) const noexcept {
    return Id::make(IdKind::sequence, index, seqs_[index].generation.load(relaxed));
}

Result<larder_arena::SeqRef> larder_arena::find(larder_seq seq) noexcept {
    const uint32_t index = Id::index(seq);
    if (Id::kind(seq) == IdKind::sequence && index < seqs_.size()) {
        ArenaSeq& s = seqs_[index];
        if (s.live.load(acquire) && s.generation.load(relaxed) == Id::generation(seq)) return SeqRef{&s, index};
    }
    return fail(LARDER_E_STALE, "seq", "sequence %016llx is not, or no longer, a sequence of this arena",
                (unsigned long long)seq);
}

// The slot freed last comes first: in CONTIGUOUS its memory is still there.
Result<larder_arena::SeqRef> larder_arena::new_seq() noexcept {
    uint32_t index;
    {
        std::lock_guard lock(seq_mutex_);
        if (free_seqs_.empty())
            return fail(LARDER_E_NOSPACE, "max_seqs", "all %u sequences are in use", options_.max_seqs);
        index = free_seqs_.back();
        free_seqs_.pop_back();
    }
    if (contig_) contig_->activate(index);
    seqs_[index].n_tokens = 0;
    seqs_[index].live.store(1, release);
    return SeqRef{&seqs_[index], index};
}

void larder_arena::free_seq(uint32_t index) noexcept {
    ArenaSeq& s = seqs_[index];
    s.live.store(0, relaxed);
    s.generation.store(s.generation.load(relaxed) + 1, release);
    for (auto& g : groups_) {
        Recycler r = recycler(*g);
        tables_->release(root(index, g->index), r);
        g->pool.release_owner(index);
    }
    if (contig_) contig_->retire(index);
    std::lock_guard lock(seq_mutex_);
    free_seqs_.push_back(index);
}

larder_status larder_arena::seq_create(larder_seq* out) noexcept {
    LARDER_ASSIGN(const SeqRef s, new_seq());
    *out = seq_id(s.index);
    return LARDER_OK;
}

larder_status larder_arena::seq_destroy(larder_seq seq) noexcept {
    LARDER_ASSIGN(const SeqRef s, find(seq));
    free_seq(s.index);
    return LARDER_OK;
}

larder_status larder_arena::no_entries() const noexcept {
    return fail(LARDER_E_NOSPACE, "max_table_entries", "no table entries are left");
}

// Fresh blocks at the end of a table, up to n_blocks entries.
larder_status larder_arena::grow(SeqRef s, uint32_t group, uint64_t n_blocks) noexcept {
    TableRoot& t = root(s.index, group);
    const uint64_t before = t.n_blocks;
    Recycler r = recycler(*groups_[group]);
    uint32_t numbers[batch];
    while (t.n_blocks < n_blocks) {
        const auto k = size_t(std::min<uint64_t>(n_blocks - t.n_blocks, batch));
        const uint64_t missing = n_blocks - t.n_blocks;
        larder_status status = LARDER_OK;
        if (!take_blocks(group, {numbers, k}, s.index))
            status = no_space(group, missing);
        else if (!tables_->append(t, r, {numbers, k})) {
            for (size_t i = 0; i < k; ++i) r.unref(numbers[i]);
            status = no_entries();
        }
        if (status < 0) {
            tables_->truncate(t, r, before);  // ours alone by now: cannot fail
            return status;
        }
    }
    return LARDER_OK;
}

// Make one entry safe to write, of which the first n_tokens tokens matter. The replaced block keeps its reference when
// the caller copies: see settle().
larder_status larder_arena::copy_on_write(SeqRef s, uint32_t group, uint64_t entry, uint32_t n_tokens,
                                          CopyList& copies) noexcept {
    Group& g = *groups_[group];
    Recycler r = recycler(g);
    uint32_t* at = tables_->writable(root(s.index, group), r, entry);
    if (!at) return no_entries();
    const uint32_t old = *at;
    if (old == BlockPool::null_block) {
        // A window had passed here and the sequence came back: there is nothing to copy, but the null block must stay
        // zero.
        uint32_t fresh;
        if (!take_blocks(group, {&fresh, 1}, s.index)) return no_space(group, 1);
        *at = fresh;
        return LARDER_OK;
    }
    if (g.pool.refs(old) == 1 && !g.pool.sealed(old)) return LARDER_OK;
    if (copies.items && copies.n == copies.capacity)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "more than %u blocks must be copied", copies.capacity);
    if (!copies.items && !storage_->host_visible())
        return fail(LARDER_E_UNSUPPORTED, "copies",
                    "a block must be copied and the tensors are not host-visible: give a list for the copies");
    uint32_t fresh;
    if (!take_blocks(group, {&fresh, 1}, s.index)) return no_space(group, 1);
    g.n_copies.fetch_add(1, relaxed);
    *at = fresh;
    if (copies.items) {
        copies.items[copies.n] = {group, int32_t(old), int32_t(fresh), n_tokens};
    } else {
        storage_->copy_block(group, fresh, old, shapes_[group].is_state ? 1 : n_tokens);
        r.unref(old);
    }
    ++copies.n;
    return LARDER_OK;
}

// End of a change that listed copies: keep the new blocks and drop the old ones, or put the old ones back. `entry_of`
// finds the entry of a listed copy again.
template <class EntryOf> void larder_arena::settle(SeqRef s, CopyList& copies, bool keep, EntryOf entry_of) noexcept {
    if (!copies.items) return;
    for (uint32_t i = 0; i < copies.n; ++i) {
        const larder_arena_copy& c = copies.items[i];
        Recycler r = recycler(*groups_[c.group]);
        if (!keep) *tables_->writable(root(s.index, c.group), r, entry_of(c)) = uint32_t(c.src);
        r.unref(uint32_t(keep ? c.src : c.dst));
    }
    if (!keep) copies.n = 0;
}

larder_status larder_arena::seq_append(larder_seq seq, uint64_t n_tokens, CopyList& copies) noexcept {
    LARDER_ASSIGN(const SeqRef s, find(seq));
    const uint64_t old = s.seq->n_tokens;
    if (n_tokens > options_.max_seq_tokens - old)
        return fail(LARDER_E_RANGE, "n_tokens", "%llu tokens more than %llu exceed max_seq_tokens",
                    (unsigned long long)n_tokens, (unsigned long long)old);
    if (!n_tokens) return LARDER_OK;
    if (contig_) {
        LARDER_TRY(contig_->prepare_write(s.index, old, n_tokens));
        s.seq->n_tokens = old + n_tokens;
        return LARDER_OK;
    }
    if (copies.items && copies.capacity < n_groups())
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "capacity is %u; the layout has %u groups", copies.capacity,
                    n_groups());
    return append_paged(s, old + n_tokens, copies);
}

larder_status larder_arena::append_paged(SeqRef s, uint64_t n_tokens, CopyList& copies) noexcept {
    const uint64_t old = s.seq->n_tokens;
    larder_status status = LARDER_OK;
    uint64_t before[max_groups];
    uint32_t grown = 0;
    for (; grown < n_groups() && status >= 0; ++grown) {
        before[grown] = root(s.index, grown).n_blocks;
        status = grow(s, grown, groups_[grown]->blocks_for(n_tokens));
    }
    auto last_entry = [&](uint32_t g) { return shapes_[g].is_state ? 0 : old / groups_[g]->info.block_tokens; };
    for (uint32_t g = 0; g < n_groups() && status >= 0; ++g) {
        const auto in_last = uint32_t(old % groups_[g]->info.block_tokens);
        const bool touches_old = old && (shapes_[g].is_state || in_last);
        if (touches_old && last_entry(g) < before[g])
            status = copy_on_write(s, g, last_entry(g), shapes_[g].is_state ? 1 : in_last, copies);
    }
    settle(s, copies, status >= 0, [&](const larder_arena_copy& c) { return last_entry(c.group); });
    if (status >= 0) {
        s.seq->n_tokens = n_tokens;
        return LARDER_OK;
    }
    const larder_error_info why = last_error();
    for (uint32_t g = 0; g < grown; ++g) {
        Recycler r = recycler(*groups_[g]);
        tables_->truncate(root(s.index, g), r, before[g]);  // ours alone since it grew: cannot fail
    }
    set_last_error(why);
    return status;
}

larder_status larder_arena::seq_make_writable(larder_seq seq, uint64_t first, uint64_t n, CopyList& copies) noexcept {
    LARDER_ASSIGN(const SeqRef s, find(seq));
    if (first > s.seq->n_tokens || n > s.seq->n_tokens - first)
        return fail(LARDER_E_RANGE, "first", "the sequence has %llu tokens", (unsigned long long)s.seq->n_tokens);
    if (!n) return LARDER_OK;
    if (contig_) return contig_->prepare_write(s.index, first, n);
    larder_status status = LARDER_OK;
    for (uint32_t g = 0; g < n_groups() && status >= 0; ++g) {
        const uint32_t bt = groups_[g]->info.block_tokens;
        const uint64_t from = shapes_[g].is_state ? 0 : first / bt;
        const uint64_t end = std::min(groups_[g]->blocks_for(first + n), root(s.index, g).n_blocks);
        for (uint64_t e = from; e < end && status >= 0; ++e) {
            const uint64_t filled = shapes_[g].is_state ? 1 : std::min<uint64_t>(bt, s.seq->n_tokens - e * bt);
            status = copy_on_write(s, g, e, uint32_t(filled), copies);
        }
    }
    // Which entry a listed copy belongs to is found by its new block; the failure path may take its time.
    const larder_error_info why = last_error();
    settle(s, copies, status >= 0, [&](const larder_arena_copy& c) {
        const TableRoot& t = root(s.index, c.group);
        uint64_t e = shapes_[c.group].is_state ? 0 : first / groups_[c.group]->info.block_tokens;
        while (tables_->get(t, e) != uint32_t(c.dst)) ++e;
        return e;
    });
    if (status < 0) set_last_error(why);
    return status;
}

larder_status larder_arena::seq_truncate(larder_seq seq, uint64_t n_tokens) noexcept {
    LARDER_ASSIGN(const SeqRef s, find(seq));
    if (n_tokens > s.seq->n_tokens)
        return fail(LARDER_E_RANGE, "n_tokens", "n_tokens is %llu; the sequence has %llu", (unsigned long long)n_tokens,
                    (unsigned long long)s.seq->n_tokens);
    LARDER_TRY(truncate_tables(s, n_tokens));
    s.seq->n_tokens = n_tokens;
    return LARDER_OK;
}

larder_status larder_arena::truncate_tables(SeqRef s, uint64_t n_tokens) noexcept {
    // With the boundary unshared in every group first, the second pass needs no node.
    for (auto& g : groups_) {
        TableRoot& t = root(s.index, g->index);
        const uint64_t keep = g->blocks_for(n_tokens);
        Recycler r = recycler(*g);
        if (keep && keep < t.n_blocks && !tables_->writable(t, r, keep - 1)) return no_entries();
    }
    for (auto& g : groups_) {
        Recycler r = recycler(*g);
        TableRoot& t = root(s.index, g->index);
        [[maybe_unused]] const bool done = tables_->truncate(t, r, g->blocks_for(n_tokens));
        LARDER_ASSERT(done);
        t.n_released = std::min(t.n_released, t.n_blocks);
    }
    return LARDER_OK;
}

larder_status larder_arena::seq_fork(larder_seq seq, uint64_t n_tokens, std::span<larder_seq> out) noexcept {
    LARDER_ASSIGN(const SeqRef s, find(seq));
    if (n_tokens > s.seq->n_tokens)
        return fail(LARDER_E_RANGE, "n_tokens", "n_tokens is %llu; the sequence has %llu", (unsigned long long)n_tokens,
                    (unsigned long long)s.seq->n_tokens);
    for (size_t i = 0; i < out.size(); ++i) {
        auto child = new_seq();
        larder_status status = child.status();
        if (child.ok()) {
            out[i] = seq_id(child->index);
            status = fork_into(s, *child, n_tokens);
            if (status < 0) free_seq(child->index);
        }
        if (status < 0) {
            const larder_error_info why = last_error();
            while (i-- > 0) free_seq(Id::index(out[i]));
            std::fill(out.begin(), out.end(), 0);
            set_last_error(why);
            return status;
        }
    }
    return LARDER_OK;
}

larder_status larder_arena::fork_into(SeqRef from, SeqRef to, uint64_t n_tokens) noexcept {
    to.seq->n_tokens = n_tokens;
    if (contig_) return contig_->fork(from.index, to.index, n_tokens);
    for (uint32_t g = 0; g < n_groups(); ++g) root(to.index, g) = tables_->share(root(from.index, g));
    return n_tokens < from.seq->n_tokens ? truncate_tables(to, n_tokens) : LARDER_OK;
}

larder_status larder_arena::seq_attach(larder_seq seq, uint32_t group, std::span<const larder_block> blocks,
                                       uint64_t n_tokens) noexcept {
    LARDER_TRY(check_paged());
    LARDER_ASSIGN(const SeqRef s, find(seq));
    LARDER_TRY(check_group(group));
    Group& g = *groups_[group];
    TableRoot& t = root(s.index, group);
    if (t.n_blocks) return fail(LARDER_E_STATE, "seq", "the table of group %u is not empty", group);
    if (s.seq->n_tokens && s.seq->n_tokens != n_tokens)
        return fail(LARDER_E_STATE, "n_tokens", "the sequence has %llu tokens, not %llu",
                    (unsigned long long)s.seq->n_tokens, (unsigned long long)n_tokens);
    LARDER_TRY(check_range(n_tokens, 0, options_.max_seq_tokens, "n_tokens"));
    if (blocks.size() != g.blocks_for(n_tokens))
        return fail(LARDER_E_RANGE, "n_blocks", "n_blocks is %zu; %llu tokens have %llu blocks", blocks.size(),
                    (unsigned long long)n_tokens, (unsigned long long)g.blocks_for(n_tokens));
    Recycler r = recycler(g);
    uint32_t numbers[batch];
    for (size_t done = 0; done < blocks.size();) {
        const size_t k = std::min(blocks.size() - done, batch);
        size_t held = 0;
        larder_status status = LARDER_OK;
        for (; held < k && status >= 0; ++held) status = hold(group, blocks[done + held], numbers[held]);
        if (status < 0) --held;
        if (status >= 0 && !tables_->append(t, r, {numbers, k})) status = no_entries();
        if (status < 0) {
            for (size_t i = 0; i < held; ++i) r.unref(numbers[i]);
            tables_->release(t, r);
            return status;
        }
        done += k;
    }
    s.seq->n_tokens = n_tokens;
    return LARDER_OK;
}

// One reference for a table on a block named by id.
larder_status larder_arena::hold(uint32_t group, larder_block block, uint32_t& number) noexcept {
    number = BlockPool::null_block;
    if (block == LARDER_NULL_BLOCK) return LARDER_OK;
    LARDER_ASSIGN(const BlockRef b, resolve(block));
    if (b.group != group)
        return fail(LARDER_E_INVALID, "blocks", "block %016llx is of group %u, not %u", (unsigned long long)block,
                    b.group, group);
    const larder_status s = groups_[group]->pool.try_ref(b.number, Id::generation(block));
    if (s < 0) return fail(s, "blocks", "block %016llx cannot be referenced", (unsigned long long)block);
    number = b.number;
    return LARDER_OK;
}

larder_status larder_arena::seq_slide(larder_seq seq, uint64_t n_computed) noexcept {
    LARDER_TRY(check_paged());
    LARDER_ASSIGN(const SeqRef s, find(seq));
    if (n_computed > s.seq->n_tokens)
        return fail(LARDER_E_RANGE, "n_computed", "n_computed is %llu; the sequence has %llu",
                    (unsigned long long)n_computed, (unsigned long long)s.seq->n_tokens);
    for (int pass = 0; pass < 2; ++pass) {
        for (auto& owned : groups_) {
            const larder_layer_group& info = owned->info;
            if (info.kind != LARDER_GROUP_WINDOW || n_computed <= info.window) continue;
            TableRoot& t = root(s.index, owned->index);
            const uint64_t sinks = owned->blocks_for(info.n_sinks);
            const uint64_t end = std::min(t.n_blocks, (n_computed - info.window) / info.block_tokens);
            Recycler r = recycler(*owned);
            // First unshare every leaf, which may fail; then write.
            for (uint64_t e = std::max(sinks, t.n_released); e < end; ++e) {
                uint32_t* at = tables_->writable(t, r, e);
                if (!at) return no_entries();
                if (pass == 0) {
                    e |= BlockTables::fanout - 1;
                    continue;
                }
                r.unref(*at);
                *at = BlockPool::null_block;
            }
            if (pass) t.n_released = std::max(t.n_released, end);
        }
    }
    return LARDER_OK;
}

larder_status larder_arena::seq_length(larder_seq seq, uint64_t* out) noexcept {
    LARDER_ASSIGN(const SeqRef s, find(seq));
    *out = s.seq->n_tokens;
    return LARDER_OK;
}

larder_status larder_arena::seq_blocks(larder_seq seq, uint32_t group, uint64_t first,
                                       std::span<larder_block> out) noexcept {
    LARDER_TRY(check_paged());
    LARDER_ASSIGN(const SeqRef s, find(seq));
    LARDER_TRY(check_group(group));
    const TableRoot& t = root(s.index, group);
    if (first > t.n_blocks || out.size() > t.n_blocks - first)
        return fail(LARDER_E_RANGE, "first", "the table has %llu entries", (unsigned long long)t.n_blocks);
    size_t i = 0;
    tables_->for_range(t, first, out.size(), [&](std::span<const uint32_t> numbers) {
        for (uint32_t b : numbers) out[i++] = groups_[group]->pool.id(b);
    });
    return LARDER_OK;
}

larder_status larder_arena::seq_lookup(larder_seq seq, uint32_t group, std::span<const uint32_t> entries,
                                       int32_t* out) noexcept {
    LARDER_TRY(check_paged());
    LARDER_ASSIGN(const SeqRef s, find(seq));
    LARDER_TRY(check_group(group));
    const TableRoot& t = root(s.index, group);
    uint32_t last = 0;
    for (uint32_t e : entries) last = std::max(last, e);
    if (!entries.empty() && last >= t.n_blocks)
        return fail(LARDER_E_RANGE, "entries", "entry %u is asked for; the table has %llu", last,
                    (unsigned long long)t.n_blocks);
    tables_->get_many(t, entries, out);
    return LARDER_OK;
}

larder_status larder_arena::seq_runs(larder_seq seq, uint32_t group, std::span<larder_arena_run> out,
                                     uint64_t* out_n) noexcept {
    LARDER_TRY(check_paged());
    LARDER_ASSIGN(const SeqRef s, find(seq));
    LARDER_TRY(check_group(group));
    const TableRoot& t = root(s.index, group);
    uint64_t n = 0, entry = 0;
    larder_arena_run run{};
    auto close = [&] {
        if (run.n_blocks && n++ < out.size()) out[n - 1] = run;
    };
    tables_->for_range(t, 0, t.n_blocks, [&](std::span<const uint32_t> numbers) {
        for (uint32_t b : numbers) {
            const uint64_t at = entry++;
            if (run.n_blocks && b == uint32_t(run.first) + run.n_blocks) {
                ++run.n_blocks;
                continue;
            }
            close();
            run = {at, int32_t(b), b != BlockPool::null_block};
        }
    });
    close();
    if (out_n) *out_n = n;
    if (n > out.size())
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "the sequence has %llu runs; capacity is %zu",
                    (unsigned long long)n, out.size());
    return LARDER_OK;
}

larder_status larder_arena::seq_base(larder_seq seq, uint32_t group, uint32_t layer, larder_plane plane,
                                     void** out) noexcept {
    if (paged()) return fail(LARDER_E_UNSUPPORTED, "mode", "a sequence of a PAGED arena is not contiguous");
    LARDER_ASSIGN(const SeqRef s, find(seq));
    LARDER_TRY(check_plane(group, layer, plane));
    *out = contig_->base(s.index, group, layer, plane_index(plane));
    return LARDER_OK;
}
