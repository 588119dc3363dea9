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
    void make_steps(double unit, Vec<float>& steps) noexcept;
    void requantize(const Channel& c, float step, uint32_t* out) noexcept;
    void cluster(const Vec<float>& steps, Vec<uint8_t>& map, Vec<TableSpec>& specs);
    void write_level(double unit, Vec<std::byte>& out);

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
};

}  // namespace larder
