#include "codec/calibration.h"

#include <algorithm>
#include <cmath>

#include "base/crc32c.h"
#include "base/options.h"
#include "codec/frame.h"
#include "codec/numeric.h"
#include "codec/planes.h"
#include "core/layout.h"

namespace larder {

namespace {

constexpr double default_steps[LARDER_PROFILE_MAX_LEVELS] = {0.5, 1, 1.5, 2, 3, 4, 6, 8};
// Quantized values that tables are fitted to.
constexpr uint32_t n_symbols = 512;
constexpr int32_t first_symbol = -256;
constexpr int n_rounds = 8;

template <class T> void append(Vec<std::byte>& out, T v) {
    const size_t at = out.size();
    out.resize(at + sizeof v);
    store_le<T>(out.data() + at, v);
}

}  // namespace

Calibration::Calibration(larder_context& c)
    : context_(c), frequency_(c.alloc), channels_(c.alloc), counts_(c.alloc), rows_(c.alloc), x_(c.alloc),
      angles_(c.alloc) {}

larder_status Calibration::open(const larder_profile_options* options) {
    larder_profile_options& o = options_;
    LARDER_TRY(read_options(options, o, "larder_profile_options"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    larder_stream_shape shape;
    LARDER_TRY(read_options(&o.shape, shape, "larder_stream_shape"));
    shape.n_tokens = 1;
    LARDER_TRY(check_shape(shape, 1));
    o.shape = shape;
    if (!is_float_dtype(shape.k_dtype) || !is_float_dtype(shape.v_dtype))
        return fail(LARDER_E_UNSUPPORTED, "shape", "a profile is for F16, BF16 or F32 data");
    if (!o.n_levels) o.n_levels = 3;
    LARDER_TRY(check_range(o.n_levels, 1, LARDER_PROFILE_MAX_LEVELS, "n_levels"));
    for (uint32_t i = 0; i < o.n_levels; ++i) {
        steps_[i] = o.steps ? o.steps[i] : default_steps[i];
        if (!(steps_[i] >= 1.0 / 64 && steps_[i] <= 8) || (i && steps_[i] <= steps_[i - 1]))
            return fail(LARDER_E_RANGE, "steps", "step %u is not between 1/64 and 8 and larger than the one before", i);
    }
    if (!o.rope) o.rope = LARDER_ROPE_NONE;
    LARDER_TRY(check_range(uint32_t(o.rope), LARDER_ROPE_POST, LARDER_ROPE_NONE, "rope"));
    LARDER_TRY(check_range(o.rope_interleaved, 0, 1, "rope_interleaved"));
    if (!o.rope_dims) o.rope_dims = shape.k_dim;
    if (o.rope_base == 0) o.rope_base = 10000;
    if (o.rope != LARDER_ROPE_NONE) {
        if (o.rope_dims > shape.k_dim || o.rope_dims % 2)
            return fail(LARDER_E_RANGE, "rope_dims", "rope_dims must be even and at most k_dim");
        if (!(o.rope_base >= 1 && o.rope_base <= 1e12))
            return fail(LARDER_E_RANGE, "rope_base", "rope_base must be 1 to 1e12");
        for (uint32_t i = 0; i < o.rope_dims / 2; ++i)
            frequency_.push_back(std::pow(o.rope_base, -2.0 * i / o.rope_dims));
    } else {
        o.rope_dims = 0;
    }
    for (uint32_t kv = 0; kv < 2; ++kv) width_[kv] = plane_width(shape, kv), dim_[kv] = kv ? shape.v_dim : shape.k_dim;
    const size_t n = size_t(shape.n_layers) * (size_t(width_[0]) + width_[1]), widest = std::max(width_[0], width_[1]);
    channels_.resize(n);
    counts_.resize(n * n_bins);
    rows_.resize(tile_tokens * widest * 4 + 64);
    x_.resize(tile_tokens * widest);
    angles_.resize(Rope::scratch_floats(o.rope_dims));
    return LARDER_OK;
}

larder_status Calibration::set_reader(uint32_t layer, uint32_t kv, const float* weights, uint32_t n) {
    LARDER_TRY(check_range(layer, 0, options_.shape.n_layers - 1, "layer"));
    LARDER_TRY(check_range(kv, 0, 1, "kv"));
    if (n != width_[kv]) return fail(LARDER_E_RANGE, "n", "there are %u channels, not %u", width_[kv], n);
    for (uint32_t c = 0; c < n; ++c)
        if (!(weights[c] > 0) || !std::isfinite(weights[c]))
            return fail(LARDER_E_INVALID, "weights", "weight %u is not positive and finite", c);
    for (uint32_t c = 0; c < n; ++c) channel(layer, kv, c).weight = weights[c];
    return LARDER_OK;
}

larder_status Calibration::add(const larder_stream_source& user) {
    larder_stream_source s;
    LARDER_TRY(read_options(&user, s, "larder_stream_source"));
    larder_stream_shape shape;
    LARDER_TRY(read_options(&s.shape, shape, "larder_stream_shape"));
    LARDER_TRY(check_shape(shape, 1));
    const larder_stream_shape& mine = options_.shape;
    if (shape.n_layers != mine.n_layers || shape.n_kv_heads != mine.n_kv_heads || shape.k_dim != mine.k_dim ||
        shape.v_dim != mine.v_dim || !is_float_dtype(shape.k_dtype) || !is_float_dtype(shape.v_dtype))
        return fail(LARDER_E_INVALID, "shape", "the sample has another shape than the profile");
    if (!s.planes) return fail(LARDER_E_INVALID, "planes", "planes is NULL");
    if (!s.identity.rope) s.identity.rope = LARDER_ROPE_POST;
    for (uint32_t l = 0; l < mine.n_layers; ++l)
        for (uint32_t kv = 0; kv < 2; ++kv)
            if (width_[kv]) LARDER_TRY(add_plane(s, shape, l, kv));
    binned_ = true;
    n_tokens_ += shape.n_tokens;
    return LARDER_OK;
}

larder_status Calibration::add_plane(const larder_stream_source& s, const larder_stream_shape& shape, uint32_t layer,
                                     uint32_t kv) {
    const larder_dtype t = plane_dtype(shape, kv);
    PlaneView view;
    LARDER_TRY(read_plane(s.planes, s.plane_stride, 2 * uint64_t(layer) + kv, shape.n_kv_heads, dim_[kv],
                          dtype_bytes(t), shape.n_tokens, view));
    if (!view.given()) return fail(LARDER_E_INVALID, "planes", "a plane of layer %u is missing", layer);
    const Kernels& k = kernels_scalar;
    const bool turn = kv == 0 && options_.rope == LARDER_ROPE_POST && s.identity.rope == LARDER_ROPE_POST;
    const Rope rope{options_.rope_interleaved != 0, options_.rope_dims, frequency_.data()};
    // The first sample is read twice: for the deviations that fix the bins, then for the counts.
    for (int pass = binned_ ? 1 : 0; pass < 2; ++pass) {
        for (uint32_t at = 0; at < shape.n_tokens; at += tile_tokens) {
            const uint32_t n = std::min(tile_tokens, shape.n_tokens - at), w = width_[kv];
            view.gather(at, n, rows_.data());
            k.to_f32(rows_.data(), t, x_.data(), size_t(n) * w);
            if (turn)
                rope_rotate(k, rope, s.identity.first_token + at, n, shape.n_kv_heads, dim_[kv], -1, x_.data(),
                            angles_.data());
            for (uint32_t i = 0; i < n * w; ++i) {
                Channel& c = channel(layer, kv, i % w);
                const double x = double(x_[i]);
                if (pass == 0 || binned_) {
                    const double d = x - c.mean;
                    c.n += 1;
                    c.mean += d / c.n;
                    c.m2 += d * (x - c.mean);
                }
                if (pass == 0) continue;
                const double bin = std::floor((x - c.centre) / c.bin + n_bins / 2 + 0.5);
                ++counts(c)[size_t(std::clamp(bin, 0.0, double(n_bins - 1)))];
            }
        }
        if (pass == 0) fix_bins(layer, kv);
    }
    return LARDER_OK;
}

void Calibration::fix_bins(uint32_t layer, uint32_t kv) noexcept {
    for (uint32_t i = 0; i < width_[kv]; ++i) {
        Channel& c = channel(layer, kv, i);
        const double deviation = std::sqrt(c.m2 / std::max(1.0, c.n - 1));
        c.centre = float(c.mean);
        c.bin = float(std::max(deviation, 1e-6 + 1e-4 * std::fabs(c.mean)) / bins_per_deviation);
    }
}

// Steps whose geometric mean over a plane is `unit` deviations, inversely proportional to how strongly each channel is
// read; without reader weights, in proportion to each channel's own deviation.
void Calibration::make_steps(double unit, Vec<float>& steps) noexcept {
    size_t at = 0;
    for (uint32_t l = 0; l < options_.shape.n_layers; ++l)
        for (uint32_t kv = 0; kv < 2; ++kv) {
            const uint32_t w = width_[kv];
            double log_deviation = 0, log_weight = 0;
            bool weighted = w != 0;
            for (uint32_t i = 0; i < w; ++i) {
                const Channel& c = channel(l, kv, i);
                log_deviation += std::log(double(c.bin) * bins_per_deviation) / w;
                weighted = weighted && c.weight > 0;
                if (weighted) log_weight += std::log(double(c.weight)) / w;
            }
            for (uint32_t i = 0; i < w; ++i) {
                const Channel& c = channel(l, kv, i);
                const double own = double(c.bin) * bins_per_deviation;
                double step =
                    unit * (weighted ? std::exp(log_deviation + log_weight - std::log(double(c.weight))) : own);
                steps[at++] = bf16_to_f32(f32_to_bf16(float(std::clamp(step, 1e-30, 1e30))));
            }
        }
}

void Calibration::requantize(const Channel& c, float step, uint32_t* out) noexcept {
    std::fill_n(out, n_symbols, 0);
    const uint32_t* n = counts(c);
    for (uint32_t i = 0; i < n_bins; ++i) {
        if (!n[i]) continue;
        const double x = double(c.centre) + (double(i) - n_bins / 2) * c.bin;
        const double q = std::floor((x - c.mean) / step + 0.5);
        out[size_t(std::clamp(q - first_symbol, 0.0, double(n_symbols - 1)))] += n[i];
    }
}

// Channels that can share a table: sorted by the size that their own table gives, then moved to the table that codes
// them best.
void Calibration::cluster(const Vec<float>& steps, Vec<uint8_t>& map, Vec<TableSpec>& specs) {
    const size_t n = channels_.size();
    struct Ranked {
        uint64_t bits;
        uint32_t channel;
    };
    Vec<Ranked> order(context_.alloc);
    uint32_t q[n_symbols];
    TableSpec spec;
    for (size_t c = 0; c < n; ++c) {
        requantize(channels_[c], steps[c], q);
        const uint64_t bits = fit_table(q, n_symbols, first_symbol, TableSpec::max_k, spec);
        order.push_back({bits / std::max<uint64_t>(1, uint64_t(channels_[c].n)), uint32_t(c)});
    }
    std::sort(order.begin(), order.end(), [](const Ranked& a, const Ranked& b) {
        return a.bits != b.bits ? a.bits < b.bits : a.channel < b.channel;
    });
    const uint32_t n_tables = uint32_t(std::min<size_t>(max_profile_tables, std::max<size_t>(1, n / 4)));
    for (size_t i = 0; i < n; ++i) map[order[i].channel] = uint8_t(i * n_tables / n);
    specs.resize(n_tables);
    Vec<uint32_t> sums(size_t(n_tables) * n_symbols, 0, context_.alloc);
    for (int round = 0; round < n_rounds; ++round) {
        std::fill(sums.begin(), sums.end(), 0);
        for (size_t c = 0; c < n; ++c) {
            requantize(channels_[c], steps[c], q);
            for (uint32_t i = 0; i < n_symbols; ++i) sums[size_t(map[c]) * n_symbols + i] += q[i];
        }
        for (uint32_t t = 0; t < n_tables; ++t)
            fit_table(sums.data() + size_t(t) * n_symbols, n_symbols, first_symbol, TableSpec::max_k, specs[t]);
        if (round + 1 == n_rounds) break;
        for (size_t c = 0; c < n; ++c) {
            requantize(channels_[c], steps[c], q);
            uint32_t lo = 0, hi = n_symbols;
            while (lo + 1 < hi && !q[lo]) ++lo;
            while (lo + 1 < hi && !q[hi - 1]) --hi;
            uint64_t best = UINT64_MAX;
            for (uint32_t t = 0; t < n_tables; ++t) {
                const uint64_t bits = table_cost(q + lo, hi - lo, first_symbol + int32_t(lo), specs[t]);
                if (bits < best) best = bits, map[c] = uint8_t(t);
            }
        }
    }
}

void Calibration::write_level(double unit, Vec<std::byte>& out) {
    const size_t n = channels_.size();
    Vec<float> steps(n, 0.0f, context_.alloc);
    make_steps(unit, steps);
    Vec<uint8_t> map(n, 0, context_.alloc);
    Vec<TableSpec> specs(context_.alloc);
    cluster(steps, map, specs);
    const size_t at = out.size(), step_bytes = profile_step_bytes(n);
    out.resize(at + step_bytes + 16 + n + 4 + specs.size() * TableSpec::max_bytes);
    std::fill_n(out.begin() + ptrdiff_t(at), step_bytes, std::byte{0});
    for (size_t c = 0; c < n; ++c) store_le<uint16_t>(out.data() + at + 2 * c, f32_to_bf16(steps[c]));
    out.resize(at + step_bytes +
               write_table_set(TableMap::per_channel, map.data(), n, specs.data(), uint32_t(specs.size()),
                               out.data() + at + step_bytes));
}

larder_status Calibration::finish(Vec<std::byte>& saved) {
    if (n_tokens_ < 32)
        return fail(LARDER_E_STATE, "profile", "%llu tokens were seen; a profile needs at least 32",
                    (unsigned long long)n_tokens_);
    const larder_stream_shape& s = options_.shape;
    saved.assign(profile_header_bytes, std::byte{0});
    for (double f : frequency_) append(saved, f);
    for (const Channel& c : channels_) append(saved, float(c.mean));
    for (uint32_t l = 0; l < options_.n_levels; ++l) {
        const size_t before = saved.size();
        write_level(steps_[l], saved);
        store_le<uint32_t>(saved.data() + 40 + 4 * l, uint32_t(saved.size() - before));
    }
    std::byte* h = saved.data();
    store_le<uint32_t>(h, profile_magic);
    store_le<uint8_t>(h + 4, 1);
    store_le<uint16_t>(h + 6, uint16_t(options_.n_levels));
    const uint32_t shape[] = {s.n_layers, s.n_kv_heads, s.k_dim, s.v_dim};
    for (int i = 0; i < 4; ++i) store_le<uint32_t>(h + 8 + 4 * i, shape[i]);
    store_le<uint8_t>(h + 26, uint8_t(options_.rope));
    store_le<uint8_t>(h + 27, uint8_t(options_.rope_interleaved));
    store_le<uint32_t>(h + 28, options_.rope_dims);
    store_le<uint64_t>(h + 32, saved.size() + 4);
    append(saved, crc32c(0, saved.data(), saved.size()));
    return LARDER_OK;
}

}  // namespace larder
