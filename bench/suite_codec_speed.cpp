#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/numeric.h"
#include "bench/codec_speed.h"
#include "larder/larder.h"

namespace bench {
namespace {

using Planes = std::vector<std::vector<uint16_t>>;
constexpr uint32_t channels = 256, heads = 4;

uint32_t tokens_of(const Planes& p) {
    return uint32_t(p[0].size() / channels);
}

std::vector<larder_stream_plane> views(Planes& planes) {
    std::vector<larder_stream_plane> out(planes.size(), LARDER_STREAM_PLANE_INIT);
    for (size_t i = 0; i < planes.size(); ++i) out[i].base = planes[i].data();
    return out;
}

// One codec, one stream and what decodes it, all memory given by the caller of the library.
struct Coded {
    larder_context* context = nullptr;
    larder_codec* codec = nullptr;
    larder_stream_source source = LARDER_STREAM_SOURCE_INIT;
    std::vector<larder_stream_plane> from;
    std::vector<char> bytes, encode_scratch, decode_scratch;
    uint64_t n = 0;
    larder_stream_target target = LARDER_STREAM_TARGET_INIT;

    Coded(Planes& planes, const char* chain, larder_dtype t) : from(views(planes)) {
        larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
        o.chain = chain;
        if (larder_context_create(nullptr, &context) || larder_codec_open(context, &o, &codec)) return;
        source.shape.n_layers = uint32_t(planes.size() / 2), source.shape.n_tokens = tokens_of(planes);
        source.shape.n_kv_heads = heads, source.shape.k_dim = source.shape.v_dim = channels / heads;
        source.shape.k_dtype = source.shape.v_dtype = t;
        source.planes = from.data();
        uint64_t bound = 0, workspace = 0;
        larder_codec_sizes(codec, &source.shape, &bound, &workspace);
        bytes.resize(bound);
        encode_scratch.resize(workspace);
        encode();
        larder_stream_info info = LARDER_STREAM_INFO_INIT;
        larder_stream_inspect({bytes.data(), n}, &info);
        decode_scratch.resize(info.decode_workspace);
        target.workspace = decode_scratch.data(), target.workspace_bytes = decode_scratch.size();
    }
    ~Coded() {
        larder_codec_close(codec);
        larder_context_destroy(context);
    }
    Coded(const Coded&) = delete;
    Coded& operator=(const Coded&) = delete;
    void encode() {
        larder_stream_encode(codec, &source, bytes.data(), bytes.size(), encode_scratch.data(), encode_scratch.size(),
                             &n);
    }
    void decode(const std::vector<larder_stream_plane>& to) {
        target.planes = to.data();
        larder_stream_decode(context, {bytes.data(), n}, &target);
    }
};

// What an order-0 coder could reach: sign and mantissa bits as they are, exponents at their entropy per channel.
double bound_bits(const Planes& planes, uint32_t mantissa_bits) {
    double exponents = 0;
    for (const auto& p : planes)
        for (uint32_t c = 0; c < channels; ++c) {
            double count[256] = {}, h = 0;
            const double n = double(p.size() / channels);
            for (size_t i = c; i < p.size(); i += channels) ++count[(p[i] & 0x7fff) >> mantissa_bits];
            for (double k : count)
                if (k > 0) h -= k / n * std::log2(k / n);
            exponents += h / (channels * double(planes.size()));
        }
    return 1 + mantissa_bits + exponents;
}

// ggml's q4_0 from its definition: 32 values share a half-precision scale, the value of largest magnitude divided by
// -8; codes are 0 to 15, the first 16 values in the low halves of 16 bytes.
struct Block {
    uint16_t scale;
    uint8_t codes[16];
};

void quantize_plain(const float* x, Block* out, size_t n_blocks) {
    for (size_t b = 0; b < n_blocks; ++b, x += 32) {
        float largest = 0, value = 0;
        for (int i = 0; i < 32; ++i)
            if (std::fabs(x[i]) > largest) largest = std::fabs(x[i]), value = x[i];
        const float d = value / -8, inverse = d != 0 ? 1 / d : 0;
        out[b].scale = larder::f32_to_f16(d);
        for (int i = 0; i < 16; ++i) {
            const int low = std::min(15, int(x[i] * inverse + 8.5f)),
                      high = std::min(15, int(x[i + 16] * inverse + 8.5f));
            out[b].codes[i] = uint8_t(low | high << 4);
        }
    }
}

void dequantize_plain(const Block* in, float* x, size_t n_blocks) {
    for (size_t b = 0; b < n_blocks; ++b, x += 32) {
        const float d = larder::f16_to_f32(in[b].scale);
        for (int i = 0; i < 16; ++i) {
            x[i] = float((in[b].codes[i] & 15) - 8) * d;
            x[i + 16] = float((in[b].codes[i] >> 4) - 8) * d;
        }
    }
}

[[gnu::target("avx2,f16c")]] void quantize_avx2(const float* x, Block* out, size_t n_blocks) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    for (size_t b = 0; b < n_blocks; ++b, x += 32) {
        __m256 v[4], most = _mm256_setzero_ps();
        for (int i = 0; i < 4; ++i) {
            v[i] = _mm256_loadu_ps(x + 8 * i);
            most = _mm256_max_ps(most, _mm256_andnot_ps(sign, v[i]));
        }
        __m128 m = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
        m = _mm_max_ps(m, _mm_movehl_ps(m, m));
        m = _mm_max_ss(m, _mm_movehdup_ps(m));
        const __m256 largest = _mm256_set1_ps(_mm_cvtss_f32(m));
        uint32_t negative = 0;
        for (int i = 0; i < 4; ++i)
            negative |= uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(v[i], _mm256_xor_ps(largest, sign), _CMP_EQ_OQ)));
        const float d = _mm_cvtss_f32(m) * (negative ? 0.125f : -0.125f), inverse = d != 0 ? 1 / d : 0;
        out[b].scale = _cvtss_sh(d, _MM_FROUND_TO_NEAREST_INT);
        __m256i q[4];
        for (int i = 0; i < 4; ++i)
            q[i] = _mm256_min_epi32(
                _mm256_cvttps_epi32(_mm256_add_ps(_mm256_mul_ps(v[i], _mm256_set1_ps(inverse)), _mm256_set1_ps(8.5f))),
                _mm256_set1_epi32(15));
        const __m256i both[2] = {_mm256_or_si256(q[0], _mm256_slli_epi32(q[2], 4)),
                                 _mm256_or_si256(q[1], _mm256_slli_epi32(q[3], 4))};
        const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(both[0], both[1]), 0xd8);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out[b].codes),
                         _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    }
}

[[gnu::target("avx2,f16c")]] void dequantize_avx2(const Block* in, float* x, size_t n_blocks) {
    for (size_t b = 0; b < n_blocks; ++b, x += 32) {
        const __m256 d = _mm256_set1_ps(_cvtsh_ss(in[b].scale));
        const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[b].codes));
        const __m128i half[2] = {_mm_and_si128(packed, _mm_set1_epi8(15)),
                                 _mm_and_si128(_mm_srli_epi16(packed, 4), _mm_set1_epi8(15))};
        for (int i = 0; i < 4; ++i) {
            const __m128i eight = i % 2 ? _mm_srli_si128(half[i / 2], 8) : half[i / 2];
            const __m256i q = _mm256_sub_epi32(_mm256_cvtepu8_epi32(eight), _mm256_set1_epi32(8));
            _mm256_storeu_ps(x + 8 * i, _mm256_mul_ps(_mm256_cvtepi32_ps(q), d));
        }
    }
}

}  // namespace

void lossless_from_memory(Run& run, const Planes& planes, const char* name) {
    for (const larder_dtype t : {LARDER_DTYPE_F16, LARDER_DTYPE_BF16}) {
        Planes base = planes;
        if (t == LARDER_DTYPE_BF16)
            for (auto& p : base)
                for (uint16_t& h : p) h = larder::f32_to_bf16(larder::f16_to_f32(h));
        Planes many;
        while (many.size() < run.size<size_t>(480, 240)) many.insert(many.end(), base.begin(), base.end());
        Planes back = many;
        const auto to = views(back);
        const auto copy = [&] {
            return cpu_seconds([&] {
                for (size_t i = 0; i < many.size(); ++i)
                    std::memcpy(back[i].data(), many[i].data(), 2 * many[i].size()), keep(back[i][0]);
            });
        };
        const double values = double(many.size()) * double(many[0].size());
        const std::string label = std::string(t == LARDER_DTYPE_F16 ? "f16-" : "bf16-") + name;
        for (const char* chain : {"lossless", "raw"}) {
            Coded c(many, chain, t);
            const bool coded = chain[0] == 'l';
            if (coded)
                run.row({.name = "lossless-" + label,
                         .metric = "size over the order-0 bound",
                         .unit = "%",
                         .larder =
                             100 * (8.0 * double(c.n) / values / bound_bits(base, t == LARDER_DTYPE_F16 ? 10 : 7) - 1),
                         .peers = {},
                         .note = "exponents at their entropy per channel"});
            auto d = interleave(run.rounds(),
                                {{"larder", [&] { return cpu_seconds([&] { c.decode(to); }); }}, {"memcpy", copy}});
            run.row({.name = std::string(chain) + "-from-memory-" + label,
                     .metric = "decode",
                     .unit = "GB/s of tensor",
                     .larder = 2 * values / d["larder"] / 1e9,
                     .peers = {{"memcpy", 2 * values / d["memcpy"] / 1e9}},
                     .note = coded ? "" : "checksum and one copy: the most that any verified stream can reach"});
        }
    }
}

void four_bits(Run& run, const Planes& planes) {
    Planes in = planes, back = planes;
    Coded c(in, "int4", LARDER_DTYPE_F16);
    const auto to = views(back);
    const size_t n = planes.size() * planes[0].size();
    std::vector<float> x(n), y(n);
    for (size_t i = 0; i < n; ++i) x[i] = larder::f16_to_f32(planes[i / planes[0].size()][i % planes[0].size()]);
    std::vector<Block> blocks(n / 32);
    const auto time = [](auto f) { return [f] { return cpu_seconds(f); }; };
    auto q = interleave(
        run.rounds(), {{"larder", time([&] { c.encode(); })},
                       {"q4_0-scalar", time([&] { quantize_plain(x.data(), blocks.data(), n / 32), keep(blocks[0]); })},
                       {"q4_0-avx2", time([&] { quantize_avx2(x.data(), blocks.data(), n / 32), keep(blocks[0]); })}});
    auto d = interleave(run.rounds(),
                        {{"larder", time([&] { c.decode(to); })},
                         {"q4_0-scalar", time([&] { dequantize_plain(blocks.data(), y.data(), n / 32), keep(y[0]); })},
                         {"q4_0-avx2", time([&] { dequantize_avx2(blocks.data(), y.data(), n / 32), keep(y[0]); })}});
    const auto rate = [&](double s) { return double(n) / s / 1e9; };
    for (auto& [metric, t] : {std::pair{"quantize", &q}, {"dequantize", &d}})
        run.row({.name = "int4-group-32",
                 .metric = metric,
                 .unit = "Gvalue/s",
                 .larder = rate((*t)["larder"]),
                 .peers = {{"q4_0-scalar", rate((*t)["q4_0-scalar"])}, {"q4_0-avx2", rate((*t)["q4_0-avx2"])}},
                 .note = "whole checked streams of F16; the peers' bare loops take and give F32"});
}

void decode_into_pages(Run& run, const Planes& planes) {
    Planes in;
    while (in.size() < run.size<size_t>(480, 240)) in.insert(in.end(), planes.begin(), planes.end());
    Planes whole = in;
    constexpr uint32_t page_tokens = 16;
    const size_t row = 2 * channels, page_bytes = page_tokens * row, n_pages = tokens_of(in) / page_tokens;
    std::vector<std::vector<char>> arena(in.size(), std::vector<char>(page_bytes * n_pages));
    std::vector<std::vector<void*>> pages(in.size());
    std::vector<larder_stream_plane> paged(in.size(), LARDER_STREAM_PLANE_INIT);
    for (size_t i = 0; i < in.size(); ++i) {
        for (size_t p = 0; p < n_pages; ++p) pages[i].push_back(arena[i].data() + (p * 37 + i) % n_pages * page_bytes);
        paged[i].pages = pages[i].data();
        paged[i].page_tokens = page_tokens;
    }
    const auto contiguous = views(whole);
    for (const char* chain : {"lossless", "int4", "raw"}) {
        Coded c(in, chain, LARDER_DTYPE_F16);
        auto t = interleave(
            run.rounds(), {{"larder", [&] { return cpu_seconds([&] { c.decode(paged); }); }},
                           {"decode then copy", [&] {
                                return cpu_seconds([&] {
                                    c.decode(contiguous);
                                    for (size_t i = 0; i < in.size(); ++i)
                                        for (size_t p = 0; p < n_pages; ++p)
                                            std::memcpy(pages[i][p], whole[i].data() + p * page_bytes / 2, page_bytes);
                                });
                            }}});
        const double bytes = double(in.size() * in[0].size() * 2);
        run.row({.name = std::string("into-pages-") + chain,
                 .metric = "decode",
                 .unit = "GB/s of F16",
                 .larder = bytes / t["larder"] / 1e9,
                 .peers = {{"decode then copy", bytes / t["decode then copy"] / 1e9}},
                 .note = "pages of 16 tokens, scattered"});
    }
}

}  // namespace bench
