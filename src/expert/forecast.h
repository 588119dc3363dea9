// How soon will each expert of a layer be used? Learned from nothing but what was used.
#pragma once

#include <array>

#include "expert/policy.h"

namespace larder {

// Uses in the near future, each half as important as one a step earlier, as a linear function of seven features: the
// rate of use over five spans of time, how often it followed the experts of the last step, and a constant. The weights
// are those of a normalised least-mean-squares filter (Widrow and Hoff) that compares, ten steps later, what was
// expected with what came. Where use is steady the long spans win, where it is bursty the short ones.
class ForecastPolicy final : public ExpertPolicy {
  public:
    ForecastPolicy(const Allocator& a, uint32_t n_experts);
    void learn(std::span<const uint32_t> step) noexcept override;
    void skip() noexcept override;
    double worth(uint32_t expert, const ExpertRecords&, double) const noexcept override;

  private:
    static constexpr size_t n_rates = 5, n_features = n_rates + 2, n_delay = 10;
    static constexpr size_t followed = n_rates, constant = n_rates + 1;
    // Each keeps a count for every pair of experts.
    static constexpr uint32_t max_pairs_of = 1024;
    // A batch of many tokens does not tell what follows what.
    static constexpr size_t max_step = 32;

    float* feature(size_t moment, size_t f) noexcept { return &features_[(moment * n_features + f) * n_experts_]; }
    const float* feature(size_t moment, size_t f) const noexcept {
        return &features_[(moment * n_features + f) * n_experts_];
    }
    float* outcome(size_t moment) noexcept { return &outcomes_[moment * n_experts_]; }
    void judge(size_t moment) noexcept;
    void count_pairs(std::span<const uint32_t> step) noexcept;
    void describe(size_t moment) noexcept;

    const uint32_t n_experts_;
    const bool pairs_;
    uint64_t n_moments_ = 0;  // since the last gap; the newest is n_moments_ - 1
    Vec<float> rates_;        // [n_rates][n_experts]
    Vec<float> features_;     // [n_delay][n_features][n_experts]: a ring
    Vec<float> outcomes_;     // [n_delay][n_experts]
    Vec<uint16_t> n_after_;   // [n_experts][n_experts]: how often the second was used a step after the first
    Vec<uint16_t> n_before_;  // [n_experts]: steps after the first
    std::array<float, n_features> weights_;
    std::array<uint32_t, max_step> last_;
    size_t n_last_ = 0;
};

}  // namespace larder
