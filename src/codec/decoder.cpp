#include "codec/decoder.h"

#include <algorithm>

#include "codec/planes.h"
#include "codec/profile.h"
#include "core/layout.h"

namespace larder {

namespace {

struct Slot {
    ExtentScratch scratch[2];  // for K and for V, in the same memory
    ExtentDecoder decoder;
    PlaneView view;
    uint32_t kv, first_token, n_tokens;  // of the extent, relative to the stream
};

class Selection {
  public:
    Selection(const Kernels& k, const Frame& f, const larder_stream_target& t, const GenerationPart& part) noexcept
        : f_(f), t_(t), part_(part), k_(k), width_{plane_width(f.shape, 0), plane_width(f.shape, 1)} {}

    larder_status find_stage(StageRegistry& stages) noexcept;
    void carve_all(std::byte*& at) noexcept;
    larder_status run() noexcept;

  private:
    ExtentShape extent(uint32_t layer, uint32_t kv, uint32_t n_tokens) const noexcept;
    // Where the extents of a plane lie, level by level.
    struct Offsets {
        uint64_t level[1 + max_refine];
    };
    void pass(uint64_t number, Offsets& at) const noexcept;
    larder_status run_plane(uint32_t layer, uint32_t kv, Offsets at) noexcept;
    larder_status open(Slot& slot, uint32_t layer, uint32_t kv, uint32_t chunk, const Offsets& at) noexcept;
    larder_status flush() noexcept;
    void carve_embedded_profile(std::byte*& at) noexcept;
    larder_status find_tables() noexcept;

    const Frame& f_;
    const larder_stream_target& t_;
    const GenerationPart& part_;
    const Kernels& k_;
    uint32_t width_[2];
    RansTable* expanded_ = nullptr;
    TableSet tables_;
    ProfileView embedded_;
    const ProfileView* profile_ = nullptr;
    std::byte* embedded_memory_ = nullptr;
    Slot slots_[rans_ways];
    uint32_t n_slots_ = 0, n_open_ = 0;
    const larder_codec_stage* stage_ = nullptr;
};

larder_status Selection::find_stage(StageRegistry& stages) noexcept {
    if (!f_.chain.stage_id) return LARDER_OK;
    stage_ = stages.find(f_.chain.stage_id, f_.chain.stage_version);
    return stage_ ? LARDER_OK
                  : fail(LARDER_E_FORMAT, "stages", "stage %#x version %u is not registered and may not be skipped",
                         f_.chain.stage_id, f_.chain.stage_version);
}

ExtentShape Selection::extent(uint32_t layer, uint32_t kv, uint32_t n_tokens) const noexcept {
    const larder_dtype t = plane_dtype(f_.shape, kv);
    ExtentShape e{&f_.chain,
                  layer,
                  f_.shape.n_layers,
                  kv,
                  n_tokens,
                  width_[kv],
                  f_.shape.n_kv_heads,
                  kv ? f_.shape.v_dim : f_.shape.k_dim,
                  f_.identity.first_token,
                  t,
                  dtype_bytes(t),
                  false};
    e.stage = stage_;
    return e;
}

void Selection::carve_all(std::byte*& at) noexcept {
    if (f_.chain.entropy == Entropy::rans && !needs_profile(f_.chain))
        expanded_ = carve<RansTable>(at, table_set_count(f_.profile));
    carve_embedded_profile(at);
    n_slots_ = uint32_t(std::min<uint64_t>(rans_ways, f_.at.n_extents));
    for (uint32_t i = 0; i < n_slots_; ++i) {
        Slot& s = slots_[i];
        std::byte* end = at;
        for (uint32_t kv = 0; kv < f_.at.n_sides; ++kv) {
            std::byte* p = at;
            s.scratch[kv] = carve_extent_scratch(p, extent(0, kv, f_.chunk_length(0)), false);
            end = std::max(end, p);
        }
        at = end;
    }
}

// An embedded profile is expanded in the workspace; a damaged one needs no room, it is refused later.
void Selection::carve_embedded_profile(std::byte*& at) noexcept {
    embedded_memory_ = at;
    ProfileHeader h;
    if (!needs_profile(f_.chain) || f_.names_profile || read_profile_header(f_.profile, h) < 0) return;
    ProfileView counted;
    if (read_profile_level(f_.profile, h, f_.chain.level, at, true, counted) < 0) at = embedded_memory_;
}

larder_status Selection::find_tables() noexcept {
    if (!needs_profile(f_.chain)) {
        return f_.chain.entropy == Entropy::rans
                   ? read_table_set(f_.profile, f_.shape.n_layers, width_, expanded_, tables_)
                   : LARDER_OK;
    }
    if (f_.names_profile) {
        for (uint32_t i = 0; i < t_.n_profiles && !profile_; ++i) {
            const larder_profile* p = t_.profiles[i];
            if (p && p->finished() && p->hash == f_.profile_hash && f_.chain.level < p->n_levels)
                profile_ = &p->levels[f_.chain.level];
        }
        if (!profile_) {
            char hex[17];
            for (int i = 0; i < 8; ++i) std::snprintf(hex + 2 * i, 3, "%02x", f_.profile_hash.bytes[i]);
            return fail(LARDER_E_MISSING_PROFILE, "profiles", "the stream names profile %s..., which was not given",
                        hex);
        }
    } else {
        ProfileHeader h;
        LARDER_TRY(read_profile_header(f_.profile, h));
        std::byte* at = embedded_memory_;
        LARDER_TRY(read_profile_level(f_.profile, h, f_.chain.level, at, false, embedded_));
        profile_ = &embedded_;
    }
    if (profile_->check_shape(f_.shape) < 0)
        return fail(LARDER_E_CORRUPT, "profile", "the profile has another shape than the stream");
    if (profile_->basis_heads != f_.chain.basis)
        return fail(LARDER_E_CORRUPT, "profile", "the profile has another basis than the stream");
    tables_ = profile_->tables;
    return LARDER_OK;
}

// One extent further, on every level that is decoded.
void Selection::pass(uint64_t number, Offsets& at) const noexcept {
    for (uint32_t l = 0; l < part_.n_levels; ++l)
        at.level[l] += Frame::padded(f_.extent_bytes(l * f_.at.n_extents + number));
}

larder_status Selection::run() noexcept {
    LARDER_TRY(find_tables());
    const uint64_t first = f_.at.extent_number(t_.first_layer, 0, 0);
    Offsets at{};
    uint64_t offset = f_.at.payload_offset;
    for (uint64_t i = 0, l = 0; l < part_.n_levels; ++i) {
        if (i == l * f_.at.n_extents + first) at.level[l++] = offset;
        if (i < f_.at.n_entries()) offset += Frame::padded(f_.extent_bytes(i));
    }
    uint64_t i = first;
    for (uint32_t layer = t_.first_layer; layer < t_.first_layer + t_.n_layers; ++layer)
        for (uint32_t kv = 0; kv < f_.at.n_sides; ++kv) {
            LARDER_TRY(run_plane(layer, kv, at));
            for (uint32_t chunk = 0; chunk < f_.at.n_chunks; ++chunk) pass(i++, at);
        }
    return flush();
}

larder_status Selection::run_plane(uint32_t layer, uint32_t kv, Offsets at) noexcept {
    PlaneView view;
    const uint64_t n = 2 * uint64_t(layer - t_.first_layer) + kv;
    LARDER_TRY(read_plane(t_.planes, t_.plane_stride, n, f_.shape.n_kv_heads, kv ? f_.shape.v_dim : f_.shape.k_dim,
                          dtype_bytes(plane_dtype(f_.shape, kv)), t_.n_tokens, view));
    if (!view.given()) return LARDER_OK;
    const uint32_t last = part_.first_token + part_.n_tokens - 1;
    for (uint32_t chunk = 0; chunk <= last / f_.chain.chunk_tokens; ++chunk) {
        if (chunk >= part_.first_token / f_.chain.chunk_tokens) {
            Slot& slot = slots_[n_open_];
            slot.view = view;
            LARDER_TRY(open(slot, layer, kv, chunk, at));
            if (++n_open_ == n_slots_) LARDER_TRY(flush());
        }
        pass(f_.at.extent_number(layer, kv, chunk), at);
    }
    return LARDER_OK;
}

larder_status Selection::open(Slot& slot, uint32_t layer, uint32_t kv, uint32_t chunk, const Offsets& at) noexcept {
    ByteSpan bytes, levels[max_refine];
    for (uint32_t l = 0; l < part_.n_levels; ++l)
        LARDER_TRY(read_extent(f_, f_.at.extent_number(layer, kv, chunk, l), at.level[l], l ? levels[l - 1] : bytes));
    slot.kv = kv;
    slot.first_token = chunk * f_.chain.chunk_tokens;
    slot.n_tokens = f_.chunk_length(chunk);
    ExtentShape e = extent(layer, kv, slot.n_tokens);
    e.position += slot.first_token;
    PlaneModel model;
    if (profile_) {
        model = profile_->plane(layer, kv);
        if (kv == 0 && profile_->rope.dims && f_.identity.rope == LARDER_ROPE_POST) model.rope = &profile_->rope;
    }
    LARDER_TRY(slot.decoder.open(k_, e, slot.scratch[kv], &tables_, &model, bytes));
    return slot.decoder.refine(levels, part_.n_levels - 1);
}

larder_status Selection::flush() noexcept {
    RansJob* jobs[rans_ways];
    uint32_t n_jobs = 0;
    for (uint32_t i = 0; i < n_open_; ++i)
        if (RansJob* job = slots_[i].decoder.job()) jobs[n_jobs++] = job;
    if (n_jobs) k_.rans_decode(jobs, n_jobs);
    for (uint32_t i = 0; i < n_open_; ++i) {
        Slot& s = slots_[i];
        const uint32_t from = std::max(s.first_token, part_.first_token);
        const uint32_t to = std::min(s.first_token + s.n_tokens, part_.first_token + part_.n_tokens);
        LARDER_TRY(s.decoder.finish(s.view, from - s.first_token, to - s.first_token,
                                    from - part_.first_token + part_.view_token));
    }
    n_open_ = 0;
    return LARDER_OK;
}

}  // namespace

uint64_t decode_workspace(const Frame& f) noexcept {
    std::byte* at = nullptr;
    static constexpr larder_stream_target nothing = LARDER_STREAM_TARGET_INIT;
    static constexpr GenerationPart whole{};
    Selection(kernels_scalar, f, nothing, whole).carve_all(at);
    return carved(at) + scratch_align;
}

larder_status decode_selection(larder_context& c, const Frame& f, const larder_stream_target& t,
                               const GenerationPart& part, std::byte* workspace) noexcept {
    std::byte* at = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(workspace) + scratch_align - 1) /
                                                 scratch_align * scratch_align);
    Selection s(kernels(IsaLevel(c.param(LARDER_PARAM_ISA_LEVEL))), f, t, part);
    LARDER_TRY(s.find_stage(c.stages));
    s.carve_all(at);
    LARDER_TRY(s.run());
    uint64_t out = 0;
    for (uint32_t kv = 0; kv < 2; ++kv)
        out += uint64_t(plane_width(f.shape, kv)) * dtype_bytes(plane_dtype(f.shape, kv));
    const double share =
        double(t.n_layers) * double(part.n_tokens) / (double(f.shape.n_layers) * double(f.shape.n_tokens));
    c.stats.add(Stat::codec_decoded_bytes_in, uint64_t(double(f.total_bytes) * share));
    c.stats.add(Stat::codec_decoded_bytes_out, out * t.n_layers * part.n_tokens);
    return LARDER_OK;
}

}  // namespace larder
