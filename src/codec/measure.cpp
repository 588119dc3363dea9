#include "codec/measure.h"

#include <algorithm>

#include "codec/arena.h"

namespace larder {

namespace {

// A cell is {mean 6 bits, spread 2 bits}. Coarser divisions take every 2 or 4 means and then all spreads together.
constexpr uint32_t n_divisions = 3;
constexpr uint32_t coarse_cell(uint32_t cell, uint32_t division) noexcept {
    const uint32_t mean = cell >> 2, spread = cell & 3;
    return division == 0 ? cell : division == 1 ? (mean >> 1 << 3 | (spread & 2)) : mean >> 2 << 4;
}

uint64_t table_section_bits(size_t map_bytes, size_t spec_bytes) noexcept {
    return uint64_t(8 + map_bytes + spec_bytes) * 8 << 16;
}

}  // namespace

TableMeasure::TableMeasure(std::byte*& at, uint32_t n_layers, const uint32_t width[2], const Chain& chain,
                           bool per_channel) noexcept
    : n_layers_(n_layers), width_{width[0], width[1]}, exact_(chain.quant == Quant::exact) {
    const uint32_t widest = std::max(width[0], width[1]);
    per_channel_ = per_channel && widest <= max_width;
    const bool relative = chain.predict != Predict::none;
    first_ = !exact_ && (chain.symmetric || relative) ? -128 : 0;
    const uint32_t bits = std::max(chain.bits[0], chain.bits[1]);
    max_k_ = exact_ || (bits <= 4 && !relative) ? 0 : relative ? std::max(bits, 2u) - 2 : bits - 3;
    if (!exact_) {
        for (uint32_t layer = 0; layer < n_layers; ++layer)
            for (uint32_t kv = 0; kv < 2; ++kv)
                highest_ = std::max(highest_, int32_t(code_limit(chain, kv, layer, n_layers)));
        lowest_ = chain.symmetric || relative ? -highest_ : 0;
        if (relative) {
            const int32_t span = chain.symmetric ? 2 * highest_ : highest_;
            lowest_ = -span, highest_ = span;
        }
    }
    channel_ = carve<uint32_t>(at, size_t(std::min(widest, max_width)) * n_bins);
    plane_ = carve<uint32_t>(at, n_bins);
    total_ = carve<uint32_t>(at, n_bins);
    cells_ = carve<uint32_t>(at, size_t(n_cells) * n_bins);
    map_ = carve<uint8_t>(at, table_map_bytes(TableMap::per_channel, n_layers, width));
    plane_specs_ = carve<TableSpec>(at, max_tables);
    cell_specs_ = carve<TableSpec>(at, n_cells);
    cell_ids_ = carve<uint8_t>(at, n_cells);
}

size_t TableMeasure::scratch_bytes(uint32_t n_layers, const uint32_t width[2]) noexcept {
    std::byte* at = nullptr;
    TableMeasure(at, n_layers, width, Chain{}, true);
    return carved(at);
}

size_t TableMeasure::max_bytes(uint32_t n_layers, const uint32_t width[2]) noexcept {
    return 16 + table_map_bytes(TableMap::per_channel, n_layers, width) + 2 * size_t(n_layers) +
           max_tables * TableSpec::max_bytes;
}

void TableMeasure::begin() noexcept {
    // Planes that are not float are never measured; their tables are never used, but must be there.
    std::fill_n(map_, table_map_bytes(TableMap::per_channel, n_layers_, width_), uint8_t(0));
    std::fill_n(plane_specs_, max_tables, TableSpec{0, 0, 1, {128}});
    std::fill_n(total_, n_bins, 0);
    std::fill_n(cells_, size_t(n_cells) * n_bins, 0);
}

void TableMeasure::begin_plane(uint32_t layer, uint32_t kv, larder_dtype t) noexcept {
    narrow_ = t == LARDER_DTYPE_F16;
    layer_ = layer;
    kv_ = kv;
    std::fill_n(plane_, n_bins, 0);
    if (per_channel_) std::fill_n(channel_, size_t(width_[kv]) * n_bins, 0);
}

void TableMeasure::add(const int16_t* q, uint32_t n_tokens) noexcept {
    const uint32_t width = width_[kv_];
    for (uint32_t t = 0; t < n_tokens; ++t)
        for (uint32_t c = 0; c < width; ++c) {
            const uint32_t bin = uint32_t(q[size_t(t) * width + c] - first_) & (n_bins - 1);
            if (per_channel_)
                ++channel_[size_t(c) * n_bins + bin];
            else
                ++plane_[bin];
        }
    n_sampled_ += uint64_t(n_tokens) * width;
}

uint32_t TableMeasure::cell_of(const uint32_t* counts) const noexcept {
    uint64_t n = 0, sum = 0;
    const uint32_t n_used = exact_ && narrow_ ? 32 : n_bins;
    for (uint32_t i = 0; i < n_used; ++i) n += counts[i], sum += uint64_t(counts[i]) * i;
    if (!n) return 0;
    uint64_t deviation = 0;
    const int64_t mean16 = int64_t(sum * 16 / n);
    for (uint32_t i = 0; i < n_used; ++i)
        deviation += uint64_t(counts[i]) * uint64_t(std::abs(int64_t(i) * 16 - mean16));
    const uint64_t spread16 = deviation / n;
    // Half an exponent apart; other codes by their range.
    const int64_t low = exact_ && mean16 >= 64 * 16 ? 96 : 0;
    const int64_t mean = exact_ ? mean16 / 8 - 2 * low : mean16 * 63 / (16 * 255);
    const uint32_t spread = spread16 < 12 ? 0 : spread16 < 18 ? 1 : spread16 < 30 ? 2 : 3;
    return uint32_t(std::clamp<int64_t>(mean, 0, 63)) << 2 | spread;
}

void TableMeasure::end_plane(uint64_t n_values) noexcept {
    n_values_ += n_values;
    if (per_channel_) {
        uint8_t* map = map_ + size_t(layer_) * (size_t(width_[0]) + width_[1]) + (kv_ ? width_[0] : 0);
        for (uint32_t c = 0; c < width_[kv_]; ++c) {
            const uint32_t* counts = channel_ + size_t(c) * n_bins;
            const uint32_t cell = cell_of(counts);
            map[c] = uint8_t(cell);
            for (uint32_t i = 0; i < n_bins; ++i)
                plane_[i] += counts[i], cells_[size_t(cell) * n_bins + i] += counts[i];
        }
    }
    for (uint32_t i = 0; i < n_bins; ++i) total_[i] += plane_[i];
    const uint32_t plane = width_[1] ? 2 * layer_ + kv_ : layer_;
    TableSpec spec;
    plane_bits_ += fit(plane_, spec);
    plane_bytes_ += spec.n_bytes();
    if (plane < max_tables) plane_specs_[plane] = spec;
}

uint64_t TableMeasure::fit(const uint32_t* counts, TableSpec& out) const noexcept {
    const uint64_t bits = fit_table(counts, n_bins, first_, max_k_, out);
    const uint32_t n = uint32_t(highest_ - lowest_ + 1);
    if (highest_ < lowest_ || n < 2 || n > rans_max_symbols) return bits;
    TableSpec closed;
    const uint64_t closed_bits = fit_closed_table(counts + (lowest_ - first_), n, lowest_, closed);
    if (closed_bits >= bits) return bits;
    out = closed;
    return closed_bits;
}

// Fit and number the tables of one division of the cells. Returns the coded size.
uint64_t TableMeasure::fit_cells(uint32_t division) noexcept {
    n_cell_specs_ = 0;
    uint64_t bits = 0;
    uint32_t counts[n_bins];
    for (uint32_t cell = 0; cell < n_cells; ++cell) {
        if (coarse_cell(cell, division) != cell) continue;
        std::fill_n(counts, n_bins, 0);
        // Members lie within a run of 16 cells from the first on.
        for (uint32_t m = cell; m < std::min(cell + 16, n_cells); ++m) {
            if (coarse_cell(m, division) != cell) continue;
            cell_ids_[m] = uint8_t(n_cell_specs_);
            for (uint32_t i = 0; i < n_bins; ++i) counts[i] += cells_[size_t(m) * n_bins + i];
        }
        if (std::all_of(counts, counts + n_bins, [](uint32_t n) { return n == 0; })) continue;
        bits += fit(counts, cell_specs_[n_cell_specs_++]);
    }
    return bits;
}

size_t TableMeasure::write(std::byte* out) noexcept {
    // Sampled counts stand for all values.
    const auto scaled = [&](uint64_t bits) {
        return uint64_t((unsigned __int128)bits * n_values_ / std::max<uint64_t>(1, n_sampled_));
    };
    TableSpec one;
    uint64_t best = scaled(fit(total_, one)) + table_section_bits(0, one.n_bytes());
    TableMap kind = TableMap::one;
    uint32_t division = 0;
    const uint32_t n_sides = width_[1] ? 2 : 1;
    if (n_sampled_ && n_sides * n_layers_ <= max_tables) {
        const uint64_t bits = scaled(plane_bits_) + table_section_bits(2 * size_t(n_layers_), plane_bytes_);
        if (bits < best) best = bits, kind = TableMap::per_plane;
    }
    const size_t map_bytes = table_map_bytes(TableMap::per_channel, n_layers_, width_);
    for (uint32_t d = 0; n_sampled_ && per_channel_ && d < n_divisions; ++d) {
        const uint64_t coded = scaled(fit_cells(d));
        const uint64_t bits = coded + table_section_bits(map_bytes, size_t(n_cell_specs_) * TableSpec::max_bytes);
        if (bits < best) best = bits, kind = TableMap::per_channel, division = d;
    }
    if (kind == TableMap::one) return write_table_set(kind, nullptr, 0, &one, 1, out);
    if (kind == TableMap::per_plane) {
        uint8_t map[2 * max_tables];
        for (uint32_t l = 0; l < n_layers_; ++l)
            for (uint32_t kv = 0; kv < 2; ++kv) map[2 * l + kv] = uint8_t(kv < n_sides ? l * n_sides + kv : 0);
        return write_table_set(kind, map, 2 * size_t(n_layers_), plane_specs_, n_sides * n_layers_, out);
    }
    fit_cells(division);
    for (size_t i = 0; i < map_bytes; ++i) map_[i] = cell_ids_[map_[i]];
    return write_table_set(kind, map_, map_bytes, cell_specs_, n_cell_specs_, out);
}

}  // namespace larder
