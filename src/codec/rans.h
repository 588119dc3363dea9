// Range asymmetric numeral systems over rows of 32 symbols: 32 interleaved states, 8-bit probabilities, at most 16
// symbols.
//
// Each lane holds a 32-bit state in [2^16, 2^32) and exchanges 16-bit words with one shared word stream, in lane order
// within a row. Tables are static for a row, so one bitstream is read by a scalar loop, by AVX2 with byte compares, by
// AVX-512 with the table in registers, and by a warp of a GPU. A table codes the integers base .. base + n - 1 after k
// low bits have been split off; symbol n is the escape, whose value stands in a side list.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"

namespace larder {

inline constexpr uint32_t rans_lanes = 32;
inline constexpr uint32_t rans_max_symbols = 15;  // without the escape
inline constexpr uint32_t rans_state_bytes = 4 * rans_lanes;
inline constexpr uint32_t rans_floor = 1u << 16;

// A table as it is stored: the escape gets what the others leave of 256. When they leave nothing the table is closed:
// it codes only its own symbols.
struct TableSpec {
    int16_t base;
    uint8_t k;
    uint8_t n;                       // 1 to 15
    uint8_t freq[rans_max_symbols];  // each at least 1

    static constexpr uint32_t max_k = 8;
    static constexpr size_t max_bytes = 4 + rans_max_symbols;
    size_t n_bytes() const noexcept { return 4u + n; }
    size_t write(std::byte* out) const noexcept;
    // False when the bytes end early or are no table.
    bool read(ByteReader& in) noexcept;
};

// The same, expanded for coding.
struct alignas(64) RansTable {
    uint8_t lut[256];    // slot -> symbol
    uint32_t fc[16];     // symbol -> start | frequency << 16
    double inverse[16];  // 1 / frequency, a little more: for dividing states exactly
    uint8_t freq8[16];
    uint8_t start8[16];
    uint8_t bound8[16];  // start - 1 of symbols 1..n, then 255: slot > bound means at least this symbol; top bit
                         // flipped for signed compares
    int32_t base;
    uint32_t k;
    uint32_t n;
    uint32_t reserved;

    void expand(const TableSpec& s) noexcept;
    bool is_closed() const noexcept { return fc[n] >> 16 == 0; }
};

// One entropy-coded sequence of rows. Row r uses tables[ids[r % period]]; the last tail_rows rows have tail_lanes lanes
// only.
struct RansJob {
    const RansTable* tables;
    const uint8_t* ids;
    uint32_t period;
    uint32_t n_full_rows;
    uint32_t tail_rows;
    uint32_t tail_lanes;
    uint8_t* symbols;        // [rows][32]
    const std::byte* words;  // decode: 16-bit words, any alignment
    size_t n_words;
    size_t at;     // decode: words used
    bool overrun;  // decode: more words were wanted than there are
    uint32_t state[rans_lanes];

    uint32_t n_rows() const noexcept { return n_full_rows + tail_rows; }
};

// Rows [first_row, n_rows) of a job, one at a time, reading no word past n_words.
void rans_decode_scalar(RansJob& job, uint32_t first_row) noexcept;
// Encodes rows from last to first. state holds the initial states on entry and the final ones on return. Words are
// written downwards from words_end; returns their number (at most 32 a row).
size_t rans_encode_scalar(RansJob& job, uint16_t* words_end) noexcept;

#if defined(__x86_64__)
// The same results, several jobs side by side.
void rans_decode_avx2(RansJob* const* jobs, uint32_t n_jobs) noexcept;
size_t rans_encode_avx2(RansJob& job, uint16_t* words_end) noexcept;
void rans_decode_avx512(RansJob* const* jobs, uint32_t n_jobs) noexcept;
size_t rans_encode_avx512(RansJob& job, uint16_t* words_end) noexcept;
#endif

// log2(v) in 1/65536 bit, v >= 1, by integers alone: table choices must not depend on a mathematics library.
uint32_t log2_q16(uint32_t v) noexcept;

// Fit a table to counts of the values first .. first + n_values - 1. Never fails; any value can be coded with the
// result. Returns the coded size of the counted values in 1/65536 bit, low bits and escapes included.
uint64_t fit_table(const uint32_t* counts, uint32_t n_values, int32_t first, uint32_t max_k, TableSpec& out) noexcept;
// The same with a closed table over all of at most 15 values, for quantizers that can give no others.
uint64_t fit_closed_table(const uint32_t* counts, uint32_t n_values, int32_t first, TableSpec& out) noexcept;
// What coding the counted values with a given table would take.
uint64_t table_cost(const uint32_t* counts, uint32_t n_values, int32_t first, const TableSpec& table) noexcept;

}  // namespace larder
