// Encoding one stream: sizes first, then sections, extents, index and seal, in one buffer.
#pragma once

#include "base/result.h"
#include "codec/arena.h"
#include "codec/codec.h"
#include "codec/extent.h"
#include "codec/frame.h"
#include "codec/measure.h"
#include "codec/separable.h"

namespace larder {

class EncodePlan {
  public:
    // shape and chain are valid already.
    EncodePlan(const larder_codec& codec, const larder_stream_shape& shape) noexcept;
    uint64_t bound() const noexcept;
    uint64_t workspace() const noexcept;
    // link: of a later generation; {} for a stream of its own.
    Result<uint64_t> encode(const larder_stream_source& source, const Link& link, std::byte* out,
                            std::byte* workspace) const noexcept;

  private:
    struct Scratch {
        ExtentScratch extent[2];  // K and V take turns in the same memory
        RansTable* tables;
        std::byte* measure;  // of TableMeasure
    };
    Scratch carve_scratch(std::byte*& at) const noexcept;
    ExtentShape extent(uint32_t layer, uint32_t kv, uint32_t first_token, uint32_t n_tokens,
                       const larder_stream_identity* identity) const noexcept;
    bool measures() const noexcept { return chain_.entropy == Entropy::rans && !needs_profile(chain_); }
    // Writes what goes between stage list and index, and makes the tables ready. Returns its size.
    Result<uint64_t> profile_section(const larder_stream_source& source, const Scratch& s, std::byte* out,
                                     TableSet& tables) const noexcept;
    Result<uint64_t> write_extents(const larder_stream_source& source, const Scratch& s, const TableSet& tables,
                                   const SalientTokens* salient, const FrameLayout& at, std::byte* out) const noexcept;
    uint64_t move_refinement(const FrameLayout& at, uint64_t base_end, const uint64_t* level_end,
                             std::byte* out) const noexcept;
    // Of one level, padded, when no extent is raw; and where the encoder gathers the first level.
    uint64_t refinement_bytes() const noexcept;
    uint64_t refinement_offset(const FrameLayout& at) const noexcept;
    larder_status measure(const larder_stream_source& source, const Scratch& s, TableMeasure& m) const noexcept;
    larder_status measure_plane(const larder_stream_source& source, const ExtentScratch& s, uint32_t layer, uint32_t kv,
                                TableMeasure& m) const noexcept;
    larder_status plane(const larder_stream_source& source, uint32_t layer, uint32_t kv, PlaneView& out) const noexcept;

    uint64_t shape_bytes() const noexcept;

    const larder_codec& codec_;
    const Chain& chain_;
    larder_stream_shape shape_;
    const Kernels& k_;
    uint32_t width_[2];
    const ProfileView* profile_;
    uint32_t longest_;  // tokens of the longest chunk
};

}  // namespace larder
