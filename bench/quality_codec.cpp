#include "bench/quality_codec.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "base/numeric.h"

namespace quality {

namespace {

void must(larder_status st, const char* what) {
    if (st < 0) throw std::runtime_error(std::string(what) + ": status " + std::to_string(st));
}

larder_context* make_context() {
    larder_context* c = nullptr;
    must(larder_context_create(nullptr, &c), "larder_context_create");
    return c;
}

// Sums of squares of a difference and of the original.
struct Error {
    double difference = 0, original = 0;
    void add(const std::vector<uint16_t>& a, const std::vector<uint16_t>& b) {
        for (size_t i = 0; i < a.size(); ++i) {
            const double x = double(larder::f16_to_f32(a[i])), y = double(larder::f16_to_f32(b[i]));
            difference += (x - y) * (x - y);
            original += x * x;
        }
    }
    double relative() const { return original > 0 ? std::sqrt(difference / original) : 0; }
};

larder_stream_plane plane_of(std::vector<uint16_t>& rows) {
    larder_stream_plane p = LARDER_STREAM_PLANE_INIT;
    p.base = rows.data();
    return p;
}

}  // namespace

// Streams of one window, made while the model runs through its layers.
struct Lab::Coder {
    larder_context* context;
    larder_codec* codec;
    const larder_profile* profile;
    larder_stream_source source = LARDER_STREAM_SOURCE_INIT;
    std::vector<std::vector<uint16_t>> planes;  // K, V, K, V, ...
    std::vector<std::byte> bytes;

    uint64_t encode(uint32_t up_to) {
        const uint32_t n = source.shape.n_layers;
        std::vector<larder_stream_plane> views(2 * n, LARDER_STREAM_PLANE_INIT);
        // Layers that are not computed yet: what a layer decodes to does not depend on later ones.
        for (uint32_t l = 0; l < n; ++l)
            for (uint32_t kv = 0; kv < 2; ++kv)
                if (auto& rows = planes[2 * std::min(l, up_to) + kv]; !rows.empty()) views[2 * l + kv] = plane_of(rows);
        source.planes = views.data();
        uint64_t bound = 0, size = 0;
        must(larder_codec_sizes(codec, &source.shape, &bound, nullptr), "larder_codec_sizes");
        bytes.resize(bound);
        must(larder_stream_encode(codec, &source, bytes.data(), bound, nullptr, 0, &size), "larder_stream_encode");
        bytes.resize(size);
        return size;
    }
    void decode(uint32_t layer, std::vector<uint16_t>& k, std::vector<uint16_t>* v) {
        larder_stream_plane views[2] = {plane_of(k), LARDER_STREAM_PLANE_INIT};
        if (v) views[1] = plane_of(*v);
        larder_stream_target t = LARDER_STREAM_TARGET_INIT;
        t.first_layer = layer, t.n_layers = 1;
        t.planes = views;
        t.profiles = &profile, t.n_profiles = profile ? 1 : 0;
        must(larder_stream_decode(context, {bytes.data(), bytes.size()}, &t), "larder_stream_decode");
    }
    uint64_t layer_bytes(uint32_t layer) const {
        larder_stream_extent extents[256];
        uint32_t n = 0;
        must(larder_stream_plan_read({bytes.data(), bytes.size()}, layer, 1, 0, 0, extents, 256, &n), "plan_read");
        uint64_t sum = 0;
        for (uint32_t i = 0; i < n; ++i) sum += extents[i].n_bytes;
        return sum;
    }
};

Lab::Lab(const Case& c) : context_(make_context()), case_(c), forced_(c.model, n_exact) {
    const auto nothing = [](uint32_t, LayerCache&) {};
    for (const auto& w : c.measured) {
        const Outcome o = forced_.run(w, nothing);
        base_.push_back(o.nll);
        base_nll_ += o.nll / double(c.measured.size());
        saliency_.push_back(o.attention);
    }
    calibrate();
}

void Lab::calibrate() {
    const engine::Shape& s = case_.model.shape;
    larder_profile_options po = LARDER_PROFILE_OPTIONS_INIT;
    po.n_levels = 4;
    po.shape.n_layers = s.n_layers, po.shape.n_tokens = 1, po.shape.n_kv_heads = s.n_kv_heads;
    po.shape.k_dim = po.shape.v_dim = s.head_dim;
    po.rope = LARDER_ROPE_POST, po.rope_interleaved = 1, po.rope_base = s.theta;
    larder_profile* p = nullptr;
    must(larder_profile_create(context_.get(), &po, &p), "larder_profile_create");
    profile_.reset(p);
    const size_t pairs = s.head_dim / 2, kv_width = s.kv_width(), group = s.n_heads / s.n_kv_heads;
    std::vector<double> power(s.n_layers * s.n_kv_heads * pairs, 0.0);
    for (const auto& w : case_.calibration) {
        std::vector<std::vector<uint16_t>> planes;
        const Outcome o =
            forced_.run(w, [&](uint32_t, LayerCache& c) { planes.push_back(c.k), planes.push_back(c.v); });
        for (size_t i = 0; i < power.size(); ++i) power[i] += o.query_power[i];
        std::vector<larder_stream_plane> views;
        for (auto& rows : planes) views.push_back(plane_of(rows));
        larder_stream_source source = LARDER_STREAM_SOURCE_INIT;
        source.shape = po.shape;
        source.shape.n_tokens = uint32_t(w.size());
        source.planes = views.data();
        must(larder_profile_add(p, &source), "larder_profile_add");
    }
    std::vector<float> k_reader(kv_width), v_reader(kv_width);
    for (uint32_t l = 0; l < s.n_layers; ++l) {
        for (size_t c = 0; c < kv_width; ++c) {
            k_reader[c] = float(std::sqrt(power[(l * s.n_kv_heads + c / s.head_dim) * pairs + c % s.head_dim / 2]));
            double sum = 0;
            for (size_t g = 0; g < group; ++g)
                for (size_t o = 0; o < s.dim; ++o) {
                    const size_t in = (c / s.head_dim * group + g) * s.head_dim + c % s.head_dim;
                    sum += double(case_.model.layers[l].wo.at(o, in)) * double(case_.model.layers[l].wo.at(o, in));
                }
            v_reader[c] = float(std::sqrt(sum / double(group)));
        }
        must(larder_profile_set_reader(p, l, 0, k_reader.data(), uint32_t(kv_width)), "larder_profile_set_reader");
        must(larder_profile_set_reader(p, l, 1, v_reader.data(), uint32_t(kv_width)), "larder_profile_set_reader");
    }
    must(larder_profile_finish(p), "larder_profile_finish");
    (void)larder_profile_save(p, nullptr, 0, &profile_bytes_);
}

Figures Lab::measure(const std::string& chain, bool inputs) {
    const engine::Shape& s = case_.model.shape;
    larder_codec_options co = LARDER_CODEC_OPTIONS_INIT;
    co.chain = chain.c_str();
    co.profile = inputs ? nullptr : profile_.get();
    larder_codec* codec = nullptr;
    must(larder_codec_open(context_.get(), &co, &codec), chain.c_str());
    const std::unique_ptr<larder_codec, void (*)(larder_codec*)> closes(codec, larder_codec_close);
    Figures f;
    f.layers.resize(s.n_layers);
    std::vector<Error> k_error(s.n_layers), v_error(s.n_layers);
    std::vector<double> rises;
    const double windows = double(case_.measured.size());
    for (size_t w = 0; w < case_.measured.size(); ++w) {
        const auto& tokens = case_.measured[w];
        Coder coder{context_.get(), codec, profile_.get()};
        coder.planes.resize(2 * s.n_layers);
        coder.source.shape.n_layers = s.n_layers, coder.source.shape.n_tokens = uint32_t(tokens.size());
        coder.source.shape.n_kv_heads = inputs ? 1 : s.n_kv_heads;
        coder.source.shape.k_dim = inputs ? s.dim : s.head_dim;
        coder.source.shape.v_dim = inputs ? 0 : s.head_dim;
        coder.source.identity.rope = inputs ? LARDER_ROPE_NONE : LARDER_ROPE_POST;
        coder.source.saliency = saliency_[w].data();
        const Outcome o = forced_.run(tokens, [&](uint32_t l, LayerCache& c) {
            if (inputs) {
                std::vector<uint16_t>& x = coder.planes[2 * l];
                x.resize(c.x.size());
                for (size_t i = 0; i < x.size(); ++i) x[i] = larder::f32_to_f16(c.x[i]);
                coder.encode(l);
                std::vector<uint16_t> back(x.size());
                coder.decode(l, back, nullptr);
                std::vector<float> input(back.size());
                for (size_t i = 0; i < back.size(); ++i) input[i] = larder::f16_to_f32(back[i]);
                forced_.project(l, input, c.stored_k, c.stored_v);
            } else {
                coder.planes[2 * l] = c.k, coder.planes[2 * l + 1] = c.v;
                coder.encode(l);
                coder.decode(l, c.stored_k, &c.stored_v);
            }
            k_error[l].add(c.k, c.stored_k);
            v_error[l].add(c.v, c.stored_v);
        });
        rises.push_back(o.nll - base_[w]);
        const double values = double(tokens.size()) * double(s.kv_width()) * 2;
        f.bits += 8 * double(coder.encode(s.n_layers - 1)) / (values * s.n_layers) / windows;
        for (uint32_t l = 0; l < s.n_layers; ++l) {
            f.layers[l].bits += 8 * double(coder.layer_bytes(l)) / values / windows;
            f.layers[l].output_error += o.output_error[l] / windows;
        }
    }
    for (double r : rises) f.rise += r / windows;
    for (double r : rises) f.standard_error += (r - f.rise) * (r - f.rise) / windows / windows;
    f.standard_error = std::sqrt(f.standard_error);
    for (uint32_t l = 0; l < s.n_layers; ++l)
        f.layers[l].k_error = k_error[l].relative(), f.layers[l].v_error = v_error[l].relative();
    return f;
}

}  // namespace quality
