// Applying a plan: copies, loads layer by layer, stores.
#include <algorithm>
#include <bit>

#include "base/crc32c.h"
#include "kv/worker.h"

namespace larder {
namespace {

// A record (docs/formats/block.md) begins with these, then for each group {u32 stream bytes, u32 scale bytes}, then
// streams and scales.
constexpr uint32_t record_magic = 0x4b4c424c;  // "LBLK"
constexpr uint16_t record_version = 1;
constexpr size_t record_head_bytes = 8, record_group_bytes = 8;
// The record of a state slot: its head has another magic, then the states follow.
constexpr uint32_t state_magic = 0x4154534c;  // "LSTA"
// Enough to keep a disk busy.
constexpr size_t n_loads_at_once = 8;
static_assert(state_head_bytes == record_head_bytes);

}  // namespace

size_t Worker::record_header_bytes() const noexcept {
    return record_head_bytes + groups_.size() * record_group_bytes;
}

// Scales of the engine are kept as they are, behind the group's stream: [layer][token][scale_bytes], then their CRC32C.
uint64_t Worker::scale_record_bytes(const Group& g) noexcept {
    const uint64_t n = uint64_t(g.stream.n_layers) * g.shape.block_tokens * g.shape.planes[2].token_bytes;
    return n ? n + sizeof(uint32_t) : 0;
}

struct Worker::Load {
    explicit Load(const Allocator& a) : streams(a), scales(a) {}
    const PlanOp* op = nullptr;
    size_t index = 0;               // into the plan
    MutByteSpan record;             // in the load's buffer
    uint64_t n_bytes = 0;           // as the store says
    uint64_t workspace_bytes = 0;   // the most that decoding a stream of it wants
    Vec<ByteSpan> streams, scales;  // one per group
};

void Worker::set_planes(larder_stream_plane* kv, const larder_kv_layer_view& v, uint32_t block) noexcept {
    kv[0] = LARDER_STREAM_PLANE_INIT;
    kv[0].base = static_cast<std::byte*>(v.k) + block * v.k_block_stride_bytes;
    kv[0].token_stride = v.k_token_stride_bytes;
    kv[1] = LARDER_STREAM_PLANE_INIT;
    if (!v.v) return;
    kv[1].base = static_cast<std::byte*>(v.v) + block * v.v_block_stride_bytes;
    kv[1].token_stride = v.v_token_stride_bytes;
}

void Worker::run(const Plan& plan, std::span<larder_status> statuses, const PlanWatch& watch) noexcept {
    std::fill(statuses.begin(), statuses.end(), LARDER_OK);
    run_copies(plan);
    run_loads(plan, statuses, watch);
    Vec<std::byte> record(context_.alloc), workspace(context_.alloc);
    for (size_t i = 0; i < plan.ops.size(); ++i) {
        const PlanOp& op = plan.ops[i];
        if (op.kind != PlanOpKind::store) continue;
        statuses[i] =
            watch.cancelled && watch.cancelled(watch.ctx) ? LARDER_E_CANCELLED : run_store(op, record, workspace);
        if (watch.moved && statuses[i] == LARDER_OK) watch.moved(watch.ctx, record.size());
    }
    for (size_t i = 0; i < plan.ops.size(); ++i) {
        const PlanOp& op = plan.ops[i];
        if (op.kind != PlanOpKind::drop && op.kind != PlanOpKind::flush) continue;
        try {
            if (op.kind == PlanOpKind::drop && store_) store_->evict(op.key, LARDER_TIER_HOST | LARDER_TIER_FILE);
            if (op.kind == PlanOpKind::flush && has_file_) statuses[i] = store_->flush();
        } catch (const std::bad_alloc&) {
            statuses[i] = fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
        }
    }
}

void Worker::copy_rows(uint32_t to_block, uint32_t to, uint32_t from_block, uint32_t from, uint32_t n) noexcept {
    const auto rows = [&](void* base, uint64_t block_stride, uint64_t token_stride, uint64_t token_bytes) {
        if (!base) return;
        std::byte* d = static_cast<std::byte*>(base) + to_block * block_stride + to * token_stride;
        const std::byte* s = static_cast<const std::byte*>(base) + from_block * block_stride + from * token_stride;
        if (token_stride == token_bytes) {
            std::memmove(d, s, n * token_bytes);
            return;
        }
        for (uint32_t t = 0; t < n; ++t) std::memmove(d + t * token_stride, s + t * token_stride, token_bytes);
    };
    for (const Group& g : groups_) {
        if (g.is_state()) continue;
        for (const larder_kv_layer_view& v : g.views) {
            rows(v.k, v.k_block_stride_bytes, v.k_token_stride_bytes, g.shape.planes[0].token_bytes);
            rows(v.v, v.v_block_stride_bytes, v.v_token_stride_bytes, g.shape.planes[1].token_bytes);
            rows(v.scales, v.scale_block_stride_bytes, v.scale_token_stride_bytes, g.shape.planes[2].token_bytes);
        }
    }
}

void Worker::copy_state(uint32_t to, uint32_t from) noexcept {
    for (const Group& g : groups_) {
        if (!g.is_state()) continue;
        for (const larder_kv_layer_view& v : g.views)
            std::memcpy(static_cast<std::byte*>(v.k) + to * v.k_block_stride_bytes,
                        static_cast<const std::byte*>(v.k) + from * v.k_block_stride_bytes,
                        g.shape.planes[0].token_bytes);
    }
}

void Worker::run_copies(const Plan& plan) noexcept {
    for (const PlanOp& op : plan.ops) {
        if (op.kind != PlanOpKind::copy) continue;
        if (op.is_state())
            copy_state(op.block, op.source);
        else
            copy_rows(op.block, 0, op.source, 0, local_tokens(op));
    }
}

void Worker::run_loads(const Plan& plan, std::span<larder_status> statuses, const PlanWatch& watch) {
    Vec<Load> loads(context_.alloc);
    RecordBuffer buffer = borrow_buffer();
    try {
        for (size_t i = 0; i < plan.ops.size(); ++i) {
            if (plan.ops[i].kind != PlanOpKind::load) continue;
            loads.emplace_back(context_.alloc);
            loads.back().op = &plan.ops[i];
            loads.back().index = i;
        }
    } catch (const std::bad_alloc&) {
        fail_loads(plan, statuses);
        loads.clear();
    }
    if (!loads.empty() && watch.layers_done)
        load_by_layers(plan, loads, buffer, statuses, watch);
    else if (!loads.empty())
        load_by_blocks(plan, loads, buffer, statuses, watch);
    give_back(std::move(buffer));
}

// What has no buffer is not loaded: the engine computes it.
void Worker::fail_loads(const Plan& plan, std::span<larder_status> statuses) noexcept {
    for (size_t i = 0; i < plan.ops.size(); ++i)
        if (plan.ops[i].kind == PlanOpKind::load) statuses[i] = LARDER_E_NOMEM;
}

void Worker::load_by_layers(const Plan& plan, std::span<Load> loads, RecordBuffer& buffer,
                            std::span<larder_status> statuses, const PlanWatch& watch) {
    try {
        read_records(loads, buffer, statuses, watch);
    } catch (const std::bad_alloc&) {
        fail_loads(plan, statuses);
    }
    if (watch.checked) watch.checked(watch.ctx, statuses);
    decode_layers(loads, statuses, watch);
}

// Nobody waits for single layers: a few records at a time, so that they are decoded while the caches still have them.
void Worker::load_by_blocks(const Plan& plan, std::span<Load> loads, RecordBuffer& buffer,
                            std::span<larder_status> statuses, const PlanWatch& watch) {
    DecodeScratch scratch(context_.alloc);
    try {
        for (size_t i = 0; i < loads.size(); i += n_loads_at_once) {
            const std::span<Load> part = loads.subspan(i, std::min(n_loads_at_once, loads.size() - i));
            read_records(part, buffer, statuses, watch);
            for (const Load& l : part)
                if (statuses[l.index] == LARDER_OK) statuses[l.index] = decode_block(l, scratch);
        }
    } catch (const std::bad_alloc&) {
        fail_loads(plan, statuses);
    }
    count_loaded(loads, statuses);
    if (watch.checked) watch.checked(watch.ctx, statuses);
}

// Every record is in memory, verified and parsed before the first layer is decoded.
void Worker::read_records(std::span<Load> loads, RecordBuffer& buffer, std::span<larder_status> statuses,
                          const PlanWatch& watch) {
    Vec<larder_object_want> wants(loads.size(), larder_object_want LARDER_OBJECT_WANT_INIT, context_.alloc);
    Vec<larder_store_get_item> items(context_.alloc);
    Vec<Load*> of(context_.alloc);
    for (size_t i = 0; i < loads.size(); ++i) {
        Load& l = loads[i];
        wants[i].layout = identity_;
        wants[i].min_quality = l.op->quality;
        if (watch.cancelled && watch.cancelled(watch.ctx)) {
            statuses[l.index] = LARDER_E_CANCELLED;
            continue;
        }
        const larder_object_info info =
            store_ ? store_->lookup(l.op->key, &wants[i]) : larder_object_info LARDER_OBJECT_INFO_INIT;
        if (!store_ || info.status != LARDER_OK || info.meta.n_tokens != l.op->n_tokens) {
            statuses[l.index] = LARDER_E_NOT_FOUND;
            continue;
        }
        l.n_bytes = info.n_bytes;
        larder_store_get_item item = LARDER_STORE_GET_ITEM_INIT;
        item.key = l.op->key;
        item.want = &wants[i];
        items.push_back(item);
        of.push_back(&l);
    }
    place_records(of, items, buffer);
    Vec<larder_store_get_result> results(items.size(), larder_store_get_result{}, context_.alloc);
    if (!items.empty()) store_->get(items, results.data());
    for (size_t i = 0; i < items.size(); ++i) {
        Load& l = *of[i];
        larder_status s = results[i].status;
        if (s == LARDER_MISS || s == LARDER_RETRY) s = missing(l.op->key);
        if (s == LARDER_OK && results[i].n_bytes != l.record.size()) s = LARDER_E_NOT_FOUND;
        if (s == LARDER_OK) s = l.op->is_state() ? parse_state(l) : parse(l);
        if (s == LARDER_OK && watch.moved) watch.moved(watch.ctx, l.record.size());
        statuses[l.index] = s;
    }
}

// One buffer for all records, each at a cache line of its own.
void Worker::place_records(std::span<Load* const> loads, std::span<larder_store_get_item> items, RecordBuffer& buffer) {
    uint64_t n_bytes = 0;
    for (const Load* l : loads) n_bytes += (l->n_bytes + 63) & ~uint64_t(63);
    std::byte* at = buffer.make(context_.alloc, n_bytes);
    for (size_t i = 0; i < loads.size(); ++i) {
        loads[i]->record = {at, size_t(loads[i]->n_bytes)};
        items[i].buffer = at;
        items[i].capacity = loads[i]->n_bytes;
        at += (loads[i]->n_bytes + 63) & ~uint64_t(63);
    }
}

// The last load's buffer is kept: fresh memory costs more than reading into it.
RecordBuffer Worker::borrow_buffer() noexcept {
    std::lock_guard lock(buffer_mutex_);
    return std::move(spare_);
}

void Worker::give_back(RecordBuffer buffer) noexcept {
    constexpr uint64_t keep_bytes = uint64_t(64) << 20;
    std::lock_guard lock(buffer_mutex_);
    if (buffer.n_bytes <= keep_bytes && buffer.n_bytes > spare_.n_bytes) std::swap(buffer, spare_);
}

// A record that went missing because it was damaged is told apart from one that was evicted.
larder_status Worker::missing(const larder_key& key) {
    return store_->explain(key).why == LARDER_ABSENT_CORRUPT ? LARDER_E_CORRUPT : LARDER_E_NOT_FOUND;
}

larder_status Worker::parse_state(Load& l) const {
    ByteReader in(l.record);
    if (in.get<uint32_t>() != state_magic) return fail(LARDER_E_FORMAT, "record", "the record is not a state's");
    if (in.get<uint16_t>() != record_version) return fail(LARDER_E_VERSION, "record", "the record has another version");
    if (in.get<uint16_t>() != groups_.size() || l.record.size() != state_record_bytes())
        return fail(LARDER_E_IDENTITY, "record", "the record has other groups or states of another size");
    for (const Group& g : groups_) {
        l.streams.push_back(in.take(g.is_state() ? g.shape.block_bytes : 0));
        if (g.is_state() && crc32c(0, l.streams.back().data(), l.streams.back().size()) != in.get<uint32_t>())
            return fail(LARDER_E_CORRUPT, "record", "the checksum of the states does not hold");
    }
    return LARDER_OK;
}

// Finds the groups' streams in a record and checks what they say of themselves.
larder_status Worker::parse(Load& l) const {
    ByteReader in(l.record);
    if (in.get<uint32_t>() != record_magic) return fail(LARDER_E_FORMAT, "record", "the record is not a block's");
    if (in.get<uint16_t>() != record_version) return fail(LARDER_E_VERSION, "record", "the record has another version");
    if (in.get<uint16_t>() != groups_.size())
        return fail(LARDER_E_IDENTITY, "record", "the record has another number of groups");
    ByteReader body(l.record);
    body.take(record_header_bytes());
    l.streams.reserve(groups_.size());
    l.scales.reserve(groups_.size());
    for (const Group& g : groups_) {
        const ByteSpan stream = body.take(in.get<uint32_t>());
        const ByteSpan scales = body.take(in.get<uint32_t>());
        if (!in.ok() || !body.ok()) return fail(LARDER_E_TRUNCATED, "record", "the record ends before its last stream");
        LARDER_TRY(check_stream(g, *l.op, stream, l.workspace_bytes));
        if (scales.size() != (local_tokens(*l.op) ? scale_record_bytes(g) : 0))
            return fail(LARDER_E_IDENTITY, "record", "the record has other scales");
        if (!scales.empty() &&
            crc32c(0, scales.data(), scales.size() - 4) != load_le<uint32_t>(scales.data() + scales.size() - 4))
            return fail(LARDER_E_CORRUPT, "record", "the checksum of the scales does not hold");
        l.streams.push_back(stream);
        l.scales.push_back(scales);
    }
    return body.remaining() == 0 ? LARDER_OK : fail(LARDER_E_FORMAT, "record", "there are bytes behind the record");
}

larder_status Worker::check_stream(const Group& g, const PlanOp& op, ByteSpan stream,
                                   uint64_t& workspace_bytes) const noexcept {
    if (!g.stream.n_layers || g.is_state() || !local_tokens(op))
        return stream.empty() ? LARDER_OK
                              : fail(LARDER_E_IDENTITY, "record", "the record has what this rank does not hold");
    larder_stream_info info = LARDER_STREAM_INFO_INIT;
    LARDER_TRY(stream_inspect(stream, info));
    const larder_stream_shape& s = info.shape;
    const uint32_t n_tokens = local_tokens(op);
    if (info.n_bytes != stream.size()) return fail(LARDER_E_TRUNCATED, "record", "the record ends inside a stream");
    if (!(info.identity.layout == identity_) || !(info.identity.content == op.key))
        return fail(LARDER_E_IDENTITY, "record", "the record is another block's");
    if (s.n_layers != g.stream.n_layers || s.n_tokens != n_tokens || s.n_kv_heads != g.stream.n_kv_heads ||
        s.k_dim != g.stream.k_dim || s.v_dim != g.stream.v_dim || s.k_dtype != g.stream.k_dtype ||
        (s.v_dim && s.v_dtype != g.stream.v_dtype))
        return fail(LARDER_E_IDENTITY, "record", "the record has another shape");
    workspace_bytes = std::max<uint64_t>(workspace_bytes, info.decode_workspace);
    return LARDER_OK;
}

void Worker::decode_layers(std::span<const Load> loads, std::span<larder_status> statuses, const PlanWatch& watch) {
    DecodeScratch scratch(context_.alloc);
    uint32_t n_done = 0;
    for (uint32_t g = 0; g < groups_.size(); ++g)
        for (uint32_t layer = 0; layer < groups_[g].views.size(); ++layer) {
            for (const Load& l : loads) {
                if (statuses[l.index] != LARDER_OK || l.op->is_state() != groups_[g].is_state()) continue;
                if (l.op->is_state()) {
                    load_state_layer(l, g, layer);
                    continue;
                }
                try {
                    statuses[l.index] = decode_group(l, g, layer, 1, scratch);
                } catch (const std::bad_alloc&) {
                    statuses[l.index] = LARDER_E_NOMEM;
                }
            }
            if (watch.layers_done) watch.layers_done(watch.ctx, ++n_done);
        }
    count_loaded(loads, statuses);
}

void Worker::count_loaded(std::span<const Load> loads, std::span<const larder_status> statuses) noexcept {
    uint64_t n_bytes = 0;
    for (const Load& l : loads)
        if (statuses[l.index] == LARDER_OK) n_bytes += l.op->is_state() ? state_record_bytes() : block_bytes_;
    context_.stats.add(Stat::transfer_bytes, n_bytes);
}

void Worker::load_state_layer(const Load& l, uint32_t group, uint32_t layer) noexcept {
    const larder_kv_layer_view& v = groups_[group].views[layer];
    const uint64_t n = groups_[group].shape.planes[0].token_bytes;
    std::memcpy(static_cast<std::byte*>(v.k) + l.op->block * v.k_block_stride_bytes,
                l.streams[group].data() + layer * n, n);
}

larder_status Worker::decode_block(const Load& l, DecodeScratch& scratch) {
    for (uint32_t g = 0; g < groups_.size(); ++g) {
        if (groups_[g].is_state() != l.op->is_state()) continue;
        const uint32_t n_layers = uint32_t(groups_[g].views.size());
        if (l.op->is_state())
            for (uint32_t layer = 0; layer < n_layers; ++layer) load_state_layer(l, g, layer);
        else
            LARDER_TRY(decode_group(l, g, 0, n_layers, scratch));
    }
    return LARDER_OK;
}

larder_status Worker::decode_group(const Load& l, uint32_t group, uint32_t first, uint32_t n_layers,
                                   DecodeScratch& scratch) {
    const Group& g = groups_[group];
    if (!local_tokens(*l.op) || !n_layers) return LARDER_OK;
    scratch.planes.resize(2 * n_layers);
    for (uint32_t i = 0; i < n_layers; ++i) set_planes(&scratch.planes[2 * i], g.views[first + i], l.op->block);
    if (scratch.workspace.size() < l.workspace_bytes) scratch.workspace.resize(l.workspace_bytes);
    larder_stream_target t = LARDER_STREAM_TARGET_INIT;
    t.first_layer = first;
    t.n_layers = n_layers;
    t.planes = scratch.planes.data();
    t.workspace = scratch.workspace.data();
    t.workspace_bytes = scratch.workspace.size();
    LARDER_TRY(stream_decode(context_, l.streams[group], t));
    for (uint32_t i = 0; i < n_layers; ++i) load_scales(l, group, first + i);
    return LARDER_OK;
}

void Worker::load_scales(const Load& l, uint32_t group, uint32_t layer) noexcept {
    const Group& g = groups_[group];
    const uint64_t token_bytes = g.shape.planes[2].token_bytes;
    if (!token_bytes) return;
    const larder_kv_layer_view& v = g.views[layer];
    const std::byte* scales = l.scales[group].data() + uint64_t(layer) * g.shape.block_tokens * token_bytes;
    std::byte* to = static_cast<std::byte*>(v.scales) + l.op->block * v.scale_block_stride_bytes;
    for (uint32_t i = 0; i < local_tokens(*l.op); ++i)
        std::memcpy(to + i * v.scale_token_stride_bytes, scales + i * token_bytes, token_bytes);
}

larder_status Worker::encode_group(size_t index, const PlanOp& op, Vec<std::byte>& record, Vec<std::byte>& workspace) {
    const Group& g = groups_[index];
    if (!g.stream.n_layers || g.is_state() || !local_tokens(op)) return LARDER_OK;  // both sizes stay 0
    Vec<larder_stream_plane> planes(2 * g.views.size(), larder_stream_plane LARDER_STREAM_PLANE_INIT, context_.alloc);
    for (size_t l = 0; l < g.views.size(); ++l) set_planes(&planes[2 * l], g.views[l], op.block);
    larder_stream_source source = LARDER_STREAM_SOURCE_INIT;
    source.shape = g.stream;
    source.shape.n_tokens = local_tokens(op);
    source.identity.layout = identity_;
    source.identity.content = op.key;
    source.identity.rope = layout_.rope;
    source.planes = planes.data();
    uint64_t bound = 0, scratch = 0;
    LARDER_TRY(codec_->sizes(source.shape, bound, scratch));
    if (workspace.size() < scratch) workspace.resize(scratch);
    const size_t at = record.size();
    record.resize(at + bound);
    LARDER_ASSIGN(const uint64_t n, codec_->encode(source, MutByteSpan(record).subspan(at), workspace));
    record.resize(at + n);
    std::byte* head = record.data() + record_head_bytes + index * record_group_bytes;
    store_le(head, uint32_t(n));
    store_le(head + 4, uint32_t(scale_record_bytes(g)));
    const uint64_t token_bytes = g.shape.planes[2].token_bytes;
    if (!token_bytes) return LARDER_OK;
    const size_t first = record.size();
    record.resize(first + scale_record_bytes(g));
    std::byte* to = record.data() + first;
    for (const larder_kv_layer_view& v : g.views)
        for (uint32_t i = 0; i < g.shape.block_tokens; ++i, to += token_bytes)
            std::memcpy(to,
                        static_cast<std::byte*>(v.scales) + op.block * v.scale_block_stride_bytes +
                            i * v.scale_token_stride_bytes,
                        token_bytes);
    store_le(to, crc32c(0, record.data() + first, size_t(to - record.data()) - first));
    return LARDER_OK;
}

void Worker::encode_state(const PlanOp& op, Vec<std::byte>& record) {
    record.resize(state_record_bytes());
    std::byte* to = record.data();
    store_le(to, state_magic);
    store_le(to + 4, record_version);
    store_le(to + 6, uint16_t(groups_.size()));
    to += state_head_bytes;
    for (const Group& g : groups_) {
        if (!g.is_state()) continue;
        const uint64_t n = g.shape.planes[0].token_bytes;
        const std::byte* first = to;
        for (const larder_kv_layer_view& v : g.views) {
            std::memcpy(to, static_cast<const std::byte*>(v.k) + op.block * v.k_block_stride_bytes, n);
            to += n;
        }
        store_le(to, crc32c(0, first, size_t(to - first)));
        to += sizeof(uint32_t);
    }
}

larder_status Worker::encode_block(const PlanOp& op, Vec<std::byte>& record, Vec<std::byte>& workspace) {
    record.resize(record_header_bytes());
    store_le(record.data(), record_magic);
    store_le(record.data() + 4, record_version);
    store_le(record.data() + 6, uint16_t(groups_.size()));
    for (size_t g = 0; g < groups_.size(); ++g) LARDER_TRY(encode_group(g, op, record, workspace));
    return LARDER_OK;
}

larder_status Worker::run_store(const PlanOp& op, Vec<std::byte>& record, Vec<std::byte>& workspace) try {
    if (!store_) return fail(LARDER_E_STATE, "plan", "the worker has no tier to store to");
    record.clear();
    record.reserve(record_bound_);
    if (op.is_state())
        encode_state(op, record);
    else
        LARDER_TRY(encode_block(op, record, workspace));
    larder_object_meta meta = LARDER_OBJECT_META_INIT;
    meta.layout = identity_;
    meta.parent = op.parent;
    meta.n_tokens = op.n_tokens;
    meta.quality = op.is_state() ? op.quality : std::max<larder_quality>(op.quality, quality());
    larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
    item.key = op.key;
    item.meta = &meta;
    item.data = record.data();
    item.n_bytes = record.size();
    larder_status s = store_->put(item);
    // Somebody else puts the same block just now: whether that succeeds must be known, or a flush would promise too
    // much.
    for (int i = 0; s == LARDER_RETRY && i < 10000; ++i) {
        context_.os.sleep_ns(20000);
        s = store_->put(item);
    }
    return s == LARDER_RETRY ? LARDER_E_CANCELLED : s;
} catch (const std::bad_alloc&) {
    return fail(LARDER_E_NOMEM, "", "no memory to encode a block");
}

}  // namespace larder
