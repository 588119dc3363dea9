// A model read one layer at a time, teacher-forced over a whole window, with what attention sees replaced by what a
// codec gave back.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/kernels.h"
#include "engine/model.h"

namespace quality {

// One layer of a window: what it computed, and what later queries are to read instead. Keys and values are halves, as
// in a cache; stored ones equal the computed ones until a codec has changed them.
struct LayerCache {
    std::vector<float> x;        // [token][dim]: the layer's input after its norm
    std::vector<uint16_t> k, v;  // [token][kv_width], keys rotated
    std::vector<uint16_t> stored_k, stored_v;
};

struct Outcome {
    double nll = 0;                    // mean over the window, nats per token
    std::vector<double> output_error;  // [layer], relative, of attention's output
    std::vector<float> attention;      // [token]: mean attention over the queries that see it, all heads and layers
    std::vector<double> query_power;   // [layer][kv head][pair]: mean square of the queries, both halves of a pair
};

// Called with each layer in turn, once its keys and values are there.
using Store = std::function<void(uint32_t layer, LayerCache& cache)>;

class Forced {
  public:
    // n_exact: newest tokens that every query reads as they were computed.
    Forced(const engine::Model& model, uint32_t n_exact);
    Outcome run(std::span<const int32_t> tokens, const Store& store);
    // K and V of one layer from its input: what an engine that caches inputs computes again.
    void project(uint32_t layer, const std::vector<float>& x, std::vector<uint16_t>& k, std::vector<uint16_t>& v);

    const engine::Model& model() const { return model_; }

  private:
    void multiply(const std::vector<float>& x, const engine::Matrix& w, std::vector<float>& y);
    void rotate(std::vector<float>& x, size_t n_heads) const;
    void attend(const LayerCache& c, Outcome& out);
    void attend_head(size_t head, const std::vector<float> (&planes)[4], Outcome& out, double (&error)[2]);

    const engine::Model& model_;
    const engine::Kernels& kernels_;
    uint32_t n_exact_, n_tokens_ = 0;
    std::vector<float> q_, k_, v_, o_, x_, h_, a_, b_;
};

}  // namespace quality
