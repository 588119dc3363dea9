// Stages of a chain against their definitions: rotation, codebooks, prediction, components; special numbers through
// every preset; chains that make no sense.
#include "support/cmocka.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "codec/codebook.h"
#include "codec/rotation.h"
#include "support/kv_tensors.h"
#include "support/seed.h"

using namespace kv_test;

namespace {

constexpr uint32_t layers = 2, tokens = 75, heads = 2, dim = 64, width = heads * dim;
using Planes = std::vector<std::vector<uint16_t>>;

struct World {
    larder_context* context = nullptr;
    larder_stream_shape shape = LARDER_STREAM_SHAPE_INIT;
    larder_profile* profile = nullptr;
    std::vector<float> saliency = std::vector<float>(tokens, 1.0f);

    World() {
        assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
        shape.n_layers = layers, shape.n_tokens = tokens, shape.n_kv_heads = heads, shape.k_dim = shape.v_dim = dim;
    }
    ~World() {
        larder_profile_destroy(profile);
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
    // Slowly varying channels.
    Planes data(uint64_t seed) const {
        Rng r(seed);
        Planes p(2 * layers);
        for (auto& plane : p) {
            std::vector<double> x(width);
            for (uint32_t i = 0; i < tokens * width; ++i) {
                double& v = x[i % width];
                v = 0.95 * v + 0.3 * gaussian(r);
                plane.push_back(larder::f32_to_f16(float(v + (i % width == 5 ? 8 : 0))));
            }
        }
        return p;
    }
    std::vector<larder_stream_plane> views(Planes& p) const {
        std::vector<larder_stream_plane> v(p.size(), LARDER_STREAM_PLANE_INIT);
        for (size_t i = 0; i < p.size(); ++i) v[i].base = p[i].data();
        return v;
    }
    larder_stream_source source(const std::vector<larder_stream_plane>& v) const {
        larder_stream_source s = LARDER_STREAM_SOURCE_INIT;
        s.shape = shape, s.planes = v.data(), s.saliency = saliency.data();
        return s;
    }
    void calibrate(Planes p) {
        larder_profile_options o = LARDER_PROFILE_OPTIONS_INIT;
        o.shape = shape;
        const auto v = views(p);
        const auto s = source(v);
        assert_int_equal(larder_profile_create(context, &o, &profile), LARDER_OK);
        assert_int_equal(larder_profile_add(profile, &s), LARDER_OK);
        assert_int_equal(larder_profile_finish(profile), LARDER_OK);
    }
    std::vector<std::byte> encode(const char* chain, Planes p, uint64_t isa = 2) {
        larder_context_set_u64(context, LARDER_PARAM_ISA_LEVEL, isa);
        larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
        o.chain = chain, o.profile = profile, o.chunk_tokens = 50;
        larder_codec* codec = nullptr;
        assert_int_equal(larder_codec_open(context, &o, &codec), LARDER_OK);
        const auto v = views(p);
        const auto s = source(v);
        uint64_t bound = 0, n = 0;
        assert_int_equal(larder_codec_sizes(codec, &shape, &bound, nullptr), LARDER_OK);
        std::vector<std::byte> out(bound);
        assert_int_equal(larder_stream_encode(codec, &s, out.data(), bound, nullptr, 0, &n), LARDER_OK);
        out.resize(n);
        larder_codec_close(codec);
        return out;
    }
    Planes decode(const std::vector<std::byte>& s, uint64_t isa = 2) {
        larder_context_set_u64(context, LARDER_PARAM_ISA_LEVEL, isa);
        Planes out(2 * layers, std::vector<uint16_t>(tokens * width));
        const auto v = views(out);
        larder_stream_target t = LARDER_STREAM_TARGET_INIT;
        t.planes = v.data(), t.profiles = &profile, t.n_profiles = profile ? 1 : 0;
        assert_int_equal(larder_stream_decode(context, {s.data(), s.size()}, &t), LARDER_OK);
        return out;
    }
    Planes through(const char* chain, const Planes& p) {
        const auto s = encode(chain, p);
        const Planes out = decode(s);
        for (uint64_t isa = 0; isa < 2; ++isa) {
            assert_true(encode(chain, p, isa) == s);
            assert_true(decode(s, isa) == out);
        }
        return out;
    }
};

double value(uint16_t h) {
    return double(larder::f16_to_f32(h));
}
double relative_error(const Planes& a, const Planes& b) {
    double d2 = 0, x2 = 0;
    for (size_t p = 0; p < a.size(); ++p)
        for (size_t i = 0; i < a[p].size(); ++i) {
            d2 += (value(a[p][i]) - value(b[p][i])) * (value(a[p][i]) - value(b[p][i]));
            x2 += value(a[p][i]) * value(a[p][i]);
        }
    return std::sqrt(d2 / x2);
}

// Element (i, j) of Hadamard's matrix: the parity of the bits that i and j share.
void rotation_is_hadamard_s_matrix(void**) {
    Rng r(test_seed());
    for (uint32_t n : {1u, 2u, 8u, 64u, 128u}) {
        std::vector<float> x(2 * n);
        for (float& f : x) f = float(gaussian(r));
        auto y = x;
        larder::rotate_forward(y.data(), 2, n);
        for (uint32_t h = 0; h < 2; ++h)
            for (uint32_t i = 0; i < n; ++i) {
                double sum = 0;
                for (uint32_t j = 0; j < n; ++j) {
                    const bool sign = ((uint64_t(j) + 1) * 0x9e3779b1u & 0x80000000u) != 0;
                    sum += (__builtin_popcount(i & j) % 2 ? -1 : 1) * (sign ? -1 : 1) * double(x[h * n + j]);
                }
                assert_true(std::fabs(sum / std::sqrt(double(n)) - double(y[h * n + i])) < 1e-5);
            }
        larder::rotate_backward(y.data(), 2, n);
        for (uint32_t i = 0; i < 2 * n; ++i) assert_true(std::fabs(double(y[i] - x[i])) < 1e-5);
    }
}

double normal_below(double x) {
    return 0.5 * std::erfc(-x / std::sqrt(2.0));
}
double normal_density(double x) {
    return std::exp(-x * x / 2) / std::sqrt(6.283185307179586);
}

// Each level is the mean (or median) of its cell, and cells meet in the middle between levels.
void codebooks_are_fixed_points(void**) {
    for (uint32_t bits = 1; bits <= 4; ++bits)
        for (auto format : {larder::BlockFormat::lloyd, larder::BlockFormat::median}) {
            const float* l = larder::codebook_levels(format, bits);
            const uint32_t n = 1u << bits;
            for (uint32_t i = 0; i < n; ++i) {
                const double from = i ? (double(l[i - 1]) + double(l[i])) / 2 : -40,
                             to = i + 1 < n ? (double(l[i]) + double(l[i + 1])) / 2 : 40;
                const double a = normal_below(from), b = normal_below(to);
                if (format == larder::BlockFormat::lloyd)
                    assert_true(std::fabs((normal_density(from) - normal_density(to)) / (b - a) - double(l[i])) < 1e-5);
                else
                    assert_true(std::fabs((a + b) / 2 - normal_below(double(l[i]))) < 1e-5);
            }
        }
}

void codebook_streams_take_the_nearest_level(void**) {
    World w;
    const Planes p = w.data(test_seed());
    for (auto format : {larder::BlockFormat::lloyd, larder::BlockFormat::median})
        for (uint32_t bits = 1; bits <= 4; ++bits) {
            const bool lloyd = format == larder::BlockFormat::lloyd;
            const std::string chain =
                std::string("block group=32 format=") + (lloyd ? "lloyd" : "median") + " bits=" + std::to_string(bits);
            const Planes got = w.through(chain.c_str(), p);
            const float* l = larder::codebook_levels(format, bits);
            for (size_t plane = 0; plane < p.size(); ++plane)
                for (size_t g = 0; g < p[plane].size(); g += 32) {
                    double sum = 0, squares = 0;
                    for (size_t i = g; i < g + 32; ++i) sum += value(p[plane][i]);
                    const double centre = lloyd ? 0 : sum / 32;
                    for (size_t i = g; i < g + 32; ++i)
                        squares += (value(p[plane][i]) - centre) * (value(p[plane][i]) - centre);
                    const double scale = std::sqrt(squares / 32);
                    for (size_t i = g; i < g + 32; ++i) {
                        double best = 1e9;
                        for (uint32_t k = 0; k < 1u << bits; ++k)
                            best = std::min(best, std::fabs(value(p[plane][i]) - centre - scale * double(l[k])));
                        const double off = std::fabs(value(p[plane][i]) - value(got[plane][i]));
                        assert_true(off <= best + 0.004 * (scale * 3 + std::fabs(centre)) + 1e-4);
                    }
                }
        }
}

// Turning spreads channel 5, whose mean is far from the others': the error falls.
void rotation_tames_an_outlier_channel(void**) {
    World w;
    const Planes p = w.data(11);
    const double plain = relative_error(p, w.through("block format=lloyd bits=3 group=64", p)),
                 turned = relative_error(p, w.through("block format=lloyd bits=3 group=64 hadamard=1", p));
    assert_true(turned < plain * 0.8);
    assert_true(relative_error(p, w.through("int8 hadamard=1 check=1 refine=1", p)) < 0.01);
}

void prediction_changes_sizes_and_nothing_else(void**) {
    World w;
    const Planes p = w.data(test_seed());
    for (const char* chain : {"affine bits=4 group=32 kaxis=channel entropy=rans", "cachegen-2", "cachegen-1 check=1",
                              "affine kbits=6 vbits=3 group=64 sym=1 entropy=rans"}) {
        const auto plain = w.encode(chain, p);
        for (const char* predictor : {" predict=previous", " predict=anchor"}) {
            const Planes got = w.through((std::string(chain) + predictor).c_str(), p);
            assert_true(got == w.decode(plain));
        }
    }
    const auto plain = w.encode("cachegen-3", p), relative = w.encode("cachegen-3 predict=previous", p);
    assert_true(relative.size() < plain.size());
}

void components_are_a_projection(void**) {
    World w;
    const Planes p = w.data(test_seed());
    w.calibrate(p);
    double last = 1;
    for (const char* chain : {"cskv tail=0", "cskv keep=35 tail=0", "cskv keep=50 tail=0", "lowrank level=2 keep=99"}) {
        const double error = relative_error(p, w.through(chain, p));
        assert_true(error < last);
        last = error;
    }
    assert_true(last < 0.1);
    // Projecting twice is projecting once, but for the rounding of the stored halves.
    const Planes once = w.through("cskv keep=30 tail=0", p), twice = w.through("cskv keep=30 tail=0", once);
    assert_true(relative_error(once, twice) < 2e-3);
    // The newest tokens stay exact with a tail.
    const Planes tail = w.through("cskv", p);
    for (uint32_t i = 50 * width; i < tokens * width; ++i) assert_int_equal(tail[0][i], p[0][i]);
}

// NaN, infinities, denormals and both zeros among ordinary values. Exact presets keep every bit; the others give finite
// numbers or what was there, and a group without special numbers is what it would be without the rest.
void special_numbers_through_every_preset(void**) {
    World w;
    Planes p = w.data(12);
    w.calibrate(p);
    for (auto& plane : p)
        for (size_t i = 0; i < plane.size(); i += 37) {
            static const uint16_t special[] = {0x7e01, 0xfe00, 0x7c00, 0xfc00, 0x0001, 0x83ff, 0x8000, 0x0000, 0x7bff};
            plane[i] = special[i / 37 % std::size(special)];
        }
    larder_codec_info info = LARDER_CODEC_INFO_INIT;
    for (uint32_t i = 0; larder_codec_list(i, &info) == LARDER_OK; ++i) {
        const Planes got = w.through((std::string(info.name) + " tail=0").c_str(), p);
        if (info.quality == LARDER_QUALITY_EXACT) {
            assert_true(got == p);
            continue;
        }
        for (uint32_t plane = 0; plane < p.size(); ++plane)
            for (size_t t = 0; t < 50 * width; ++t) {
                // A chunk that coding would make larger is stored as it is.
                if (got[plane][t] == p[plane][t]) continue;
                if ((got[plane][t] & 0x7c00) == 0x7c00) print_error("%s: %#x\n", info.name, got[plane][t]);
                assert_true((got[plane][t] & 0x7c00) != 0x7c00);
            }
    }
}

void senseless_chains_are_refused(void**) {
    World w;
    larder_codec* codec = nullptr;
    const struct {
        const char* chain;
        larder_status status;
    } cases[] = {
        {"int4 predict=anchor", LARDER_E_INVALID},
        {"int8 predict=previous entropy=rans", LARDER_E_INVALID},
        {"lossless hadamard=1", LARDER_E_INVALID},
        {"int4 predict=next", LARDER_E_NOT_FOUND},
        {"block format=lloyd bits=5", LARDER_E_RANGE},
        {"block format=median", LARDER_E_RANGE},
        {"cskv", LARDER_E_MISSING_PROFILE},
        {"lowrank keep=0", LARDER_E_RANGE},
        {"lowrank entropy=rans", LARDER_E_INVALID},
        {"int4 hadamard=2", LARDER_E_RANGE},
    };
    for (const auto& c : cases) {
        larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
        o.chain = c.chain;
        const larder_status got = larder_codec_open(w.context, &o, &codec);
        if (got != c.status) print_error("%s: %d\n", c.chain, got);
        assert_int_equal(got, c.status);
    }
    larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
    o.chain = "int4 group=0 hadamard=1";
    assert_int_equal(larder_codec_open(w.context, &o, &codec), LARDER_OK);
    larder_stream_shape odd = w.shape;
    odd.k_dim = 48;
    uint64_t bound = 0;
    assert_int_equal(larder_codec_sizes(codec, &odd, &bound, nullptr), LARDER_E_UNSUPPORTED);
    larder_codec_close(codec);
    w.calibrate(w.data(13));
    o.chain = "lowrank level=0 keep=20", o.profile = w.profile;
    assert_int_equal(larder_codec_open(w.context, &o, &codec), LARDER_E_UNSUPPORTED);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(rotation_is_hadamard_s_matrix),
        cmocka_unit_test(codebooks_are_fixed_points),
        cmocka_unit_test(codebook_streams_take_the_nearest_level),
        cmocka_unit_test(rotation_tames_an_outlier_channel),
        cmocka_unit_test(prediction_changes_sizes_and_nothing_else),
        cmocka_unit_test(components_are_a_projection),
        cmocka_unit_test(special_numbers_through_every_preset),
        cmocka_unit_test(senseless_chains_are_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
