// A codec between a model and its cache: profiles calibrated on one text, rates and errors measured on another.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/quality_model.h"
#include "larder/larder.h"

namespace quality {

struct Case {
    std::string name;
    engine::Model model;
    std::vector<std::vector<int32_t>> measured, calibration;  // windows, each beginning with the BOS token
};

struct LayerFigures {
    double bits = 0;                                    // per value of the layer's extents
    double k_error = 0, v_error = 0, output_error = 0;  // relative
};
struct Figures {
    double bits = 0;  // per value of K and V, everything counted but a profile that is named by hash
    double rise = 0, standard_error = 0;  // nats per token
    std::vector<LayerFigures> layers;
};

class Lab {
  public:
    explicit Lab(const Case& c);
    // One preset or chain. Takes the layers' inputs instead of K and V where `inputs` says so.
    Figures measure(const std::string& chain, bool inputs);
    uint64_t profile_bytes() const { return profile_bytes_; }
    double base_nll() const { return base_nll_; }

    static constexpr uint32_t n_exact = 32;  // newest tokens that are read as they were computed

  private:
    struct Coder;
    void calibrate();
    struct DestroyContext {
        void operator()(larder_context* c) const { (void)larder_context_destroy(c); }
    };
    std::unique_ptr<larder_context, DestroyContext> context_;
    std::unique_ptr<larder_profile, void (*)(larder_profile*)> profile_{nullptr, larder_profile_destroy};
    const Case& case_;
    Forced forced_;
    std::vector<double> base_;                  // of each measured window
    std::vector<std::vector<float>> saliency_;  // of each measured window
    double base_nll_ = 0;
    uint64_t profile_bytes_ = 0;
};

}  // namespace quality
