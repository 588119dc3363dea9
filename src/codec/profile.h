// A profile: per layer and K or V, what was learnt about each channel, and the probability tables of each precision
// level.
#pragma once

#include "base/alloc.h"
#include "base/atomic.h"
#include "base/bytes.h"
#include "codec/basis.h"
#include "codec/extent.h"
#include "codec/rope.h"
#include "core/context.h"

namespace larder {

// One precision level of a profile, ready for use. Borrows; planes are K, V, K, V, ...
struct ProfileView {
    uint32_t n_layers = 0, n_kv_heads = 0, dim[2] = {0, 0}, width[2] = {0, 0};
    larder_rope keys = LARDER_ROPE_NONE;  // POST: rotated keys are turned back before they are quantized
    Rope rope;
    const float *mean = nullptr, *step = nullptr, *inverse = nullptr;
    uint32_t basis_heads = 0;  // 0: steps belong to channels; else to components of blocks of so many heads
    const float* weight = nullptr;
    const std::byte* bases = nullptr;
    TableSet tables;

    PlaneModel plane(uint32_t layer, uint32_t kv) const noexcept {
        const size_t at = size_t(layer) * (size_t(width[0]) + width[1]) + (kv ? width[0] : 0);
        PlaneModel m{mean + at, step + at, inverse + at};
        if (!basis_heads) return m;
        m.weight = weight + at;
        m.basis = bases + layer * (plane_basis_bytes(0) + plane_basis_bytes(1)) + (kv ? plane_basis_bytes(0) : 0);
        return m;
    }
    size_t plane_basis_bytes(uint32_t kv) const noexcept { return basis_bytes(width[kv], basis_heads * dim[kv]); }
    size_t n_channels() const noexcept { return size_t(n_layers) * (size_t(width[0]) + width[1]); }
    larder_status check_shape(const larder_stream_shape& s) const noexcept;
};

// The saved form. Total over hostile bytes.
struct ProfileHeader {
    uint32_t n_levels, n_layers, n_kv_heads, dim[2], rope_dims;
    larder_rope keys;
    bool interleaved;
    uint32_t basis_heads, basis_levels;  // basis_levels: bit l for level l
    uint64_t frequency_at, mean_at, weight_at, basis_at, level_at[LARDER_PROFILE_MAX_LEVELS],
        level_bytes[LARDER_PROFILE_MAX_LEVELS];
};
larder_status read_profile_header(ByteSpan saved, ProfileHeader& out) noexcept;
// Carves the arrays of one level at `at` and fills them. With `at` starting from NULL it only counts.
larder_status read_profile_level(ByteSpan saved, const ProfileHeader& h, uint32_t level, std::byte*& at,
                                 bool count_only, ProfileView& out) noexcept;

struct Calibration;

}  // namespace larder

// Counted: the creator holds one reference, each codec another. Written until it is finished, read-only afterwards.
struct larder_profile final : larder::Handle {
    larder_profile(larder_context& c);
    ~larder_profile();
    static larder_status create(larder_context& c, const larder_profile_options* options, larder_profile** out);
    static larder_status load(larder_context& c, larder::ByteSpan bytes, larder_profile** out);
    const larder_profile* ref() const noexcept { return refs_.fetch_add(1, larder::relaxed), this; }
    void unref() const noexcept;

    larder_status set_reader(uint32_t layer, uint32_t kv, const float* weights, uint32_t n);
    larder_status add(const larder_stream_source& sample);
    larder_status finish();

    bool finished() const noexcept { return !saved.empty(); }
    larder::Vec<std::byte> saved;  // the saved form
    larder_key hash{};
    larder::ProfileView levels[LARDER_PROFILE_MAX_LEVELS];
    uint32_t n_levels = 0;

  private:
    larder_status adopt(larder::Vec<std::byte>&& bytes);
    larder::Owned<larder::Calibration> calibration_;
    larder::Vec<std::byte> memory_[LARDER_PROFILE_MAX_LEVELS];
    mutable larder::atomic<uint32_t> refs_{1};
};
