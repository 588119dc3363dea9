// The pool of cells behind larder/cells.h: one map for everybody, one for the transient reservation, which is lent.
#pragma once

#include <mutex>

#include "core/context.h"
#include "larder/cells.h"
#include "memory/cell_map.h"

struct larder_cells final : larder::Handle {
    larder_cells(larder_context& c, const larder_cells_options& o);
    ~larder_cells();
    static larder_status create(larder_context& c, const larder_cells_options* options, larder_cells** out);

    larder_status alloc(larder_cells_shape shape, std::span<int32_t> out) noexcept;
    larder_status free(std::span<const int32_t> list) noexcept;
    larder_status address(uint32_t plane, uint32_t layer, int32_t cell, void** out) const noexcept;
    larder_status transient_begin(uint32_t n, std::span<larder_cells_move> moves, uint32_t& n_moves,
                                  int32_t& first) noexcept;
    larder_status transient_end() noexcept;
    void query(larder_cells_state& out) const noexcept;

  private:
    uint32_t boundary() const noexcept { return o_.n_cells - o_.n_transient; }
    larder::CellMap& map_of(uint32_t cell, uint32_t& local) noexcept;
    bool is_free(uint32_t cell) noexcept;
    void take(uint32_t cell) noexcept;
    void give(uint32_t cell) noexcept;
    larder_status take_runs(std::span<int32_t> out, uint32_t n_run, uint32_t align) noexcept;
    uint64_t offset(uint32_t plane, uint32_t layer, uint32_t cell) const noexcept;
    void copy(uint32_t dst, uint32_t src) noexcept;

    mutable std::mutex mutex_;
    const larder_cells_options o_;
    uint64_t memory_bytes_ = 0;
    std::byte* memory_ = nullptr;
    larder::CellMap own_, lent_;  // cells below the boundary, cells from it on
    uint32_t n_transient_used_ = 0;
};
