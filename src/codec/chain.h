// The chain of stages that a codec applies, as a struct, as one line of text, and as the stage list of a stream.
//
//   source -> [transform] -> quantize -> [sparsify] -> entropy-code -> frame
//
// A preset is a named chain. The stage list of a stream holds one record per stage, so a reader can refuse a stage that
// it does not know.
#pragma once

#include <cstdint>
#include <cstdio>

#include "base/bytes.h"
#include "base/result.h"
#include "larder/stream.h"

namespace larder {

enum class Quant : uint8_t {
    exact = 1,      // every bit kept
    affine = 2,     // q = round((x - offset) / step), offset and step shared by a group along channels or tokens
    block = 3,      // block floating point: a shared scale and small floats or mantissas
    step = 4,       // a fixed step per channel, from a profile
    sparse = 5,     // the largest magnitudes of each token and head, the rest zero
    separable = 6,  // scales of channels and of tokens, and more bits for salient tokens
    lowrank = 7     // the strongest components of a profile's basis, in 16 bits
};

enum class Entropy : uint8_t { none = 0, rans = 1, zstd = 2 };

// Which neighbours share a scale: channels of one token, or tokens of one channel.
enum class Axis : uint8_t { token = 0, channel = 1 };

enum class BlockFormat : uint8_t { none = 0, bfp = 1, mxfp4 = 2, nvfp4 = 3, fp8 = 4, lloyd = 5, median = 6 };

// What a token's codes are coded relative to.
enum class Predict : uint8_t { none = 0, previous = 1, anchor = 2 };

struct Chain {
    Quant quant = Quant::exact;
    Entropy entropy = Entropy::none;
    BlockFormat format = BlockFormat::none;
    uint8_t bits[2] = {0, 0};  // K, V: bits per code before entropy coding
    Axis axis[2] = {Axis::token, Axis::token};
    uint16_t group = 32;  // values that share a scale; 0: all channels of a token
    bool symmetric = false;
    uint8_t taper = 0;  // 1 to 3: fewer levels in deeper layers, as CacheGen's quality levels do
    uint8_t level = 0;  // precision level of the profile
    Predict predict = Predict::none;
    bool hadamard = false;        // heads are turned by signs and a Walsh-Hadamard transform first
    uint16_t basis = 0;           // step, lowrank: heads whose channels the profile decorrelates together; 0: none
    uint8_t keep_percent = 100;   // sparse: magnitudes kept
    bool sorted = false;          // block: channels of like strength share blocks
    uint8_t salient_percent = 0;  // mixed precision: tokens that get salient_bits
    uint8_t salient_bits = 0;
    uint32_t exact_tail = 0;  // chunks that hold one of the last so many tokens are kept exact
    uint32_t chunk_tokens = 256;
    uint8_t refine = 0;     // levels after the base, each of one bit per value (refine.h)
    bool checked = false;   // extents carry a checksum of their decoded codes
    uint16_t stage_id = 0;  // of a stage that the program registered; 0: none
    uint8_t stage_version = 0;
};
inline constexpr uint8_t max_refine = 4;

class StageRegistry;

constexpr bool is_exact(const Chain& c) noexcept {
    return c.quant == Quant::exact;
}
constexpr larder_quality chain_quality(const Chain& c) noexcept {
    return is_exact(c) ? LARDER_QUALITY_EXACT : LARDER_QUALITY_APPROXIMATE;
}
constexpr bool needs_profile(const Chain& c) noexcept {
    return c.quant == Quant::step || c.quant == Quant::lowrank;
}

// Largest code of a symmetric quantizer, or of an asymmetric one (smallest 0), in this layer.
uint32_t code_limit(const Chain& c, uint32_t kv, uint32_t layer, uint32_t n_layers) noexcept;

// Combinations that make sense; E_INVALID or E_RANGE with the setting's name otherwise.
larder_status check_chain(const Chain& c) noexcept;
// Whether data of this shape can go through: dtype, widths.
larder_status check_chain_shape(const Chain& c, const larder_stream_shape& s) noexcept;

// "int4 group=64" -> Chain. The message of a failure names the word at fault.
// stages: those that "stage=NAME" may name; NULL: none.
larder_status parse_chain(const char* text, Chain& out, StageRegistry* stages = nullptr) noexcept;
// The canonical text; always terminated.
void print_chain(const Chain& c, char* out, size_t capacity) noexcept;
// The preset list. False past its end.
bool preset_at(uint32_t index, larder_codec_info& out) noexcept;

// The stage list of a stream. write returns the bytes used (at most max_stage_bytes); read is total.
inline constexpr size_t max_stage_bytes = 256;
struct Link;
size_t write_stages(const Chain& c, const larder_key* profile_hash, const Link& link, std::byte* out) noexcept;
// Puts another link in the place of the one that a valid stage list has; without one nothing changes.
void replace_link(MutByteSpan stages, const Link& link) noexcept;
larder_status read_stages(ByteSpan stages, Chain& out, larder_key& profile_hash, bool& names_profile,
                          Link& link) noexcept;

}  // namespace larder
