// The bytes of an arena in PAGED mode: planes, strides and copies. Knows nothing of references.
#pragma once

#include "core/layout.h"
#include "larder/arena.h"

namespace larder {

// The tensors that a layer may have, one per larder_plane. Sizes are of one rank.
struct PlaneShape {
    uint64_t token_bytes = 0;  // 0: the group has no such plane. RECURRENT: the whole state
    uint64_t head_bytes = 0;
};
inline constexpr uint32_t n_planes = 5;
constexpr uint32_t plane_index(larder_plane p) noexcept {
    return uint32_t(p) - 1;
}

struct GroupShape {
    uint32_t n_layers = 0;
    uint32_t block_tokens = 1;  // tokens whose bytes one block holds; 1 for RECURRENT
    uint32_t n_kv_heads = 0;
    bool is_state = false;  // RECURRENT
    uint64_t n_blocks = 0;
    uint64_t block_bytes = 0;
    uint64_t padded_bytes = 0;  // of memory per block, over all layers
    PlaneShape planes[n_planes];
    uint64_t plane_block_bytes(uint32_t plane) const noexcept { return planes[plane].token_bytes * block_tokens; }
    static Result<GroupShape> make(const larder_layout& layout, uint32_t group, const larder_arena_options& o) noexcept;
};

class ArenaStorage {
  public:
    struct Plane {
        std::byte* base = nullptr;
        uint64_t block_stride = 0;
    };

    ArenaStorage(larder_context& c, Vec<GroupShape> shapes)
        : context_(c), page_bytes_(c.os.topology().page_bytes), shapes_(std::move(shapes)), planes_(c.alloc),
          first_plane_(c.alloc), parts_(c.alloc) {}
    ~ArenaStorage();
    ArenaStorage(const ArenaStorage&) = delete;
    // One of the three, once. After a failure the object may only be destroyed. MEMFD: the planes begin head_bytes into
    // the file.
    larder_status map(const larder_arena_options& o, uint64_t head_bytes);
    larder_status join(const larder_arena_options& o, uint64_t head_bytes, OsHandle file);
    larder_status import(const larder_arena_import_options& o);

    const GroupShape& shape(uint32_t group) const noexcept { return shapes_[group]; }
    uint32_t n_groups() const noexcept { return uint32_t(shapes_.size()); }
    const Plane& plane(uint32_t group, uint32_t layer, uint32_t plane) const noexcept {
        return planes_[first_plane_[group] + size_t(layer) * n_planes + plane];
    }
    std::byte* address(uint32_t group, uint32_t block, uint32_t layer, uint32_t p) const noexcept {
        const Plane& pl = plane(group, layer, p);
        return pl.base ? pl.base + block * pl.block_stride : nullptr;
    }
    bool host_visible() const noexcept { return host_visible_; }
    uint64_t mapped_bytes(uint32_t group) const noexcept {
        return n_bytes_ ? shapes_[group].n_blocks * shapes_[group].padded_bytes : 0;
    }
    std::byte* head() const noexcept { return mapped_; }
    OsHandle file() const noexcept { return memfd_; }

    // Whole planes of the first n_tokens tokens, in every layer.
    void copy_block(uint32_t group, uint32_t dst, uint32_t src, uint64_t n_tokens) noexcept;
    void zero_block(uint32_t group, uint32_t block) noexcept;
    bool is_zero(uint32_t group, uint32_t block) const noexcept;

  private:
    void make_planes();
    struct Part {  // of the memory; guard pages lie between two
        uint64_t first, n_bytes;
    };
    larder_status lay_out(const larder_arena_options& o, uint64_t head_bytes);
    larder_status end_part(unsigned __int128& at, bool guarded, uint32_t group);
    larder_status map_parts(const larder_arena_options& o);
    larder_status populate(const larder_arena_options& o);
    void place_planes() noexcept;
    larder_status check_import() const;
    Plane& plane_at(uint32_t group, uint32_t layer, uint32_t p) noexcept {
        return planes_[first_plane_[group] + size_t(layer) * n_planes + p];
    }

    larder_context& context_;
    const uint64_t page_bytes_;
    Vec<GroupShape> shapes_;
    Vec<Plane> planes_;        // [group][layer][plane]
    Vec<size_t> first_plane_;  // of each group
    Vec<Part> parts_;
    std::byte* mapped_ = nullptr;
    uint64_t n_bytes_ = 0;
    OsHandle memfd_;
    bool host_visible_ = true;
};

}  // namespace larder
