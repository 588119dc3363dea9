#include "decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "error.h"

namespace engine {

Decoder::Decoder(const Model& model, const Kernels& kernels) : model_(model), kernels_(kernels) {
    const Shape& s = model.shape;
    const size_t half = s.head_dim / 2;
    cos_.resize(s.context * half);
    sin_.resize(s.context * half);
    for (size_t i = 0; i < half; ++i) {
        const double frequency = std::pow(s.theta, -double(2 * i) / s.head_dim);
        for (size_t p = 0; p < s.context; ++p) {
            cos_[p * half + i] = float(std::cos(double(p) * frequency));
            sin_[p * half + i] = float(std::sin(double(p) * frequency));
        }
    }
}

std::span<const float> Decoder::step(std::span<const Slice> slices, Rows rows) {
    check(slices);
    const Shape& s = model_.shape;
    rows_.clear();
    for (const Slice& slice : slices)
        for (size_t i = 0; i < slice.tokens.size(); ++i)
            rows_.push_back({slice.tokens[i], slice.position + uint32_t(i), slice.kv});
    x_.resize(rows_.size() * s.dim);
    h_.resize(x_.size());
    for (size_t r = 0; r < rows_.size(); ++r)
        for (size_t i = 0; i < s.dim; ++i) x_[r * s.dim + i] = model_.embedding.at(size_t(rows_[r].token), i);
    for (size_t l = 0; l < model_.layers.size(); ++l) {
        attention(l, slices);
        if (s.n_experts)
            feed_mixture(l);
        else
            feed(model_.layers[l]);
    }
    if (rows == Rows::last) {  // keep the rows that were asked for
        size_t to = 0, from = 0;
        for (const Slice& slice : slices) {
            if (slice.tokens.empty()) continue;
            from += slice.tokens.size();
            std::memmove(&x_[to * s.dim], &x_[(from - 1) * s.dim], s.dim * sizeof(float));
            rows_[to++] = rows_[from - 1];
        }
        rows_.resize(to);
    }
    normalize(model_.last_norm);
    product(h_, s.dim, model_.output_matrix(), out_);
    logits_.resize(rows_.size() * s.vocab);
    for (size_t r = 0; r < rows_.size(); ++r) std::copy_n(&out_[r * padded(s.vocab)], s.vocab, &logits_[r * s.vocab]);
    return logits_;
}

void Decoder::check(std::span<const Slice> slices) const {
    const Shape& s = model_.shape;
    for (const Slice& slice : slices) {
        if (uint64_t(slice.position) + slice.tokens.size() > s.context)
            throw Error("position " + std::to_string(slice.position + slice.tokens.size()) +
                        " is beyond the context of " + std::to_string(s.context));
        for (int32_t t : slice.tokens)
            if (t < 0 || uint32_t(t) >= s.vocab)
                throw Error("token " + std::to_string(t) + " is outside the vocabulary of " + std::to_string(s.vocab));
    }
}

void Decoder::normalize(const std::vector<float>& weights) {
    const size_t dim = model_.shape.dim;
    for (size_t r = 0; r < rows_.size(); ++r) kernels_.norm(&x_[r * dim], weights.data(), dim, &h_[r * dim]);
}

// y: [rows][padded(n_out)]
void Decoder::product(const std::vector<float>& x, size_t x_stride, const Matrix& w, std::vector<float>& y) {
    const size_t y_stride = padded(w.n_out());
    y.resize(rows_.size() * y_stride);
    kernels_.product(x.data(), x_stride, rows_.size(), w.packed(), w.n_in(), w.n_out(), y.data(), y_stride);
}

void Decoder::add_out() {
    const size_t dim = model_.shape.dim, stride = padded(dim);
    for (size_t r = 0; r < rows_.size(); ++r)
        for (size_t i = 0; i < dim; ++i) x_[r * dim + i] += out_[r * stride + i];
}

void Decoder::rotate(float* heads, size_t n_heads, uint32_t position) const {
    const size_t half = model_.shape.head_dim / 2;
    const float* c = &cos_[position * half];
    const float* s = &sin_[position * half];
    for (size_t h = 0; h < n_heads; ++h, heads += 2 * half)
        for (size_t i = 0; i < half; ++i) {
            const float a = heads[2 * i], b = heads[2 * i + 1];
            heads[2 * i] = a * c[i] - b * s[i];
            heads[2 * i + 1] = a * s[i] + b * c[i];
        }
}

void Decoder::attention(size_t l, std::span<const Slice> slices) {
    const Shape& s = model_.shape;
    const Layer& layer = model_.layers[l];
    normalize(layer.attention_norm);
    product(h_, s.dim, layer.wq, q_);
    product(h_, s.dim, layer.wk, k_);
    product(h_, s.dim, layer.wv, v_);
    const size_t q_stride = padded(s.q_width()), kv_stride = padded(s.kv_width());
    for (size_t r = 0; r < rows_.size(); ++r) {
        const Row& row = rows_[r];
        rotate(&q_[r * q_stride], s.n_heads, row.position);
        rotate(&k_[r * kv_stride], s.n_kv_heads, row.position);
        kernels_.to_half(&k_[r * kv_stride], reinterpret_cast<uint16_t*>(row.kv->k_row(l, row.position)), s.kv_width());
        kernels_.to_half(&v_[r * kv_stride], reinterpret_cast<uint16_t*>(row.kv->v_row(l, row.position)), s.kv_width());
    }
    o_.resize(q_.size());
    size_t first_row = 0;
    for (const Slice& slice : slices) {
        if (!slice.tokens.empty()) attend_slice(l, slice, first_row);
        first_row += slice.tokens.size();
    }
    product(o_, q_stride, layer.wo, out_);
    add_out();
}

// Keys and values are read back from the cache, also those just written: a token sees the same fp16
// whoever computed it.
void Decoder::attend_slice(size_t l, const Slice& slice, size_t first_row) {
    const Shape& s = model_.shape;
    const size_t n_tokens = slice.tokens.size(), n_keys = slice.position + n_tokens;
    const size_t stride = padded(s.q_width()), group = s.n_heads / s.n_kv_heads;
    const float scale = 1.0f / std::sqrt(float(s.head_dim));
    scratch_.resize(8 * padded(n_keys));
    for (size_t head = 0; head < s.n_kv_heads; ++head) {
        gather(l, head, *slice.kv, n_keys);
        queries_.clear();
        for (size_t t = 0; t < n_tokens; ++t)
            for (size_t g = 0; g < group; ++g) {
                const size_t at = (first_row + t) * stride + (head * group + g) * s.head_dim;
                queries_.push_back({&q_[at], &o_[at], slice.position + uint32_t(t) + 1});
            }
        kernels_.attend(queries_.data(), queries_.size(), keys_.data(), values_.data(), s.head_dim, scale,
                        scratch_.data());
        if (!watch_) continue;
        watch_->received.resize(std::max(watch_->received.size(), n_keys));
        for (const AttendRow& row : queries_)
            if (row.n_keys + watch_->n_last > n_keys) add_attention(row, scale);
    }
}

// From the packed keys that the kernel had: softmax of one query's scores.
void Decoder::add_attention(const AttendRow& row, float scale) {
    const size_t n = model_.shape.head_dim;
    weights_.resize(row.n_keys);
    float most = -INFINITY, sum = 0;
    for (size_t t = 0; t < row.n_keys; ++t) {
        const float* column = &keys_[t / lanes * lanes * n + t % lanes];
        float score = 0;
        for (size_t d = 0; d < n; ++d) score += row.query[d] * column[d * lanes];
        most = std::max(most, weights_[t] = score * scale);
    }
    for (float& w : weights_) sum += w = std::exp(w - most);
    for (size_t t = 0; t < row.n_keys; ++t) watch_->received[t] += weights_[t] / sum;
}

// One kv head of the sequence as floats, packed for Kernels::attend. What fills up the last group
// of 16 keys is 0.
void Decoder::gather(size_t l, size_t head, const KvView& kv, size_t n_keys) {
    const size_t n = model_.shape.head_dim, width = padded(n), whole = padded(n_keys);
    keys_.resize(whole * n);
    values_.assign(whole * width, 0.0f);  // also between head_dim and width
    std::fill(keys_.end() - ptrdiff_t(std::min(keys_.size(), lanes * n)), keys_.end(), 0.0f);
    gathered_.resize(n);
    for (size_t t = 0; t < n_keys; ++t) {
        const size_t offset = head * n * sizeof(uint16_t);
        kernels_.to_float(reinterpret_cast<const uint16_t*>(kv.k_row(l, t) + offset), gathered_.data(), n);
        float* column = &keys_[t / lanes * lanes * n + t % lanes];
        for (size_t d = 0; d < n; ++d) column[d * lanes] = gathered_[d];
        kernels_.to_float(reinterpret_cast<const uint16_t*>(kv.v_row(l, t) + offset), &values_[t * width], n);
    }
}

void Decoder::feed(const Layer& layer) {
    const size_t dim = model_.shape.dim, stride = padded(model_.shape.hidden);
    normalize(layer.feed_norm);
    product(h_, dim, layer.w1, gate_);
    product(h_, dim, layer.w3, up_);
    for (size_t r = 0; r < rows_.size(); ++r)
        kernels_.swiglu(&gate_[r * stride], &up_[r * stride], model_.shape.hidden);
    product(gate_, stride, layer.w2, out_);
    add_out();
}

// The topk experts of each row, of equals the first, and their shares by softmax.
void Decoder::route(const Layer& layer) {
    const Shape& s = model_.shape;
    product(h_, s.dim, layer.router, gate_);
    const size_t stride = padded(s.n_experts);
    chosen_.resize(rows_.size() * s.topk);
    gates_.resize(chosen_.size());
    for (size_t r = 0; r < rows_.size(); ++r) {
        float* logits = &gate_[r * stride];
        uint32_t* chosen = &chosen_[r * s.topk];
        float* gates = &gates_[r * s.topk];
        double sum = 0;
        for (size_t j = 0; j < s.topk; ++j) {
            chosen[j] = uint32_t(std::max_element(logits, logits + s.n_experts) - logits);
            gates[j] = std::exchange(logits[chosen[j]], -std::numeric_limits<float>::infinity());
        }
        const double top = gates[0];
        for (size_t j = 0; j < s.topk; ++j) sum += std::exp(double(gates[j]) - top);
        for (size_t j = 0; j < s.topk; ++j) gates[j] = float(std::exp(double(gates[j]) - top) / sum);
    }
}

std::span<const uint32_t> Decoder::routed_once() {
    once_ = chosen_;
    std::sort(once_.begin(), once_.end());
    once_.erase(std::unique(once_.begin(), once_.end()), once_.end());
    return once_;
}

// Experts may come in any order: what each adds to a row is kept apart, and added up in the row's own
// order, the strongest first.
void Decoder::feed_mixture(size_t l) {
    const Shape& s = model_.shape;
    const Layer& layer = model_.layers[l];
    normalize(layer.feed_norm);
    route(layer);
    const size_t stride = padded(s.dim);
    parts_.resize(chosen_.size() * stride);
    if (experts_) {
        for (uint32_t e : experts_->begin(l, {chosen_, gates_})) compute_expert(e, experts_->weights(e));
        experts_->done();
    } else {
        for (uint32_t e : routed_once()) compute_expert(e, &layer.experts[e * s.expert_floats()]);
    }
    for (size_t r = 0; r < rows_.size(); ++r)
        for (size_t j = 0; j < s.topk; ++j) {
            const float* part = &parts_[(r * s.topk + j) * stride];
            for (size_t i = 0; i < s.dim; ++i) x_[r * s.dim + i] += gates_[r * s.topk + j] * part[i];
        }
}

void Decoder::compute_expert(uint32_t expert, const float* weights) {
    const Shape& s = model_.shape;
    const size_t hidden = padded(s.hidden), stride = padded(s.dim);
    const float *w1 = weights, *w3 = w1 + hidden * s.dim, *w2 = w3 + hidden * s.dim;
    expert_x_.clear();
    for (size_t i = 0; i < chosen_.size(); ++i)
        if (chosen_[i] == expert) {
            const float* h = &h_[i / s.topk * s.dim];
            expert_x_.insert(expert_x_.end(), h, h + s.dim);
        }
    const size_t n = expert_x_.size() / s.dim;
    gate_.resize(n * hidden);
    up_.resize(n * hidden);
    expert_y_.resize(n * stride);
    kernels_.product(expert_x_.data(), s.dim, n, w1, s.dim, s.hidden, gate_.data(), hidden);
    kernels_.product(expert_x_.data(), s.dim, n, w3, s.dim, s.hidden, up_.data(), hidden);
    for (size_t t = 0; t < n; ++t) kernels_.swiglu(&gate_[t * hidden], &up_[t * hidden], s.hidden);
    kernels_.product(gate_.data(), hidden, n, w2, s.hidden, s.dim, expert_y_.data(), stride);
    const float* y = expert_y_.data();
    for (size_t i = 0; i < chosen_.size(); ++i)
        if (chosen_[i] == expert) std::copy_n(std::exchange(y, y + stride), stride, &parts_[i * stride]);
}

int32_t greatest(std::span<const float> logits) {
    return int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

double nll(std::span<const float> logits, int32_t token) {
    const double top = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (float x : logits) sum += std::exp(double(x) - top);
    return std::log(sum) + top - logits[size_t(token)];
}

}  // namespace engine
