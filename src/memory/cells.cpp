#include "memory/cells.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/options.h"

using namespace larder;

larder_cells::larder_cells(larder_context& c, const larder_cells_options& o)
    : Handle(HandleType::cells, c), o_(o), own_(c.alloc, o.n_cells - o.n_transient), lent_(c.alloc, o.n_transient) {}

larder_cells::~larder_cells() {
    context->os.release(memory_, memory_bytes_);
}

larder_status larder_cells::create(larder_context& c, const larder_cells_options* options, larder_cells** out) {
    larder_cells_options o;
    LARDER_TRY(read_options(options, o, "larder_cells_options"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    if (!o.n_layers) o.n_layers = 1;
    if (!o.n_planes) o.n_planes = 2;
    if (!o.order) o.order = LARDER_ARENA_LAYER_FIRST;
    if (!o.run_cells) o.run_cells = 16;
    LARDER_TRY(check_range(o.n_cells, 1, 1u << 28, "n_cells"));
    LARDER_TRY(check_range(o.cell_bytes, 0, 1u << 30, "cell_bytes"));
    LARDER_TRY(check_range(o.n_layers, 1, 4096, "n_layers"));
    LARDER_TRY(check_range(o.n_planes, 1, 16, "n_planes"));
    LARDER_TRY(check_range(o.run_cells, 1, 64, "run_cells"));
    LARDER_TRY(check_range(o.n_transient, 0, o.n_cells - 1, "n_transient"));
    if (o.cell_bytes % 16 || !std::has_single_bit(o.run_cells))
        return fail(LARDER_E_RANGE, o.cell_bytes % 16 ? "cell_bytes" : "run_cells",
                    "cell_bytes is a multiple of 16 and run_cells a power of two");
    if (o.order != LARDER_ARENA_LAYER_FIRST && o.order != LARDER_ARENA_PAGE_FIRST)
        return fail(LARDER_E_INVALID, "order", "%d is no order", o.order);
    auto pool = make_owned<larder_cells>(c.alloc, c, o);
    if (o.cell_bytes) {
        const uint64_t page = c.os.topology().page_bytes, huge = uint64_t(2) << 20;
        const uint64_t per_cell = o.cell_bytes * o.n_layers * o.n_planes;
        if (per_cell > (uint64_t(1) << 46) / o.n_cells)
            return fail(LARDER_E_RANGE, "n_cells", "%u cells of %llu bytes do not fit the address space", o.n_cells,
                        (unsigned long long)per_cell);
        const uint64_t n_bytes = (per_cell * o.n_cells + page - 1) / page * page;
        const bool want_huge = c.param(LARDER_PARAM_HUGE_PAGES) && c.os.topology().huge_pages;
        LARDER_ASSIGN(pool->memory_, c.os.reserve(n_bytes, std::max(page, huge)));
        pool->memory_bytes_ = n_bytes;
        LARDER_TRY(c.os.commit(pool->memory_, n_bytes, want_huge ? map_flag::huge : 0));
    }
    *out = c.adopt_handle(pool.release());
    return LARDER_OK;
}

CellMap& larder_cells::map_of(uint32_t cell, uint32_t& local) noexcept {
    local = cell < boundary() ? cell : cell - boundary();
    return cell < boundary() ? own_ : lent_;
}

bool larder_cells::is_free(uint32_t cell) noexcept {
    uint32_t local;
    return map_of(cell, local).is_free(local);
}

void larder_cells::take(uint32_t cell) noexcept {
    uint32_t local;
    map_of(cell, local).take(local);
}

void larder_cells::give(uint32_t cell) noexcept {
    uint32_t local;
    map_of(cell, local).give(local);
}

// Runs never come from the reservation: what needs adjacent cells is what is hard to move.
larder_status larder_cells::take_runs(std::span<int32_t> out, uint32_t n_run, uint32_t align) noexcept {
    for (size_t got = 0; got < out.size(); got += n_run) {
        const uint32_t at = own_.find(n_run, align);
        if (at == CellMap::none) {
            for (size_t i = 0; i < got; ++i) own_.give(uint32_t(out[i]));
            return fail(LARDER_E_NOSPACE, "n_cells", "%zu cells in runs of %u are asked for; the pool has only %zu so",
                        out.size(), n_run, got);
        }
        for (uint32_t i = 0; i < n_run; ++i) {
            own_.take(at + i);
            out[got + i] = int32_t(at + i);
        }
    }
    return LARDER_OK;
}

larder_status larder_cells::alloc(larder_cells_shape shape, std::span<int32_t> out) noexcept {
    const uint32_t n = uint32_t(out.size());
    if (shape < LARDER_CELLS_ANY || shape > LARDER_CELLS_GRID)
        return fail(LARDER_E_INVALID, "shape", "%d is no shape", shape);
    if (shape >= LARDER_CELLS_RUNS && n % o_.run_cells)
        return fail(LARDER_E_RANGE, "n", "%u cells are not whole runs of %u", n, o_.run_cells);
    if (!n) return LARDER_OK;
    std::lock_guard lock(mutex_);
    if (shape == LARDER_CELLS_CONTIGUOUS) return take_runs(out, n, 1);
    if (shape != LARDER_CELLS_ANY) return take_runs(out, o_.run_cells, shape == LARDER_CELLS_GRID ? o_.run_cells : 1);
    if (n > own_.n_free() + lent_.n_free())
        return fail(LARDER_E_NOSPACE, "n_cells", "%u cells are asked for; %u are free", n,
                    own_.n_free() + lent_.n_free());
    const uint32_t n_own = std::min(n, own_.n_free());
    own_.take_any(out.first(n_own));
    lent_.take_any(out.subspan(n_own));
    for (int32_t& cell : out.subspan(n_own)) cell += int32_t(boundary());
    return LARDER_OK;
}

larder_status larder_cells::free(std::span<const int32_t> list) noexcept {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < list.size(); ++i) {
        const uint32_t cell = uint32_t(list[i]);
        const bool known = cell < o_.n_cells,
                   activations = known && cell >= boundary() && cell - boundary() < n_transient_used_;
        if (known && !activations && !is_free(cell)) {
            give(cell);
            continue;
        }
        for (size_t k = 0; k < i; ++k) take(uint32_t(list[k]));
        if (!known) return fail(LARDER_E_RANGE, "list", "%d is no cell", list[i]);
        return fail(LARDER_E_STALE, "list", "cell %d is not taken, or is listed twice", list[i]);
    }
    return LARDER_OK;
}

uint64_t larder_cells::offset(uint32_t plane, uint32_t layer, uint32_t cell) const noexcept {
    const uint64_t slot = o_.order == LARDER_ARENA_LAYER_FIRST
                              ? (uint64_t(plane) * o_.n_layers + layer) * o_.n_cells + cell
                              : (uint64_t(cell) * o_.n_layers + layer) * o_.n_planes + plane;
    return slot * o_.cell_bytes;
}

larder_status larder_cells::address(uint32_t plane, uint32_t layer, int32_t cell, void** out) const noexcept {
    if (!memory_) return fail(LARDER_E_UNSUPPORTED, "cells", "the pool has no memory of its own");
    LARDER_TRY(check_range(plane, 0, o_.n_planes - 1, "plane"));
    LARDER_TRY(check_range(layer, 0, o_.n_layers - 1, "layer"));
    LARDER_TRY(check_range(uint32_t(cell), 0, o_.n_cells - 1, "cell"));
    *out = memory_ + offset(plane, layer, uint32_t(cell));
    return LARDER_OK;
}

void larder_cells::copy(uint32_t dst, uint32_t src) noexcept {
    if (!memory_) return;
    for (uint32_t plane = 0; plane < o_.n_planes; ++plane)
        for (uint32_t layer = 0; layer < o_.n_layers; ++layer)
            std::memcpy(memory_ + offset(plane, layer, dst), memory_ + offset(plane, layer, src), o_.cell_bytes);
}

// Lent cells behind the first n are free to take what lies in the first n, but would have to move again when more is
// needed: cells below the boundary come first.
larder_status larder_cells::transient_begin(uint32_t n, std::span<larder_cells_move> moves, uint32_t& n_moves,
                                            int32_t& first) noexcept {
    LARDER_TRY(check_range(n, 1, o_.n_transient, "n"));
    std::lock_guard lock(mutex_);
    n_moves = 0;
    if (n_transient_used_) return fail(LARDER_E_STATE, "cells", "the transient reservation is in use");
    uint32_t n_lent = 0;
    for (uint32_t i = 0; i < n; ++i) n_lent += !lent_.is_free(i);
    const uint32_t n_elsewhere = own_.n_free() + lent_.n_free() - (n - n_lent);
    n_moves = n_lent;
    if (n_lent > n_elsewhere)
        return fail(LARDER_E_NOSPACE, "n", "%u lent cells have to move and %u others are free: free %u more", n_lent,
                    n_elsewhere, n_lent - n_elsewhere);
    if (n_lent > moves.size())
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "%u moves do not fit %zu", n_lent, moves.size());
    uint32_t at = 0;
    for (uint32_t i = 0; i < n; ++i) {
        if (lent_.is_free(i)) {
            lent_.take(i);
            continue;
        }
        moves[at++].src = int32_t(boundary() + i);
    }
    for (larder_cells_move& m : moves.first(n_lent)) {
        const bool own = own_.n_free() > 0;
        (own ? own_ : lent_).take_any({&m.dst, 1});
        if (!own) m.dst += int32_t(boundary());
        copy(uint32_t(m.dst), uint32_t(m.src));
    }
    n_transient_used_ = n;
    first = int32_t(boundary());
    return LARDER_OK;
}

larder_status larder_cells::transient_end() noexcept {
    std::lock_guard lock(mutex_);
    if (!n_transient_used_) return fail(LARDER_E_STATE, "cells", "the transient reservation is not in use");
    for (uint32_t i = 0; i < n_transient_used_; ++i) lent_.give(i);
    n_transient_used_ = 0;
    return LARDER_OK;
}

void larder_cells::query(larder_cells_state& out) const noexcept {
    std::lock_guard lock(mutex_);
    out = LARDER_CELLS_STATE_INIT;
    out.n_cells = o_.n_cells;
    out.n_free = own_.n_free() + lent_.n_free();
    out.n_transient_used = n_transient_used_;
    out.n_used = o_.n_cells - out.n_free - n_transient_used_;
    out.n_lent = o_.n_transient - lent_.n_free() - n_transient_used_;
    out.memory_bytes = memory_bytes_;
}
