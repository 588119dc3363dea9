// Separable chains and sorted blocks against naive codecs: every decoded bit and every extent's size.
#include "support/cmocka.h"

#include <algorithm>
#include <numeric>

#include "codec/kernels.h"
#include "support/kv_tensors.h"
#include "support/seed.h"

using namespace kv_test;

namespace {

struct Setting {
    const char* chain;
    uint32_t bits, salient_percent, salient_bits;  // separable
    bool k_by_channel;
    uint32_t group;  // sorted bfp
};

constexpr Setting settings[] = {
    {"zipcache", 2, 60, 4, true, 0},
    {"zipcache axis=token", 2, 60, 4, false, 0},
    {"zipcache salient=0", 2, 0, 4, true, 0},
    {"separable bits=3 salient=7 salient_bits=6", 3, 7, 6, false, 0},
    {"separable bits=4 kaxis=channel salient=100 salient_bits=8", 4, 100, 8, true, 0},
    {"bfp12", 0, 0, 0, false, 32},
    {"block format=bfp group=8 sort=1", 0, 0, 0, false, 8},
};

// One plane's tokens of one chunk as floats, [token][channel].
struct Extent {
    uint32_t n, width;
    std::vector<float> x;
    std::vector<bool> salient;
    larder_dtype type;
    float& at(uint32_t t, uint32_t c) { return x[size_t(t) * width + c]; }
    float stored(float f) const { return larder::scale_value(larder::scale_bits(f, type), type); }
};

float code_of(float x, float low, float step, uint32_t bits) {
    const float inverse = step >= 0x1p-126f ? 1.0f / step : 0.0f;
    return float(int(std::nearbyint(std::clamp((x - low) * inverse, 0.0f, float((1u << bits) - 1)))));
}

// Replaces values by what a decoder gives; returns the bytes of the body.
size_t separable_by_channel(Extent& e, const Setting& s) {
    size_t bits = 32 * size_t(e.width);
    const uint32_t finest = s.salient_percent ? s.salient_bits : s.bits;
    for (uint32_t c = 0; c < e.width; ++c) {
        float low = e.at(0, c), high = low;
        for (uint32_t t = 0; t < e.n; ++t) low = std::min(low, e.at(t, c)), high = std::max(high, e.at(t, c));
        low = e.stored(low);
        const float step = e.stored(std::max(high - low, 0.0f) / float((1u << finest) - 1));
        for (uint32_t t = 0; t < e.n; ++t) {
            const uint32_t b = e.salient[t] ? s.salient_bits : s.bits;
            const float steps = float((1u << finest) - 1) / float((1u << b) - 1);
            e.at(t, c) = code_of(e.at(t, c), low, step * steps, b) * steps * step + low;
        }
    }
    for (uint32_t t = 0; t < e.n; ++t) bits += (e.width * (e.salient[t] ? s.salient_bits : s.bits) + 7) / 8 * 8;
    return bits / 8;
}

size_t separable_by_token(Extent& e, const Setting& s) {
    std::vector<float> factor(e.width);
    for (uint32_t c = 0; c < e.width; ++c) {
        float most = 0;
        for (uint32_t t = 0; t < e.n; ++t) most = std::max(most, std::fabs(e.at(t, c)));
        factor[c] = e.stored(most > 0 ? std::sqrt(most) : 1.0f);
    }
    size_t bytes = 2 * size_t(e.width);
    for (uint32_t t = 0; t < e.n; ++t) {
        const uint32_t b = e.salient[t] ? s.salient_bits : s.bits;
        bytes += 4 + (e.width * b + 7) / 8;
        float low = INFINITY, high = -INFINITY;
        for (uint32_t c = 0; c < e.width; ++c) {
            e.at(t, c) *= 1.0f / factor[c];
            low = std::min(low, e.at(t, c)), high = std::max(high, e.at(t, c));
        }
        low = e.stored(low);
        const float step = e.stored(std::max(high - low, 0.0f) / float((1u << b) - 1));
        for (uint32_t c = 0; c < e.width; ++c)
            e.at(t, c) = (code_of(e.at(t, c), low, step, b) * step + low) * factor[c];
    }
    return bytes;
}

size_t sorted_bfp(Extent& e, uint32_t group) {
    std::vector<double> power(e.width, 0.0);
    for (uint32_t t = 0; t < e.n; ++t)
        for (uint32_t c = 0; c < e.width; ++c) power[c] += double(e.at(t, c)) * double(e.at(t, c));
    std::vector<uint32_t> order(e.width);
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return power[a] > power[b]; });
    const uint32_t groups = e.width / group;
    for (uint32_t t = 0; t < e.n; ++t)
        for (uint32_t g = 0; g < groups; ++g) {
            float most = 0;
            for (uint32_t i = 0; i < group; ++i) most = std::max(most, std::fabs(e.at(t, order[g * group + i])));
            const int exponent = std::max((most > 0 ? std::max(std::ilogb(most), -126) : -126) - 2, -126);
            for (uint32_t i = 0; i < group; ++i) {
                float& x = e.at(t, order[g * group + i]);
                x = std::ldexp(float(int(std::nearbyint(std::clamp(std::ldexp(x, -exponent), -8.0f, 7.0f)))), exponent);
            }
        }
    uint32_t number_bits = 0;
    while ((1u << number_bits) < groups) ++number_bits;
    return (size_t(e.width) * number_bits + 7) / 8 + size_t(e.n) * groups * (1 + group / 2);
}

std::vector<bool> salient_tokens(const std::vector<float>& saliency, uint32_t percent) {
    std::vector<uint32_t> order(saliency.size());
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return saliency[a] > saliency[b]; });
    std::vector<bool> out(saliency.size());
    for (size_t i = 0; i < (saliency.size() * percent + 99) / 100; ++i) out[order[i]] = true;
    return out;
}

struct Case {
    Setting setting;
    larder_stream_shape shape = LARDER_STREAM_SHAPE_INIT;
    uint32_t chunk;
    std::vector<std::vector<std::byte>> planes;
    std::vector<float> saliency;

    larder_dtype type(size_t plane) const { return plane % 2 ? shape.v_dtype : shape.k_dtype; }
    uint32_t width(size_t plane) const { return shape.n_kv_heads * (plane % 2 ? shape.v_dim : shape.k_dim); }

    // What a decoder should give for the chunk of plane i from token t on, and the extent's size.
    std::vector<std::byte> expected(size_t i, uint32_t t, uint32_t n, uint32_t& extent_bytes) const {
        const uint32_t es = larder::dtype_bytes(type(i)), w = width(i);
        Extent e{n, w, std::vector<float>(size_t(n) * w), {}, type(i)};
        const auto all = salient_tokens(saliency, setting.salient_percent);
        e.salient.assign(all.begin() + t, all.begin() + t + n);
        const std::byte* from = planes[i].data() + size_t(t) * w * es;
        larder::kernels_scalar.to_f32(from, e.type, e.x.data(), e.x.size());
        size_t body = setting.salient_percent ? (n + 7) / 8 : 0;
        if (setting.group)
            body += sorted_bfp(e, setting.group);
        else
            body +=
                setting.k_by_channel && i % 2 == 0 ? separable_by_channel(e, setting) : separable_by_token(e, setting);
        const size_t raw = size_t(n) * w * es;
        extent_bytes = uint32_t(4 + std::min(body, raw));
        if (body >= raw) return {from, from + raw};
        std::vector<std::byte> out(raw);
        larder::kernels_scalar.from_f32(e.x.data(), e.type, out.data(), e.x.size());
        return out;
    }
};

Case random_case(Rng& r) {
    static const larder_dtype types[] = {LARDER_DTYPE_F16, LARDER_DTYPE_BF16, LARDER_DTYPE_F32};
    Case c;
    c.setting = settings[r.below(std::size(settings))];
    c.shape.n_layers = uint32_t(1 + r.below(2));
    c.shape.n_tokens = uint32_t(1 + r.below(90));
    c.shape.n_kv_heads = uint32_t(1 + r.below(3));
    c.shape.k_dim = c.setting.group ? 32 * uint32_t(1 + r.below(3)) : uint32_t(1 + r.below(70));
    c.shape.v_dim = r.below(5) == 0 ? 0 : c.setting.group ? 32 : uint32_t(1 + r.below(70));
    c.shape.k_dtype = types[r.below(3)];
    c.shape.v_dtype = types[r.below(3)];
    c.chunk = uint32_t(1 + r.below(100));
    const Data kind = Data(r.below(3));
    for (uint32_t i = 0; i < 2 * c.shape.n_layers; ++i) c.planes.push_back(make_plane(r, c.shape, i % 2, kind));
    const uint64_t distinct = 1 + r.below(20);
    for (uint32_t t = 0; t < c.shape.n_tokens; ++t)
        c.saliency.push_back(float(r.below(distinct)) - 3 + (r.below(2) ? 0.0f : -0.0f));
    return c;
}

void check(const Case& c, larder_context* context, Rng& r, uint32_t round) {
    larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
    o.chain = c.setting.chain;
    o.chunk_tokens = c.chunk;
    larder_codec* codec = nullptr;
    assert_int_equal(larder_codec_open(context, &o, &codec), LARDER_OK);
    Memory from(r, c.shape, c.shape.n_layers, c.shape.n_tokens, r.below(2)),
        to(r, c.shape, c.shape.n_layers, c.shape.n_tokens, r.below(2));
    for (size_t i = 0; i < c.planes.size(); ++i)
        if (!c.planes[i].empty()) from.fill(i, c.planes[i]);
    larder_stream_source source = LARDER_STREAM_SOURCE_INIT;
    source.shape = c.shape;
    source.planes = from.planes.data();
    source.saliency = c.saliency.data();
    uint64_t bound = 0, n = 0;
    assert_int_equal(larder_codec_sizes(codec, &c.shape, &bound, nullptr), LARDER_OK);
    std::vector<std::byte> bytes(bound);
    assert_int_equal(larder_stream_encode(codec, &source, bytes.data(), bound, nullptr, 0, &n), LARDER_OK);
    larder_stream_target target = LARDER_STREAM_TARGET_INIT;
    target.planes = to.planes.data();
    assert_int_equal(larder_stream_decode(context, {bytes.data(), n}, &target), LARDER_OK);
    std::vector<larder_stream_extent> extents(4096);
    uint32_t n_extents = 0, at = 0;
    assert_int_equal(larder_stream_plan_read({bytes.data(), n}, 0, 0, 0, 0, extents.data(), 4096, &n_extents),
                     LARDER_OK);
    for (size_t i = 0; i < c.planes.size(); ++i) {
        if (c.planes[i].empty()) continue;
        const auto got = to.read(i);
        const size_t row = got.size() / c.shape.n_tokens;
        for (uint32_t t = 0; t < c.shape.n_tokens; t += c.chunk, ++at) {
            const uint32_t n_tokens = std::min(c.chunk, c.shape.n_tokens - t);
            uint32_t size = 0;
            const auto want = c.expected(i, t, n_tokens, size);
            const bool same = std::equal(want.begin(), want.end(), got.begin() + std::ptrdiff_t(t * row));
            if (!same || (size + 7) / 8 * 8 != extents[at].n_bytes) {
                print_error("round %u: %s, plane %zu, tokens from %u: %s\n", round, c.setting.chain, i, t,
                            same ? "another size" : "other values");
                assert_true(false);
            }
        }
    }
    assert_int_equal(at, n_extents);
    assert_true(to.guarded());
    larder_codec_close(codec);
}

void decoded_values_are_the_naive_codec_s(void**) {
    Rng r(test_seed());
    for (uint32_t round = 0; round < test_rounds(200); ++round) {
        larder_context* context = nullptr;
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        assert_int_equal(larder_context_create(&o, &context), LARDER_OK);
        larder_context_set_u64(context, LARDER_PARAM_ISA_LEVEL, r.below(3));
        check(random_case(r), context, r, round);
        larder_context_destroy(context);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(decoded_values_are_the_naive_codec_s)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
