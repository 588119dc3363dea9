// Runs a model: tokens in, keys and values into the cache, logits out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "experts.h"
#include "kernels.h"
#include "kv_view.h"
#include "model.h"

namespace engine {

// Neighbouring tokens of one sequence, computed in one step. The cache holds all tokens before
// `position` and has room for these; they may follow each other in any number of slices and steps.
struct Slice {
    std::span<const int32_t> tokens;
    uint32_t position = 0;  // of the first
    const KvView* kv = nullptr;
};

// How much attention tokens get, for codecs that keep some better than others.
struct AttentionWatch {
    uint32_t n_last = 64;         // of each slice so many last tokens are asked what they look at
    std::vector<float> received;  // [tokens] weights, summed over those that asked, layers and heads
};

enum class Rows { last, all };  // whose logits are wanted, of each slice

class Decoder {
  public:
    // The model must outlive the decoder. `kernels` is for tests: the bits are the same with any.
    explicit Decoder(const Model& model, const Kernels& kernels = engine::kernels());

    // One step over the slices, which belong to different sequences. Returns logits, [rows][vocab],
    // slice after slice; good until the next step. Throws Error for a token outside the vocabulary
    // or a position beyond the context, before anything is computed.
    std::span<const float> step(std::span<const Slice> slices, Rows rows = Rows::last);

    // Whom to ask for the experts of a mixture from now on; null: the model has them. The bits do not
    // depend on who keeps them, nor on the order in which they come.
    void set_experts(Experts* experts) { experts_ = experts; }

    // Whom to add attention weights to from now on; null: nobody. The bits do not depend on it.
    void watch_attention(AttentionWatch* watch) { watch_ = watch; }

    const Model& model() const { return model_; }

  private:
    struct Row {
        int32_t token;
        uint32_t position;
        const KvView* kv;
    };

    void check(std::span<const Slice> slices) const;
    void attention(size_t layer, std::span<const Slice> slices);
    void attend_slice(size_t layer, const Slice& slice, size_t first_row);
    void add_attention(const AttendRow& row, float scale);
    void gather(size_t layer, size_t head, const KvView& kv, size_t n_keys);
    void rotate(float* heads, size_t n_heads, uint32_t position) const;
    void product(const std::vector<float>& x, size_t x_stride, const Matrix& w, std::vector<float>& y);
    void feed(const Layer& layer);
    void feed_mixture(size_t layer);
    void route(const Layer& layer);
    std::span<const uint32_t> routed_once();
    void compute_expert(uint32_t expert, const float* weights);
    void normalize(const std::vector<float>& weights);
    void add_out();

    const Model& model_;
    const Kernels& kernels_;
    std::vector<float> cos_, sin_;      // [context][head_dim / 2]
    std::vector<Row> rows_;             // of the step
    std::vector<float> x_, h_;          // [rows][dim]: residual stream, and normalised
    std::vector<float> q_, k_, v_, o_;  // [rows][padded width]
    std::vector<float> gate_, up_, out_;
    std::vector<float> keys_, values_;  // of one kv head, packed for Kernels::attend
    std::vector<float> gathered_, scratch_, logits_;
    std::vector<AttendRow> queries_;
    AttentionWatch* watch_ = nullptr;
    std::vector<float> weights_;  // [keys] of one query
    Experts* experts_ = nullptr;
    std::vector<uint32_t> chosen_, once_;     // [rows][topk]; each expert of them once
    std::vector<float> gates_;                // [rows][topk]
    std::vector<float> expert_x_, expert_y_;  // [rows of one expert][dim]
    std::vector<float> parts_;                // [rows][topk][padded(dim)]
};

// The most likely token; of equals the smallest.
int32_t greatest(std::span<const float> logits);
// Nats that the token costs under these logits.
double nll(std::span<const float> logits, int32_t token);

}  // namespace engine
