// A Llama-style decoder's weights: RMSNorm, rotary positions on interleaved pairs, grouped-query
// attention, SwiGLU, dense or as a mixture of experts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace engine {

struct Shape {
    uint32_t dim = 0;     // of the residual stream
    uint32_t hidden = 0;  // of the feed-forward part
    uint32_t n_layers = 0;
    uint32_t n_heads = 0;  // of queries; query head h reads kv head h / (n_heads / n_kv_heads)
    uint32_t n_kv_heads = 0;
    uint32_t head_dim = 0;  // even
    uint32_t vocab = 0;
    uint32_t context = 0;    // most positions of one sequence
    double theta = 10000;    // base of the rotary frequencies
    uint32_t n_experts = 0;  // of each layer; 0: a dense model
    uint32_t topk = 0;       // of them, for each token

    size_t q_width() const { return size_t(n_heads) * head_dim; }
    size_t kv_width() const { return size_t(n_kv_heads) * head_dim; }
    // Of one expert, packed for Kernels::product: w1, w3 [hidden][dim], then w2 [dim][hidden].
    size_t expert_floats() const;
};

// A matrix [n_out][n_in], packed for Kernels::product.
class Matrix {
  public:
    Matrix() = default;
    Matrix(size_t n_out, size_t n_in);

    void set(size_t out, size_t in, float value) { packed_[index(out, in)] = value; }
    float at(size_t out, size_t in) const { return packed_[index(out, in)]; }
    const float* packed() const { return packed_.data(); }
    size_t n_out() const { return n_out_; }
    size_t n_in() const { return n_in_; }

  private:
    size_t index(size_t out, size_t in) const;

    size_t n_out_ = 0, n_in_ = 0;
    std::vector<float> packed_;
};

struct Layer {
    std::vector<float> attention_norm, feed_norm;
    Matrix wq, wk, wv, wo;
    Matrix w1, w3, w2;           // gate, up, down; empty in a mixture
    Matrix router;               // [n_experts][dim]; empty in a dense model
    std::vector<float> experts;  // [n_experts][expert_floats()]
};

struct Model {
    Shape shape;
    Matrix embedding;  // [vocab][dim]
    std::vector<Layer> layers;
    std::vector<float> last_norm;
    Matrix output;        // [vocab][dim]; empty: the embedding
    uint32_t crc32c = 0;  // of the whole file: its identity

    const Matrix& output_matrix() const { return output.n_out() ? output : embedding; }
    size_t n_parameters() const;
};

// Read weights in the llama2.c "version 0" format or in "kvlm1" (docs/formats/kvlm1.md), told apart
// by the latter's magic. A file that is neither, that ends early, goes on too long, fails its
// checksum or states dimensions that no such model has throws Error with the file's name.
Model load_model(const std::string& path);

// The same from memory; `name` stands for the file in messages.
Model parse_model(std::span<const std::byte> bytes, const std::string& name);

std::vector<std::byte> read_file(const std::string& path);
uint32_t crc32c(std::span<const std::byte> bytes);

}  // namespace engine
