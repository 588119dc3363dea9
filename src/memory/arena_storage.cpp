#include "memory/arena_storage.h"

#include <algorithm>
#include <cstring>

#include "base/options.h"

namespace larder {
namespace {

constexpr uint64_t max_bytes = uint64_t(1) << 47;  // an address space
constexpr uint64_t tensor_align = 4096;
constexpr uint64_t run_align = 64;
constexpr uint64_t huge_bytes = uint64_t(2) << 20;

constexpr uint64_t align_up(uint64_t n, uint64_t a) {
    return (n + a - 1) / a * a;
}

larder_status too_large(uint32_t group) {
    return fail(LARDER_E_RANGE, "n_blocks", "the blocks of group %u do not fit an address space", group);
}

}  // namespace

Result<GroupShape> GroupShape::make(const larder_layout& layout, uint32_t group,
                                    const larder_arena_options& o) noexcept {
    larder_group_info info;
    LARDER_TRY(layout.group_info(group, o.n_tp, info));
    const larder_layer_group& g = layout.groups[group].info;
    GroupShape s;
    s.n_layers = info.n_layers;
    s.n_kv_heads = info.n_kv_heads;
    if (g.kind == LARDER_GROUP_RECURRENT) {
        s.is_state = true;
        s.planes[plane_index(LARDER_PLANE_K)] = {g.state_bytes, 0};
    } else {
        const uint64_t heads = info.n_kv_heads ? info.n_kv_heads : 1;
        s.block_tokens = info.block_tokens;
        s.planes[plane_index(LARDER_PLANE_K)] = {info.k_token_bytes, info.k_token_bytes / heads};
        s.planes[plane_index(LARDER_PLANE_V)] = {info.v_token_bytes, info.v_token_bytes / heads};
        s.planes[plane_index(LARDER_PLANE_SCALE)] = {g.scale_bytes, 0};
        if (o.flags & LARDER_ARENA_BIAS) s.planes[plane_index(LARDER_PLANE_BIAS)] = {2 * heads, 2};
        if (g.v_dim) s.planes[plane_index(LARDER_PLANE_LOW_RANK)] = {uint64_t(o.v_rank) * dtype_bytes(g.v_dtype), 0};
    }
    const uint64_t unit = o.flags & LARDER_ARENA_ISOLATE ? layout.context->os.topology().page_bytes : 1;
    uint64_t padded = 0;
    for (uint32_t p = 0; p < n_planes; ++p) {
        s.block_bytes += s.plane_block_bytes(p) * s.n_layers;
        padded += align_up(s.plane_block_bytes(p), unit) * s.n_layers;
    }
    s.padded_bytes = o.order == LARDER_ARENA_PAGE_FIRST ? align_up(s.block_bytes, std::max(unit, run_align)) : padded;
    return s;
}

ArenaStorage::~ArenaStorage() {
    if (mapped_) context_.os.release(mapped_, n_bytes_);
    if (memfd_.valid()) context_.os.close(memfd_);
}

void ArenaStorage::make_planes() {
    size_t n = 0;
    for (const GroupShape& s : shapes_) {
        first_plane_.push_back(n);
        n += size_t(s.n_layers) * n_planes;
    }
    planes_.resize(n);
}

// The memory behind the last part ends here; guard pages come before the next one.
larder_status ArenaStorage::end_part(unsigned __int128& at, bool guarded, uint32_t group) {
    const uint64_t align = std::max(tensor_align, page_bytes_);
    at = (at + align - 1) / align * align;
    if (at > max_bytes) return too_large(group);
    Part& last = parts_.back();
    last.n_bytes = uint64_t(at) - last.first;
    if (!guarded || !last.n_bytes) return LARDER_OK;
    at += align;
    parts_.push_back({uint64_t(at), 0});
    return LARDER_OK;
}

// Fill planes_ with offsets from the start of the memory, in `base`.
larder_status ArenaStorage::lay_out(const larder_arena_options& o, uint64_t head_bytes) {
    const bool page_first = o.order == LARDER_ARENA_PAGE_FIRST, guarded = o.flags & LARDER_ARENA_GUARD;
    const uint64_t unit = o.flags & LARDER_ARENA_ISOLATE ? page_bytes_ : 1;
    unsigned __int128 at = head_bytes;
    parts_.push_back({0, 0});
    LARDER_TRY(end_part(at, guarded, 0));
    for (uint32_t g = 0; g < n_groups(); ++g) {
        const GroupShape& s = shapes_[g];
        uint64_t in_run = 0;
        for (uint32_t l = 0; l < s.n_layers; ++l) {
            for (uint32_t p = 0; p < n_planes; ++p) {
                const uint64_t bytes = s.plane_block_bytes(p);
                if (!bytes) continue;
                const uint64_t stride = page_first ? s.padded_bytes : align_up(bytes, unit);
                plane_at(g, l, p) = {reinterpret_cast<std::byte*>(uintptr_t(at) + in_run), stride};
                if (page_first) {
                    in_run += bytes;
                } else {
                    at += (unsigned __int128)stride * s.n_blocks;
                    LARDER_TRY(end_part(at, guarded, g));
                }
            }
        }
        if (page_first) {
            at += (unsigned __int128)s.padded_bytes * s.n_blocks;
            LARDER_TRY(end_part(at, guarded, g));
        }
    }
    if (!parts_.back().n_bytes && parts_.size() > 1) parts_.pop_back();
    n_bytes_ = align_up(uint64_t(at), uint64_t(at) >= huge_bytes ? huge_bytes : page_bytes_);
    if (!guarded) parts_.back().n_bytes = n_bytes_;
    return LARDER_OK;
}

void ArenaStorage::place_planes() noexcept {
    for (Plane& p : planes_)
        if (p.block_stride) p.base = mapped_ + reinterpret_cast<uintptr_t>(p.base);
}

larder_status ArenaStorage::map(const larder_arena_options& o, uint64_t head_bytes) {
    make_planes();
    LARDER_TRY(lay_out(o, head_bytes));
    const Topology& t = context_.os.topology();
    if (t.memory_bytes && n_bytes_ > t.memory_bytes)
        return fail(LARDER_E_NOMEM, "budget_bytes",
                    "the arena needs %llu bytes; this machine or its control group has %llu",
                    (unsigned long long)n_bytes_, (unsigned long long)t.memory_bytes);
    if (o.memory == LARDER_ARENA_MEMFD) {
        LARDER_ASSIGN(memfd_, context_.os.memfd("larder-arena", n_bytes_));
    }
    LARDER_TRY(map_parts(o));
    place_planes();
    return LARDER_OK;
}

larder_status ArenaStorage::join(const larder_arena_options& o, uint64_t head_bytes, OsHandle file) {
    make_planes();
    LARDER_TRY(lay_out(o, head_bytes));
    LARDER_ASSIGN(mapped_, context_.os.reserve(n_bytes_, n_bytes_ >= huge_bytes ? huge_bytes : page_bytes_));
    for (const Part& part : parts_)
        LARDER_TRY(context_.os.map_handle(mapped_ + part.first, part.n_bytes, file, part.first, true).status());
    place_planes();
    return LARDER_OK;
}

larder_status ArenaStorage::map_parts(const larder_arena_options& o) {
    LARDER_ASSIGN(mapped_, context_.os.reserve(n_bytes_, n_bytes_ >= huge_bytes ? huge_bytes : page_bytes_));
    const uint32_t huge = context_.param(LARDER_PARAM_HUGE_PAGES) ? map_flag::huge : 0;
    for (const Part& part : parts_) {
        if (memfd_.valid())
            LARDER_TRY(context_.os.map_handle(mapped_ + part.first, part.n_bytes, memfd_, part.first, true).status());
        else
            LARDER_TRY(context_.os.commit(mapped_ + part.first, part.n_bytes, huge));
    }
    if (o.flags & LARDER_ARENA_POPULATE) LARDER_TRY(populate(o));
    if (!(o.flags & LARDER_ARENA_LOCKED)) return LARDER_OK;
    for (const Part& part : parts_)
        if (context_.os.commit(mapped_ + part.first, part.n_bytes, huge | map_flag::locked) < 0)
            return fail(LARDER_E_NOMEM, "flags", "the arena would lock %llu bytes; RLIMIT_MEMLOCK allows %llu",
                        (unsigned long long)n_bytes_, (unsigned long long)context_.os.topology().memlock_bytes);
    return LARDER_OK;
}

namespace {

// What threads that fault memory in share: pieces are handed out in order.
struct Populate {
    static constexpr uint64_t piece_bytes = 16 * huge_bytes;
    Os& os;
    std::byte* at;
    uint64_t n_bytes;
    atomic<uint64_t> next{0};
    atomic<int32_t> status{LARDER_OK};

    static void work(void* arg) {
        auto& p = *static_cast<Populate*>(arg);
        for (;;) {
            const uint64_t first = p.next.fetch_add(piece_bytes, relaxed);
            if (first >= p.n_bytes || p.status.load(relaxed) < 0) return;
            const larder_status s = p.os.commit(p.at + first, std::min(piece_bytes, p.n_bytes - first),
                                                map_flag::usable | map_flag::populate);
            if (s < 0) p.status.store(s, relaxed);
        }
    }
};

}  // namespace

// The threads live only here: there is nothing that they could wait for but the system.
larder_status ArenaStorage::populate(const larder_arena_options& o) {
    constexpr uint32_t max_threads = 64;
    for (const Part& part : parts_) {
        Populate job{context_.os, mapped_ + part.first, part.n_bytes};
        const uint64_t n_pieces = (part.n_bytes + Populate::piece_bytes - 1) / Populate::piece_bytes;
        uint64_t threads[max_threads];
        uint32_t n = 0;
        while (n + 1 < o.n_populate_threads && n + 1 < n_pieces) {
            auto t = context_.os.thread_start(Populate::work, &job, "larder-populate");
            if (!t.ok()) break;
            threads[n++] = *t;
        }
        Populate::work(&job);
        while (n) context_.os.thread_join(threads[--n]);
        if (job.status.load(relaxed) < 0)
            return fail(job.status.load(relaxed), "flags", "the system could not supply %llu bytes of memory",
                        (unsigned long long)part.n_bytes);
    }
    return LARDER_OK;
}

larder_status ArenaStorage::import(const larder_arena_import_options& o) {
    make_planes();
    host_visible_ = o.host_visible != 0;
    const auto* at = reinterpret_cast<const std::byte*>(o.tensors);
    for (uint32_t i = 0; i < o.n_tensors; ++i, at += o.tensor_stride) {
        larder_arena_tensor t;
        LARDER_TRY(read_options(reinterpret_cast<const larder_arena_tensor*>(at), t, "larder_arena_tensor"));
        if (t.group >= n_groups())
            return fail(LARDER_E_RANGE, "tensors.group", "tensor %u names group %u; there are %u", i, t.group,
                        n_groups());
        const GroupShape& s = shapes_[t.group];
        if (t.layer >= s.n_layers)
            return fail(LARDER_E_RANGE, "tensors.layer", "tensor %u names layer %u; the group has %u", i, t.layer,
                        s.n_layers);
        LARDER_TRY(check_range(uint32_t(t.plane), LARDER_PLANE_K, LARDER_PLANE_LOW_RANK, "tensors.plane"));
        const uint32_t p = plane_index(t.plane);
        if (!s.planes[p].token_bytes)
            return fail(LARDER_E_INVALID, "tensors.plane", "tensor %u is of a plane that group %u has not", i, t.group);
        if (!t.base) return fail(LARDER_E_INVALID, "tensors.base", "the base of tensor %u is NULL", i);
        if (t.block_stride < s.plane_block_bytes(p))
            return fail(LARDER_E_INVALID, "tensors.block_stride",
                        "the stride of tensor %u is %llu; a block has %llu bytes", i,
                        (unsigned long long)t.block_stride, (unsigned long long)s.plane_block_bytes(p));
        if (t.block_stride > max_bytes / s.n_blocks || reinterpret_cast<uintptr_t>(t.base) > UINTPTR_MAX - max_bytes)
            return fail(LARDER_E_RANGE, "tensors.block_stride", "tensor %u does not fit an address space", i);
        Plane& mine = plane_at(t.group, t.layer, p);
        if (mine.base)
            return fail(LARDER_E_INVALID, "tensors", "layer %u, plane %d of group %u is given twice", t.layer, t.plane,
                        t.group);
        mine = {static_cast<std::byte*>(t.base), t.block_stride};
    }
    return check_import();
}

namespace {

struct Family {  // n blocks of `bytes`, `stride` apart
    uintptr_t base;
    uint64_t stride, bytes, n;
    uintptr_t end() const { return base + stride * (n - 1) + bytes; }
};

// Planes of one tensor may be interleaved (K and V of a block side by side): then their strides agree and each falls
// into the other's gaps.
bool overlap(const Family& a, const Family& b) {
    if (a.end() <= b.base || b.end() <= a.base) return false;
    if (a.stride != b.stride) return true;
    const uint64_t shift =
        b.base >= a.base ? (b.base - a.base) % a.stride : (a.stride - (a.base - b.base) % a.stride) % a.stride;
    return shift < a.bytes || a.stride - shift < b.bytes;
}

}  // namespace

larder_status ArenaStorage::check_import() const {
    Vec<Family> families(context_.alloc);
    for (uint32_t g = 0; g < n_groups(); ++g) {
        const GroupShape& s = shapes_[g];
        for (uint32_t l = 0; l < s.n_layers; ++l) {
            for (uint32_t p = 0; p < n_planes; ++p) {
                if (!s.planes[p].token_bytes) continue;
                const Plane& pl = plane(g, l, p);
                if (!pl.base)
                    return fail(LARDER_E_INVALID, "tensors", "layer %u, plane %u of group %u is missing", l, p + 1, g);
                const Family f{reinterpret_cast<uintptr_t>(pl.base), pl.block_stride, s.plane_block_bytes(p),
                               s.n_blocks};
                for (const Family& other : families)
                    if (overlap(f, other))
                        return fail(LARDER_E_INVALID, "tensors",
                                    "layer %u, plane %u of group %u overlaps another tensor", l, p + 1, g);
                families.push_back(f);
            }
        }
    }
    return LARDER_OK;
}

void ArenaStorage::copy_block(uint32_t group, uint32_t dst, uint32_t src, uint64_t n_tokens) noexcept {
    const GroupShape& s = shapes_[group];
    for (uint32_t l = 0; l < s.n_layers; ++l)
        for (uint32_t p = 0; p < n_planes; ++p)
            if (const uint64_t bytes = s.planes[p].token_bytes * n_tokens)
                std::memcpy(address(group, dst, l, p), address(group, src, l, p), bytes);
}

void ArenaStorage::zero_block(uint32_t group, uint32_t block) noexcept {
    const GroupShape& s = shapes_[group];
    for (uint32_t l = 0; l < s.n_layers; ++l)
        for (uint32_t p = 0; p < n_planes; ++p)
            if (const uint64_t bytes = s.plane_block_bytes(p)) std::memset(address(group, block, l, p), 0, bytes);
}

bool ArenaStorage::is_zero(uint32_t group, uint32_t block) const noexcept {
    const GroupShape& s = shapes_[group];
    for (uint32_t l = 0; l < s.n_layers; ++l) {
        for (uint32_t p = 0; p < n_planes; ++p) {
            const std::byte* at = address(group, block, l, p);
            const uint64_t bytes = s.plane_block_bytes(p);
            if (bytes && (at[0] != std::byte{0} || std::memcmp(at, at + 1, bytes - 1) != 0)) return false;
        }
    }
    return true;
}

}  // namespace larder
