// Choosing probability tables for one stream from its own data, when no profile supplies them.
//
// Channels whose values have about the same mean and spread share a table. How finely they are told apart, or whether
// one table per plane or for the whole stream is better, is decided by the size that each choice would give, tables and
// map included.
#pragma once

#include "codec/extent.h"
#include "codec/planes.h"

namespace larder {

class TableMeasure {
  public:
    static size_t scratch_bytes(uint32_t n_layers, const uint32_t width[2]) noexcept;
    // Scratch is carved at `at`. per_channel: whether channels may have tables of their own.
    TableMeasure(std::byte*& at, uint32_t n_layers, const uint32_t width[2], const Chain& chain,
                 bool per_channel) noexcept;

    void begin() noexcept;
    // One plane's quantized values, tile by tile.
    void begin_plane(uint32_t layer, uint32_t kv, larder_dtype t) noexcept;
    void add(const int16_t* q, uint32_t n_tokens) noexcept;
    void end_plane(uint64_t n_values) noexcept;
    // Choose, and write the table section. Returns its bytes (at most max_bytes()).
    size_t write(std::byte* out) noexcept;
    static size_t max_bytes(uint32_t n_layers, const uint32_t width[2]) noexcept;

    // Tiles of a plane that are looked at, evenly spread.
    static constexpr uint32_t max_tiles = 8;

  private:
    static constexpr uint32_t n_bins = 256, n_cells = 256, max_width = 4096;
    uint32_t cell_of(const uint32_t* counts) const noexcept;
    uint64_t fit(const uint32_t* counts, TableSpec& out) const noexcept;
    uint64_t fit_cells(uint32_t division) noexcept;

    uint32_t n_layers_, width_[2];
    bool exact_, per_channel_;
    bool narrow_ = false;  // exponents of 5 bits
    int32_t first_;
    uint32_t max_k_;
    int32_t lowest_ = 0, highest_ = -1;  // all that the quantizer can give, when a closed table could hold it
    uint32_t* channel_;                  // [width][n_bins] of the current plane
    uint32_t* plane_;                    // [n_bins] of the current plane
    uint32_t* total_;                    // [n_bins]
    uint32_t* cells_;                    // [n_cells][n_bins]
    uint8_t* map_;                       // [plane][channel] -> cell
    TableSpec* plane_specs_;             // [max_tables]
    TableSpec* cell_specs_;              // [n_cells]
    uint8_t* cell_ids_;                  // [n_cells]: which of them a cell uses
    uint32_t n_cell_specs_ = 0;
    uint32_t layer_ = 0, kv_ = 0;
    uint64_t n_sampled_ = 0, n_values_ = 0;
    uint64_t plane_bits_ = 0;  // coding each plane with a table of its own
    size_t plane_bytes_ = 0;
};

}  // namespace larder
