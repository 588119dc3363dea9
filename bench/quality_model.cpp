#include "bench/quality_model.h"

#include <algorithm>
#include <cmath>

#include "engine/decoder.h"

namespace quality {

namespace {

// Every how many queries the error of attention's output is taken.
constexpr size_t error_stride = 8;

std::vector<float> unpacked(const std::vector<uint16_t>& halves, const engine::Kernels& k) {
    std::vector<float> out(halves.size());
    k.to_float(halves.data(), out.data(), out.size());
    return out;
}

std::vector<uint16_t> packed(const std::vector<float>& x, const engine::Kernels& k) {
    std::vector<uint16_t> out(x.size());
    k.to_half(x.data(), out.data(), out.size());
    return out;
}

// One query against keys 0 .. n - 1, of which the first n_stored are read from the stored planes. Keys are
// [dim][token], values [token][dim].
struct Reader {
    const float *keys, *values, *stored_keys, *stored_values;
    size_t dim, n_tokens;

    void read(const float* q, size_t n, size_t n_stored, float* p, float* out) const {
        std::fill_n(p, n, 0.0f);
        for (size_t d = 0; d < dim; ++d) {
            const float* a = stored_keys + d * n_tokens;
            const float* b = keys + d * n_tokens;
            for (size_t s = 0; s < n_stored; ++s) p[s] += q[d] * a[s];
            for (size_t s = n_stored; s < n; ++s) p[s] += q[d] * b[s];
        }
        const float scale = 1 / std::sqrt(float(dim)), top = *std::max_element(p, p + n);
        float sum = 0;
        for (size_t s = 0; s < n; ++s) sum += p[s] = std::exp((p[s] - top) * scale);
        std::fill_n(out, dim, 0.0f);
        for (size_t s = 0; s < n; ++s) {
            p[s] /= sum;
            const float* v = (s < n_stored ? stored_values : values) + s * dim;
            for (size_t d = 0; d < dim; ++d) out[d] += p[s] * v[d];
        }
    }
};

}  // namespace

Forced::Forced(const engine::Model& model, uint32_t n_exact)
    : model_(model), kernels_(engine::kernels()), n_exact_(n_exact) {}

void Forced::multiply(const std::vector<float>& x, const engine::Matrix& w, std::vector<float>& y) {
    const size_t n = x.size() / w.n_in(), stride = engine::padded(w.n_out());
    std::vector<float> wide(n * stride);
    kernels_.product(x.data(), w.n_in(), n, w.packed(), w.n_in(), w.n_out(), wide.data(), stride);
    y.resize(n * w.n_out());
    for (size_t t = 0; t < n; ++t) std::copy_n(&wide[t * stride], w.n_out(), &y[t * w.n_out()]);
}

void Forced::rotate(std::vector<float>& x, size_t n_heads) const {
    const size_t dim = model_.shape.head_dim, n = x.size() / (n_heads * dim);
    for (size_t t = 0; t < n; ++t)
        for (size_t i = 0; i < dim / 2; ++i) {
            const double angle = double(t) * std::pow(model_.shape.theta, -2.0 * double(i) / double(dim));
            const float c = float(std::cos(angle)), s = float(std::sin(angle));
            for (size_t h = 0; h < n_heads; ++h) {
                float* p = &x[(t * n_heads + h) * dim + 2 * i];
                const float a = p[0], b = p[1];
                p[0] = a * c - b * s;
                p[1] = a * s + b * c;
            }
        }
}

void Forced::project(uint32_t layer, const std::vector<float>& x, std::vector<uint16_t>& k, std::vector<uint16_t>& v) {
    multiply(x, model_.layers[layer].wk, k_);
    multiply(x, model_.layers[layer].wv, v_);
    rotate(k_, model_.shape.n_kv_heads);
    k = packed(k_, kernels_);
    v = packed(v_, kernels_);
}

Outcome Forced::run(std::span<const int32_t> tokens, const Store& store) {
    const engine::Shape& s = model_.shape;
    n_tokens_ = uint32_t(tokens.size());
    const size_t n = n_tokens_, dim = s.dim;
    Outcome out;
    out.attention.assign(n, 0.0f);
    x_.resize(n * dim), h_.resize(n * dim);
    for (size_t t = 0; t < n; ++t)
        for (size_t i = 0; i < dim; ++i) x_[t * dim + i] = model_.embedding.at(size_t(tokens[t]), i);
    const auto normalize = [&](const std::vector<float>& w) {
        for (size_t t = 0; t < n; ++t) kernels_.norm(&x_[t * dim], w.data(), dim, &h_[t * dim]);
    };
    const auto add = [&] {
        for (size_t i = 0; i < x_.size(); ++i) x_[i] += a_[i];
    };
    for (uint32_t l = 0; l < s.n_layers; ++l) {
        const engine::Layer& layer = model_.layers[l];
        normalize(layer.attention_norm);
        multiply(h_, layer.wq, q_);
        rotate(q_, s.n_heads);
        LayerCache c;
        project(l, h_, c.k, c.v);
        c.x = h_, c.stored_k = c.k, c.stored_v = c.v;
        store(l, c);
        attend(c, out);
        multiply(o_, layer.wo, a_);
        add();
        normalize(layer.feed_norm);
        multiply(h_, layer.w1, a_);
        multiply(h_, layer.w3, b_);
        kernels_.swiglu(a_.data(), b_.data(), a_.size());
        std::swap(a_, b_);
        multiply(b_, layer.w2, a_);
        add();
    }
    normalize(model_.last_norm);
    multiply(h_, model_.output_matrix(), a_);
    for (size_t t = 0; t + 1 < n; ++t)
        out.nll += engine::nll(std::span(a_).subspan(t * s.vocab, s.vocab), tokens[t + 1]) / double(n - 1);
    for (size_t t = 0; t < n; ++t) out.attention[t] /= float(n - t) * float(s.n_heads) * float(s.n_layers);
    return out;
}

void Forced::attend(const LayerCache& c, Outcome& out) {
    const engine::Shape& s = model_.shape;
    const std::vector<float> planes[4] = {unpacked(c.k, kernels_), unpacked(c.v, kernels_),
                                          unpacked(c.stored_k, kernels_), unpacked(c.stored_v, kernels_)};
    o_.assign(size_t(n_tokens_) * s.q_width(), 0.0f);
    double error[2] = {0, 0};
    for (size_t head = 0; head < s.n_kv_heads; ++head) attend_head(head, planes, out, error);
    out.output_error.push_back(error[1] > 0 ? std::sqrt(error[0] / error[1]) : 0);
}

void Forced::attend_head(size_t head, const std::vector<float> (&planes)[4], Outcome& out, double (&error)[2]) {
    const engine::Shape& s = model_.shape;
    const size_t n = n_tokens_, dim = s.head_dim, group = s.n_heads / s.n_kv_heads;
    std::vector<float> part[4];
    for (size_t i = 0; i < 4; ++i) {
        part[i].resize(n * dim);
        for (size_t t = 0; t < n; ++t)
            for (size_t d = 0; d < dim; ++d)
                part[i][i % 2 ? t * dim + d : d * n + t] = planes[i][(t * s.n_kv_heads + head) * dim + d];
    }
    const Reader reader{part[0].data(), part[1].data(), part[2].data(), part[3].data(), dim, n};
    std::vector<float> p(n), exact(dim);
    std::vector<double> power(dim / 2, 0.0);
    for (size_t t = 0; t < n; ++t)
        for (size_t g = 0; g < group; ++g) {
            const float* q = &q_[t * s.q_width() + (head * group + g) * dim];
            float* o = &o_[t * s.q_width() + (head * group + g) * dim];
            const size_t n_stored = t + 1 > n_exact_ ? t + 1 - n_exact_ : 0;
            for (size_t d = 0; d < dim; ++d) power[d / 2] += double(q[d]) * q[d] / double(2 * n * group);
            if (n_stored && (t * group + g) % error_stride == 0) {
                reader.read(q, t + 1, 0, p.data(), exact.data());
                reader.read(q, t + 1, n_stored, p.data(), o);
                for (size_t d = 0; d < dim; ++d) {
                    error[0] += (double(o[d]) - exact[d]) * (double(o[d]) - exact[d]);
                    error[1] += double(exact[d]) * exact[d];
                }
            } else {
                reader.read(q, t + 1, n_stored, p.data(), o);
            }
            for (size_t i = 0; i <= t; ++i) out.attention[i] += p[i];
        }
    out.query_power.insert(out.query_power.end(), power.begin(), power.end());
}

}  // namespace quality
