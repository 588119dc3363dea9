// Decorrelation: the saved basis, read by a decoder and an encoder that are written here from the format's definition,
// in doubles; what it is worth on correlated channels; every instruction set; damage.
#include "support/cmocka.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "codec/eigen.h"
#include "codec/kernels.h"
#include "support/kv_tensors.h"
#include "support/seed.h"

using namespace kv_test;

namespace {

constexpr uint32_t layers = 2, tokens = 700, heads = 4, dim = 16, width = heads * dim;

// Channels are mixtures of a few sources, so most of the variance lies in few directions.
struct World {
    larder_context* context = nullptr;
    larder_stream_shape shape = LARDER_STREAM_SHAPE_INIT;
    std::vector<std::vector<uint16_t>> planes;
    std::vector<std::vector<float>> readers;

    explicit World(uint64_t seed) {
        Rng r(seed);
        assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
        shape.n_layers = layers, shape.n_tokens = tokens, shape.n_kv_heads = heads, shape.k_dim = shape.v_dim = dim;
        for (uint32_t p = 0; p < 2 * layers; ++p) {
            std::vector<double> mixture(width * 6), mean(width);
            for (double& m : mixture) m = gaussian(r);
            for (double& m : mean) m = 2 * gaussian(r);
            std::vector<uint16_t> plane;
            for (uint32_t t = 0; t < tokens; ++t) {
                double source[6];
                for (double& s : source) s = gaussian(r);
                for (uint32_t c = 0; c < width; ++c) {
                    double x = mean[c] + 0.1 * gaussian(r);
                    for (int i = 0; i < 6; ++i) x += mixture[c * 6 + i] * source[i];
                    plane.push_back(larder::f32_to_f16(float(x)));
                }
            }
            planes.push_back(plane);
            std::vector<float> reader(width);
            for (float& f : reader) f = float(std::exp(0.7 * gaussian(r)));
            readers.push_back(reader);
        }
    }
    ~World() { assert_int_equal(larder_context_destroy(context), LARDER_OK); }

    std::vector<larder_stream_plane> views(std::vector<std::vector<uint16_t>>& of) const {
        std::vector<larder_stream_plane> out(of.size(), LARDER_STREAM_PLANE_INIT);
        for (size_t i = 0; i < of.size(); ++i) out[i].base = of[i].data();
        return out;
    }
    larder_profile* calibrate(uint32_t basis_heads, larder_rope rope = LARDER_ROPE_NONE) {
        larder_profile_options o = LARDER_PROFILE_OPTIONS_INIT;
        o.shape = shape;
        o.rope = rope;
        o.basis_heads = basis_heads;
        larder_profile* p = nullptr;
        assert_int_equal(larder_profile_create(context, &o, &p), LARDER_OK);
        for (uint32_t i = 0; i < 2 * layers; ++i)
            assert_int_equal(larder_profile_set_reader(p, i / 2, i % 2, readers[i].data(), width), LARDER_OK);
        const auto v = views(planes);
        larder_stream_source s = LARDER_STREAM_SOURCE_INIT;
        s.shape = shape, s.planes = v.data();
        assert_int_equal(larder_profile_add(p, &s), LARDER_OK);
        assert_int_equal(larder_profile_finish(p), LARDER_OK);
        return p;
    }
    std::vector<std::byte> encode(const larder_profile* p, const char* chain, uint64_t isa, bool embed = false) {
        larder_context_set_u64(context, LARDER_PARAM_ISA_LEVEL, isa);
        larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
        o.chain = chain, o.profile = p, o.embed_profile = embed;
        larder_codec* codec = nullptr;
        assert_int_equal(larder_codec_open(context, &o, &codec), LARDER_OK);
        const auto v = views(planes);
        larder_stream_source s = LARDER_STREAM_SOURCE_INIT;
        s.shape = shape, s.planes = v.data();
        uint64_t bound = 0, n = 0;
        assert_int_equal(larder_codec_sizes(codec, &shape, &bound, nullptr), LARDER_OK);
        std::vector<std::byte> out(bound);
        assert_int_equal(larder_stream_encode(codec, &s, out.data(), bound, nullptr, 0, &n), LARDER_OK);
        out.resize(n);
        larder_codec_close(codec);
        return out;
    }
    larder_status decode(const std::vector<std::byte>& s, const larder_profile* p, uint64_t isa,
                         std::vector<std::vector<uint16_t>>& out) {
        larder_context_set_u64(context, LARDER_PARAM_ISA_LEVEL, isa);
        out.assign(planes.size(), std::vector<uint16_t>(planes[0].size()));
        const auto v = views(out);
        larder_stream_target t = LARDER_STREAM_TARGET_INIT;
        t.planes = v.data(), t.profiles = &p, t.n_profiles = p ? 1 : 0;
        return larder_stream_decode(context, {s.data(), s.size()}, &t);
    }
    // Of V, weighted as the reader weighs.
    double weighted_error(const std::vector<std::vector<uint16_t>>& got) const {
        double sum = 0;
        for (size_t p = 0; p < planes.size(); ++p)
            for (size_t i = 0; i < planes[p].size(); ++i) {
                const double d = double(larder::f16_to_f32(planes[p][i])) - double(larder::f16_to_f32(got[p][i]));
                sum += d * d * double(readers[p][i % width]) * double(readers[p][i % width]);
            }
        return std::sqrt(sum);
    }
};

std::vector<std::byte> saved(const larder_profile* p) {
    uint64_t n = 0;
    (void)larder_profile_save(p, nullptr, 0, &n);
    std::vector<std::byte> out(n);
    assert_int_equal(larder_profile_save(p, out.data(), n, &n), LARDER_OK);
    return out;
}

double f32_at(const std::vector<std::byte>& b, size_t at) {
    return double(larder::bits_to_float(larder::load_le<uint32_t>(b.data() + at)));
}
double f16_at(const std::vector<std::byte>& b, size_t at) {
    return double(larder::f16_to_f32(larder::load_le<uint16_t>(b.data() + at)));
}

// What the format page says of one plane of a profile without rotation.
struct Definition {
    std::vector<double> mean, weight, step, matrix;  // matrix: [block][component][channel]
    uint32_t block;

    Definition(const std::vector<std::byte>& b, uint32_t plane, uint32_t level, uint32_t n_levels)
        : block(larder::load_le<uint16_t>(b.data() + 24) * dim) {
        const size_t channels = 2 * layers * width, means = 72, weights = means + 4 * channels,
                     bases = weights + 4 * channels;
        size_t levels = bases + 2 * size_t(2 * layers) * width * block;
        for (uint32_t l = 0; l < level; ++l) levels += larder::load_le<uint32_t>(b.data() + 40 + 4 * l);
        assert_int_equal(uint8_t(b[4]), 2);
        assert_int_equal(uint8_t(b[5]), (1u << n_levels) - 2);
        for (uint32_t c = 0; c < width; ++c) {
            mean.push_back(f32_at(b, means + 4 * (size_t(plane) * width + c)));
            weight.push_back(f32_at(b, weights + 4 * (size_t(plane) * width + c)));
            step.push_back(double(
                larder::bf16_to_f32(larder::load_le<uint16_t>(b.data() + levels + 2 * (size_t(plane) * width + c)))));
        }
        for (size_t i = 0; i < size_t(width) * block; ++i)
            matrix.push_back(f16_at(b, bases + 2 * (size_t(plane) * width * block + i)));
    }
    // One token; gives the distance of the nearest code to a tie.
    double pass(const uint16_t* in, std::vector<double>& out) const {
        double margin = 1;
        out.assign(mean.begin(), mean.end());
        for (uint32_t j = 0; j < width; ++j) {
            const uint32_t first = j / block * block;
            const double* u = &matrix[size_t(first) * block + size_t(j - first) * block];
            double z = 0;
            for (uint32_t c = 0; c < block; ++c)
                z += (double(larder::f16_to_f32(in[first + c])) - mean[first + c]) * weight[first + c] * u[c];
            const double v = z / step[j], q = std::nearbyint(v);
            margin = std::min(margin, 0.5 - std::fabs(v - q));
            for (uint32_t c = 0; c < block; ++c) out[first + c] += q * step[j] * u[c] / weight[first + c];
        }
        return margin;
    }
};

void streams_follow_the_definition(void**) {
    World w(test_seed());
    for (uint32_t basis_heads : {1u, 2u, 4u}) {
        larder_profile* p = w.calibrate(basis_heads);
        const auto bytes = saved(p);
        for (uint32_t level : {1u, 2u}) {
            const std::string chain = "larder-small level=" + std::to_string(level);
            const auto s = w.encode(p, chain.c_str(), 2);
            std::vector<std::vector<uint16_t>> got, same;
            assert_int_equal(w.decode(s, p, 2, got), LARDER_OK);
            for (uint64_t isa = 0; isa < 2; ++isa) {
                assert_true(w.encode(p, chain.c_str(), isa) == s);
                assert_int_equal(w.decode(s, p, isa, same), LARDER_OK);
                assert_true(same == got);
            }
            uint32_t n_compared = 0;
            for (uint32_t plane = 0; plane < 2 * layers; ++plane) {
                const Definition d(bytes, plane, level, 3);
                std::vector<double> want;
                for (uint32_t t = 0; t < tokens; ++t) {
                    if (d.pass(&w.planes[plane][size_t(t) * width], want) < 1e-4) continue;
                    ++n_compared;
                    for (uint32_t c = 0; c < width; ++c) {
                        const double x = double(larder::f16_to_f32(got[plane][size_t(t) * width + c]));
                        assert_true(std::fabs(x - want[c]) <= 2e-3 * (1 + std::fabs(want[c])));
                    }
                }
            }
            assert_true(n_compared > 2 * layers * tokens * 9 / 10);
        }
        larder_profile_destroy(p);
    }
}

void correlated_channels_cost_fewer_bits_at_the_same_error(void**) {
    World w(7);
    larder_profile *none = w.calibrate(LARDER_PROFILE_NO_BASIS), *all = w.calibrate(0);
    std::vector<std::vector<uint16_t>> a, b;
    const auto plain = w.encode(none, "larder-small", 2), turned = w.encode(all, "larder-small", 2);
    assert_int_equal(w.decode(plain, none, 2, a), LARDER_OK);
    assert_int_equal(w.decode(turned, all, 2, b), LARDER_OK);
    assert_true(w.weighted_error(b) < w.weighted_error(a) * 1.02);
    assert_true(turned.size() < plain.size() / 2);
    // Level 0 is coded channel by channel with either.
    larder_stream_info info = LARDER_STREAM_INFO_INIT;
    const auto fast = w.encode(all, "larder-fast", 2);
    assert_int_equal(larder_stream_inspect({fast.data(), fast.size()}, &info), LARDER_OK);
    assert_string_equal(info.chain, "step level=0 entropy=rans");
    assert_int_equal(larder_stream_inspect({turned.data(), turned.size()}, &info), LARDER_OK);
    assert_string_equal(info.chain, "step level=1 basis=4 entropy=rans");
    larder_profile_destroy(none);
    larder_profile_destroy(all);
}

void embedded_and_damaged_bases(void**) {
    World w(8);
    larder_profile* p = w.calibrate(2);
    std::vector<std::vector<uint16_t>> a, b;
    assert_int_equal(w.decode(w.encode(p, "larder-small", 2), p, 2, a), LARDER_OK);
    assert_int_equal(w.decode(w.encode(p, "larder-small", 2, true), nullptr, 2, b), LARDER_OK);
    assert_true(a == b);
    // A basis of no unit vectors, a weight of zero, more levels than there are: refused though the checksum is right.
    auto bytes = saved(p);
    const size_t channels = 2 * layers * width, weights = 72 + 4 * channels, bases = weights + 4 * channels;
    const auto refused = [&](size_t at, uint16_t value, larder_status status) {
        const uint16_t was = larder::load_le<uint16_t>(bytes.data() + at);
        larder::store_le<uint16_t>(bytes.data() + at, value);
        larder::store_le<uint32_t>(bytes.data() + bytes.size() - 4, larder::crc32c(0, bytes.data(), bytes.size() - 4));
        larder_profile* bad = nullptr;
        assert_int_equal(larder_profile_load(w.context, {bytes.data(), bytes.size()}, &bad), status);
        larder::store_le<uint16_t>(bytes.data() + at, was);
    };
    refused(bases + 10, 0x7e00, LARDER_E_CORRUPT);
    refused(bases + 10, 0x4000, LARDER_E_CORRUPT);
    refused(weights + 2, 0, LARDER_E_CORRUPT);
    refused(24, 3, LARDER_E_CORRUPT);
    refused(24, 0, LARDER_E_CORRUPT);
    refused(4, 0x0803, LARDER_E_VERSION);
    refused(4, 0x0802, LARDER_E_CORRUPT);
    larder_profile_destroy(p);
}

void bad_options_are_refused(void**) {
    World w(9);
    larder_profile_options o = LARDER_PROFILE_OPTIONS_INIT;
    larder_profile* p = nullptr;
    o.shape = w.shape, o.basis_heads = 3;
    assert_int_equal(larder_profile_create(w.context, &o, &p), LARDER_E_RANGE);
    o.shape.n_kv_heads = 128, o.basis_heads = 128;
    assert_int_equal(larder_profile_create(w.context, &o, &p), LARDER_E_RANGE);
    p = w.calibrate(2);
    larder_codec_options co = LARDER_CODEC_OPTIONS_INIT;
    larder_codec* codec = nullptr;
    co.profile = p;
    co.chain = "larder-small basis=4";
    assert_int_equal(larder_codec_open(w.context, &co, &codec), LARDER_E_INVALID);
    co.chain = "larder-small refine=1";
    assert_int_equal(larder_codec_open(w.context, &co, &codec), LARDER_E_INVALID);
    co.chain = "int4 basis=2";
    assert_int_equal(larder_codec_open(w.context, &co, &codec), LARDER_E_INVALID);
    larder_profile_destroy(p);
}

void eigenvectors_diagonalise(void**) {
    Rng r(test_seed());
    for (uint32_t n : {1u, 2u, 3u, 17u, 40u}) {
        std::vector<double> a(n * n), was, v(n * n);
        for (uint32_t i = 0; i < n; ++i)
            for (uint32_t j = 0; j <= i; ++j) a[i * n + j] = a[j * n + i] = gaussian(r);
        was = a;
        larder::symmetric_eigen(a.data(), n, v.data());
        double before = 1e300;
        for (uint32_t i = 0; i < n; ++i)
            for (uint32_t k = 0; k < n; ++k) {
                double product = 0, unit = 0;
                for (uint32_t x = 0; x < n; ++x) {
                    unit += v[i * n + x] * v[k * n + x];
                    for (uint32_t y = 0; y < n; ++y) product += v[i * n + x] * was[x * n + y] * v[k * n + y];
                }
                assert_true(std::fabs(unit - (i == k)) < 1e-9);
                if (i != k) assert_true(std::fabs(product) < 1e-4);
                if (i == k) assert_true(product <= before + 1e-9), before = product;
            }
    }
}

void mixing_is_the_sum_in_order(void**) {
    Rng r(test_seed());
    for (uint32_t round = 0; round < test_rounds(60); ++round) {
        const uint32_t size = uint32_t(1 + r.below(80)), n = uint32_t(1 + r.below(9));
        const size_t stride = size + r.below(5);
        std::vector<float> x(n * stride), m(size_t(size) * size), want(n * stride, 9), got;
        for (float& f : x) f = float(gaussian(r));
        for (float& f : m) f = float(gaussian(r));
        for (uint32_t t = 0; t < n; ++t)
            for (uint32_t o = 0; o < size; ++o) {
                volatile float sum = 0;  // one rounding per operation
                for (uint32_t i = 0; i < size; ++i) {
                    const volatile float product = x[t * stride + i] * m[size_t(i) * size + o];
                    sum = sum + product;
                }
                want[t * stride + o] = sum;
            }
        for (int isa = 0; isa < 3; ++isa) {
            got.assign(n * stride, 9);
            larder::kernels(larder::IsaLevel(isa)).mix(x.data(), stride, n, m.data(), size, got.data());
            assert_true(std::memcmp(got.data(), want.data(), 4 * got.size()) == 0);
        }
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(streams_follow_the_definition),
        cmocka_unit_test(correlated_channels_cost_fewer_bits_at_the_same_error),
        cmocka_unit_test(embedded_and_damaged_bases),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(eigenvectors_diagonalise),
        cmocka_unit_test(mixing_is_the_sum_in_order),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
