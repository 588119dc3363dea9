#include "memory/arena.h"

#include <algorithm>
#include <bit>

#include "base/options.h"

using namespace larder;

namespace {

constexpr uint64_t max_contiguous_granule = uint64_t(1) << 30;
constexpr uint32_t paged_flags =
    LARDER_ARENA_ZERO_ON_HANDOVER | LARDER_ARENA_ISOLATE | LARDER_ARENA_GUARD | LARDER_ARENA_LOCKED;
constexpr uint32_t known_flags =
    LARDER_ARENA_BACKGROUND | paged_flags | LARDER_ARENA_POPULATE | LARDER_ARENA_ZERO_ON_FREE | LARDER_ARENA_BIAS;
constexpr uint32_t max_populate_threads = 64;

larder_status fill_defaults(larder_arena_options& o, bool imported, const Topology& t) {
    if (!o.mode) o.mode = LARDER_ARENA_PAGED;
    if (!o.memory) o.memory = imported ? LARDER_ARENA_IMPORTED : LARDER_ARENA_ANON;
    if (!o.order) o.order = LARDER_ARENA_LAYER_FIRST;
    if (!o.n_tp) o.n_tp = 1;
    if (!o.max_seqs) o.max_seqs = 256;
    const bool paged = o.mode == LARDER_ARENA_PAGED;
    if (!o.max_seq_tokens) o.max_seq_tokens = paged ? uint64_t(1) << 31 : 131072;
    if (!o.low_watermark) o.low_watermark = 50;
    if (!o.high_watermark) o.high_watermark = std::max(o.low_watermark, 100u);
    if (!o.n_lookahead) o.n_lookahead = 256;
    if (!o.n_populate_threads) o.n_populate_threads = std::min(t.n_cpus, 8u);
    if (!o.granule_bytes) o.granule_bytes = o.memory == LARDER_ARENA_MEMFD ? 65536 : 2u << 20;
    return LARDER_OK;
}

larder_status check_sizes(const larder_arena_options& o, uint64_t page_bytes) {
    LARDER_TRY(check_range(o.n_tp, 1, 4096, "n_tp"));
    LARDER_TRY(check_range(o.max_seqs, 1, 1u << 20, "max_seqs"));
    LARDER_TRY(check_range(o.max_seq_tokens, 1, uint64_t(1) << 40, "max_seq_tokens"));
    LARDER_TRY(check_range(o.max_table_entries, 0, uint64_t(1) << 36, "max_table_entries"));
    LARDER_TRY(check_range(o.low_watermark, 0, 1000, "low_watermark"));
    LARDER_TRY(check_range(o.high_watermark, o.low_watermark, 1000, "high_watermark"));
    LARDER_TRY(check_range(o.n_lookahead, 0, 1u << 24, "n_lookahead"));
    LARDER_TRY(check_range(o.run_blocks, 0, 1u << RunPool::max_order, "run_blocks"));
    if (o.run_blocks && !std::has_single_bit(o.run_blocks))
        return fail(LARDER_E_INVALID, "run_blocks", "run_blocks %u is not a power of two", o.run_blocks);
    LARDER_TRY(check_range(o.v_rank, 0, 65536, "v_rank"));
    LARDER_TRY(check_range(o.n_populate_threads, 1, max_populate_threads, "n_populate_threads"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    LARDER_TRY(check_range(o.granule_bytes, page_bytes, max_contiguous_granule, "granule_bytes"));
    if (!std::has_single_bit(o.granule_bytes))
        return fail(LARDER_E_INVALID, "granule_bytes", "granule_bytes %u is not a power of two", o.granule_bytes);
    return check_range(o.budget_bytes, 0, uint64_t(1) << 46, "budget_bytes");
}

larder_status check_choices(const larder_arena_options& o, bool imported, uint32_t n_groups, const Topology& t) {
    if (o.flags & ~known_flags)
        return fail(LARDER_E_TOO_NEW, "flags", "flags 0x%x has a bit that this library does not know", o.flags);
    if (o.mode != LARDER_ARENA_PAGED && o.mode != LARDER_ARENA_CONTIGUOUS)
        return fail(LARDER_E_INVALID, "mode", "there is no mode %d", o.mode);
    if (o.order != LARDER_ARENA_LAYER_FIRST && o.order != LARDER_ARENA_PAGE_FIRST)
        return fail(LARDER_E_INVALID, "order", "there is no order %d", o.order);
    const bool paged = o.mode == LARDER_ARENA_PAGED;
    if (paged && (o.flags & LARDER_ARENA_BACKGROUND))
        return fail(LARDER_E_UNSUPPORTED, "flags", "BACKGROUND is for CONTIGUOUS arenas");
    if (!paged && (o.flags & paged_flags))
        return fail(LARDER_E_UNSUPPORTED, "flags", "flags 0x%x has a bit that a CONTIGUOUS arena does not know",
                    o.flags);
    if (imported) {
        if (o.memory != LARDER_ARENA_IMPORTED)
            return fail(LARDER_E_INVALID, "memory", "an imported arena has memory IMPORTED");
        if (!paged) return fail(LARDER_E_INVALID, "mode", "an imported arena is PAGED");
        if (!o.n_blocks) return fail(LARDER_E_INVALID, "n_blocks", "an imported arena needs n_blocks");
    } else if (o.memory != LARDER_ARENA_ANON && o.memory != LARDER_ARENA_MEMFD) {
        return fail(LARDER_E_INVALID, "memory", "memory %d cannot be created", o.memory);
    }
    if (o.memory == LARDER_ARENA_MEMFD && !t.memfd)
        return fail(LARDER_E_UNSUPPORTED, "memory", "this system has no shared memory by file descriptor");
    if (o.n_blocks && o.n_block_counts != n_groups)
        return fail(LARDER_E_INVALID, "n_block_counts", "n_blocks has %u entries; the layout has %u groups",
                    o.n_block_counts, n_groups);
    if (!o.n_blocks && o.n_block_counts) return fail(LARDER_E_INVALID, "n_blocks", "n_blocks is NULL");
    if (!paged && o.n_blocks) return fail(LARDER_E_INVALID, "n_blocks", "a CONTIGUOUS arena is sized by budget_bytes");
    if (!o.n_blocks && !o.budget_bytes)
        return fail(LARDER_E_INVALID, "budget_bytes", "either budget_bytes or n_blocks must be given");
    return LARDER_OK;
}

}  // namespace

larder_arena::larder_arena(larder_context& c, larder_layout& l, const larder_arena_options& o)
    : Handle(HandleType::arena, c), layout_(&l), options_(o), shapes_(c.alloc), groups_(c.alloc),
      storage_(nullptr, {c.alloc}), tables_(nullptr, {c.alloc}), roots_(c.alloc), contig_(nullptr, {c.alloc}),
      seqs_(c.alloc), free_seqs_(c.alloc) {
    l.ref();  // last: a constructor that throws runs no destructor
}

larder_arena::~larder_arena() {
    if (counted_) {
        // The counters outlive the arena, the gauges go with it.
        StatSums sums{};
        collect(sums);
        context->stats.detach(*this);
        for (Stat s : {Stat::arena_allocs, Stat::arena_alloc_failures, Stat::arena_cow_copies})
            context->stats.add(s, sums[size_t(s)]);
    }
    if (options_.reclaim.drop) options_.reclaim.drop(options_.reclaim.ctx);
    layout_->unref();
}

larder_status larder_arena::create(larder_context& c, larder_layout& layout, const larder_arena_options* user,
                                   larder_arena** out) {
    return make(c, layout, user, {}, out);
}

larder_status larder_arena::import(larder_context& c, larder_layout& layout, const larder_arena_options* user,
                                   const larder_arena_import_options* user_import, larder_arena** out) {
    larder_arena_import_options i;
    LARDER_TRY(read_options(user_import, i, "larder_arena_import_options"));
    if (!i.tensors || !i.n_tensors) return fail(LARDER_E_INVALID, "tensors", "no tensors are given");
    LARDER_TRY(check_range(i.tensor_stride, 8, 65536, "tensor_stride"));
    LARDER_TRY(check_range(i.host_visible, 0, 1, "host_visible"));
    return make(c, layout, user, {.import = &i}, out);
}

larder_status larder_arena::make(larder_context& c, larder_layout& layout, const larder_arena_options* user,
                                 const Source& source, larder_arena** out) {
    larder_arena_options o;
    LARDER_TRY(read_options(user, o, "larder_arena_options"));
    LARDER_TRY(fill_defaults(o, source.import, c.os.topology()));
    LARDER_TRY(check_choices(o, source.import, uint32_t(layout.groups.size()), c.os.topology()));
    LARDER_TRY(check_sizes(o, c.os.topology().page_bytes));
    larder_arena* a = c.make_handle<larder_arena>(c, layout, o);
    larder_status s;
    try {
        s = a->set_up(source);
    } catch (...) {
        a->options_.reclaim.drop = nullptr;  // the caller keeps its callback when creation fails
        c.drop_handle(a);
        throw;
    }
    if (s < 0) {
        a->options_.reclaim.drop = nullptr;
        c.drop_handle(a);
        return s;
    }
    *out = a;
    return LARDER_OK;
}

larder_status larder_arena::set_up(const Source& source) {
    for (uint32_t g = 0; g < n_groups(); ++g) {
        LARDER_ASSIGN(GroupShape s, GroupShape::make(*layout_, g, options_));
        shapes_.push_back(s);
    }
    const uint32_t generation = context->random_generation();
    free_seqs_.reserve(options_.max_seqs);
    for (uint32_t i = options_.max_seqs; i-- > 0;) {
        free_seqs_.push_back(i);
        seqs_.emplace_back();
        seqs_.back().generation.store(generation, relaxed);
    }
    if (paged()) {
        LARDER_TRY(set_up_paged(source));
    } else {
        contig_ = make_owned<ContigStorage>(context->alloc, *context, shapes_, options_);
        LARDER_TRY(contig_->reserve());
    }
    options_.n_blocks = nullptr;
    context->stats.attach(*this);
    counted_ = true;
    return LARDER_OK;
}

larder_status larder_arena::set_up_storage(const Source& source) {
    storage_ = make_owned<ArenaStorage>(context->alloc, *context, shapes_);
    if (source.import) return storage_->import(*source.import);
    if (options_.memory != LARDER_ARENA_MEMFD || options_.run_blocks) return storage_->map(options_, 0);
    Vec<uint64_t> n_blocks(context->alloc);
    for (const GroupShape& s : shapes_) n_blocks.push_back(s.n_blocks);
    const uint64_t head_bytes = SharedRecord::bytes_for(n_blocks);
    LARDER_TRY(source.join.valid() ? storage_->join(options_, head_bytes, source.join)
                                   : storage_->map(options_, head_bytes));
    return open_record(!source.join.valid());
}

larder_status larder_arena::set_up_paged(const Source& source) {
    LARDER_TRY(size_groups());
    const Cpus cpus(context->os);
    LARDER_TRY(set_up_storage(source));
    uint64_t total = 0;
    for (uint32_t g = 0; g < n_groups(); ++g) {
        groups_.push_back(make_owned<Group>(context->alloc, context->alloc, layout_->groups[g].info, uint32_t(total),
                                            uint32_t(shapes_[g].n_blocks), context->random_generation(), cpus,
                                            bool(record_)));
        groups_[g]->index = g;
        groups_[g]->storage = storage_.get();
        groups_[g]->plain_alloc = !options_.run_blocks && !(options_.flags & LARDER_ARENA_ZERO_ON_HANDOVER);
        groups_[g]->plain_free = !options_.run_blocks && !clear_of(*groups_[g]);
        if (options_.run_blocks) groups_[g]->pool.use_runs(context->alloc, options_.max_seqs, options_.run_blocks);
        total += shapes_[g].n_blocks;
    }
    const uint64_t entries =
        options_.max_table_entries ? options_.max_table_entries : 4 * total + 1024 * uint64_t(options_.max_seqs);
    // Inner nodes are a 63rd of the leaves at most, and three more on a path being copied.
    const uint64_t n_nodes = entries / BlockTables::fanout * 65 / 64 + 8;
    if (n_nodes >= SlotPool::none)
        return fail(LARDER_E_RANGE, "max_table_entries", "%llu table entries are too many",
                    (unsigned long long)entries);
    tables_ = make_owned<BlockTables>(context->alloc, context->alloc, uint32_t(n_nodes), cpus);
    roots_.resize(size_t(options_.max_seqs) * n_groups());
    return LARDER_OK;
}

// Fill in n_blocks of the shapes: as given, or from the budget so that every group holds the same number of tokens.
larder_status larder_arena::size_groups() {
    uint64_t total = 0;
    if (!options_.n_blocks) LARDER_TRY(divide_budget());
    for (uint32_t g = 0; g < n_groups(); ++g) {
        if (options_.n_blocks) shapes_[g].n_blocks = options_.n_blocks[g];
        if (shapes_[g].n_blocks < 2 && !options_.n_blocks)
            return fail(LARDER_E_NOSPACE, "budget_bytes",
                        "budget_bytes %llu is too small for two blocks of %llu bytes in group %u",
                        (unsigned long long)options_.budget_bytes, (unsigned long long)shapes_[g].block_bytes, g);
        LARDER_TRY(check_range(shapes_[g].n_blocks, 2, Id::max_index, "n_blocks"));
        total += shapes_[g].n_blocks;
    }
    return check_range(total, 2, Id::max_index, "n_blocks");
}

larder_status larder_arena::divide_budget() {
    // One null block each; states first; then windows that need less than their share drop out until the rest is
    // divided evenly.
    uint64_t left = options_.budget_bytes;
    Vec<uint64_t> cap(n_groups(), Id::max_index, context->alloc);
    auto take = [&](uint32_t g, uint64_t n) {
        const unsigned __int128 bytes = (unsigned __int128)n * shapes_[g].padded_bytes;
        if (bytes > left) return false;
        left -= uint64_t(bytes);
        shapes_[g].n_blocks += n;
        return true;
    };
    Vec<uint8_t> open(n_groups(), 1, context->alloc);
    for (uint32_t g = 0; g < n_groups(); ++g) {
        const larder_layer_group& info = layout_->groups[g].info;
        const bool state = info.kind == LARDER_GROUP_RECURRENT;
        if (!take(g, state ? 1 + 2 * uint64_t(options_.max_seqs) : 1))
            return LARDER_OK;  // too small: size_groups() says so
        open[g] = !state;
        if (info.kind == LARDER_GROUP_WINDOW)
            cap[g] =
                options_.max_seqs * (uint64_t(info.window) / info.block_tokens + info.n_sinks / info.block_tokens + 4);
    }
    for (;;) {
        double bytes_per_token = 0;
        for (uint32_t g = 0; g < n_groups(); ++g)
            if (open[g]) bytes_per_token += double(shapes_[g].padded_bytes) / shapes_[g].block_tokens;
        if (bytes_per_token == 0) return LARDER_OK;
        const double tokens = double(left) / bytes_per_token;
        bool closed = false;
        for (uint32_t g = 0; g < n_groups(); ++g) {
            if (!open[g] || tokens / shapes_[g].block_tokens <= double(cap[g])) continue;
            take(g, cap[g] - 1);
            open[g] = 0;
            closed = true;
        }
        if (closed) continue;
        for (uint32_t g = 0; g < n_groups(); ++g)
            if (open[g]) take(g, uint64_t(tokens / shapes_[g].block_tokens));
        return LARDER_OK;
    }
}

larder_status larder_arena::check_group(uint32_t group) const noexcept {
    if (group < n_groups()) return LARDER_OK;
    return fail(LARDER_E_RANGE, "group", "group is %u; the arena has %u", group, n_groups());
}

larder_status larder_arena::check_paged() const noexcept {
    if (paged()) [[likely]]
        return LARDER_OK;
    return fail(LARDER_E_UNSUPPORTED, "mode", "a CONTIGUOUS arena has no blocks");
}

larder_status larder_arena::check_plane(uint32_t group, uint32_t layer, larder_plane plane) const noexcept {
    LARDER_TRY(check_group(group));
    if (layer >= shapes_[group].n_layers)
        return fail(LARDER_E_RANGE, "layer", "layer is %u; group %u has %u", layer, group, shapes_[group].n_layers);
    return check_range(uint32_t(plane), LARDER_PLANE_K, LARDER_PLANE_LOW_RANK, "plane");
}

larder_status larder_arena::group_query(uint32_t group, larder_arena_group_state& out) noexcept {
    LARDER_TRY(check_group(group));
    out = LARDER_ARENA_GROUP_STATE_INIT;
    out.block_tokens = layout_->groups[group].info.block_tokens;
    out.block_bytes = shapes_[group].block_bytes;
    if (!paged()) {
        out.mapped_bytes = contig_->mapped_bytes(group);
        out.granule_bytes = contig_->granule_bytes();
        return LARDER_OK;
    }
    const BlockPool& pool = groups_[group]->pool;
    out.n_blocks = pool.n_blocks();
    out.n_free = pool.n_free();
    if (record_) {
        const uint64_t n_unclaimed = record_->n_unclaimed(group);
        out.n_free += n_unclaimed;
        out.n_elsewhere = pool.n_absent() - std::min(pool.n_absent(), n_unclaimed);
    }
    out.n_retired = pool.n_retired();
    out.n_used = out.n_blocks - 1 - out.n_free - out.n_retired - out.n_elsewhere;
    const uint64_t usable = out.n_blocks - 1;
    if (out.n_free * 1000 < usable * options_.low_watermark)
        out.n_to_reclaim = (usable * options_.high_watermark + 999) / 1000 - out.n_free;
    out.mapped_bytes = storage_->mapped_bytes(group);
    return LARDER_OK;
}

larder_status larder_arena::layer_view(uint32_t group, uint32_t layer, larder_arena_layer& out) const noexcept {
    LARDER_TRY(check_plane(group, layer, LARDER_PLANE_K));
    const GroupShape& s = shapes_[group];
    auto base = [&](uint32_t p) -> void* {
        return paged() ? storage_->plane(group, layer, p).base : contig_->base(0, group, layer, p);
    };
    auto stride = [&](uint32_t p) {
        return paged() ? storage_->plane(group, layer, p).block_stride : contig_->range_bytes(group, p);
    };
    out = LARDER_ARENA_LAYER_INIT;
    out.n_kv_heads = s.n_kv_heads;
    out.k_base = base(0);
    out.v_base = base(1);
    out.scale_base = base(2);
    out.k_block_stride = stride(0);
    out.v_block_stride = stride(1);
    out.scale_block_stride = stride(2);
    out.k_token_stride = s.planes[0].token_bytes;
    out.v_token_stride = s.planes[1].token_bytes;
    out.scale_token_stride = s.planes[2].token_bytes;
    out.bias_base = base(plane_index(LARDER_PLANE_BIAS));
    out.low_rank_base = base(plane_index(LARDER_PLANE_LOW_RANK));
    out.bias_block_stride = stride(plane_index(LARDER_PLANE_BIAS));
    out.low_rank_block_stride = stride(plane_index(LARDER_PLANE_LOW_RANK));
    out.bias_token_stride = s.planes[plane_index(LARDER_PLANE_BIAS)].token_bytes;
    out.low_rank_token_stride = s.planes[plane_index(LARDER_PLANE_LOW_RANK)].token_bytes;
    out.k_head_stride = s.planes[0].head_bytes;
    out.v_head_stride = s.planes[1].head_bytes;
    out.n_blocks = paged() ? s.n_blocks : options_.max_seqs;
    return LARDER_OK;
}

larder_status larder_arena::trim(uint64_t keep_bytes) noexcept {
    return paged() ? LARDER_OK : contig_->trim(keep_bytes);
}

void larder_arena::collect(StatSums& sums) const noexcept {
    for (auto& g : groups_) {
        sums[size_t(Stat::arena_blocks_total)] += g->pool.n_blocks();
        sums[size_t(Stat::arena_blocks_used)] += g->pool.n_used();
        sums[size_t(Stat::arena_allocs)] += g->pool.n_allocs();
        sums[size_t(Stat::arena_alloc_failures)] += g->n_failures.load(relaxed);
        sums[size_t(Stat::arena_cow_copies)] += g->n_copies.load(relaxed);
    }
}
