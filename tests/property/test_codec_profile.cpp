// Profiles: calibration, the saved form, naming and embedding, keys turned back and forth, damage.
#include "support/cmocka.h"

#include <cmath>

#include "codec/rope.h"
#include "support/kv_tensors.h"

using namespace kv_test;

namespace {

constexpr uint32_t layers = 2, tokens = 300, heads = 2, dim = 32, width = heads * dim;

struct World {
    larder_context* context = nullptr;
    larder_stream_shape shape = LARDER_STREAM_SHAPE_INIT;
    std::vector<std::vector<std::byte>> planes;
    std::vector<larder_stream_plane> views;
    larder_stream_source source = LARDER_STREAM_SOURCE_INIT;

    explicit World(uint64_t seed, larder_dtype type = LARDER_DTYPE_F16) {
        Rng r(seed);
        assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
        shape.n_layers = layers, shape.n_tokens = tokens, shape.n_kv_heads = heads, shape.k_dim = shape.v_dim = dim,
        shape.k_dtype = type;
        larder_stream_shape filled = shape;
        filled.v_dtype = type;
        for (uint32_t i = 0; i < 2 * layers; ++i) planes.push_back(make_plane(r, filled, i % 2, Data::normal));
        for (auto& p : planes) {
            larder_stream_plane v = LARDER_STREAM_PLANE_INIT;
            v.base = p.data();
            views.push_back(v);
        }
        source.shape = shape;
        source.identity.first_token = 5;
        source.planes = views.data();
    }
    ~World() { assert_int_equal(larder_context_destroy(context), LARDER_OK); }

    larder_profile* calibrate(larder_rope rope, bool weights) {
        larder_profile_options o = LARDER_PROFILE_OPTIONS_INIT;
        o.shape = shape;
        o.rope = rope;
        larder_profile* p = nullptr;
        assert_int_equal(larder_profile_create(context, &o, &p), LARDER_OK);
        if (weights)
            for (uint32_t l = 0; l < layers; ++l) {
                std::vector<float> w(width, 1.0f);
                w[3] = 8;
                assert_int_equal(larder_profile_set_reader(p, l, 1, w.data(), width), LARDER_OK);
            }
        assert_int_equal(larder_profile_add(p, &source), LARDER_OK);
        assert_int_equal(larder_profile_finish(p), LARDER_OK);
        return p;
    }
    std::vector<std::byte> encode(const char* chain, const larder_profile* p, bool embed, uint64_t isa = 2) {
        larder_context_set_u64(context, LARDER_PARAM_ISA_LEVEL, isa);
        larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
        o.chain = chain, o.profile = p, o.embed_profile = embed, o.chunk_tokens = 100;
        larder_codec* codec = nullptr;
        assert_int_equal(larder_codec_open(context, &o, &codec), LARDER_OK);
        uint64_t bound = 0, n = 0;
        assert_int_equal(larder_codec_sizes(codec, &shape, &bound, nullptr), LARDER_OK);
        std::vector<std::byte> out(bound);
        assert_int_equal(larder_stream_encode(codec, &source, out.data(), bound, nullptr, 0, &n), LARDER_OK);
        out.resize(n);
        larder_codec_close(codec);
        return out;
    }
    larder_status decode(const std::vector<std::byte>& s, const larder_profile* p,
                         std::vector<std::vector<std::byte>>& to, uint64_t isa = 2) {
        larder_context_set_u64(context, LARDER_PARAM_ISA_LEVEL, isa);
        to = planes;
        std::vector<larder_stream_plane> v = views;
        for (size_t i = 0; i < v.size(); ++i)
            std::fill(to[i].begin(), to[i].end(), std::byte{0}), v[i].base = to[i].data();
        larder_stream_target t = LARDER_STREAM_TARGET_INIT;
        t.planes = v.data(), t.profiles = &p, t.n_profiles = p ? 1 : 0;
        return larder_stream_decode(context, {s.data(), s.size()}, &t);
    }
    double error(const std::vector<std::vector<std::byte>>& got, uint32_t kv, int channel = -1) const {
        double d2 = 0, x2 = 0;
        const uint32_t es = larder::dtype_bytes(shape.k_dtype);
        for (uint32_t i = kv; i < planes.size(); i += 2)
            for (size_t j = 0; j < planes[i].size() / es; ++j) {
                if (channel >= 0 && j % width != size_t(channel)) continue;
                const double x = element(planes[i].data() + j * es, shape.k_dtype),
                             d = x - element(got[i].data() + j * es, shape.k_dtype);
                d2 += d * d, x2 += x * x;
            }
        return std::sqrt(d2 / x2);
    }
};

// Uniform quantization with a step of s deviations gives an error of s / sqrt(12), whichever processor works.
void levels_have_the_errors_of_their_steps(void**) {
    for (larder_dtype type : {LARDER_DTYPE_F16, LARDER_DTYPE_BF16, LARDER_DTYPE_F32}) {
        World w(3, type);
        larder_profile* p = w.calibrate(LARDER_ROPE_POST, false);
        const double steps[] = {0.5, 1, 1.5};
        double last_size = 1e9;
        for (int level = 0; level < 3; ++level) {
            const std::string chain = "larder-small level=" + std::to_string(level);
            std::vector<std::vector<std::byte>> got, same;
            const auto s = w.encode(chain.c_str(), p, false);
            assert_int_equal(w.decode(s, p, got), LARDER_OK);
            const double v = w.error(got, 1);
            if (!(v < steps[level] / std::sqrt(12.0) * 1.05 && v > steps[level] / std::sqrt(12.0) * 0.8))
                print_error("level %d: error %g\n", level, v);
            assert_true(v < steps[level] / std::sqrt(12.0) * 1.05 && v > steps[level] / std::sqrt(12.0) * 0.8);
            assert_true(double(s.size()) < last_size);
            last_size = double(s.size());
            for (uint64_t isa = 0; isa < 2; ++isa) {
                assert_true(w.encode(chain.c_str(), p, false, isa) == s);
                assert_int_equal(w.decode(s, p, same, isa), LARDER_OK);
                assert_true(same == got);
            }
        }
        larder_profile_destroy(p);
    }
}

void precision_follows_the_reader(void**) {
    World w(4);
    larder_profile *even = w.calibrate(LARDER_ROPE_NONE, false), *weighted = w.calibrate(LARDER_ROPE_NONE, true);
    std::vector<std::vector<std::byte>> a, b;
    assert_int_equal(w.decode(w.encode("larder-small", even, false), even, a), LARDER_OK);
    assert_int_equal(w.decode(w.encode("larder-small", weighted, false), weighted, b), LARDER_OK);
    assert_true(w.error(b, 1, 3) < w.error(a, 1, 3) / 2);
    larder_profile_destroy(even);
    larder_profile_destroy(weighted);
}

void a_profile_is_named_embedded_saved_and_missed(void**) {
    World w(5);
    larder_profile *p = w.calibrate(LARDER_ROPE_POST, false), *other = w.calibrate(LARDER_ROPE_NONE, false),
                   *loaded = nullptr;
    uint64_t n = 0;
    assert_int_equal(larder_profile_save(p, nullptr, 0, &n), LARDER_E_BUFFER_TOO_SMALL);
    std::vector<std::byte> saved(n);
    assert_int_equal(larder_profile_save(p, saved.data(), n, &n), LARDER_OK);
    assert_int_equal(larder_profile_load(w.context, {saved.data(), n}, &loaded), LARDER_OK);
    larder_key a, b;
    assert_int_equal(larder_profile_hash(p, &a), LARDER_OK);
    assert_int_equal(larder_profile_hash(loaded, &b), LARDER_OK);
    assert_memory_equal(&a, &b, sizeof a);
    const auto named = w.encode("larder-small", p, false), embedded = w.encode("larder-small", p, true);
    assert_true(named == w.encode("larder-small", loaded, false));
    std::vector<std::vector<std::byte>> x, y;
    assert_int_equal(w.decode(named, loaded, x), LARDER_OK);
    assert_int_equal(w.decode(embedded, nullptr, y), LARDER_OK);
    assert_true(x == y);
    assert_int_equal(w.decode(named, nullptr, y), LARDER_E_MISSING_PROFILE);
    assert_int_equal(w.decode(named, other, y), LARDER_E_MISSING_PROFILE);
    larder_stream_info info = LARDER_STREAM_INFO_INIT;
    assert_int_equal(larder_stream_inspect({named.data(), named.size()}, &info), LARDER_OK);
    assert_int_equal(info.has_profile, 2);
    assert_memory_equal(&info.profile_hash, &a, sizeof a);
    assert_int_equal(larder_stream_inspect({embedded.data(), embedded.size()}, &info), LARDER_OK);
    assert_int_equal(info.has_profile, 1);
    // Damage is always noticed, in the profile and in a stream that carries it.
    for (size_t i = 0; i < saved.size(); i += 3) {
        saved[i] ^= std::byte{4};
        larder_profile* bad = nullptr;
        assert_true(larder_profile_load(w.context, {saved.data(), saved.size()}, &bad) < LARDER_E_INTERNAL);
        saved[i] ^= std::byte{4};
        assert_true(larder_profile_load(w.context, {saved.data(), i}, &bad) < LARDER_E_INTERNAL);
    }
    auto damaged = embedded;
    for (size_t i = 0; i < damaged.size(); ++i) {
        damaged[i] ^= std::byte{16};
        assert_true(larder_stream_verify({damaged.data(), damaged.size()}, nullptr, nullptr) < LARDER_E_INTERNAL);
        damaged[i] ^= std::byte{16};
    }
    assert_int_equal(larder_profile_add(p, &w.source), LARDER_E_STATE);
    for (larder_profile* q : {p, other, loaded}) larder_profile_destroy(q);
}

void sines_are_those_of_the_library(void**) {
    Rng r(6);
    for (int i = 0; i < 200000; ++i) {
        const double x = r.unit() * (i % 2 ? 1 << 20 : 10);
        double s, c;
        larder::sin_cos(x, s, c);
        assert_true(std::fabs(s - std::sin(x)) < 1e-14 && std::fabs(c - std::cos(x)) < 1e-14);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(levels_have_the_errors_of_their_steps),
        cmocka_unit_test(precision_follows_the_reader),
        cmocka_unit_test(a_profile_is_named_embedded_saved_and_missed),
        cmocka_unit_test(sines_are_those_of_the_library),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
