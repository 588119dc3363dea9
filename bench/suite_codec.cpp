// Entropy coding beside htscodecs and zstd (huff0 through a frame of literals alone: libzstd does not export its
// coders); presets beside memcpy, in bytes of the tensors and bits per value.
#define ZSTD_STATIC_LINKING_ONLY  // ZSTD_compressSequences
#include <zstd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/numeric.h"
#include "bench/bench.h"
#include "bench/codec_loader.h"
#include "bench/codec_speed.h"
#include "codec/kernels.h"
#include "larder/larder.h"

#if LARDER_BENCH_HTSCODECS
#include <htscodecs/rANS_static4x16.h>
#endif

namespace {

using larder::Rng;
using Candidates = std::vector<std::pair<std::string, std::function<double()>>>;

// Quantized Laplacian symbols 0 .. levels - 1.
std::vector<uint8_t> laplacian(size_t n, int levels, double scale) {
    Rng r(7);
    std::vector<uint8_t> out(n);
    for (auto& s : out) {
        const double u = r.unit() - 0.5, x = -scale * (u < 0 ? -1 : 1) * std::log(1 - 2 * std::fabs(u) + 1e-300);
        const int q = levels % 2 ? int(std::lrint(x)) + levels / 2 : int(std::floor(x)) + levels / 2;
        s = uint8_t(std::clamp(q, 0, levels - 1));
    }
    return out;
}

double entropy(const std::vector<uint8_t>& s) {
    double h = 0, count[256] = {};
    for (uint8_t v : s) ++count[v];
    for (double c : count)
        if (c > 0) h -= c / double(s.size()) * std::log2(c / double(s.size()));
    return h;
}

constexpr size_t chunk = 262144;

struct Coded {
    larder::RansTable table;
    std::vector<std::vector<uint16_t>> words;  // of each chunk
    std::vector<std::vector<uint32_t>> states;
    size_t n_words = 0;
};

larder::RansJob job_of(const larder::RansTable& t, uint8_t* symbols) {
    static const uint8_t id = 0;
    larder::RansJob j{};
    j.tables = &t, j.ids = &id, j.period = 1, j.n_full_rows = chunk / larder::rans_lanes, j.symbols = symbols;
    return j;
}

void encode_all(const larder::Kernels& k, std::vector<uint8_t>& s, Coded& c, std::vector<uint16_t>& buffer, bool keep) {
    c.n_words = 0;
    for (size_t at = 0; at < s.size(); at += chunk) {
        larder::RansJob j = job_of(c.table, s.data() + at);
        std::fill_n(j.state, larder::rans_lanes, larder::rans_floor);
        const size_t n = k.rans_encode(j, buffer.data() + buffer.size());
        c.n_words += n;
        if (!keep) continue;
        c.words.emplace_back(buffer.end() - ptrdiff_t(n), buffer.end());
        c.states.emplace_back(j.state, j.state + larder::rans_lanes);
    }
}

void decode_all(const larder::Kernels& k, const Coded& c, std::vector<uint8_t>& out) {
    for (size_t i = 0; i < c.words.size(); i += larder::rans_ways) {
        larder::RansJob jobs[larder::rans_ways];
        larder::RansJob* list[larder::rans_ways];
        uint32_t n = 0;
        for (; n < larder::rans_ways && i + n < c.words.size(); ++n) {
            jobs[n] = job_of(c.table, out.data() + (i + n) * chunk);
            jobs[n].words = reinterpret_cast<const std::byte*>(c.words[i + n].data());
            jobs[n].n_words = c.words[i + n].size();
            std::copy(c.states[i + n].begin(), c.states[i + n].end(), jobs[n].state);
            list[n] = &jobs[n];
        }
        k.rans_decode(list, n);
    }
}

void bench_entropy(bench::Run& run, int levels, double scale) {
    const size_t n = run.size<size_t>(size_t(32) << 20, size_t(8) << 20);
    auto symbols = laplacian(n, levels, scale);
    uint32_t counts[16] = {};
    for (uint8_t s : symbols) ++counts[s];
    larder::TableSpec spec;
    larder::fit_closed_table(counts, uint32_t(levels), 0, spec);
    Coded coded;
    coded.table.expand(spec);
    std::vector<uint8_t> classes(n), out(n);
    for (size_t i = 0; i < n; ++i) classes[i] = uint8_t(std::clamp<int>(symbols[i] - spec.base, 0, spec.n));
    std::vector<uint16_t> buffer(chunk + 64);
    encode_all(larder::kernels(larder::IsaLevel::avx512), classes, coded, buffer, true);
    const double h = entropy(classes), bits = 16.0 * double(coded.n_words) / double(n);
    const double with_states = bits + 8.0 * larder::rans_state_bytes / chunk;
    const std::string label = std::to_string(levels) + "-levels";
    run.row({.name = "rans-" + label,
             .metric = "payload over entropy",
             .unit = "%",
             .larder = 100 * (bits / h - 1),
             .peers = {},
             .note = ""});
    run.row({.name = "rans-" + label,
             .metric = "with lane states over entropy",
             .unit = "%",
             .larder = 100 * (with_states / h - 1),
             .peers = {},
             .note = ""});
    Candidates decoders, encoders;
    for (auto [name, isa] : {std::pair{"larder", larder::IsaLevel::avx512},
                             {"larder-avx2", larder::IsaLevel::avx2},
                             {"larder-scalar", larder::IsaLevel::scalar}}) {
        const larder::Kernels& k = larder::kernels(isa);
        decoders.push_back(
            {name, [&k, &coded, &out] { return bench::cpu_seconds([&] { decode_all(k, coded, out); }); }});
        encoders.push_back({name, [&k, &coded, &classes, &buffer] {
                                return bench::cpu_seconds([&] { encode_all(k, classes, coded, buffer, false); });
                            }});
    }
#if LARDER_BENCH_HTSCODECS
    std::vector<unsigned char> packed(rans_compress_bound_4x16(chunk, RANS_ORDER_X32) * (n / chunk)), back(n);
    std::vector<unsigned> sizes(n / chunk);
    const size_t stride = packed.size() / (n / chunk);
    const auto hts_encode = [&] {
        for (size_t i = 0; i < n / chunk; ++i) {
            sizes[i] = unsigned(stride);
            rans_compress_to_4x16(classes.data() + i * chunk, chunk, packed.data() + i * stride, &sizes[i],
                                  RANS_ORDER_X32);
        }
    };
    hts_encode();
    encoders.push_back({"htscodecs", [&] { return bench::cpu_seconds(hts_encode); }});
    decoders.push_back({"htscodecs", [&] {
                            return bench::cpu_seconds([&] {
                                for (size_t i = 0; i < n / chunk; ++i) {
                                    unsigned got = chunk;
                                    rans_uncompress_to_4x16(packed.data() + i * stride, sizes[i],
                                                            back.data() + i * chunk, &got);
                                }
                            });
                        }});
#else
    run.absent("htscodecs", "libhtscodecs-dev is not installed");
#endif
    std::vector<char> z(ZSTD_compressBound(n));
    const size_t z_bytes = ZSTD_compress(z.data(), z.size(), classes.data(), n, 1);
    decoders.push_back(
        {"zstd-1", [&] { return bench::cpu_seconds([&] { ZSTD_decompress(out.data(), n, z.data(), z_bytes); }); }});
    // The entropy coder of zstd by itself: frames whose blocks are literals only, so Huffman-coded and nothing else.
    std::vector<char> huff(ZSTD_compressBound(n));
    constexpr size_t block = 131072;
    std::vector<ZSTD_Sequence> literals(n / block, ZSTD_Sequence{0, block, 0, 0});
    ZSTD_CCtx* const zc = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(zc, ZSTD_c_blockDelimiters, ZSTD_sf_explicitBlockDelimiters);
    const auto huff0 = [&] {
        return ZSTD_compressSequences(zc, huff.data(), huff.size(), literals.data(), literals.size(), classes.data(),
                                      n);
    };
    const size_t huff_bytes = huff0();
    if (ZSTD_isError(huff_bytes)) {
        run.absent("huff0", ZSTD_getErrorName(huff_bytes));
    } else {
        encoders.push_back({"huff0", [&] { return bench::cpu_seconds([&] { huff0(); }); }});
        decoders.push_back(
            {"huff0",
             [&] { return bench::cpu_seconds([&] { ZSTD_decompress(out.data(), n, huff.data(), huff_bytes); }); }});
    }
    std::vector<uint8_t> copy(n);
    decoders.push_back({"memcpy", [&] {
                            return bench::cpu_seconds(
                                [&] { std::memcpy(copy.data(), classes.data(), n), bench::keep(copy[1]); });
                        }});
    const auto report = [&](const char* what, std::map<std::string, double> t) {
        bench::Row row{.name = "rans-" + label, .metric = what, .unit = "Gsymbol/s"};
        for (auto& [who, s] : t) (who == "larder" ? row.larder : row.peers[who]) = double(n) / s / 1e9;
        run.row(row);
    };
    report("decode", bench::interleave(run.rounds(), decoders));
    report("encode", bench::interleave(run.rounds(), encoders));
    ZSTD_freeCCtx(zc);
}

struct Tensors {
    larder_stream_shape shape = LARDER_STREAM_SHAPE_INIT;
    std::vector<std::vector<uint16_t>> planes;
    std::string name;
    uint64_t values() const {
        return uint64_t(shape.n_layers) * shape.n_tokens * shape.n_kv_heads * (shape.k_dim + shape.v_dim);
    }
};

// A real cache where the reference dumps are at hand, otherwise one made up with channel means and spreads.
Tensors load_tensors(bench::Run& run) {
    Tensors t;
    t.shape.n_layers = 6, t.shape.n_tokens = 1024, t.shape.n_kv_heads = 4, t.shape.k_dim = t.shape.v_dim = 64;
    const size_t plane = size_t(t.shape.n_tokens) * 256;
    t.planes.assign(12, std::vector<uint16_t>(plane));
    const char* dir = std::getenv("LARDER_SHARED_DIR");
    if (dir) {
        std::ifstream k(std::string(dir) + "/data/kv/dense5m.heldout0.k.f16", std::ios::binary),
            v(std::string(dir) + "/data/kv/dense5m.heldout0.v.f16", std::ios::binary);
        for (size_t i = 0; i < 12; ++i)
            (i % 2 ? v : k).read(reinterpret_cast<char*>(t.planes[i].data()), std::streamsize(2 * plane));
        if (k && v) return t.name = "dense5m", t;
    }
    run.absent("real caches", "LARDER_SHARED_DIR does not name the reference dumps; tensors are made up");
    Rng r(3);
    const auto gauss = [&] { return std::sqrt(-2 * std::log(r.unit() + 1e-12)) * std::cos(6.283185307 * r.unit()); };
    for (size_t i = 0; i < 12; ++i) {
        double mean[256], spread[256];
        for (int c = 0; c < 256; ++c) mean[c] = i % 2 ? 0 : 1.5 * gauss(), spread[c] = std::exp(0.5 * gauss());
        for (size_t j = 0; j < plane; ++j)
            t.planes[i][j] = larder::f32_to_f16(float(mean[j % 256] + spread[j % 256] * gauss()));
    }
    t.name = "made-up";
    return t;
}

std::vector<larder_stream_plane> views(std::vector<std::vector<uint16_t>>& planes) {
    std::vector<larder_stream_plane> v;
    for (auto& p : planes) {
        larder_stream_plane plane = LARDER_STREAM_PLANE_INIT;
        plane.base = p.data();
        v.push_back(plane);
    }
    return v;
}

larder_profile* calibrate(larder_context* context, Tensors& t) {
    larder_profile_options o = LARDER_PROFILE_OPTIONS_INIT;
    o.shape = t.shape;
    o.rope = LARDER_ROPE_POST;
    o.rope_interleaved = 1;
    larder_profile* p = nullptr;
    if (larder_profile_create(context, &o, &p)) return nullptr;
    larder_stream_source s = LARDER_STREAM_SOURCE_INIT;
    s.shape = t.shape;
    const auto planes = views(t.planes);
    s.planes = planes.data();
    larder_profile_add(p, &s);
    larder_profile_finish(p);
    return p;
}

void bench_preset(bench::Run& run, larder_context* context, Tensors& t, const char* chain,
                  const larder_profile* profile) {
    larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
    o.chain = chain;
    o.profile = profile;
    larder_codec* codec = nullptr;
    if (larder_codec_open(context, &o, &codec)) return;
    larder_stream_source s = LARDER_STREAM_SOURCE_INIT;
    s.shape = t.shape;
    const auto planes = views(t.planes);
    s.planes = planes.data();
    std::vector<float> saliency(t.shape.n_tokens);
    for (uint32_t i = 0; i < t.shape.n_tokens; ++i)
        saliency[i] = float(i * 7919u % 1009u);  // which tokens makes no difference to size or speed
    s.saliency = saliency.data();
    uint64_t bound = 0, workspace = 0, n = 0;
    larder_codec_sizes(codec, &t.shape, &bound, &workspace);
    std::vector<char> out(bound), scratch(workspace);
    larder_stream_encode(codec, &s, out.data(), bound, scratch.data(), workspace, &n);
    auto back = t.planes;
    const auto to = views(back);
    larder_stream_target target = LARDER_STREAM_TARGET_INIT;
    target.planes = to.data();
    target.profiles = &profile;
    target.n_profiles = profile ? 1 : 0;
    larder_stream_info info = LARDER_STREAM_INFO_INIT;
    larder_stream_inspect({out.data(), n}, &info);
    std::vector<char> decode_scratch(info.decode_workspace);
    target.workspace = decode_scratch.data();
    target.workspace_bytes = decode_scratch.size();
    const double bytes = 2.0 * double(t.values());
    const auto copy = [&] {
        return bench::cpu_seconds([&] {
            for (size_t i = 0; i < t.planes.size(); ++i)
                std::memcpy(back[i].data(), t.planes[i].data(), 2 * t.planes[i].size()), bench::keep(back[i][0]);
        });
    };
    const std::string name = std::string(chain).substr(0, std::string(chain).find(' ')) + "-" + t.name;
    run.row({.name = name,
             .metric = "size",
             .unit = "bits/value",
             .larder = 8.0 * double(n) / double(t.values()),
             .peers = {},
             .note = chain});
    auto e = bench::interleave(run.rounds(), {{"larder",
                                               [&] {
                                                   return bench::cpu_seconds([&] {
                                                       larder_stream_encode(codec, &s, out.data(), bound,
                                                                            scratch.data(), workspace, &n);
                                                   });
                                               }},
                                              {"memcpy", copy}});
    run.row({.name = name,
             .metric = "encode",
             .unit = "GB/s of F16",
             .larder = bytes / e["larder"] / 1e9,
             .peers = {{"memcpy", bytes / e["memcpy"] / 1e9}},
             .note = ""});
    auto d = bench::interleave(
        run.rounds(), {{"larder",
                        [&] {
                            return bench::cpu_seconds([&] { larder_stream_decode(context, {out.data(), n}, &target); });
                        }},
                       {"memcpy", copy}});
    run.row({.name = name,
             .metric = "decode",
             .unit = "GB/s of F16",
             .larder = bytes / d["larder"] / 1e9,
             .peers = {{"memcpy", bytes / d["memcpy"] / 1e9}},
             .note = ""});
    larder_codec_close(codec);
}

}  // namespace

BENCH_SUITE(codec, "entropy coding and stream presets") {
    bench_entropy(run, 4, 0.75);
    bench_entropy(run, 8, 0.95);
    bench_entropy(run, 15, 1.5);
    larder_context* context = nullptr;
    if (larder_context_create(nullptr, &context)) return;
    Tensors t = load_tensors(run);
    larder_profile* profile = calibrate(context, t);
    for (uint32_t i = 0;; ++i) {
        larder_codec_info info = LARDER_CODEC_INFO_INIT;
        if (larder_codec_list(i, &info)) break;
        bench_preset(run, context, t, info.name, info.needs & LARDER_CODEC_NEEDS_PROFILE ? profile : nullptr);
    }
    larder_profile_destroy(profile);
    loader_bench::run_all(run, context);
    larder_context_destroy(context);
    bench::lossless_from_memory(run, t.planes, t.name.c_str());
    bench::four_bits(run, t.planes);
    bench::decode_into_pages(run, t.planes);
}
