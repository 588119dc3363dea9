// One extent: K or V of one layer for the tokens of one chunk, gathered as [token][channel], to bytes and back.
//
//   u8 method (0: the elements as they are, 1: coded), u8 zero[3], then
//   coded by rANS:    coded part of symbols.h (which holds the side data), rest planes
//   coded, unpacked:  side data, then codes packed token by token
//   coded by zstd:    one zstd frame over byte planes
// A coded extent is always smaller than a raw one.
#pragma once

#include "base/result.h"
#include "codec/chain.h"
#include "codec/planes.h"
#include "codec/refine.h"
#include "codec/rope.h"
#include "codec/symbols.h"

namespace larder {

// What a profile says about one plane.
struct PlaneModel {
    const float* mean = nullptr;
    const float* step = nullptr;
    const float* inverse = nullptr;
    const Rope* rope = nullptr;        // keys are turned back before quantization; NULL: they are taken as they are
    const float* weight = nullptr;     // with a basis: how strongly each channel is read
    const std::byte* basis = nullptr;  // of basis.h
};

class SalientTokens;

struct ExtentShape {
    const Chain* chain;
    uint32_t layer, n_layers, kv;
    uint32_t n_tokens, width;
    uint32_t n_heads, dim;
    uint64_t position;  // of the first token in its sequence
    larder_dtype dtype;
    uint32_t elem_bytes;
    bool keep_exact;
    const SalientTokens* salient = nullptr;     // encode, mixed precision
    uint32_t first_token = 0;                   // of the extent within the stream, for salient
    RefineBits* refine = nullptr;               // encode: where refinement goes
    const larder_codec_stage* stage = nullptr;  // the chain's, where it is known

    size_t raw_bytes() const noexcept { return size_t(n_tokens) * width * elem_bytes; }
    bool is_coded() const noexcept;
    bool uses_symbols() const noexcept { return is_coded() && chain->entropy == Entropy::rans; }
    uint32_t groups() const noexcept { return chain->group ? width / chain->group : 1; }
    uint32_t group() const noexcept { return chain->group ? chain->group : width; }
    size_t side_bytes() const noexcept;  // scales and offsets, and where values belong
    size_t extra_bytes()
        const noexcept;  // rest planes, or packed codes; with mixed precision the most that they can take
};

struct ExtentScratch {
    std::byte* elems;   // [n_tokens][width]; decode: one tile, or all where zstd decodes an extent at once
    uint64_t* escapes;  // [tile_tokens][width / 64] bits; decode, exact
    float* x;           // [tile_tokens][width]
    int16_t* q;         // [tile_tokens][width]
    float *lo, *hi, *scale, *inverse;  // [width]
    float* angles;                     // of rope.h
    uint32_t *order, *block;           // [width] of sort.h
    double* power;                     // [width] of sort.h; encode
    float* matrix;                     // [width][channels of a block] of basis.h
    int16_t* reference;                // [width] of predict.h
    float* mixed;                      // [tile_tokens][width] of basis.h
    std::byte* side;                   // encode
    std::byte* extra;                  // encode
    std::byte* raw;                    // decode: carried raw bytes
    std::byte* staged;                 // what a stage of the program's makes of an extent, or undoes
    size_t staged_room;
    SymbolScratch symbols;
};
// Carves for the larger of the given sizes; with at starting from NULL it only counts.
ExtentScratch carve_extent_scratch(std::byte*& at, const ExtentShape& largest, bool encode) noexcept;

// The quantizer of one tile: n tokens of elements, from the extent's token t on, to q; side data and rest planes
// appended at the given places.
void quantize_tile(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, const PlaneModel* model,
                   const std::byte* elems, uint32_t t, uint32_t n, std::byte*& side, std::byte*& extra) noexcept;

// Encode what lies in scratch.elems. Writes at most 4 + raw_bytes(). tables and model as the chain needs them. A raw
// extent has no refinement: e.refine->at is 0 then.
size_t encode_extent(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, const TableSet* tables,
                     const PlaneModel* model, std::byte* out) noexcept;

class ExtentDecoder {
  public:
    // Checks the extent. job() is set when rows are to be decoded before finish().
    larder_status open(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, const TableSet* tables,
                       const PlaneModel* model, ByteSpan bytes) noexcept;
    // The levels after the base that are to be used. E_CORRUPT when one has not the size that the base needs.
    larder_status refine(const ByteSpan* levels, uint32_t n_levels) noexcept;
    RansJob* job() noexcept { return has_job_ ? &symbols_.job() : nullptr; }
    // Tokens from .. to - 1 of the extent to the view's tokens at, at + 1, ...; tile by tile, while a tile is in the
    // first-level cache.
    larder_status finish(const PlaneView& view, uint32_t from, uint32_t to, uint64_t at) noexcept;

  private:
    larder_status undo_stage(ByteSpan& bytes) noexcept;
    larder_status finish_tile(uint32_t t, uint32_t n, std::byte* out) noexcept;
    // A tile of exponents straight to its tokens' places; more: the next tile will be wanted as well. False: it is not
    // one that the kernel takes.
    Result<bool> restore_tile(const PlaneView& view, uint64_t at, uint32_t n, bool more) noexcept;
    larder_status patch_escapes(std::byte* const* to) noexcept;
    const Kernels* k_ = nullptr;
    ExtentShape e_{};
    ExtentScratch s_{};
    PlaneModel model_;
    SymbolDecoder symbols_;
    ByteSpan side_, extra_, packed_;
    RefineView refine_;
    uint32_t codes_crc_ = 0, stored_codes_crc_ = 0;
    const std::byte* raw_elems_ = nullptr;
    size_t side_at_ = 0, extra_at_ = 0;
    bool has_job_ = false;
};

}  // namespace larder
