#include "codec/encoder.h"

#include <algorithm>
#include <optional>

#include "base/crc32c.h"
#include "base/numeric.h"
#include "core/layout.h"

namespace larder {

EncodePlan::EncodePlan(const larder_codec& codec, const larder_stream_shape& shape) noexcept
    : codec_(codec), chain_(codec.chain), shape_(shape),
      k_(kernels(codec.isa)), width_{plane_width(shape, 0), plane_width(shape, 1)},
      profile_(codec.profile ? &codec.profile->levels[codec.chain.level] : nullptr),
      longest_(std::min(shape.n_tokens, codec.chain.chunk_tokens)) {}

ExtentShape EncodePlan::extent(uint32_t layer, uint32_t kv, uint32_t first_token, uint32_t n_tokens,
                               const larder_stream_identity* identity) const noexcept {
    const larder_dtype t = plane_dtype(shape_, kv);
    const bool tail = chain_.exact_tail && uint64_t(first_token) + n_tokens + chain_.exact_tail > shape_.n_tokens;
    ExtentShape e{&chain_,
                  layer,
                  shape_.n_layers,
                  kv,
                  n_tokens,
                  width_[kv],
                  shape_.n_kv_heads,
                  kv ? shape_.v_dim : shape_.k_dim,
                  identity ? identity->first_token + first_token : 0,
                  t,
                  dtype_bytes(t),
                  tail};
    e.stage = codec_.stage;
    return e;
}

EncodePlan::Scratch EncodePlan::carve_scratch(std::byte*& at) const noexcept {
    Scratch s{};
    std::byte* end = at;
    for (uint32_t kv = 0; kv < 2; ++kv) {
        if (!width_[kv]) continue;
        ExtentShape e = extent(0, kv, 0, longest_, nullptr);
        e.keep_exact = false;
        std::byte* p = at;
        s.extent[kv] = carve_extent_scratch(p, e, true);
        end = std::max(end, p);
    }
    at = end;
    if (!measures()) return s;
    s.tables = carve<RansTable>(at, max_tables);
    s.measure = carve<std::byte>(at, TableMeasure::scratch_bytes(shape_.n_layers, width_));
    return s;
}

uint64_t EncodePlan::workspace() const noexcept {
    std::byte* at = nullptr;
    carve_scratch(at);
    return carved(at) + scratch_align;
}

uint64_t EncodePlan::bound() const noexcept {
    const uint64_t profile = measures()       ? TableMeasure::max_bytes(shape_.n_layers, width_)
                             : codec_.profile ? codec_.profile->saved.size()
                                              : 0;
    FrameLayout at;
    at.set(shape_, chain_, max_stage_bytes, profile);
    return refinement_offset(at) + chain_.refine * refinement_bytes() + trailer_bytes;
}

uint64_t EncodePlan::refinement_bytes() const noexcept {
    const uint64_t whole = shape_.n_tokens / chain_.chunk_tokens, rest = shape_.n_tokens % chain_.chunk_tokens;
    uint64_t n = 0;
    for (const uint64_t w : width_)
        n += whole * Frame::padded(refine_plane_bytes(chain_.chunk_tokens * w)) +
             Frame::padded(refine_plane_bytes(rest * w));
    return n * shape_.n_layers;
}

uint64_t EncodePlan::refinement_offset(const FrameLayout& at) const noexcept {
    return at.payload_offset + at.n_extents * (4 + extent_align) + shape_bytes();
}

larder_status EncodePlan::plane(const larder_stream_source& source, uint32_t layer, uint32_t kv,
                                PlaneView& out) const noexcept {
    LARDER_TRY(read_plane(source.planes, source.plane_stride, 2 * uint64_t(layer) + kv, shape_.n_kv_heads,
                          kv ? shape_.v_dim : shape_.k_dim, dtype_bytes(plane_dtype(shape_, kv)), shape_.n_tokens,
                          out));
    if (!out.given())
        return fail(LARDER_E_INVALID, "planes", "the %s plane of layer %u has neither base nor pages", kv ? "V" : "K",
                    layer);
    return LARDER_OK;
}

larder_status EncodePlan::measure_plane(const larder_stream_source& source, const ExtentScratch& s, uint32_t layer,
                                        uint32_t kv, TableMeasure& m) const noexcept {
    PlaneView view;
    LARDER_TRY(plane(source, layer, kv, view));
    const uint32_t n_tiles = (shape_.n_tokens + tile_tokens - 1) / tile_tokens;
    const uint32_t n_looked_at = std::min(n_tiles, TableMeasure::max_tiles);
    m.begin_plane(layer, kv, plane_dtype(shape_, kv));
    for (uint32_t i = 0; i < n_looked_at; ++i) {
        const uint32_t t = uint32_t(uint64_t(i) * n_tiles / n_looked_at) * tile_tokens;
        const uint32_t n = std::min({tile_tokens, shape_.n_tokens - t, longest_});
        std::byte *side = s.side, *extra = s.extra;
        view.gather(t, n, s.elems);
        quantize_tile(k_, extent(layer, kv, t, n, nullptr), s, nullptr, s.elems, 0, n, side, extra);
        m.add(s.q, n);
    }
    m.end_plane(uint64_t(shape_.n_tokens) * width_[kv]);
    return LARDER_OK;
}

larder_status EncodePlan::measure(const larder_stream_source& source, const Scratch& s,
                                  TableMeasure& m) const noexcept {
    m.begin();
    for (uint32_t layer = 0; layer < shape_.n_layers; ++layer)
        for (uint32_t kv = 0; kv < 2; ++kv)
            if (width_[kv] && is_float_dtype(plane_dtype(shape_, kv)))
                LARDER_TRY(measure_plane(source, s.extent[kv], layer, kv, m));
    return LARDER_OK;
}

Result<uint64_t> EncodePlan::profile_section(const larder_stream_source& source, const Scratch& s, std::byte* out,
                                             TableSet& tables) const noexcept {
    if (profile_) {
        tables = profile_->tables;
        if (!codec_.embed_profile) return uint64_t(0);
        std::memcpy(out, codec_.profile->saved.data(), codec_.profile->saved.size());
        return uint64_t(codec_.profile->saved.size());
    }
    if (!measures()) return uint64_t(0);
    std::byte* at = s.measure;
    TableMeasure m(at, shape_.n_layers, width_, chain_, longest_ >= tile_tokens);
    LARDER_TRY(measure(source, s, m));
    const size_t n = m.write(out);
    LARDER_TRY(read_table_set({out, n}, shape_.n_layers, width_, s.tables, tables));
    return uint64_t(n);
}

namespace {

void put_entry(std::byte* out, const FrameLayout& at, uint64_t number, const std::byte* extent, uint64_t n) noexcept {
    std::byte* entry = out + at.index_offset + number * index_entry_bytes;
    store_le<uint32_t>(entry, uint32_t(n));
    store_le<uint32_t>(entry + 4, crc32c(0, extent, Frame::padded(n)));
}

uint64_t pad_extent(std::byte* extent, uint64_t n) noexcept {
    const uint64_t padded = Frame::padded(n);
    std::memset(extent + n, 0, padded - n);
    return padded;
}

}  // namespace

// The base goes to its place, the refinements behind the longest base that could be; where they belong is known when
// the base is complete.
Result<uint64_t> EncodePlan::write_extents(const larder_stream_source& source, const Scratch& s, const TableSet& tables,
                                           const SalientTokens* salient, const FrameLayout& at,
                                           std::byte* out) const noexcept {
    uint64_t end = at.payload_offset, number = 0, level_end[max_refine];
    for (uint32_t l = 0; l < chain_.refine; ++l) level_end[l] = refinement_offset(at) + l * refinement_bytes();
    for (uint32_t layer = 0; layer < shape_.n_layers; ++layer)
        for (uint32_t kv = 0; kv < at.n_sides; ++kv) {
            PlaneView view;
            LARDER_TRY(plane(source, layer, kv, view));
            PlaneModel model;
            if (profile_) {
                model = profile_->plane(layer, kv);
                if (kv == 0 && profile_->rope.dims && source.identity.rope == LARDER_ROPE_POST)
                    model.rope = &profile_->rope;
            }
            for (uint32_t t = 0; t < shape_.n_tokens; t += chain_.chunk_tokens, ++number) {
                const uint32_t n = std::min(chain_.chunk_tokens, shape_.n_tokens - t);
                view.gather(t, n, s.extent[kv].elems);
                RefineBits bits{chain_.refine, {}, 0};
                for (uint32_t l = 0; l < chain_.refine; ++l) bits.plane[l] = out + level_end[l];
                ExtentShape e = extent(layer, kv, t, n, &source.identity);
                e.salient = salient;
                e.first_token = t;
                e.refine = chain_.refine ? &bits : nullptr;
                const size_t bytes = encode_extent(k_, e, s.extent[kv], &tables, &model, out + end);
                const uint64_t padded = pad_extent(out + end, bytes);
                put_entry(out, at, number, out + end, bytes);
                end += padded;
                const uint64_t plane_bytes = refine_plane_bytes(bits.at);
                for (uint32_t l = 0; l < chain_.refine; ++l) {
                    std::byte* plane = out + level_end[l];
                    level_end[l] += pad_extent(plane, plane_bytes);
                    put_entry(out, at, (l + 1) * at.n_extents + number, plane, plane_bytes);
                }
            }
        }
    return move_refinement(at, end, level_end, out);
}

uint64_t EncodePlan::move_refinement(const FrameLayout& at, uint64_t end, const uint64_t* level_end,
                                     std::byte* out) const noexcept {
    for (uint32_t l = 0; l < chain_.refine; ++l) {
        const uint64_t from = refinement_offset(at) + l * refinement_bytes(), n = level_end[l] - from;
        std::memmove(out + end, out + from, n);
        end += n;
    }
    return end;
}

Result<uint64_t> EncodePlan::encode(const larder_stream_source& source, const Link& link, std::byte* out,
                                    std::byte* workspace) const noexcept {
    std::byte* scratch = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(workspace) + scratch_align - 1) /
                                                      scratch_align * scratch_align);
    const Scratch s = carve_scratch(scratch);
    const size_t stages_bytes = write_stages(
        chain_, codec_.profile && !codec_.embed_profile ? &codec_.profile->hash : nullptr, link, out + header_bytes);
    FrameLayout at;
    at.set(shape_, chain_, stages_bytes, 0);
    TableSet tables;
    LARDER_ASSIGN(const uint64_t profile_bytes, profile_section(source, s, out + at.profile_offset, tables));
    const uint64_t profile_offset = at.profile_offset;
    at.set(shape_, chain_, stages_bytes, profile_bytes);
    std::optional<SalientTokens> salient;
    if (chain_.salient_percent) salient.emplace(source.saliency, shape_.n_tokens, chain_.salient_percent);
    LARDER_ASSIGN(const uint64_t end, write_extents(source, s, tables, salient ? &*salient : nullptr, at, out));
    const auto zero = [&](uint64_t from, uint64_t to) { std::memset(out + from, 0, to - from); };
    zero(header_bytes + stages_bytes, profile_offset);
    zero(profile_offset + profile_bytes, at.index_offset);
    zero(at.index_offset + at.n_entries() * index_entry_bytes, at.payload_offset);
    const uint64_t total =
        seal_frame(out, end, shape_, source.identity, chain_, uint32_t(stages_bytes), uint32_t(profile_bytes), at);
    codec_.context->stats.add(Stat::codec_encoded_bytes_in, shape_bytes());
    codec_.context->stats.add(Stat::codec_encoded_bytes_out, total);
    return total;
}

uint64_t EncodePlan::shape_bytes() const noexcept {
    uint64_t n = 0;
    for (uint32_t kv = 0; kv < 2; ++kv)
        n += uint64_t(shape_.n_layers) * shape_.n_tokens * width_[kv] * dtype_bytes(plane_dtype(shape_, kv));
    return n;
}

}  // namespace larder
