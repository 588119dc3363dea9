// Learning a profile from samples: running moments and a fine histogram per channel, then steps and tables. Memory is
// fixed by the shape.
#pragma once

#include "base/alloc.h"
#include "codec/profile.h"

namespace larder {

inline constexpr uint32_t profile_magic = 0x31504b4c;  // "LKP1"
inline constexpr size_t profile_header_bytes = 40 + 4 * LARDER_PROFILE_MAX_LEVELS;
constexpr uint64_t profile_step_bytes(uint64_t n_channels) noexcept {
    return (n_channels * 2 + 3) / 4 * 4;
}

struct Calibration {
    explicit Calibration(larder_context& c);
    larder_status open(const larder_profile_options* options);
    larder_status set_reader(uint32_t layer, uint32_t kv, const float* weights, uint32_t n);
    larder_status add(const larder_stream_source& sample);
    larder_status finish(Vec<std::byte>& saved);

  private:
    // A histogram covers +- n_bins/2 bins of a sixteenth of the deviation that the first sample showed.
    static constexpr uint32_t n_bins = 512, bins_per_deviation = 16, max_profile_tables = 64;
    // Whole tokens that are kept for what looks at several channels at once: so many bytes, within these bounds.
    static constexpr uint64_t sample_bytes = 256 << 20, min_samples = 512, max_samples = 8192;
    static constexpr uint32_t no_slot = UINT32_MAX, usual_basis_channels = 256;
    struct Channel {
        double n = 0, mean = 0, m2 = 0;
        float centre = 0, bin = 0;  // of the histogram
        float weight = 0;           // 0: not given
    };
    Channel& channel(uint32_t layer, uint32_t kv, uint32_t c) noexcept {
        return channels_[size_t(layer) * (size_t(width_[0]) + width_[1]) + (kv ? width_[0] : 0) + c];
    }
    uint32_t* counts(const Channel& c) noexcept { return counts_.data() + size_t(&c - channels_.data()) * n_bins; }
    larder_status add_plane(const larder_stream_source& s, const larder_stream_shape& shape, uint32_t layer,
                            uint32_t kv);
    void fix_bins(uint32_t layer, uint32_t kv) noexcept;
    // Of one plane: mean logarithms of its channels.
    struct PlaneScale {
        double log_deviation, log_weight;
        bool weighted;
    };
    PlaneScale plane_scale(uint32_t layer, uint32_t kv) noexcept;
    static double deviation(const Channel& c) noexcept { return double(c.bin) * bins_per_deviation; }
    static double relative_weight(const Channel& c, const PlaneScale& p) noexcept;
    larder_status choose_basis() noexcept;
    bool has_basis(uint32_t level) const noexcept { return basis_heads_ && level; }
    uint32_t sample_slot(uint64_t token) const noexcept;
    uint32_t n_samples() const noexcept;
    void make_bases(Vec<std::byte>& out);
    void make_basis(const float* weight, size_t first, uint32_t block, Vec<std::byte>& out);
    void make_steps(double unit, bool components, Vec<float>& steps) noexcept;
    void requantize(const Channel& c, float step, uint32_t* out) noexcept;
    void count_components(const Vec<float>& steps, Vec<uint32_t>& out) noexcept;
    void cluster(const Vec<uint32_t>& codes, Vec<uint8_t>& map, Vec<TableSpec>& specs);
    void write_level(uint32_t level, Vec<std::byte>& out);

    larder_context& context_;
    larder_profile_options options_{};
    double steps_[LARDER_PROFILE_MAX_LEVELS]{};
    uint32_t width_[2]{}, dim_[2]{};
    Vec<double> frequency_;
    Vec<Channel> channels_;
    Vec<uint32_t> counts_;
    Vec<std::byte> rows_;  // one tile of elements
    Vec<float> x_, angles_;
    bool binned_ = false;
    uint64_t n_tokens_ = 0;
    uint32_t basis_heads_ = 0;
    uint64_t sample_room_ = 0;
    Vec<float> sample_;  // [token][channel]; from make_bases() on [token][component]
};

}  // namespace larder
