// Rates and errors of the presets on real KV caches. Needs the reference dumps; says so and passes over them when they
// are absent.
#include "support/cmocka.h"

#include <cmath>

#include "base/numeric.h"
#include "larder/larder.h"
#include "support/kv_dumps.h"

using namespace kv_test;

namespace {

struct Result {
    double bits, k_error, v_error;  // per value; relative RMS
};

struct Cache {
    Dump k, v;
};

std::optional<Cache> load(const std::string& k, const std::string& v) {
    auto a = load_dump(k), b = load_dump(v);
    if (!a || !b) return std::nullopt;
    return Cache{std::move(*a), std::move(*b)};
}

std::vector<larder_stream_plane> planes_of(Cache& c, uint32_t first_token) {
    std::vector<larder_stream_plane> planes;
    for (uint32_t l = 0; l < c.k.n_layers; ++l)
        for (Dump* d : {&c.k, &c.v}) {
            larder_stream_plane p = LARDER_STREAM_PLANE_INIT;
            p.base = d->data.data() + (size_t(l) * d->n_tokens + first_token) * d->n_heads * d->dim;
            planes.push_back(p);
        }
    return planes;
}

larder_stream_shape shape_of(const Cache& c, uint32_t n_tokens) {
    larder_stream_shape s = LARDER_STREAM_SHAPE_INIT;
    s.n_layers = c.k.n_layers, s.n_tokens = n_tokens, s.n_kv_heads = c.k.n_heads, s.k_dim = c.k.dim, s.v_dim = c.v.dim;
    return s;
}

double relative_error(const Dump& a, const Dump& b) {
    double d2 = 0, x2 = 0;
    for (size_t i = 0; i < a.data.size(); ++i) {
        const double x = larder::f16_to_f32(a.data[i]), d = x - larder::f16_to_f32(b.data[i]);
        d2 += d * d, x2 += x * x;
    }
    return std::sqrt(d2 / x2);
}

// How much later queries attend to each token is not in a dump. The tokens with the longest keys stand for the salient
// ones, with the first four and the last twentieth: the rate does not depend on which tokens are finer.
std::vector<float> saliency_of(const Cache& c, uint32_t first_token, uint32_t n_tokens) {
    std::vector<float> s(n_tokens);
    const size_t row = size_t(c.k.n_heads) * c.k.dim;
    for (uint32_t t = 0; t < n_tokens; ++t) {
        double power = 0;
        for (uint32_t l = 0; l < c.k.n_layers; ++l)
            for (size_t i = 0; i < row; ++i) {
                const double x = larder::f16_to_f32(c.k.data[(size_t(l) * c.k.n_tokens + first_token + t) * row + i]);
                power += x * x;
            }
        s[t] = t < 4 || t >= n_tokens - n_tokens / 20 ? 1e30f : float(power);
    }
    return s;
}

// The whole cache in streams of block_tokens.
Result measure(larder_context* context, larder_codec* codec, Cache& c, uint32_t block_tokens) {
    Cache back = c;
    uint64_t total = 0;
    for (uint32_t t = 0; t < c.k.n_tokens; t += block_tokens) {
        larder_stream_source src = LARDER_STREAM_SOURCE_INIT;
        src.shape = shape_of(c, std::min(block_tokens, c.k.n_tokens - t));
        src.identity.first_token = t;
        const auto planes = planes_of(c, t);
        src.planes = planes.data();
        const auto saliency = saliency_of(c, t, src.shape.n_tokens);
        src.saliency = saliency.data();
        uint64_t bound = 0, n = 0;
        assert_int_equal(larder_codec_sizes(codec, &src.shape, &bound, nullptr), LARDER_OK);
        std::vector<std::byte> out(bound);
        assert_int_equal(larder_stream_encode(codec, &src, out.data(), bound, nullptr, 0, &n), LARDER_OK);
        total += n;
        const auto to = planes_of(back, t);
        larder_stream_target target = LARDER_STREAM_TARGET_INIT;
        target.planes = to.data();
        assert_int_equal(larder_stream_decode(context, {out.data(), n}, &target), LARDER_OK);
    }
    return {8.0 * double(total) / double(c.k.data.size() + c.v.data.size()), relative_error(c.k, back.k),
            relative_error(c.v, back.v)};
}

void rates_on_real_caches(void**) {
    if (!shared_dir()) {
        std::printf("skipped: no reference dumps (LARDER_SHARED_DIR)\n");
        return;
    }
    larder_context* context;
    assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
    std::printf("%-12s %-10s %6s | %8s %9s %9s\n", "cache", "preset", "tokens", "bits", "K error", "V error");
    for (const char* name : {"stories260K.tinystories0", "mid3m.heldout0", "dense5m.heldout0"}) {
        auto cache = load(std::string(name) + ".k.f16", std::string(name) + ".v.f16");
        assert_true(cache.has_value());
        for (uint32_t i = 0;; ++i) {
            larder_codec_info info = LARDER_CODEC_INFO_INIT;
            if (larder_codec_list(i, &info)) break;
            if (info.needs & LARDER_CODEC_NEEDS_PROFILE) continue;
            larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
            o.chain = info.name;
            larder_codec* codec;
            assert_int_equal(larder_codec_open(context, &o, &codec), LARDER_OK);
            for (uint32_t block : {16u, 1024u}) {
                const Result r = measure(context, codec, *cache, block);
                std::printf("%-12.12s %-10s %6u | %8.3f %9.5f %9.5f\n", name, info.name,
                            std::min(block, cache->k.n_tokens), r.bits, r.k_error, r.v_error);
                if (info.quality == LARDER_QUALITY_EXACT) assert_true(r.k_error == 0 && r.v_error == 0);
            }
            larder_codec_close(codec);
        }
    }
    larder_context_destroy(context);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(rates_on_real_caches)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
