#include "codec/extent.h"

#include <algorithm>
#include <bit>

#include "base/crc32c.h"
#include "base/numeric.h"
#include "base/result.h"
#include "codec/affine.h"
#include "codec/arena.h"
#include "codec/basis.h"
#include "codec/direct.h"
#include "codec/planes_zstd.h"
#include "codec/predict.h"
#include "codec/rotation.h"
#include "codec/separable.h"
#include "codec/sort.h"

namespace larder {

namespace {

constexpr uint8_t method_raw = 0, method_coded = 1, method_staged = 2;
constexpr size_t head_bytes = 4;

void write_head(std::byte* out, uint8_t method) noexcept {
    store_le<uint32_t>(out, method);
}

size_t encode_raw(const ExtentShape& e, const std::byte* elems, std::byte* out) noexcept {
    write_head(out, method_raw);
    std::memcpy(out + head_bytes, elems, e.raw_bytes());
    return head_bytes + e.raw_bytes();
}

constexpr size_t codes_crc_bytes = 4;

// Over what a tile decodes to before it is scaled: codes, or the elements of an exact chain.
uint32_t add_codes(uint32_t crc, const ExtentShape& e, const int16_t* q, const std::byte* elems, uint32_t n) noexcept {
    const size_t values = size_t(n) * e.width;
    return e.chain->quant == Quant::exact ? crc32c(crc, elems, values * e.elem_bytes) : crc32c(crc, q, 2 * values);
}

// Components have no mean of their own: s.lo becomes zeros.
void begin_basis(const ExtentShape& e, const ExtentScratch& s, const PlaneModel& m, bool encode) noexcept {
    std::fill_n(s.lo, e.width, 0.0f);
    basis_expand(e, s, m, encode);
}

// What a callback says is not trusted beyond what was promised of it.
size_t stage_bound(const larder_codec_stage& s, uint64_t n) noexcept {
    return size_t(std::min<uint64_t>(s.bound(s.ctx, n), 2 * n + 65536));
}

// A coded extent of n bytes through the program's stage, in place. 0 when it is not smaller than the elements then.
size_t apply_stage(const ExtentShape& e, const ExtentScratch& s, std::byte* out, size_t n) noexcept {
    uint64_t made = 0;
    if (e.stage->encode(e.stage->ctx, out, n, s.staged, s.staged_room, &made) != LARDER_OK || made >= e.raw_bytes() ||
        made > s.staged_room)
        return 0;
    write_head(out, method_staged);
    std::memcpy(out + head_bytes, s.staged, made);
    return head_bytes + made;
}

bool codes_are_packed(const Chain& c) noexcept {
    return c.quant == Quant::affine && c.entropy == Entropy::none;
}

}  // namespace

bool ExtentShape::is_coded() const noexcept {
    if (keep_exact) return false;
    if (chain->quant != Quant::exact) return true;
    return chain->entropy == Entropy::zstd || (chain->entropy == Entropy::rans && is_float_dtype(dtype));
}

size_t ExtentShape::side_bytes() const noexcept {
    if (is_separable(*chain)) return separable_side_bytes(*this);
    if (chain->sorted) return sort_side_bytes(*this);
    return chain->quant == Quant::affine ? affine_side_bytes(*this, n_tokens) : 0;
}

size_t ExtentShape::extra_bytes() const noexcept {
    if (chain->quant == Quant::exact && chain->entropy == Entropy::rans) {
        const size_t full = n_tokens / tile_tokens, tail = n_tokens % tile_tokens;
        return full * rest_bytes(dtype, size_t(tile_tokens) * width) + (tail ? rest_bytes(dtype, tail * width) : 0);
    }
    if (is_direct(*chain)) return n_tokens * direct_token_bytes(*this);
    if (is_separable(*chain)) return separable_code_bytes(*this);
    return codes_are_packed(*chain) ? n_tokens * ((size_t(width) * chain->bits[kv] + 7) / 8) : 0;
}

ExtentScratch carve_extent_scratch(std::byte*& at, const ExtentShape& e, bool encode) noexcept {
    const size_t tile = size_t(std::min(tile_tokens, e.n_tokens)) * e.width;
    ExtentScratch s{};
    if (e.chain->stage_id) {
        s.staged_room =
            encode && e.stage ? stage_bound(*e.stage, head_bytes + e.raw_bytes()) : head_bytes + e.raw_bytes();
        s.staged = carve<std::byte>(at, s.staged_room);
    }
    const bool whole = encode || e.chain->entropy == Entropy::zstd;
    s.elems = carve<std::byte>(at, whole ? e.raw_bytes() : tile * e.elem_bytes);
    if (!e.is_coded()) return s;
    if (e.chain->quant == Quant::exact && !encode) s.escapes = carve<uint64_t>(at, tile / 64);
    s.x = carve<float>(at, tile);
    s.q = carve<int16_t>(at, tile);
    s.lo = carve<float>(at, e.width);
    s.hi = carve<float>(at, e.width);
    s.scale = carve<float>(at, e.width);
    s.inverse = carve<float>(at, e.width);
    s.angles = carve<float>(at, needs_profile(*e.chain) ? Rope::scratch_floats(e.dim) : 0);
    if (e.chain->sorted) {
        s.order = carve<uint32_t>(at, e.width);
        s.block = carve<uint32_t>(at, e.width);
        if (encode) s.power = carve<double>(at, e.width);
    }
    s.reference = carve<int16_t>(at, e.chain->predict == Predict::none ? 0 : e.width);
    if (e.chain->basis) {
        s.matrix = carve<float>(at, size_t(e.width) * basis_channels(e));
        s.mixed = carve<float>(at, tile);
    }
    if (encode) {
        s.side = carve<std::byte>(at, e.side_bytes());
        s.extra = carve<std::byte>(at, std::max(e.extra_bytes(), e.raw_bytes()));
    } else {
        s.raw =
            carve<std::byte>(at, e.uses_symbols() ? max_raw_bytes(e.n_tokens, e.width, e.side_bytes()) : e.raw_bytes());
    }
    if (e.uses_symbols()) s.symbols = carve_symbol_scratch(at, e.n_tokens, e.width, encode);
    return s;
}

namespace {

// Keys turned back, channels decorrelated, where the profile has either; and the way back.
void to_components(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, const PlaneModel& m, uint32_t t,
                   uint32_t n) noexcept {
    if (m.rope) rope_rotate(k, *m.rope, e.position + t, n, e.n_heads, e.dim, -1, s.x, s.angles);
    if (e.chain->basis) basis_forward(k, e, s, m, n);
}
void from_components(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, const PlaneModel& m, uint32_t t,
                     uint32_t n) noexcept {
    if (e.chain->basis) basis_backward(k, e, s, m, n);
    if (m.rope) rope_rotate(k, *m.rope, e.position + t, n, e.n_heads, e.dim, 1, s.x, s.angles);
}

}  // namespace

void quantize_tile(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, const PlaneModel* model,
                   const std::byte* elems, uint32_t t, uint32_t n, std::byte*& side, std::byte*& extra) noexcept {
    const size_t values = size_t(n) * e.width;
    if (e.chain->quant == Quant::exact) {
        k.split(elems, e.dtype, s.q, extra, values);
        extra += rest_bytes(e.dtype, values);
        return;
    }
    k.to_f32(elems, e.dtype, s.x, values);
    if (e.chain->hadamard)
        for (uint32_t i = 0; i < n; ++i) rotate_forward(s.x + size_t(i) * e.width, e.n_heads, e.dim);
    if (e.chain->quant == Quant::lowrank) to_components(k, e, s, *model, t, n);
    if (is_direct(*e.chain)) return direct_encode(e, s, n, extra);
    if (is_separable(*e.chain)) return separable_encode(k, e, s, t, n, side, extra);
    if (e.chain->quant == Quant::affine) {
        affine_quantize(k, e, s, n, side);
        if (e.chain->predict != Predict::none) predict_encode(e, s, t, n);
        return;
    }
    to_components(k, e, s, *model, t, n);
    const float* centre = e.chain->basis ? s.lo : model->mean;
    for (uint32_t i = 0; i < n; ++i)
        k.quantize(s.x + size_t(i) * e.width, centre, model->inverse, 1, -32767, 32767, s.q + size_t(i) * e.width,
                   e.width);
    for (uint32_t i = 0; e.refine && i < n; ++i)
        refine_put(*e.refine, s.x + size_t(i) * e.width, s.q + size_t(i) * e.width, centre, model->step, 1, e.width);
}

namespace {

// 0 when the result would not be smaller than the elements.
size_t encode_coded(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, const TableSet* tables,
                    const PlaneModel* model, std::byte* out) noexcept {
    const size_t crc_bytes = e.chain->checked ? codes_crc_bytes : 0;
    if (e.raw_bytes() <= crc_bytes) return 0;
    const size_t room = e.raw_bytes() - crc_bytes;
    if (e.chain->entropy == Entropy::zstd) {
        const size_t n =
            zstd_encode(s.elems, e.elem_bytes, e.raw_bytes() / e.elem_bytes, s.extra, out + head_bytes, room - 1);
        write_head(out, method_coded);
        return n ? head_bytes + n : 0;
    }
    uint32_t codes_crc = 0;
    std::byte *side = s.side, *extra = s.extra;
    const bool symbols = e.uses_symbols();
    if (e.chain->basis) begin_basis(e, s, *model, true);
    if (is_separable(*e.chain)) separable_begin(k, e, s, side);
    if (e.chain->sorted) sort_channels(k, e, s, side);
    static constexpr TableSet no_tables{};
    SymbolEncoder encoder(k, s.symbols, symbols ? *tables : no_tables, e.layer, e.kv, symbols ? e.n_tokens : 0,
                          symbols ? e.width : 0);
    for (uint32_t t = 0; t < e.n_tokens; t += tile_tokens) {
        const uint32_t n = std::min(tile_tokens, e.n_tokens - t);
        const std::byte* elems = s.elems + size_t(t) * e.width * e.elem_bytes;
        quantize_tile(k, e, s, model, elems, t, n, side, extra);
        if (crc_bytes) codes_crc = add_codes(codes_crc, e, s.q, elems, n);
        if (symbols)
            encoder.put(s.q, n);
        else if (codes_are_packed(*e.chain))
            affine_pack(k, e, s, n, extra);
    }
    const ByteSpan side_data(s.side, size_t(side - s.side));
    const size_t n_extra = size_t(extra - s.extra);
    if (n_extra + side_data.size() + 1 > room) return 0;
    size_t at = head_bytes;
    if (symbols) {
        const size_t n = encoder.finish(side_data, out + at, room - n_extra - 1);
        if (!n) return 0;
        at += n;
    } else {
        std::memcpy(out + at, side_data.data(), side_data.size());
        at += side_data.size();
    }
    if (n_extra) std::memcpy(out + at, s.extra, n_extra);
    at += n_extra;
    if (crc_bytes) store_le<uint32_t>(out + at, codes_crc);
    write_head(out, method_coded);
    return at + crc_bytes;
}

}  // namespace

size_t encode_extent(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, const TableSet* tables,
                     const PlaneModel* model, std::byte* out) noexcept {
    size_t n = e.is_coded() ? encode_coded(k, e, s, tables, model, out) : 0;
    if (n && e.chain->stage_id) n = apply_stage(e, s, out, n);
    if (n) return n;
    if (e.refine) e.refine->at = 0;
    return encode_raw(e, s.elems, out);
}

larder_status ExtentDecoder::open(const Kernels& k, const ExtentShape& e, const ExtentScratch& s,
                                  const TableSet* tables, const PlaneModel* model, ByteSpan bytes) noexcept {
    k_ = &k;
    e_ = e;
    s_ = s;
    model_ = model ? *model : PlaneModel{};
    raw_elems_ = nullptr;
    side_at_ = extra_at_ = 0;
    has_job_ = false;
    refine_ = {};
    codes_crc_ = 0;
    const auto damaged = [](const char* why) { return fail(LARDER_E_CORRUPT, "extent", "%s", why); };
    if (bytes.size() < head_bytes) return damaged("an extent is shorter than its head");
    if (e.chain->stage_id && load_le<uint32_t>(bytes.data()) != method_raw) LARDER_TRY(undo_stage(bytes));
    const uint32_t head = load_le<uint32_t>(bytes.data());
    ByteSpan body = bytes.subspan(head_bytes);
    if (head == method_raw) {
        if (body.size() != e.raw_bytes()) return damaged("a raw extent does not have the size of its elements");
        raw_elems_ = body.data();
        return LARDER_OK;
    }
    if (head != method_coded || !e.is_coded() || body.size() >= e.raw_bytes())
        return damaged("an extent's method does not go with the stream's stages");
    if (e.chain->entropy == Entropy::zstd) {
        packed_ = body;
        return LARDER_OK;
    }
    if (e.chain->checked) {
        if (body.size() < codes_crc_bytes) return damaged("an extent ends before the checksum of its codes");
        stored_codes_crc_ = load_le<uint32_t>(body.last(codes_crc_bytes).data());
        body = body.first(body.size() - codes_crc_bytes);
    }
    const size_t n_side = e.side_bytes();
    if (is_separable(*e.chain) && body.size() < n_side) return damaged("an extent ends before its scales");
    const size_t n_extra = is_separable(*e.chain) ? separable_code_bytes(e, body.data()) : e.extra_bytes();
    if (body.size() < n_extra) return damaged("an extent ends before its planes");
    extra_ = body.last(n_extra);
    const ByteSpan rest = body.first(body.size() - n_extra);
    if (e.uses_symbols()) {
        has_job_ = true;
        return symbols_.open(k, s.symbols, *tables, e.layer, e.kv, e.n_tokens, e.width, n_side, rest, s.raw);
    }
    if (rest.size() != n_side) return damaged("an extent does not have the size of its scales and codes");
    side_ = rest;
    return LARDER_OK;
}

// bytes become the extent as it was before the stage.
larder_status ExtentDecoder::undo_stage(ByteSpan& bytes) noexcept {
    const ByteSpan in = bytes.subspan(head_bytes);
    uint64_t n = 0;
    if (load_le<uint32_t>(bytes.data()) != method_staged || in.size() >= e_.raw_bytes() ||
        e_.stage->decode(e_.stage->ctx, in.data(), in.size(), s_.staged, s_.staged_room, &n) != LARDER_OK ||
        n < head_bytes || n > s_.staged_room || load_le<uint32_t>(s_.staged) != method_coded)
        return fail(LARDER_E_CORRUPT, "extent", "stage %#x cannot undo what an extent holds", e_.chain->stage_id);
    bytes = {s_.staged, size_t(n)};
    return LARDER_OK;
}

larder_status ExtentDecoder::refine(const ByteSpan* levels, uint32_t n_levels) noexcept {
    const uint64_t need = raw_elems_ ? 0 : refine_plane_bytes(uint64_t(e_.n_tokens) * e_.width);
    const uint32_t n_unused = uint32_t(8 * need - (raw_elems_ ? 0 : uint64_t(e_.n_tokens) * e_.width));
    for (uint32_t l = 0; l < n_levels; ++l) {
        if (levels[l].size() != need || (n_unused && uint32_t(levels[l].back()) >> (8 - n_unused)))
            return fail(LARDER_E_CORRUPT, "extent", "a refinement does not have one bit for each value");
        refine_.plane[l] = levels[l].data();
    }
    refine_.n_levels = raw_elems_ ? 0 : n_levels;
    return LARDER_OK;
}

namespace {

void turn_back(const ExtentShape& e, const ExtentScratch& s, uint32_t n) noexcept {
    for (uint32_t i = 0; e.chain->hadamard && i < n; ++i) rotate_backward(s.x + size_t(i) * e.width, e.n_heads, e.dim);
}

}  // namespace

larder_status ExtentDecoder::finish_tile(uint32_t t, uint32_t n, std::byte* out) noexcept {
    const size_t values = size_t(n) * e_.width;
    if (is_direct(*e_.chain)) {
        LARDER_TRY(direct_decode(e_, s_, n, extra_.data() + extra_at_));
        extra_at_ += n * direct_token_bytes(e_);
        if (e_.chain->quant == Quant::lowrank) from_components(*k_, e_, s_, model_, t, n);
        turn_back(e_, s_, n);
        k_->from_f32(s_.x, e_.dtype, out, values);
        return LARDER_OK;
    }
    if (is_separable(*e_.chain)) {
        LARDER_TRY(separable_decode(*k_, e_, s_, t, n, side_, extra_.data(), extra_at_));
        k_->from_f32(s_.x, e_.dtype, out, values);
        return LARDER_OK;
    }
    if (has_job_)
        LARDER_TRY(symbols_.get(s_.q, n));
    else
        affine_unpack(*k_, e_, s_, n, extra_.data() + extra_at_);
    if (e_.chain->quant == Quant::exact) k_->join(s_.q, extra_.data() + extra_at_, e_.dtype, out, values);
    if (e_.chain->checked) codes_crc_ = add_codes(codes_crc_, e_, s_.q, out, n);
    if (e_.chain->quant == Quant::exact) {
        extra_at_ += rest_bytes(e_.dtype, values);
        return LARDER_OK;
    }
    if (e_.chain->quant == Quant::affine) {
        if (e_.chain->predict != Predict::none) predict_decode(e_, s_, t, n);
        if (!has_job_) extra_at_ += n * ((size_t(e_.width) * e_.chain->bits[e_.kv] + 7) / 8);
        LARDER_TRY(affine_dequantize(*k_, e_, s_, n, side_, side_at_, refine_));
        turn_back(e_, s_, n);
    } else {
        const float* centre = e_.chain->basis ? s_.lo : model_.mean;
        for (uint32_t i = 0; i < n; ++i)
            k_->dequantize(s_.q + size_t(i) * e_.width, centre, model_.step, 1, s_.x + size_t(i) * e_.width, e_.width);
        for (uint32_t i = 0; refine_.n_levels && i < n; ++i)
            refine_get(refine_, model_.step, 1, s_.x + size_t(i) * e_.width, e_.width);
        from_components(*k_, e_, s_, model_, t, n);
    }
    k_->from_f32(s_.x, e_.dtype, out, values);
    return LARDER_OK;
}

Result<bool> ExtentDecoder::restore_tile(const PlaneView& view, uint64_t at, uint32_t n, bool more) noexcept {
    if (e_.chain->quant != Quant::exact || !k_->restore || !has_job_ || e_.elem_bytes != 2 || e_.width % 64 ||
        view.head_stride != view.head_bytes)
        return false;
    const uint8_t* classes = symbols_.tile_rows(n);
    if (!classes) return false;
    std::byte *to[tile_tokens], *next[tile_tokens];
    for (uint32_t t = 0; t < n; ++t) to[t] = view.token(at + t), next[t] = more ? view.token(at + n + t) : to[t];
    const bool escaped = k_->restore(classes, symbols_.codes().base8, symbols_.codes().n8, extra_.data() + extra_at_,
                                     e_.dtype, to, next, s_.escapes, e_.width);
    if (escaped) LARDER_TRY(patch_escapes(to));
    for (uint32_t i = 0; e_.chain->checked && i < n; ++i) codes_crc_ = add_codes(codes_crc_, e_, s_.q, to[i], 1);
    symbols_.advance(n);
    extra_at_ += rest_bytes(e_.dtype, size_t(n) * e_.width);
    return true;
}

larder_status ExtentDecoder::patch_escapes(std::byte* const* to) noexcept {
    const bool half = e_.dtype == LARDER_DTYPE_F16;
    const uint16_t field = half ? 0x7c00 : 0x7f80;
    const uint32_t words = e_.width / 64;
    for (uint32_t i = 0; i < tile_tokens * words; ++i)
        for (uint64_t m = s_.escapes[i]; m; m &= m - 1) {
            int16_t q;
            LARDER_TRY(symbols_.next_escape(q));
            std::byte* p = to[i / words] + 2 * size_t(64 * (i % words) + uint32_t(std::countr_zero(m)));
            const uint32_t exponent = uint32_t(uint16_t(q)) << (half ? 10 : 7);
            store_le<uint16_t>(p, uint16_t((load_le<uint16_t>(p) & ~field) | (exponent & field)));
        }
    return LARDER_OK;
}

larder_status ExtentDecoder::finish(const PlaneView& view, uint32_t from, uint32_t to, uint64_t at) noexcept {
    const size_t row = size_t(e_.width) * e_.elem_bytes;
    if (e_.is_coded() && e_.chain->entropy == Entropy::zstd && !raw_elems_) {
        LARDER_TRY(zstd_decode(packed_, e_.elem_bytes, e_.raw_bytes() / e_.elem_bytes, s_.raw, s_.elems));
        raw_elems_ = s_.elems;
    }
    if (raw_elems_) return view.scatter(at, to - from, raw_elems_ + from * row), LARDER_OK;
    if (has_job_) {
        LARDER_TRY(symbols_.close_job());
        side_ = symbols_.side();
    }
    if (e_.chain->basis) begin_basis(e_, s_, model_, false);
    if (is_separable(*e_.chain)) LARDER_TRY(separable_open(*k_, e_, s_, side_));
    if (e_.chain->sorted) LARDER_TRY(read_order(e_, s_, side_));
    for (uint32_t t = 0; t < e_.n_tokens; t += tile_tokens) {
        const uint32_t n = std::min(tile_tokens, e_.n_tokens - t);
        const uint32_t first = std::max(t, from), last = std::min(t + n, to);
        if (first == t && last == t + n) {
            LARDER_ASSIGN(const bool restored, restore_tile(view, at + (t - from), n, last + tile_tokens <= to));
            if (restored) continue;
        }
        // A whole tile that lands in one piece needs no copy.
        std::byte* direct = first == t && last == t + n ? view.contiguous(at + (t - from), n) : nullptr;
        LARDER_TRY(finish_tile(t, n, direct ? direct : s_.elems));
        if (!direct && first < last) view.scatter(at + (first - from), last - first, s_.elems + (first - t) * row);
    }
    if (e_.chain->checked && codes_crc_ != stored_codes_crc_)
        return fail(LARDER_E_CORRUPT, "extent", "the checksum of an extent's decoded codes does not hold");
    return has_job_ ? symbols_.end() : LARDER_OK;
}

}  // namespace larder
