#include "codec/calibration.h"

#include <algorithm>
#include <cmath>

#include "base/crc32c.h"
#include "base/hash.h"
#include "base/numeric.h"
#include "base/options.h"
#include "codec/basis.h"
#include "codec/eigen.h"
#include "codec/frame.h"
#include "codec/planes.h"
#include "core/layout.h"

namespace larder {

namespace {

constexpr double default_steps[LARDER_PROFILE_MAX_LEVELS] = {0.5, 1, 1.5, 2, 3, 4, 6, 8};
// Quantized values that tables are fitted to.
constexpr uint32_t n_symbols = 512;
constexpr int32_t first_symbol = -256;
constexpr int n_rounds = 8;

// What the encoder makes of x steps.
size_t symbol_of(double x) noexcept {
    return size_t(std::clamp(std::floor(x + 0.5) - first_symbol, 0.0, double(n_symbols - 1)));
}

template <class T> void append(Vec<std::byte>& out, T v) {
    const size_t at = out.size();
    out.resize(at + sizeof v);
    store_le<T>(out.data() + at, v);
}

}  // namespace

Calibration::Calibration(larder_context& c)
    : context_(c), frequency_(c.alloc), channels_(c.alloc), counts_(c.alloc), rows_(c.alloc), x_(c.alloc),
      angles_(c.alloc), sample_(c.alloc) {}

larder_status Calibration::open(const larder_profile_options* options) {
    larder_profile_options& o = options_;
    LARDER_TRY(read_options(options, o, "larder_profile_options"));
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
    LARDER_TRY(choose_basis());
    sample_room_ = basis_heads_ ? std::clamp(sample_bytes / (4 * n), min_samples, max_samples) : 0;
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
    sample_.resize(std::min(sample_room_, n_tokens_ + shape.n_tokens) * channels_.size());
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
            for (uint32_t i = 0; pass && i < n; ++i) {
                const uint32_t slot = sample_slot(n_tokens_ + at + i);
                if (slot == no_slot) continue;
                const size_t first = size_t(&channel(layer, kv, 0) - channels_.data());
                std::copy_n(&x_[size_t(i) * w], w, &sample_[slot * channels_.size() + first]);
            }
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

// Uniform among all tokens so far, and the same for every plane of a token: reservoir sampling with a generator that is
// seeded by the token's number.
uint32_t Calibration::sample_slot(uint64_t token) const noexcept {
    if (token < sample_room_) return uint32_t(token);
    const uint64_t at = Rng(token).below(token + 1);
    return at < sample_room_ ? uint32_t(at) : no_slot;
}

uint32_t Calibration::n_samples() const noexcept {
    return uint32_t(std::min(sample_room_, n_tokens_));
}

larder_status Calibration::choose_basis() noexcept {
    const larder_stream_shape& s = options_.shape;
    const uint64_t dim = std::max(s.k_dim, s.v_dim);
    if (options_.basis_heads == LARDER_PROFILE_NO_BASIS || options_.n_levels < 2) return LARDER_OK;
    if (options_.basis_heads) {
        if (s.n_kv_heads % options_.basis_heads || options_.basis_heads * dim > max_basis_channels)
            return fail(LARDER_E_RANGE, "basis_heads",
                        "%u heads of %u are no block of at most %u channels out of %u heads", options_.basis_heads,
                        uint32_t(dim), max_basis_channels, s.n_kv_heads);
        basis_heads_ = options_.basis_heads;
        return LARDER_OK;
    }
    if (dim > max_basis_channels) return LARDER_OK;
    basis_heads_ = 1;
    for (uint32_t h = 2; h * dim <= usual_basis_channels && h <= s.n_kv_heads; ++h)
        if (s.n_kv_heads % h == 0) basis_heads_ = h;
    return LARDER_OK;
}

// Weights of all channels, then the matrices, plane by plane.
void Calibration::make_bases(Vec<std::byte>& out) {
    Vec<float> weights(context_.alloc);
    for (uint32_t l = 0; l < options_.shape.n_layers; ++l)
        for (uint32_t kv = 0; kv < 2; ++kv) {
            const PlaneScale p = plane_scale(l, kv);
            for (uint32_t i = 0; i < width_[kv]; ++i)
                weights.push_back(float(std::clamp(relative_weight(channel(l, kv, i), p), 0x1p-60, 0x1p60)));
        }
    for (float w : weights) append(out, w);
    size_t first = 0;
    for (uint32_t l = 0; l < options_.shape.n_layers; ++l)
        for (uint32_t kv = 0; kv < 2; ++kv) {
            const uint32_t block = basis_heads_ * dim_[kv];
            for (uint32_t i = 0; i < width_[kv]; i += block, first += block)
                make_basis(weights.data() + first, first, block, out);
        }
    out.resize((out.size() + 3) / 4 * 4);
}

// One block: the eigenvectors of its weighted covariance; the sample's channels become components.
void Calibration::make_basis(const float* weight, size_t first, uint32_t block, Vec<std::byte>& out) {
    const size_t n = channels_.size(), n_square = size_t(block) * block;
    Vec<double> covariance(n_square, 0.0, context_.alloc), vectors(n_square, 0.0, context_.alloc),
        y(block, 0.0, context_.alloc);
    for (uint32_t s = 0; s < n_samples(); ++s) {
        float* x = &sample_[s * n + first];
        for (uint32_t c = 0; c < block; ++c) {
            x[c] = (x[c] - float(channels_[first + c].mean)) * weight[c];
            y[c] = double(x[c]);
        }
        for (uint32_t c = 0; c < block; ++c)
            for (uint32_t d = 0; d <= c; ++d) covariance[size_t(c) * block + d] += y[c] * y[d];
    }
    for (uint32_t c = 0; c < block; ++c)
        for (uint32_t d = 0; d < c; ++d) covariance[size_t(d) * block + c] = covariance[size_t(c) * block + d];
    symmetric_eigen(covariance.data(), block, vectors.data());
    for (double& v : vectors) {
        const uint16_t half = f32_to_f16(float(v));
        append(out, half);
        v = double(f16_to_f32(half));
    }
    for (uint32_t s = 0; s < n_samples(); ++s) {
        float* x = &sample_[s * n + first];
        std::copy_n(x, block, y.begin());
        for (uint32_t j = 0; j < block; ++j) {
            double sum = 0;
            for (uint32_t c = 0; c < block; ++c) sum += vectors[size_t(j) * block + c] * y[c];
            x[j] = float(sum);
        }
    }
}

void Calibration::fix_bins(uint32_t layer, uint32_t kv) noexcept {
    for (uint32_t i = 0; i < width_[kv]; ++i) {
        Channel& c = channel(layer, kv, i);
        const double deviation = std::sqrt(c.m2 / std::max(1.0, c.n - 1));
        c.centre = float(c.mean);
        c.bin = float(std::max(deviation, 1e-6 + 1e-4 * std::fabs(c.mean)) / bins_per_deviation);
    }
}

// Steps whose geometric mean over a plane is `unit` deviations: one for all components, whose weights are in the basis;
// for channels inversely proportional to how strongly each is read, without reader weights in proportion to each
// channel's own deviation.
void Calibration::make_steps(double unit, bool components, Vec<float>& steps) noexcept {
    size_t at = 0;
    for (uint32_t l = 0; l < options_.shape.n_layers; ++l)
        for (uint32_t kv = 0; kv < 2; ++kv) {
            const PlaneScale p = plane_scale(l, kv);
            for (uint32_t i = 0; i < width_[kv]; ++i) {
                const double relative = components ? 1 : relative_weight(channel(l, kv, i), p);
                const double step = unit * std::exp(p.log_deviation) / relative;
                steps[at++] = bf16_to_f32(f32_to_bf16(float(std::clamp(step, 1e-30, 1e30))));
            }
        }
}

Calibration::PlaneScale Calibration::plane_scale(uint32_t layer, uint32_t kv) noexcept {
    PlaneScale p{0, 0, true};
    const uint32_t w = width_[kv];
    for (uint32_t i = 0; i < w; ++i) {
        const Channel& c = channel(layer, kv, i);
        p.log_deviation += std::log(deviation(c)) / w;
        p.weighted = p.weighted && c.weight > 0;
        if (p.weighted) p.log_weight += std::log(double(c.weight)) / w;
    }
    return p;
}

// Geometric mean 1 over a plane.
double Calibration::relative_weight(const Channel& c, const PlaneScale& p) noexcept {
    return p.weighted ? std::exp(std::log(double(c.weight)) - p.log_weight) : std::exp(p.log_deviation) / deviation(c);
}

void Calibration::requantize(const Channel& c, float step, uint32_t* out) noexcept {
    const uint32_t* n = counts(c);
    for (uint32_t i = 0; i < n_bins; ++i) {
        if (!n[i]) continue;
        const double x = double(c.centre) + (double(i) - n_bins / 2) * c.bin;
        out[symbol_of((x - c.mean) / step)] += n[i];
    }
}

void Calibration::count_components(const Vec<float>& steps, Vec<uint32_t>& out) noexcept {
    const size_t n = channels_.size();
    for (uint32_t s = 0; s < n_samples(); ++s)
        for (size_t c = 0; c < n; ++c) ++out[c * n_symbols + symbol_of(double(sample_[s * n + c]) / steps[c])];
}

// Channels that can share a table: sorted by the size that their own table gives, then moved to the table that codes
// them best.
void Calibration::cluster(const Vec<uint32_t>& codes, Vec<uint8_t>& map, Vec<TableSpec>& specs) {
    const size_t n = channels_.size();
    struct Ranked {
        uint64_t bits;
        uint32_t channel;
    };
    Vec<Ranked> order(context_.alloc);
    TableSpec spec;
    for (size_t c = 0; c < n; ++c)
        order.push_back(
            {fit_table(&codes[c * n_symbols], n_symbols, first_symbol, TableSpec::max_k, spec), uint32_t(c)});
    std::sort(order.begin(), order.end(), [](const Ranked& a, const Ranked& b) {
        return a.bits != b.bits ? a.bits < b.bits : a.channel < b.channel;
    });
    const uint32_t n_tables = uint32_t(std::min<size_t>(max_profile_tables, std::max<size_t>(1, n / 4)));
    for (size_t i = 0; i < n; ++i) map[order[i].channel] = uint8_t(i * n_tables / n);
    specs.resize(n_tables);
    Vec<uint32_t> sums(size_t(n_tables) * n_symbols, 0, context_.alloc);
    for (int round = 0; round < n_rounds; ++round) {
        std::fill(sums.begin(), sums.end(), 0);
        for (size_t c = 0; c < n; ++c)
            for (uint32_t i = 0; i < n_symbols; ++i) sums[size_t(map[c]) * n_symbols + i] += codes[c * n_symbols + i];
        for (uint32_t t = 0; t < n_tables; ++t)
            fit_table(sums.data() + size_t(t) * n_symbols, n_symbols, first_symbol, TableSpec::max_k, specs[t]);
        if (round + 1 == n_rounds) break;
        for (size_t c = 0; c < n; ++c) {
            const uint32_t* q = &codes[c * n_symbols];
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

void Calibration::write_level(uint32_t level, Vec<std::byte>& out) {
    const size_t n = channels_.size();
    Vec<float> steps(n, 0.0f, context_.alloc);
    make_steps(steps_[level], has_basis(level), steps);
    Vec<uint32_t> codes(n * n_symbols, 0u, context_.alloc);
    if (has_basis(level))
        count_components(steps, codes);
    else
        for (size_t c = 0; c < n; ++c) requantize(channels_[c], steps[c], &codes[c * n_symbols]);
    Vec<uint8_t> map(n, 0, context_.alloc);
    Vec<TableSpec> specs(context_.alloc);
    cluster(codes, map, specs);
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
    const uint32_t n_turned = basis_heads_ ? options_.n_levels - 1 : 0;
    if (n_turned) make_bases(saved);
    for (uint32_t l = 0; l < options_.n_levels; ++l) {
        const size_t before = saved.size();
        write_level(l, saved);
        store_le<uint32_t>(saved.data() + 40 + 4 * l, uint32_t(saved.size() - before));
    }
    std::byte* h = saved.data();
    store_le<uint32_t>(h, profile_magic);
    store_le<uint8_t>(h + 4, n_turned ? 2 : 1);
    if (n_turned) {
        store_le<uint8_t>(h + 5, uint8_t((1u << options_.n_levels) - 2));
        store_le<uint16_t>(h + 24, uint16_t(basis_heads_));
    }
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
