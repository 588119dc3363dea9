// Small integers to entropy-coded bytes and back: classes by static tables, low bits as planes, rare values in an
// escape list.
//
// Coded integers of one extent, [token][channel], become
//   rows of 32 classes, coded by rANS;
//   raw bytes: the caller's side data | escapes, int16 each, in [token][channel] order | low-bit planes, row by row.
// Rows run along channels when all channels of the extent share one table, and along tokens when each channel has a
// table of its own.
#pragma once

#include "codec/kernels.h"

namespace larder {

inline constexpr uint32_t max_tables = 256;

// Which table each channel of each layer's K or V uses.
enum class TableMap : uint8_t { one = 0, per_plane = 1, per_channel = 2 };

// The tables of a stream or of a profile's level, as stored: header, map, tables. All views borrow.
struct TableSet {
    const RansTable* tables = nullptr;
    uint32_t n_tables = 0;
    TableMap map_kind = TableMap::one;
    const uint8_t* map =
        nullptr;                 // nothing, [plane], or [plane][channel] with planes K, V, K, V... of their own widths
    uint32_t width[2] = {0, 0};  // channels of K and V

    // Tables of one plane: ids and their period.
    const uint8_t* ids(uint32_t layer, uint32_t kv, uint32_t& period) const noexcept;
};

// The stored form: u32 magic, u16 n_tables, u8 map kind, u8 zero, map padded to 4 bytes, tables padded to 4 bytes.
inline constexpr uint32_t table_set_magic = 0x3142544c;  // "LTB1"
size_t table_map_bytes(TableMap kind, uint32_t n_layers, const uint32_t width[2]) noexcept;
size_t write_table_set(TableMap kind, const uint8_t* map, size_t map_bytes, const TableSpec* specs, uint32_t n_tables,
                       std::byte* out) noexcept;
// Total. Expands the tables into `expanded`, which has room for what table_set_count() said.
uint32_t table_set_count(ByteSpan bytes) noexcept;
larder_status read_table_set(ByteSpan bytes, uint32_t n_layers, const uint32_t width[2], RansTable* expanded,
                             TableSet& out) noexcept;

// Per-channel parameters of one plane, in arrays of `width`.
struct CodeArrays {
    int16_t* base;
    uint16_t* k;
    uint16_t* n;
    uint8_t *base8, *n8;   // the same in bytes, for exponents
    uint32_t total_k = 0;  // sum of k over the channels
    void fill(const TableSet& set, uint32_t layer, uint32_t kv, uint32_t width) noexcept;
    ChannelCodes view() const noexcept { return {base, k, n}; }
};

// Rows of an extent.
struct RowPlan {
    uint32_t n_tokens, width;
    bool along_tokens;
    uint32_t n_full() const noexcept;
    uint32_t n_tail() const noexcept;
    uint32_t tail_lanes() const noexcept;
    size_t symbol_bytes() const noexcept { return size_t(n_full() + n_tail()) * rans_lanes; }
    // Bytes of the low-bit planes when channel c has k[c] of them.
    size_t plane_bytes(const uint16_t* k) const noexcept;
};

// Scratch for one extent. Sizes by symbol_scratch_bytes().
struct SymbolScratch {
    uint8_t* symbols;     // rows
    uint8_t* tile;        // [tile_tokens][width]
    uint8_t* low_tile;    // [tile_tokens][width]
    uint8_t* low_rows;    // [width][32]
    uint32_t* escape_at;  // [width]: channels of one token
    int16_t* escapes;     // encode: [n_tokens * width]
    std::byte* planes;    // encode
    uint16_t* words;      // encode
    size_t n_words_room;
    CodeArrays codes;
};
size_t symbol_scratch_bytes(uint32_t n_tokens, uint32_t width, bool encode) noexcept;
SymbolScratch carve_symbol_scratch(std::byte*& at, uint32_t n_tokens, uint32_t width, bool encode) noexcept;

class SymbolEncoder {
  public:
    SymbolEncoder(const Kernels& k, const SymbolScratch& scratch, const TableSet& set, uint32_t layer, uint32_t kv,
                  uint32_t n_tokens, uint32_t width) noexcept;
    // The next n tokens (tile_tokens each time but the last): q is [n][width].
    void put(const int16_t* q, uint32_t n) noexcept;
    // Write the coded part: escape count, states, words, raw. Returns the bytes written, or 0 when they would exceed
    // capacity.
    size_t finish(ByteSpan side, std::byte* out, size_t capacity) noexcept;

  private:
    void put_planes(uint32_t n) noexcept;
    const Kernels& k_;
    SymbolScratch s_;
    const TableSet& set_;
    RowPlan rows_;
    const uint8_t* ids_;
    uint32_t period_;
    uint32_t token_ = 0;
    size_t n_escapes_ = 0, n_plane_bytes_ = 0;
    bool uncodable_ = false;  // an escape where the table has none
};

// Decoding goes in three steps, so that the coded rows of several extents can be decoded together.
class SymbolDecoder {
  public:
    // Checks sizes and sets up job(). side_bytes: how much side data this extent has.
    larder_status open(const Kernels& k, const SymbolScratch& scratch, const TableSet& set, uint32_t layer, uint32_t kv,
                       uint32_t n_tokens, uint32_t width, size_t side_bytes, ByteSpan coded,
                       std::byte* raw_buffer) noexcept;
    RansJob& job() noexcept { return job_; }
    // After the job ran: were all words used and are the states what they must be?
    larder_status close_job() noexcept;
    ByteSpan side() const noexcept { return side_; }
    // The next n tokens; E_CORRUPT when the escapes do not fit.
    larder_status get(int16_t* q, uint32_t n) noexcept;
    larder_status end() const noexcept;
    // Classes of the next 32 tokens, by channel, for a kernel that takes them as they are; NULL when they are not of
    // that kind. To be followed by advance(32).
    const uint8_t* tile_rows(uint32_t n) const noexcept;
    void advance(uint32_t n) noexcept { token_ += n; }
    const CodeArrays& codes() const noexcept { return s_.codes; }
    // The next value of the escape list.
    larder_status next_escape(int16_t& q) noexcept;

  private:
    void get_planes(uint32_t n) noexcept;
    const Kernels* k_ = nullptr;
    SymbolScratch s_{};
    RowPlan rows_{};
    RansJob job_{};
    ByteSpan raw_, side_, escapes_, planes_;
    std::byte* raw_buffer_ = nullptr;
    bool carried_ = false;
    uint32_t token_ = 0;
    size_t escape_at_ = 0, plane_at_ = 0;
};

// What an extent's raw part can be at most, for the decoder's buffer.
size_t max_raw_bytes(uint32_t n_tokens, uint32_t width, size_t side_bytes) noexcept;

}  // namespace larder
