#include "kv/worker.h"

#include <algorithm>

#include "base/crc32c.h"

namespace larder {
namespace {

larder_kv_layer_view view_of(const GroupShape& shape, const ArenaStorage& storage, uint32_t group,
                             uint32_t layer) noexcept {
    larder_kv_layer_view v = LARDER_KV_LAYER_VIEW_INIT;
    v.block_tokens = shape.block_tokens;
    v.n_kv_heads = shape.n_kv_heads;
    v.n_blocks = shape.n_blocks;
    const ArenaStorage::Plane& k = storage.plane(group, layer, 0);
    const ArenaStorage::Plane& val = storage.plane(group, layer, 1);
    const ArenaStorage::Plane& scale = storage.plane(group, layer, 2);
    v.k = k.base;
    v.v = shape.planes[1].token_bytes ? val.base : nullptr;
    v.scales = shape.planes[2].token_bytes ? scale.base : nullptr;
    v.k_block_stride_bytes = k.block_stride;
    v.v_block_stride_bytes = val.block_stride;
    v.scale_block_stride_bytes = scale.block_stride;
    v.k_token_stride_bytes = shape.planes[0].token_bytes;
    v.v_token_stride_bytes = shape.planes[1].token_bytes;
    v.scale_token_stride_bytes = shape.planes[2].token_bytes;
    return v;
}

}  // namespace

Worker::Worker(larder_context& c, larder_layout& layout, const WorkerConfig& config)
    : context_(c), layout_(layout), n_blocks_(config.n_blocks), n_states_(config.n_states), shard_(config.shard),
      block_tokens_(block_tokens_of(layout)), engine_memory_(config.engine_memory), groups_(c.alloc),
      identity_(shard_identity(layout, config.shard)) {
    layout.ref();
}

Worker::~Worker() {
    if (store_) larder_store_close(store_);
    if (codec_) larder_codec_close(codec_);
    layout_.unref();
}

larder_status Worker::init(const WorkerConfig& config) {
    LARDER_TRY(init_groups());
    const bool tiers = config.host_bytes || config.directory;
    // A name that does not exist is told now, and not when a tier is added.
    if (tiers || config.codec) LARDER_TRY(init_codec(config));
    if (!tiers) return LARDER_OK;
    return init_store(config);
}

void Worker::init_group(uint32_t g) {
    const auto& layout_group = layout_.groups[g];
    const larder_layer_group& info = layout_group.info;
    Group& group = groups_[g];
    GroupShape& shape = group.shape;
    shape.n_layers = uint32_t(std::count_if(layout_group.layers.begin(), layout_group.layers.end(),
                                            [&](uint32_t layer) { return shard_.has_layer(layer); }));
    if (shape.is_state) {
        shape.n_blocks = uint64_t(n_states_) + 1;
    } else {
        group.split = block_tokens_ / info.block_tokens;
        shape.n_blocks = uint64_t(n_blocks_) + 1;
        shape.block_tokens = block_tokens_ / shard_.n_cp;
    }
    shape.block_bytes = 0;
    for (const PlaneShape& p : shape.planes) shape.block_bytes += p.token_bytes * shape.block_tokens * shape.n_layers;
    shape.padded_bytes = shape.block_bytes;
    group.stream = LARDER_STREAM_SHAPE_INIT;
    group.stream.n_layers = shape.n_layers;
    group.stream.n_tokens = shape.block_tokens;
    group.stream.n_kv_heads = shape.n_kv_heads;
    group.stream.k_dim = info.k_dim;
    group.stream.v_dim = info.v_dim;
    group.stream.k_dtype = info.k_dtype;
    group.stream.v_dtype = info.v_dtype;
    group.views.assign(shape.n_layers, larder_kv_layer_view LARDER_KV_LAYER_VIEW_INIT);
    n_layers_ += shape.n_layers;
    if (!shape.is_state) block_bytes_ += shape.block_bytes;
}

larder_status Worker::init_groups() {
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.order = LARDER_ARENA_LAYER_FIRST;
    o.memory = LARDER_ARENA_ANON;
    o.n_tp = shard_.n_tp;
    Vec<GroupShape> shapes(context_.alloc);
    for (uint32_t g = 0; g < layout_.groups.size(); ++g) {
        groups_.emplace_back(context_.alloc);
        LARDER_ASSIGN(groups_[g].shape, GroupShape::make(layout_, g, o));
        init_group(g);
        shapes.push_back(groups_[g].shape);
    }
    if (!n_layers_)
        return fail(LARDER_E_RANGE, "n_layers", "layers %u to %u of the model are none of the layout's",
                    shard_.first_layer, shard_.end_layer - 1);
    if (engine_memory_) return LARDER_OK;
    storage_ = make_owned<ArenaStorage>(context_.alloc, context_, std::move(shapes));
    LARDER_TRY(rename_field(storage_->map(o, 0), "budget_bytes", "arena_bytes"));
    for (uint32_t g = 0; g < groups_.size(); ++g)
        for (uint32_t l = 0; l < groups_[g].views.size(); ++l)
            groups_[g].views[l] = view_of(groups_[g].shape, *storage_, g, l);
    return LARDER_OK;
}

larder_status Worker::init_codec(const WorkerConfig& config) {
    larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
    o.chain = config.codec;
    const larder_status made = larder_codec::create(context_, &o, &codec_);
    if (made < 0) return rename_field(made, "chain", "codec");
    if (codec_->chain.salient_percent)
        return fail(LARDER_E_UNSUPPORTED, "codec",
                    "the codec needs the saliency of tokens, which a KV manager does not have");
    record_bound_ = record_header_bytes();
    for (const Group& g : groups_) {
        if (!g.stream.n_layers || g.is_state()) continue;
        uint64_t bound = 0, workspace = 0;
        LARDER_TRY(codec_->sizes(g.stream, bound, workspace));
        record_bound_ += bound + scale_record_bytes(g);
    }
    record_bound_ = std::max(record_bound_, state_record_bytes());
    return LARDER_OK;
}

// Of a state slot: layer for layer, a CRC32C behind each group.
uint64_t Worker::state_record_bytes() const noexcept {
    uint64_t n = state_head_bytes;
    for (const Group& g : groups_)
        if (g.is_state()) n += g.shape.block_bytes + sizeof(uint32_t);
    return n;
}

larder_status Worker::init_store(const WorkerConfig& config) {
    larder_store_options o = LARDER_STORE_OPTIONS_INIT;
    o.directory = config.directory;
    o.host_bytes = config.host_bytes;
    o.file_bytes = config.directory && !config.file_bytes ? uint64_t(1) << 30 : config.file_bytes;
    o.segment_bytes = config.segment_bytes;
    o.write_policy = config.write_through ? LARDER_WRITE_THROUGH : LARDER_WRITE_BACK;
    has_file_ = config.directory != nullptr;
    LARDER_TRY(larder_store::open(context_, o, &store_));
    const uint64_t max = store_->info().max_object_bytes;
    if (record_bound_ > max)
        return fail(LARDER_E_RANGE, has_file_ ? "segment_bytes" : "host_bytes",
                    "an encoded block may have %llu bytes; the tiers take at most %llu",
                    (unsigned long long)record_bound_, (unsigned long long)max);
    return LARDER_OK;
}

larder_kv_layer_view Worker::outside(const Group& g, larder_kv_layer_view v) noexcept {
    v.block_tokens /= g.split;
    v.n_blocks *= g.split;
    v.k_block_stride_bytes /= g.split;
    v.v_block_stride_bytes /= g.split;
    v.scale_block_stride_bytes /= g.split;
    return v;
}

larder_kv_layer_view Worker::inside(const Group& g, larder_kv_layer_view v) noexcept {
    v.struct_size = sizeof v;
    v.block_tokens = g.shape.block_tokens;
    v.n_kv_heads = g.shape.n_kv_heads;
    v.n_blocks /= g.split;
    v.k_block_stride_bytes *= g.split;
    v.v_block_stride_bytes *= g.split;
    v.scale_block_stride_bytes *= g.split;
    return v;
}

larder_status Worker::layer_view(uint32_t group, uint32_t layer, larder_kv_layer_view& out) const noexcept {
    if (group >= groups_.size())
        return fail(LARDER_E_RANGE, "group", "group is %u; the layout has %zu", group, groups_.size());
    const Group& g = groups_[group];
    if (layer >= g.views.size())
        return fail(LARDER_E_RANGE, "layer", "layer is %u; group %u has %zu here", layer, group, g.views.size());
    out = outside(g, g.views[layer]);
    return out.k ? LARDER_OK : fail(LARDER_E_STATE, "worker", "the engine has not registered this layer's tensors");
}

larder_status Worker::check_tensor(const Group& g, const larder_worker_tensor& t) const noexcept {
    const larder_kv_layer_view& v = t.view;
    const uint64_t n_tokens = g.shape.block_tokens / g.split;
    const auto fits = [&](const void* base, uint64_t token_bytes, uint64_t token_stride, uint64_t block_stride) {
        return !token_bytes ||
               (base && token_stride >= token_bytes && block_stride >= token_stride * (n_tokens - 1) + token_bytes);
    };
    // The planner's block is several of the group's in a row: only without a gap between them is it one run of tokens.
    const auto in_a_row = [&](uint64_t token_bytes, uint64_t token_stride, uint64_t block_stride) {
        return !token_bytes || g.split == 1 || block_stride == n_tokens * token_stride;
    };
    const auto& planes = g.shape.planes;
    if (!fits(v.k, planes[0].token_bytes, v.k_token_stride_bytes, v.k_block_stride_bytes) ||
        !fits(v.v, planes[1].token_bytes, v.v_token_stride_bytes, v.v_block_stride_bytes) ||
        !fits(v.scales, planes[2].token_bytes, v.scale_token_stride_bytes, v.scale_block_stride_bytes))
        return fail(LARDER_E_INVALID, "view", "a base is NULL or a stride too small for group %u, layer %u", t.group,
                    t.layer);
    if (!in_a_row(planes[0].token_bytes, v.k_token_stride_bytes, v.k_block_stride_bytes) ||
        !in_a_row(planes[1].token_bytes, v.v_token_stride_bytes, v.v_block_stride_bytes) ||
        !in_a_row(planes[2].token_bytes, v.scale_token_stride_bytes, v.scale_block_stride_bytes))
        return fail(LARDER_E_INVALID, "view",
                    "blocks of group %u are smaller than the largest of the layout: they must lie without gaps",
                    t.group);
    const uint64_t n_blocks = (uint64_t(g.is_state() ? n_states_ : n_blocks_) + 1) * g.split;
    return v.n_blocks >= n_blocks ? LARDER_OK
                                  : fail(LARDER_E_RANGE, "view.n_blocks", "the tensor has %llu blocks; %llu are needed",
                                         (unsigned long long)v.n_blocks, (unsigned long long)n_blocks);
}

larder_status Worker::add_tensor(const larder_worker_tensor& t) {
    if (!engine_memory_) return fail(LARDER_E_STATE, "worker", "the worker has an arena of its own");
    if (t.device != -1)
        return fail(LARDER_E_NO_DEVICE, "device", "tensors of device %d cannot be registered", t.device);
    if (t.group >= groups_.size())
        return fail(LARDER_E_RANGE, "group", "group is %u; the layout has %zu", t.group, groups_.size());
    Group& g = groups_[t.group];
    if (t.layer >= g.views.size())
        return fail(LARDER_E_RANGE, "layer", "layer is %u; group %u has %zu here", t.layer, t.group, g.views.size());
    LARDER_TRY(check_tensor(g, t));
    if (g.views[t.layer].k)
        return fail(LARDER_E_EXISTS, "layer", "layer %u of group %u is registered already", t.layer, t.group);
    g.views[t.layer] = inside(g, t.view);
    return LARDER_OK;
}

larder_status Worker::check_ready() const noexcept {
    for (const Group& g : groups_)
        for (const larder_kv_layer_view& v : g.views)
            if (!v.k) return fail(LARDER_E_STATE, "worker", "the engine has not registered all tensors");
    return LARDER_OK;
}

larder_status Worker::check(const Plan& plan) const noexcept {
    if (!(plan.layout == layout_.identity))
        return fail(LARDER_E_IDENTITY, "plan.layout", "the plan is for another layout");
    for (size_t i = 0; i < plan.ops.size(); ++i) {
        const uint32_t n = plan.ops[i].is_state() ? n_states_ : n_blocks_;
        if (plan.ops[i].block > n || plan.ops[i].source > n || plan.ops[i].n_tokens > block_tokens_)
            return fail(LARDER_E_RANGE, "plan.ops",
                        "operation %zu names a block, slot or tokens that this worker does not have", i);
    }
    return check_ready();
}

larder_status Worker::inventory(Vec<InventoryEntry>& out) {
    struct Walk {
        Vec<InventoryEntry>& out;
        const larder_key& identity;
        bool no_memory = false;
    } walk{out, identity_};
    LARDER_TRY(store_->scan(
        [](void* ctx, const larder_object_info* i) -> int32_t {
            auto& w = *static_cast<Walk*>(ctx);
            if (!(i->meta.layout == w.identity)) return 0;
            try {
                w.out.push_back({i->key, i->meta.parent, i->meta.n_tokens,
                                 i->meta.quality ? i->meta.quality : LARDER_QUALITY_EXACT});
            } catch (const std::bad_alloc&) {
                w.no_memory = true;
            }
            return w.no_memory;
        },
        &walk));
    return walk.no_memory ? fail(LARDER_E_NOMEM, "", "the allocator gave no memory") : LARDER_OK;
}

StoredAt StoreDirectory::find(const larder_key& key, larder_quality min_quality) noexcept {
    larder_object_want want = LARDER_OBJECT_WANT_INIT;
    want.layout = worker_.identity();
    want.min_quality = min_quality;
    try {
        const larder_object_info i = worker_.store()->lookup(key, &want);
        if (i.status != LARDER_OK) return {};
        return {i.tiers & (LARDER_KV_IN_HOST | LARDER_KV_IN_FILE), i.meta.quality};
    } catch (const std::bad_alloc&) {
        return {};
    }
}

}  // namespace larder
