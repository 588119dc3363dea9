#include "expert/forecast.h"

#include <algorithm>

namespace larder {

static constexpr float fades[] = {0.5f, 0.8f, 0.95f, 0.99f, 0.997f};
static constexpr float discount = 0.5f, learning_rate = 0.01f;
// The span whose rate stands for an expert of which too little is known.
static constexpr size_t prior_rate = 3;
static constexpr float prior_weight = 4;
// Old pairs fade by halves.
static constexpr uint16_t max_pairs = 500;

ForecastPolicy::ForecastPolicy(const Allocator& a, uint32_t n_experts)
    : n_experts_(n_experts), pairs_(n_experts <= max_pairs_of), rates_(n_rates * n_experts, 0, a),
      features_(n_delay * n_features * n_experts, 0, a), outcomes_(n_delay * n_experts, 0, a),
      n_after_(pairs_ ? size_t(n_experts) * n_experts : 0, 0, a), n_before_(pairs_ ? n_experts : 0, 0, a) {
    weights_.fill(0.1f);
}

void ForecastPolicy::learn(std::span<const uint32_t> step) noexcept {
    float weight = 1 - discount;
    for (uint64_t back = 1; back <= std::min<uint64_t>(n_moments_, n_delay); ++back, weight *= discount)
        for (float* out = outcome((n_moments_ - back) % n_delay); uint32_t e : step) out[e] += weight;
    const size_t moment = n_moments_ % n_delay;
    if (n_moments_ >= n_delay) judge(moment);
    count_pairs(step);
    for (size_t r = 0; r < n_rates; ++r) {
        float* rate = &rates_[r * n_experts_];
        for (uint32_t e = 0; e < n_experts_; ++e) rate[e] *= fades[r];
        for (uint32_t e : step) rate[e] += 1 - fades[r];
    }
    describe(moment);
    ++n_moments_;
}

void ForecastPolicy::skip() noexcept {
    n_moments_ = 0;
    n_last_ = 0;
}

// What was expected of each expert at that moment, and what came.
void ForecastPolicy::judge(size_t moment) noexcept {
    const float* came = outcome(moment);
    for (uint32_t e = 0; e < n_experts_; ++e) {
        float expected = 0, norm = 1e-3f;
        for (size_t f = 0; f < n_features; ++f) {
            const float x = feature(moment, f)[e];
            expected += weights_[f] * x;
            norm += x * x;
        }
        const float correction = (came[e] - expected) * learning_rate / norm;
        for (size_t f = 0; f < n_features; ++f) weights_[f] += correction * feature(moment, f)[e];
    }
}

void ForecastPolicy::count_pairs(std::span<const uint32_t> step) noexcept {
    const bool small = pairs_ && step.size() <= max_step;
    for (size_t i = 0; small && i < n_last_; ++i) {
        const uint32_t first = last_[i];
        uint16_t* after = &n_after_[size_t(first) * n_experts_];
        if (++n_before_[first] > max_pairs) {
            n_before_[first] /= 2;
            for (uint32_t e = 0; e < n_experts_; ++e) after[e] /= 2;
        }
        for (uint32_t e : step) ++after[e];
    }
    n_last_ = small ? step.size() : 0;
    std::copy_n(step.begin(), n_last_, last_.begin());
}

void ForecastPolicy::describe(size_t moment) noexcept {
    for (size_t r = 0; r < n_rates; ++r) std::copy_n(&rates_[r * n_experts_], n_experts_, feature(moment, r));
    std::fill_n(feature(moment, constant), n_experts_, 1.0f);
    std::fill_n(outcome(moment), n_experts_, 0.0f);
    const float* prior = feature(moment, prior_rate);
    float* follows = feature(moment, followed);
    if (!n_last_) {
        std::copy_n(prior, n_experts_, follows);
        return;
    }
    std::fill_n(follows, n_experts_, 0.0f);
    for (size_t i = 0; i < n_last_; ++i) {
        const uint16_t* after = &n_after_[size_t(last_[i]) * n_experts_];
        const float scale = 1 / ((float(n_before_[last_[i]]) + prior_weight) * float(n_last_));
        for (uint32_t e = 0; e < n_experts_; ++e) follows[e] += (float(after[e]) + prior_weight * prior[e]) * scale;
    }
}

double ForecastPolicy::worth(uint32_t expert, const ExpertRecords&, double) const noexcept {
    if (!n_moments_) return rates_[prior_rate * n_experts_ + expert];
    float expected = 0;
    for (size_t f = 0; f < n_features; ++f) expected += weights_[f] * feature((n_moments_ - 1) % n_delay, f)[expert];
    return expected;
}

}  // namespace larder
