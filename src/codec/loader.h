// The loading controller: which chunk next, at which level, or computed again. A state machine over what its user
// reports; it measures nothing itself.
#pragma once

#include "base/alloc.h"
#include "core/context.h"
#include "larder/loader.h"

struct larder_loader final : larder::Handle {
    explicit larder_loader(larder_context& c)
        : Handle(larder::HandleType::loader, c), chunks_(c.alloc), bytes_(c.alloc), upgrades_(c.alloc) {}
    static larder_status create(larder_context& c, const larder_loader_options* options, larder_loader** out);
    larder_status next(uint64_t now_ns, larder_loader_step& out) noexcept;
    larder_status report(uint64_t now_ns, bool succeeded) noexcept;
    void inspect(larder_loader_info& out) const noexcept;

  private:
    // A way to go on with a chunk: read levels so that `levels` are there, or compute it again.
    struct Choice {
        uint32_t levels = 0;
        bool recompute = false;
        double ns = 0, value = 0;
    };
    struct Chunk {
        uint64_t recompute_ns;
        uint32_t n_levels, have = 0;
        bool recomputed = false;
        Choice planned;
    };
    // A step up of one chunk's choice. Those of a chunk are ever less worth their time.
    struct Upgrade {
        uint32_t chunk;
        Choice to;
        double gain, ns;
    };
    static constexpr uint32_t max_choices = LARDER_LOADER_MAX_LEVELS + 1;

    larder_status open(const larder_loader_options& o);
    uint32_t choices(const Chunk& c, double ns_per_byte, Choice* out) const noexcept;
    double fetch_ns(const Chunk& c, uint32_t levels, double ns_per_byte) const noexcept;
    uint64_t level_bytes(const Chunk& c, uint32_t from, uint32_t to) const noexcept;
    double value_of(const Chunk& c) const noexcept;
    double careful() const noexcept { return ns_per_byte_ + deviation_; }
    void plan_open(double budget_ns) noexcept;
    Choice guarded(const Chunk& c, double budget_ns) const noexcept;
    bool best_refinement(double budget_ns, uint32_t& chunk, Choice& out) const noexcept;
    void give(uint32_t chunk, const Choice& choice, larder_loader_step& out) noexcept;

    larder::Vec<Chunk> chunks_;
    larder::Vec<uint64_t> bytes_;
    larder::Vec<Upgrade> upgrades_;
    double values_[max_choices]{};
    uint32_t n_levels_ = 0, first_open_ = 0;
    uint64_t deadline_ = 0, request_ns_ = 0, now_ = 0, usable_ns_ = 0, fetched_ = 0;
    double ns_per_byte_ = 0, deviation_ = 0, at_first_ = 0;
    bool busy_ = false;
    uint32_t step_chunk_ = 0;
    Choice step_;
    uint64_t step_bytes_ = 0, step_began_ = 0;
};
