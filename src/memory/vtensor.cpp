#include "memory/vtensor.h"

#include <algorithm>
#include <bit>
#include <mutex>
#include <numeric>

#include "base/options.h"

using namespace larder;

namespace {

constexpr uint64_t max_address_bytes = uint64_t(1) << 46;
constexpr uint64_t default_page_bytes = uint64_t(2) << 20;

uint64_t round_up(uint64_t n, uint64_t unit) noexcept {
    return (n + unit - 1) / unit * unit;
}

larder_status check_options(const larder_context& c, const larder_vtensor_options& o) {
    LARDER_TRY(check_range(o.n_layers, 1, 4096, "n_layers"));
    LARDER_TRY(check_range(o.n_base, 1, 65536, "n_base"));
    LARDER_TRY(check_range(o.max_adapters, 1, 65536, "max_adapters"));
    LARDER_TRY(check_range(o.max_tuned, 1, o.n_base, "max_tuned"));
    LARDER_TRY(check_range(o.n_matrices, 1, 16, "n_matrices"));
    if (!o.slot_bytes) return fail(LARDER_E_INVALID, "slot_bytes", "slot_bytes is NULL");
    for (uint32_t m = 0; m < o.n_matrices; ++m)
        LARDER_TRY(check_range(o.slot_bytes[m], 1, max_address_bytes, "slot_bytes"));
    return o.device ? check_handle_of(&c, o.device, HandleType::device, "device") : LARDER_OK;
}

}  // namespace

larder_vtensor::larder_vtensor(larder_context& c, const larder_vtensor_options& o)
    : Handle(HandleType::vtensor, c), n_layers_(o.n_layers), n_base_(o.n_base), max_adapters_(o.max_adapters),
      max_tuned_(o.max_tuned), space_(c, o.device), matrices_(c.alloc),
      routes_(size_t(o.n_layers) * (o.max_adapters + 1) * o.n_base, 0, c.alloc),
      pieces_(size_t(o.max_adapters + 1) * o.n_layers * o.n_matrices, Piece{}, c.alloc),
      live_(o.max_adapters + 1, 0, c.alloc), seen_(o.n_base, 0, c.alloc), free_rows_(c.alloc),
      ids_(c.alloc, IdKind::expert, c.random_generation()) {
    for (uint32_t row = 0; row <= max_adapters_; ++row) clear_routes(row);
    free_rows_.reserve(max_adapters_);
    for (uint32_t row = max_adapters_; row; --row) free_rows_.push_back(row);
}

larder_vtensor::~larder_vtensor() {
    for (uint32_t row = 0; row <= max_adapters_; ++row) (void)unback_row(row);
}

// The rows are set apart so that each begins on a page in every matrix.
larder_status larder_vtensor::plan(const larder_vtensor_options& o) {
    const uint64_t granularity = space_.granularity_bytes();
    page_bytes_ = o.page_bytes ? o.page_bytes : std::max(default_page_bytes, granularity);
    if (!std::has_single_bit(page_bytes_) || page_bytes_ % granularity)
        return fail(LARDER_E_INVALID, "page_bytes", "%llu is not a power of two and a multiple of the granularity %llu",
                    (unsigned long long)page_bytes_, (unsigned long long)granularity);
    uint64_t unit = 1;  // slots
    for (uint32_t m = 0; m < o.n_matrices; ++m)
        unit = std::max(unit, page_bytes_ / std::gcd(page_bytes_, o.slot_bytes[m]));
    const uint64_t first = round_up(n_base_, unit), pitch = round_up(max_tuned_, unit);
    const uint64_t n_slots = first + max_adapters_ * pitch;
    if (n_slots > INT32_MAX)
        return fail(LARDER_E_RANGE, "slot_bytes",
                    "rows that begin on a page need %llu slots, more than an int32 counts",
                    (unsigned long long)n_slots);
    first_row_slot_ = uint32_t(first);
    row_slots_ = uint32_t(pitch);
    n_slots_ = uint32_t(n_slots);
    matrices_.reserve(o.n_matrices);
    for (uint32_t m = 0; m < o.n_matrices; ++m) {
        const uint64_t slot_bytes = o.slot_bytes[m];
        const bool fits = slot_bytes <= max_address_bytes / n_slots;
        const uint64_t tensor_bytes = fits ? round_up(slot_bytes * n_slots, page_bytes_) : 0;
        if (!fits || tensor_bytes > (max_address_bytes - reserved_bytes_) / n_layers_)
            return fail(LARDER_E_RANGE, "slot_bytes", "%llu slots of %llu bytes in %u layers do not fit the addresses",
                        (unsigned long long)n_slots, (unsigned long long)slot_bytes, n_layers_);
        matrices_.push_back({slot_bytes, tensor_bytes, reserved_bytes_});
        reserved_bytes_ += tensor_bytes * n_layers_;
        expert_bytes_each_ += slot_bytes;
    }
    return space_.reserve(reserved_bytes_, page_bytes_);
}

larder_status larder_vtensor::create(larder_context& c, const larder_vtensor_options* options, larder_vtensor** out) {
    larder_vtensor_options o;
    LARDER_TRY(read_options(options, o, "larder_vtensor_options"));
    LARDER_TRY(check_options(c, o));
    if (o.device && !o.device->device->info().can_map)
        return fail(LARDER_E_UNSUPPORTED, "device", "%s cannot map memory", o.device->device->info().name);
    auto v = make_owned<larder_vtensor>(c.alloc, c, o);
    LARDER_TRY(v->plan(o));
    const Vec<uint32_t> all(o.n_layers, o.n_base, c.alloc);
    LARDER_TRY(v->back_row(0, all.data()));
    v->live_[0] = 1;
    *out = c.adopt_handle(v.release());
    return LARDER_OK;
}

larder_status larder_vtensor::view(uint32_t layer, uint32_t matrix, larder_vtensor_view& out) const noexcept {
    LARDER_TRY(check_range(layer, 0, n_layers_ - 1, "layer"));
    LARDER_TRY(check_range(matrix, 0, matrices_.size() - 1, "matrix"));
    const Matrix& m = matrices_[matrix];
    out = LARDER_VTENSOR_VIEW_INIT;
    out.n_slots = n_slots_;
    out.base = space_.base() + m.offset + layer * m.tensor_bytes;
    out.slot_bytes = m.slot_bytes;
    out.first_row_slot = first_row_slot_;
    out.row_slots = row_slots_;
    return LARDER_OK;
}

larder_status larder_vtensor::check_tuned(const uint32_t* n_tuned, const uint32_t* experts) {
    for (uint32_t layer = 0; layer < n_layers_; ++layer) {
        if (n_tuned[layer] > max_tuned_)
            return fail(LARDER_E_RANGE, "n_tuned", "layer %u has %u tuned experts; max_tuned is %u", layer,
                        n_tuned[layer], max_tuned_);
        if (n_tuned[layer] && !experts) return fail(LARDER_E_INVALID, "experts", "experts is NULL");
        std::fill(seen_.begin(), seen_.end(), uint8_t(0));
        for (uint32_t d = 0; d < n_tuned[layer]; ++d) {
            LARDER_TRY(check_range(experts[d], 0, n_base_ - 1, "experts"));
            if (seen_[experts[d]]++)
                return fail(LARDER_E_INVALID, "experts", "expert %u is listed twice in layer %u", experts[d], layer);
        }
        experts += n_tuned[layer];
    }
    return LARDER_OK;
}

larder_status larder_vtensor::back_row(uint32_t row, const uint32_t* n_tuned) {
    Piece* piece = &pieces_[size_t(row) * n_layers_ * matrices_.size()];
    for (uint32_t layer = 0; layer < n_layers_; ++layer)
        for (const Matrix& m : matrices_) {
            Piece& p = *piece++;
            if (!n_tuned[layer]) continue;
            const uint64_t offset = m.offset + layer * m.tensor_bytes + first_slot(row) * m.slot_bytes;
            const uint64_t n_bytes = n_tuned[layer] * m.slot_bytes;
            larder_status s;
            try {
                s = space_.back(offset, round_up(n_bytes, page_bytes_), p.page);
            } catch (const std::bad_alloc&) {
                s = fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
            }
            if (s < 0) {
                (void)unback_row(row);
                return s;
            }
            p.n_bytes = n_bytes;
            expert_bytes_ += n_bytes;
            mapped_bytes_ += round_up(n_bytes, page_bytes_);
            n_boundary_pages_ += n_bytes % page_bytes_ != 0;
        }
    return LARDER_OK;
}

// What the system does not take back stays on the books.
larder_status larder_vtensor::unback_row(uint32_t row) noexcept {
    larder_status first = LARDER_OK;
    if (matrices_.empty()) return first;
    Piece* piece = &pieces_[size_t(row) * n_layers_ * matrices_.size()];
    for (uint32_t layer = 0; layer < n_layers_; ++layer)
        for (const Matrix& m : matrices_) {
            Piece& p = *piece++;
            if (!p.n_bytes) continue;
            const uint64_t offset = m.offset + layer * m.tensor_bytes + first_slot(row) * m.slot_bytes;
            const larder_status s = space_.unback(offset, round_up(p.n_bytes, page_bytes_), p.page);
            if (s < 0) {
                if (first >= 0) first = s;
                continue;
            }
            expert_bytes_ -= p.n_bytes;
            mapped_bytes_ -= round_up(p.n_bytes, page_bytes_);
            n_boundary_pages_ -= p.n_bytes % page_bytes_ != 0;
            p = {};
        }
    return first;
}

void larder_vtensor::clear_routes(uint32_t row) noexcept {
    for (uint32_t layer = 0; layer < n_layers_; ++layer) std::iota(routes(layer, row), routes(layer, row) + n_base_, 0);
}

larder_status larder_vtensor::map(const uint32_t* n_tuned, const uint32_t* experts, uint64_t& out_adapter,
                                  int32_t& out_row) {
    std::unique_lock lock(mutex_);
    LARDER_TRY(check_tuned(n_tuned, experts));
    if (free_rows_.empty()) return fail(LARDER_E_NOSPACE, "max_adapters", "all %u rows have an adapter", max_adapters_);
    const uint32_t row = free_rows_.back();
    LARDER_TRY(unback_row(row));  // what an earlier unmap() had to leave
    const uint64_t id = ids_.insert(row);
    if (const larder_status s = back_row(row, n_tuned); s < 0) {
        ids_.remove(id);
        return s;
    }
    free_rows_.pop_back();
    live_[row] = 1;
    for (uint32_t layer = 0; layer < n_layers_; ++layer) {
        for (uint32_t d = 0; d < n_tuned[layer]; ++d) routes(layer, row)[experts[d]] = int32_t(first_slot(row) + d);
        experts += n_tuned[layer];
    }
    out_adapter = id;
    out_row = int32_t(row);
    return LARDER_OK;
}

larder_status larder_vtensor::unmap(uint64_t adapter) {
    std::unique_lock lock(mutex_);
    const uint32_t* found = ids_.find(adapter);
    if (!found) return fail(LARDER_E_STALE, "adapter", "the adapter was unmapped, or is none of this tensor");
    const uint32_t row = *found;
    ids_.remove(adapter);
    live_[row] = 0;
    clear_routes(row);
    free_rows_.push_back(row);
    return unback_row(row);
}

larder_status larder_vtensor::route(uint32_t layer, const int32_t* rows, uint32_t n_tokens, uint32_t k,
                                    int32_t* ids) const {
    LARDER_TRY(check_range(layer, 0, n_layers_ - 1, "layer"));
    std::shared_lock lock(mutex_);
    uint32_t largest = 0;
    for (uint32_t t = 0; t < n_tokens; ++t) {
        LARDER_TRY(check_range(uint32_t(rows[t]), 0, max_adapters_, "rows"));
        if (!live_[size_t(rows[t])]) return fail(LARDER_E_STALE, "rows", "row %d has no adapter", rows[t]);
    }
    for (size_t i = 0; i < size_t(n_tokens) * k; ++i) largest = std::max(largest, uint32_t(ids[i]));
    LARDER_TRY(check_range(largest, 0, n_base_ - 1, "ids"));
    for (uint32_t t = 0; t < n_tokens; ++t, ids += k) {
        const int32_t* map = routes(layer, uint32_t(rows[t]));
        for (uint32_t j = 0; j < k; ++j) ids[j] = map[ids[j]];
    }
    return LARDER_OK;
}

larder_status larder_vtensor::export_routes(uint32_t layer, int32_t* dst, uint32_t row_stride) const {
    LARDER_TRY(check_range(layer, 0, n_layers_ - 1, "layer"));
    if (row_stride < n_base_)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "row_stride", "row_stride is %u; a row has %u entries", row_stride,
                    n_base_);
    std::shared_lock lock(mutex_);
    for (uint32_t row = 0; row <= max_adapters_; ++row)
        std::copy_n(routes(layer, row), n_base_, dst + size_t(row) * row_stride);
    return LARDER_OK;
}

void larder_vtensor::query(larder_vtensor_state& out) const {
    std::shared_lock lock(mutex_);
    out = LARDER_VTENSOR_STATE_INIT;
    out.n_adapters = uint32_t(ids_.size());
    out.page_bytes = page_bytes_;
    out.expert_bytes = expert_bytes_;
    out.mapped_bytes = mapped_bytes_;
    out.n_boundary_pages = n_boundary_pages_;
    out.padded_bytes = expert_bytes_each_ * n_layers_ * (n_base_ + uint64_t(ids_.size()) * max_tuned_);
    out.reserved_bytes = reserved_bytes_;
}
