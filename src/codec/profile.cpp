#include "codec/profile.h"

#include <algorithm>
#include <cmath>

#include "base/crc32c.h"
#include "base/hash.h"
#include "base/numeric.h"
#include "base/options.h"
#include "codec/arena.h"
#include "codec/calibration.h"
#include "codec/frame.h"

namespace larder {

larder_status ProfileView::check_shape(const larder_stream_shape& s) const noexcept {
    if (s.n_layers != n_layers || s.n_kv_heads != n_kv_heads || s.k_dim != dim[0] || s.v_dim != dim[1])
        return fail(LARDER_E_UNSUPPORTED, "shape",
                    "the profile is for %u layers of %u heads of %u and %u; the data has %u of %u of %u and %u",
                    n_layers, n_kv_heads, dim[0], dim[1], s.n_layers, s.n_kv_heads, s.k_dim, s.v_dim);
    return LARDER_OK;
}

namespace {

bool basis_is_possible(const ProfileHeader& h, uint8_t version) noexcept {
    if (version == 1) return !h.basis_heads && !h.basis_levels;
    const uint64_t widest = uint64_t(h.basis_heads) * std::max(h.dim[0], h.dim[1]);
    return h.basis_heads && h.n_kv_heads % h.basis_heads == 0 && widest <= max_basis_channels &&
           h.basis_levels >> h.n_levels == 0;
}

// Weights, and where the matrices lie.
bool read_basis(ByteSpan saved, const ProfileHeader& h, float* weight, ProfileView& out) noexcept {
    bool good = true;
    for (size_t i = 0; i < out.n_channels(); ++i) {
        weight[i] = load_le<float>(saved.data() + h.weight_at + 4 * i);
        good = good && weight[i] >= 0x1p-60f && weight[i] <= 0x1p60f;
    }
    out.basis_heads = h.basis_heads;
    out.weight = weight;
    out.bases = saved.data() + h.basis_at;
    const size_t n = h.n_layers * (out.plane_basis_bytes(0) + out.plane_basis_bytes(1)) / 2;
    for (size_t i = 0; i < n; ++i)  // of unit vectors
        good = good && (load_le<uint16_t>(out.bases + 2 * i) & 0x7fff) <= 0x3c01;
    return good;
}

}  // namespace

larder_status read_profile_header(ByteSpan saved, ProfileHeader& h) noexcept {
    ByteReader in(saved);
    if (in.get<uint32_t>() != profile_magic) return fail(LARDER_E_FORMAT, "profile", "these bytes are not a profile");
    const uint8_t version = in.get<uint8_t>();
    if ((version < 1 || version > 2) && in.ok())
        return fail(LARDER_E_VERSION, "profile", "the profile has a newer format version");
    h.basis_levels = in.get<uint8_t>();
    h.n_levels = in.get<uint16_t>();
    h.n_layers = in.get<uint32_t>();
    h.n_kv_heads = in.get<uint32_t>();
    h.dim[0] = in.get<uint32_t>();
    h.dim[1] = in.get<uint32_t>();
    h.basis_heads = in.get<uint16_t>();
    h.keys = in.get<uint8_t>();
    h.interleaved = in.get<uint8_t>();
    h.rope_dims = in.get<uint32_t>();
    const uint64_t total = in.get<uint64_t>();
    if (!in.ok() || saved.size() < total) return fail(LARDER_E_TRUNCATED, "profile", "the profile ends early");
    if (total != saved.size() || total < profile_header_bytes + 4 ||
        crc32c(0, saved.data(), total - 4) != load_le<uint32_t>(saved.data() + total - 4))
        return fail(LARDER_E_CORRUPT, "profile", "the profile's checksum does not hold");
    const bool possible = h.n_levels >= 1 && h.n_levels <= LARDER_PROFILE_MAX_LEVELS && h.n_layers >= 1 &&
                          h.n_layers <= max_layers && h.n_kv_heads >= 1 && h.n_kv_heads <= max_heads && h.dim[0] >= 1 &&
                          h.dim[0] <= max_dim && h.dim[1] <= max_dim && basis_is_possible(h, version) &&
                          h.keys >= LARDER_ROPE_POST && h.keys <= LARDER_ROPE_NONE && h.rope_dims <= h.dim[0] &&
                          h.rope_dims % 2 == 0;
    if (!possible) return fail(LARDER_E_CORRUPT, "profile", "the profile states an impossible shape");
    uint64_t at = profile_header_bytes;
    for (uint32_t l = 0; l < LARDER_PROFILE_MAX_LEVELS; ++l) h.level_bytes[l] = in.get<uint32_t>();
    const uint64_t n_channels = uint64_t(h.n_layers) * h.n_kv_heads * (uint64_t(h.dim[0]) + h.dim[1]);
    h.frequency_at = at;
    at += uint64_t(h.rope_dims) / 2 * 8;
    h.mean_at = at;
    at += n_channels * 4;
    if (h.basis_heads) {
        h.weight_at = at;
        h.basis_at = at + n_channels * 4;
        at = h.basis_at;
        for (uint32_t d : h.dim) at += uint64_t(h.n_layers) * basis_bytes(h.n_kv_heads * d, h.basis_heads * d);
        at = (at + 3) / 4 * 4;
    }
    for (uint32_t l = 0; l < h.n_levels; ++l) {
        if (h.level_bytes[l] < profile_step_bytes(n_channels))
            return fail(LARDER_E_CORRUPT, "profile", "a level of the profile is too short");
        h.level_at[l] = at;
        at += h.level_bytes[l];
    }
    return at + 4 == total ? LARDER_OK
                           : fail(LARDER_E_CORRUPT, "profile", "the parts of the profile do not add up to its length");
}

larder_status read_profile_level(ByteSpan saved, const ProfileHeader& h, uint32_t level, std::byte*& at,
                                 bool count_only, ProfileView& out) noexcept {
    if (level >= h.n_levels)
        return fail(LARDER_E_CORRUPT, "profile", "the chain asks for level %u of a profile that has %u", level,
                    h.n_levels);
    out = ProfileView{};
    out.n_layers = h.n_layers;
    out.n_kv_heads = h.n_kv_heads;
    for (uint32_t kv = 0; kv < 2; ++kv) out.dim[kv] = h.dim[kv], out.width[kv] = h.n_kv_heads * h.dim[kv];
    out.keys = h.keys;
    const size_t n = out.n_channels();
    const ByteSpan section = saved.subspan(h.level_at[level], h.level_bytes[level]);
    const ByteSpan table_bytes = section.subspan(profile_step_bytes(n));
    auto* frequency = carve<double>(at, h.rope_dims / 2);
    auto* mean = carve<float>(at, n);
    auto* step = carve<float>(at, n);
    auto* inverse = carve<float>(at, n);
    const bool turned = h.basis_levels >> level & 1;
    auto* weight = carve<float>(at, turned ? n : 0);
    auto* tables = carve<RansTable>(at, table_set_count(table_bytes));
    if (count_only) return LARDER_OK;
    for (uint32_t i = 0; i < h.rope_dims / 2; ++i)
        frequency[i] = load_le<double>(saved.data() + h.frequency_at + 8 * size_t(i));
    out.rope = {h.interleaved, h.keys == LARDER_ROPE_POST ? h.rope_dims : 0, frequency};
    bool good = true;
    for (uint32_t i = 0; i < h.rope_dims / 2; ++i) good = good && frequency[i] >= 0 && frequency[i] <= 4;
    for (size_t i = 0; i < n; ++i) {
        mean[i] = load_le<float>(saved.data() + h.mean_at + 4 * i);
        step[i] = bf16_to_f32(load_le<uint16_t>(section.data() + 2 * i));
        good = good && step[i] >= 0x1p-120f && step[i] < 0x1p120f && std::fabs(mean[i]) < 0x1p120f;
        inverse[i] = 1.0f / step[i];
    }
    if (turned) good = read_basis(saved, h, weight, out) && good;
    if (!good)
        return fail(LARDER_E_CORRUPT, "profile", "the profile has a mean, step, frequency or basis that cannot be");
    out.mean = mean;
    out.step = step;
    out.inverse = inverse;
    LARDER_TRY(read_table_set(table_bytes, h.n_layers, out.width, tables, out.tables));
    return out.tables.map_kind == TableMap::per_channel
               ? LARDER_OK
               : fail(LARDER_E_CORRUPT, "profile", "the profile's tables are not by channel");
}

}  // namespace larder

using namespace larder;

larder_profile::larder_profile(larder_context& c)
    : Handle(HandleType::profile, c), saved(c.alloc), calibration_(nullptr, AllocDelete<Calibration>{c.alloc}) {
    for (auto& m : memory_) m = Vec<std::byte>(c.alloc);
}
larder_profile::~larder_profile() = default;

void larder_profile::unref() const noexcept {
    if (refs_.fetch_sub(1, acq_rel) == 1) context->drop_handle(const_cast<larder_profile*>(this));
}

larder_status larder_profile::adopt(Vec<std::byte>&& bytes) {
    ProfileHeader h;
    LARDER_TRY(read_profile_header(bytes, h));
    for (uint32_t l = 0; l < h.n_levels; ++l) {
        std::byte* at = nullptr;
        LARDER_TRY(read_profile_level(bytes, h, l, at, true, levels[l]));
        memory_[l].resize(carved(at) + scratch_align);
        at = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(memory_[l].data()) + scratch_align - 1) /
                                          scratch_align * scratch_align);
        LARDER_TRY(read_profile_level(bytes, h, l, at, false, levels[l]));
        // The map is borrowed from the saved bytes, whose place a move does not change.
    }
    n_levels = h.n_levels;
    hash = Blake2b().add(bytes.data(), bytes.size()).finish();
    saved = std::move(bytes);
    return LARDER_OK;
}

larder_status larder_profile::load(larder_context& c, ByteSpan bytes, larder_profile** out) {
    auto* p = c.make_handle<larder_profile>(c);
    try {
        Vec<std::byte> copy(bytes.begin(), bytes.end(), c.alloc);
        const larder_status st = p->adopt(std::move(copy));
        if (st < 0) return p->unref(), st;
    } catch (...) {
        p->unref();
        throw;
    }
    *out = p;
    return LARDER_OK;
}

larder_status larder_profile::create(larder_context& c, const larder_profile_options* options, larder_profile** out) {
    auto* p = c.make_handle<larder_profile>(c);
    try {
        p->calibration_ = make_owned<Calibration>(c.alloc, c);
        const larder_status st = p->calibration_->open(options);
        if (st < 0) return p->unref(), st;
    } catch (...) {
        p->unref();
        throw;
    }
    *out = p;
    return LARDER_OK;
}

namespace {
larder_status already_finished() noexcept {
    return fail(LARDER_E_STATE, "profile", "the profile is finished and cannot change");
}
}  // namespace

larder_status larder_profile::set_reader(uint32_t layer, uint32_t kv, const float* weights, uint32_t n) {
    return calibration_ ? calibration_->set_reader(layer, kv, weights, n) : already_finished();
}
larder_status larder_profile::add(const larder_stream_source& sample) {
    return calibration_ ? calibration_->add(sample) : already_finished();
}
larder_status larder_profile::finish() {
    if (!calibration_) return already_finished();
    Vec<std::byte> bytes(context->alloc);
    LARDER_TRY(calibration_->finish(bytes));
    LARDER_TRY(adopt(std::move(bytes)));
    calibration_.reset();
    return LARDER_OK;
}
