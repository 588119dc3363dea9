// The arena's blocks as the planner sees them: who holds them, what they contain, and in which order unused ones are
// given up. No bytes.
#pragma once

#include <array>
#include <span>

#include "core/context.h"
#include "memory/block_pool.h"

namespace larder {

// What is known of a block that somebody holds or that the index lists.
struct BlockInfo {
    larder_key key{};             // of a sealed or loading block
    larder_key parent{};          // key of the block before it; zero for the first
    uint64_t entry = 0;           // in the prefix index while it is published
    larder_id loading = 0;        // the plan that fills it
    uint32_t prev = 0, next = 0;  // neighbours in its list
    uint8_t list = 0;             // 0: none
    uint8_t priority = 0;
    uint8_t quality = 0;
    bool stored = false;     // in a tier below
    uint8_t n_storing = 0;   // plans out that store it
    bool refused = false;    // the tiers below did not take it: forgetting it is all that is left
    bool bad = false;        // its load failed
    bool confirmed = false;  // sealed on all ranks: may be published
};

// References are counted by the BlockPool. A published block has one reference of the index's; one that nobody else
// holds is *unused* and stands in one of two kinds of list: clean (may be given up at once) or dirty (should be stored
// first). Not synchronised: the planner's mutex guards it.
class BlockCache {
  public:
    static constexpr uint32_t n_priorities = 101;

    BlockCache(larder_context& c, uint32_t n_blocks, bool has_store);

    // Fresh blocks with one reference each; false when fewer are free.
    bool alloc(std::span<uint32_t> out) noexcept;
    void get(uint32_t b) noexcept;
    void put(uint32_t b) noexcept;
    // Leaves first, so that a block is always given up before the one that it follows.
    void put_all(std::span<const uint32_t> blocks) noexcept;

    void publish(uint32_t b, uint64_t entry) noexcept;
    void unpublish(uint32_t b) noexcept;
    void set_stored(uint32_t b, bool stored, bool refused) noexcept;
    void raise_priority(uint32_t b, uint32_t priority) noexcept;

    // The unused block to give up next: lowest priority, clean before dirty, least recently used. 0: there is none.
    uint32_t coldest() const noexcept;
    uint32_t coldest_dirty() const noexcept;
    bool clean(uint32_t b) const noexcept { return !has_store_ || info_[b].stored || info_[b].refused; }
    uint32_t refs(uint32_t b) const noexcept { return pool_.refs(b); }
    bool used_by_others(uint32_t b) const noexcept { return refs(b) > 1; }

    BlockInfo& operator[](uint32_t b) noexcept { return info_[b]; }
    const BlockInfo& operator[](uint32_t b) const noexcept { return info_[b]; }
    uint32_t n_blocks() const noexcept { return pool_.n_blocks(); }  // the null block counted
    uint64_t n_free() const noexcept { return pool_.n_free(); }
    uint64_t n_allocs() const noexcept { return pool_.n_allocs(); }
    uint64_t n_clean() const noexcept { return n_unused_[0]; }
    uint64_t n_dirty_unused() const noexcept { return n_unused_[1]; }
    uint64_t n_published() const noexcept { return n_published_; }

  private:
    struct List {
        uint32_t head = 0, tail = 0;
    };
    void list_add(uint32_t b, bool cold_end) noexcept;
    void list_remove(uint32_t b) noexcept;
    uint32_t lowest(uint32_t kind) const noexcept;

    const bool has_store_;
    BlockPool pool_;
    Vec<BlockInfo> info_;
    std::array<std::array<List, n_priorities>, 2> lists_{};
    std::array<std::array<uint64_t, 2>, 2> non_empty_{};  // a bit per priority
    std::array<uint64_t, 2> n_unused_{};
    uint64_t n_published_ = 0;
};

}  // namespace larder
