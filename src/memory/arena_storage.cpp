#include "memory/arena_storage.h"

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

Result<GroupShape> GroupShape::make(const larder_layout& layout, uint32_t group, uint32_t n_tp) noexcept {
    larder_group_info info;
    LARDER_TRY(layout.group_info(group, n_tp, info));
    const larder_layer_group& g = layout.groups[group].info;
    GroupShape s;
    s.n_layers = info.n_layers;
    s.n_kv_heads = info.n_kv_heads;
    s.block_bytes = info.block_bytes;
    if (g.kind == LARDER_GROUP_RECURRENT) {
        s.is_state = true;
        s.planes[0] = {g.state_bytes, 0};
        return s;
    }
    s.block_tokens = info.block_tokens;
    s.planes[0] = {info.k_token_bytes, info.n_kv_heads ? info.k_token_bytes / info.n_kv_heads : 0};
    s.planes[1] = {info.v_token_bytes, info.n_kv_heads ? info.v_token_bytes / info.n_kv_heads : 0};
    s.planes[2] = {g.scale_bytes, 0};
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

// Fill planes_ with offsets from the start of the memory, in `base`.
larder_status ArenaStorage::lay_out(larder_arena_order order, uint64_t& out_bytes) {
    unsigned __int128 at = 0;
    for (uint32_t g = 0; g < n_groups(); ++g) {
        const GroupShape& s = shapes_[g];
        const uint64_t run = align_up(s.block_bytes, run_align);
        uint64_t in_run = 0;
        for (uint32_t l = 0; l < s.n_layers; ++l) {
            for (uint32_t p = 0; p < n_planes; ++p) {
                const uint64_t bytes = s.plane_block_bytes(p);
                if (!bytes) continue;
                const bool page_first = order == LARDER_ARENA_PAGE_FIRST;
                plane_at(g, l, p) = {reinterpret_cast<std::byte*>(uintptr_t(at) + in_run), page_first ? run : bytes};
                if (page_first)
                    in_run += bytes;
                else
                    at = (at + (unsigned __int128)bytes * s.n_blocks + tensor_align - 1) / tensor_align * tensor_align;
                if (at > max_bytes) return too_large(g);
            }
        }
        if (order == LARDER_ARENA_PAGE_FIRST)
            at = (at + (unsigned __int128)run * s.n_blocks + tensor_align - 1) / tensor_align * tensor_align;
        if (at > max_bytes) return too_large(g);
    }
    out_bytes = uint64_t(at);
    return LARDER_OK;
}

larder_status ArenaStorage::map(larder_arena_memory memory, larder_arena_order order, bool populate) {
    make_planes();
    uint64_t n_bytes = 0;
    LARDER_TRY(lay_out(order, n_bytes));
    const Topology& t = context_.os.topology();
    n_bytes = align_up(n_bytes, n_bytes >= huge_bytes ? huge_bytes : t.page_bytes);
    if (t.memory_bytes && n_bytes > t.memory_bytes)
        return fail(LARDER_E_NOMEM, "budget_bytes",
                    "the arena needs %llu bytes; this machine or its control group has %llu",
                    (unsigned long long)n_bytes, (unsigned long long)t.memory_bytes);
    LARDER_ASSIGN(std::byte * base, map_bytes(memory, n_bytes, populate));
    for (Plane& p : planes_)
        if (p.block_stride) p.base = base + reinterpret_cast<uintptr_t>(p.base);
    return LARDER_OK;
}

Result<std::byte*> ArenaStorage::map_bytes(larder_arena_memory memory, uint64_t n_bytes, bool populate) {
    const uint32_t huge = context_.param(LARDER_PARAM_HUGE_PAGES) ? map_flag::huge : 0;
    LARDER_ASSIGN(mapped_,
                  context_.os.reserve(n_bytes, n_bytes >= huge_bytes ? huge_bytes : context_.os.topology().page_bytes));
    n_bytes_ = n_bytes;
    if (memory == LARDER_ARENA_ANON) {
        LARDER_TRY(context_.os.commit(mapped_, n_bytes, huge | (populate ? map_flag::populate : 0)));
        return mapped_;
    }
    LARDER_ASSIGN(memfd_, context_.os.memfd("larder-arena", n_bytes));
    LARDER_TRY(context_.os.map_handle(mapped_, n_bytes, memfd_, 0, true).status());
    if (populate) std::memset(mapped_, 0, n_bytes);
    return mapped_;
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
        LARDER_TRY(check_range(uint32_t(t.plane), LARDER_PLANE_K, LARDER_PLANE_SCALE, "tensors.plane"));
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
