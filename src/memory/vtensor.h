// Virtual weight tensors behind larder/vtensor.h: one reservation for all layers and matrices, memory for each
// adapter's experts, and the maps from expert to slot.
#pragma once

#include <shared_mutex>
#include <span>

#include "base/ids.h"
#include "larder/vtensor.h"
#include "memory/page_space.h"

struct larder_vtensor final : larder::Handle {
    larder_vtensor(larder_context& c, const larder_vtensor_options& o);
    ~larder_vtensor();
    static larder_status create(larder_context& c, const larder_vtensor_options* options, larder_vtensor** out);

    larder_status view(uint32_t layer, uint32_t matrix, larder_vtensor_view& out) const noexcept;
    larder_status map(const uint32_t* n_tuned, const uint32_t* experts, uint64_t& out_adapter, int32_t& out_row);
    larder_status unmap(uint64_t adapter);
    larder_status route(uint32_t layer, const int32_t* rows, uint32_t n_tokens, uint32_t k, int32_t* ids) const;
    larder_status export_routes(uint32_t layer, int32_t* dst, uint32_t row_stride) const;
    void query(larder_vtensor_state& out) const;

  private:
    struct Matrix {
        uint64_t slot_bytes, tensor_bytes, offset;  // of layer 0; layers follow each other
    };
    // Memory of one row in one layer and matrix; n_bytes 0 when there is none.
    struct Piece {
        uint64_t n_bytes = 0, page = 0;
    };

    larder_status plan(const larder_vtensor_options& o);
    larder_status check_tuned(const uint32_t* n_tuned, const uint32_t* experts);
    larder_status back_row(uint32_t row, const uint32_t* n_tuned);
    larder_status unback_row(uint32_t row) noexcept;
    uint32_t first_slot(uint32_t row) const noexcept { return row ? first_row_slot_ + (row - 1) * row_slots_ : 0; }
    int32_t* routes(uint32_t layer, uint32_t row) noexcept {
        return &routes_[(size_t(layer) * (max_adapters_ + 1) + row) * n_base_];
    }
    const int32_t* routes(uint32_t layer, uint32_t row) const noexcept {
        return const_cast<larder_vtensor*>(this)->routes(layer, row);
    }
    void clear_routes(uint32_t row) noexcept;

    mutable std::shared_mutex mutex_;
    const uint32_t n_layers_, n_base_, max_adapters_, max_tuned_;
    uint64_t page_bytes_ = 0, reserved_bytes_ = 0, expert_bytes_each_ = 0;
    uint32_t first_row_slot_ = 0, row_slots_ = 0, n_slots_ = 0;
    larder::PageSpace space_;
    larder::Vec<Matrix> matrices_;
    larder::Vec<int32_t> routes_;      // [n_layers][max_adapters + 1][n_base]
    larder::Vec<Piece> pieces_;        // [max_adapters + 1][n_layers][n_matrices]
    larder::Vec<uint8_t> live_;        // [max_adapters + 1]
    larder::Vec<uint8_t> seen_;        // [n_base] scratch of check_tuned()
    larder::Vec<uint32_t> free_rows_;  // the next to be given is the last
    larder::IdTable<uint32_t> ids_;    // adapter to row
    uint64_t mapped_bytes_ = 0, expert_bytes_ = 0, n_boundary_pages_ = 0;
};
