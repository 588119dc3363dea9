// The front door: what a request costs beside computing, and how fast tokens come back from each tier.
//
// Peers: for bookkeeping, the same prompt's keys (libsodium's BLAKE2b) in a std::unordered_map, which is what an
// engine's own prefix cache does at least; for loads, glibc's memcpy of the same tensors.
#include <sodium.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "base/numeric.h"
#include "bench/bench.h"
#include "larder/larder.h"

namespace {

constexpr uint32_t block_tokens = 16;

struct Shape {
    uint32_t n_layers, n_heads, dim;
    uint64_t token_bytes() const { return uint64_t(n_layers) * n_heads * dim * 2 * 2; }
};
constexpr Shape model_8b{32, 8, 128};  // 128 KiB per token
constexpr Shape model_small{16, 4, 64};

void must(larder_status s) {
    if (s >= 0) return;
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    larder_last_error(&e);
    std::fprintf(stderr, "%s: %s\n", larder_status_name(s), e.message);
    std::exit(1);
}

struct Rig {
    larder_context* context = nullptr;
    larder_layout* layout = nullptr;
    larder_kv* kv = nullptr;
    const Shape shape;
    std::vector<larder_kv_layer_view> layers{shape.n_layers, LARDER_KV_LAYER_VIEW_INIT};
    larder::Rng rng{7};

    Rig(Shape model, larder_kv_options o) : shape(model) {
        must(larder_context_create(nullptr, &context));
        larder_layer_group g = LARDER_LAYER_GROUP_INIT;
        g.n_layers = shape.n_layers;
        g.block_tokens = block_tokens;
        g.n_kv_heads = shape.n_heads;
        g.k_dim = g.v_dim = shape.dim;
        larder_layout_options lo = LARDER_LAYOUT_OPTIONS_INIT;
        lo.n_groups = 1;
        lo.groups = &g;
        lo.group_stride = sizeof g;
        must(larder_layout_create(context, &lo, &layout));
        must(larder_kv_open(context, layout, &o, &kv));
        for (uint32_t i = 0; i < shape.n_layers; ++i) must(larder_kv_get_layer(kv, 0, i, &layers[i]));
    }
    ~Rig() {
        larder_kv_close(kv);
        larder_layout_destroy(layout);
        must(larder_context_destroy(context));
    }
    std::vector<int32_t> prompt(uint64_t n) {
        std::vector<int32_t> t(n);
        for (int32_t& x : t) x = int32_t(rng.below(32000));
        return t;
    }
    larder_seq begin(const std::vector<int32_t>& tokens, uint64_t max = UINT64_MAX) {
        larder_kv_query q = LARDER_KV_QUERY_INIT;
        q.tokens = tokens.data();
        q.n_tokens = tokens.size();
        q.max_match_tokens = max;
        larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
        must(larder_kv_match(kv, &q, &m));
        larder_seq s = 0;
        must(larder_kv_begin(kv, m.lease, nullptr, nullptr, 0, &s, nullptr));
        return s;
    }
    // Bell-shaped fp16 values with a scale per channel, as caches have: what a codec meets.
    void fill(larder_seq seq, uint64_t n_tokens) {
        std::vector<int32_t> table(n_tokens / block_tokens + 1);
        larder_kv_view_options o = LARDER_KV_VIEW_OPTIONS_INIT;
        o.dst = table.data();
        o.dst_stride = table.size();
        must(larder_kv_view(kv, &seq, 1, &o));
        for (const larder_kv_layer_view& v : layers)
            for (uint64_t t = 0; t < n_tokens; ++t)
                for (int plane = 0; plane < 2; ++plane) {
                    auto* row = reinterpret_cast<uint16_t*>(static_cast<char*>(plane ? v.v : v.k) +
                                                            uint64_t(table[t / block_tokens]) * v.k_block_stride_bytes +
                                                            t % block_tokens * v.k_token_stride_bytes);
                    for (uint32_t d = 0; d < shape.n_heads * shape.dim; ++d) {
                        const uint64_t r = rng.next();
                        const int sum =
                            int(r & 255) + int(r >> 8 & 255) + int(r >> 16 & 255) + int(r >> 24 & 255) - 510;
                        row[d] = larder::f32_to_f16(float(sum) / 256.f * float(1 + d % 7));
                    }
                }
    }
    void serve(const std::vector<int32_t>& tokens, bool with_data) {
        const larder_seq s = begin(tokens);
        must(larder_kv_reserve(kv, s, tokens.size(), 0));
        if (with_data) fill(s, tokens.size());
        must(larder_kv_commit(kv, s, tokens.data(), tokens.size()));
        must(larder_kv_end(kv, s));
    }
};

struct KeyEqual {
    bool operator()(const larder_key& a, const larder_key& b) const { return !std::memcmp(a.bytes, b.bytes, 32); }
};
using PlainCache = std::unordered_map<larder_key, uint32_t, larder::KeyHash, KeyEqual>;

larder_key plain_key(const larder_key& parent, const int32_t* tokens) {
    unsigned char in[32 + 4 * block_tokens];
    std::memcpy(in, parent.bytes, 32);
    std::memcpy(in + 32, tokens, 4 * block_tokens);
    larder_key k;
    crypto_generichash(k.bytes, sizeof k.bytes, in, sizeof in, nullptr, 0);
    return k;
}

struct PlainIndex {
    const std::vector<int32_t>& tokens;
    PlainCache map{};
    void pass(bool insert) {
        larder_key k{};
        uint32_t hits = 0;
        for (uint64_t b = 0; b < tokens.size() / block_tokens; ++b) {
            k = plain_key(k, tokens.data() + b * block_tokens);
            if (insert)
                map[k] = uint32_t(b);
            else
                hits += uint32_t(map.count(k));
        }
        bench::keep(hits);
    }
};

using Peers = std::map<std::string, double>;

// One verb's time, for the whole request and per block of it.
void verb(bench::Run& run, const char* name, uint64_t n_blocks, double larder, double plain, const char* note) {
    const auto peers = [&](double scale) { return plain > 0 ? Peers{{"unordered_map", plain * scale}} : Peers{}; };
    run.row({.name = name,
             .metric = "time per request",
             .unit = "us",
             .larder = larder * 1e6,
             .peers = peers(1e6),
             .note = note});
    const double per_block = 1e9 / double(n_blocks);
    run.row({.name = name,
             .metric = "time per block",
             .unit = "ns",
             .larder = larder * per_block,
             .peers = peers(per_block),
             .note = ""});
}

void hit_path(bench::Run& run, Rig& r, const std::vector<int32_t>& p, PlainIndex& plain) {
    // One token more than what is there: a match leaves the last token to be computed, and would otherwise end inside
    // the last block, which begin copies.
    std::vector<int32_t> longer(p);
    longer.push_back(1);
    larder_kv_query q = LARDER_KV_QUERY_INIT;
    q.tokens = longer.data();
    q.n_tokens = longer.size();
    std::vector<double> begin, end;
    auto t = bench::interleave(run.rounds(),
                               {{"match",
                                 [&] {
                                     larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
                                     larder_seq s = 0;
                                     const double d = bench::cpu_seconds([&] { must(larder_kv_match(r.kv, &q, &m)); });
                                     begin.push_back(bench::cpu_seconds([&] {
                                         must(larder_kv_begin(r.kv, m.lease, nullptr, nullptr, 0, &s, nullptr));
                                     }));
                                     end.push_back(bench::cpu_seconds([&] { must(larder_kv_end(r.kv, s)); }));
                                     return d;
                                 }},
                                {"plain", [&] { return bench::cpu_seconds([&] { plain.pass(false); }); }}});
    const uint64_t n_blocks = p.size() / block_tokens;
    verb(run, "match", n_blocks, t["match"], t["plain"], "a prompt that is in the arena; the peer hashes and looks up");
    verb(run, "begin", n_blocks, bench::median(begin), 0, "shares the blocks found");
    verb(run, "end", n_blocks, bench::median(end), 0, "gives them back");
}

void miss_path(bench::Run& run, Rig& r, const std::vector<int32_t>& p, PlainIndex& plain) {
    const uint64_t n = p.size(), n_blocks = n / block_tokens;
    std::vector<double> reserve;
    auto t = bench::interleave(
        run.rounds(), {{"commit",
                        [&] {
                            must(larder_kv_evict(r.kv, 2 * n_blocks, nullptr) < 0 ? LARDER_E_INTERNAL : LARDER_OK);
                            const larder_seq s = r.begin(p);
                            reserve.push_back(bench::cpu_seconds([&] { must(larder_kv_reserve(r.kv, s, n, 0)); }));
                            const double d = bench::cpu_seconds([&] { must(larder_kv_commit(r.kv, s, p.data(), n)); });
                            must(larder_kv_end(r.kv, s));
                            return d;
                        }},
                       {"plain", [&] {
                            plain.map.clear();
                            return bench::cpu_seconds([&] { plain.pass(true); });
                        }}});
    verb(run, "reserve", n_blocks, bench::median(reserve), 0, "slots for a new prompt");
    verb(run, "commit", n_blocks, t["commit"], t["plain"], "sealed and published; the peer hashes and inserts");
}

void bookkeeping(bench::Run& run) {
    const uint64_t n = run.size<uint64_t>(16384, 4096), n_blocks = n / block_tokens;
    larder_kv_options o = LARDER_KV_OPTIONS_INIT;
    o.n_blocks = 2 * n_blocks + 64;
    Rig r(model_8b, o);
    const std::vector<int32_t> p = r.prompt(n);
    r.serve(p, false);
    PlainIndex plain{p};
    plain.pass(true);
    hit_path(run, r, p, plain);
    miss_path(run, r, p, plain);
    auto t = bench::interleave(run.rounds(), {{"larder", [&] {
                                                   const larder_seq s = r.begin(p, 16);
                                                   const uint64_t n_appends = n / 2;
                                                   const double d = bench::cpu_seconds([&] {
                                                       for (uint64_t i = 0; i < n_appends; ++i) {
                                                           must(larder_kv_reserve(r.kv, s, 1, 0));
                                                           must(larder_kv_commit(r.kv, s, p.data() + i, 1));
                                                       }
                                                   });
                                                   must(larder_kv_end(r.kv, s));
                                                   return d / double(n_appends);
                                               }}});
    run.row({.name = "append-token",
             .metric = "time per token",
             .unit = "ns",
             .larder = t["larder"] * 1e9,
             .peers = {},
             .note = "reserve(1) and commit(1), sealing a block each 16 tokens"});
}

void loads(bench::Run& run, const char* tier, const char* codec) {
    const uint64_t n = run.size<uint64_t>(4096, 1024), n_bytes = n * model_small.token_bytes();
    char dir[] = "/tmp/larder-bench-XXXXXX";
    larder_kv_options o = LARDER_KV_OPTIONS_INIT;
    o.n_blocks = n / block_tokens + 16;
    o.codec = codec;
    const bool file = !std::strcmp(tier, "file");
    // begin without a queue loads on the calling thread: its CPU time is steadier than wall time, except that a disk
    // has to be waited for.
    const auto clock = file ? bench::wall_seconds : bench::cpu_seconds;
    if (file) {
        if (!mkdtemp(dir)) return;
        o.directory = dir;
        o.file_bytes = 4 * n_bytes + (uint64_t(256) << 20);
    } else {
        o.host_bytes = 2 * n_bytes + (uint64_t(64) << 20);
    }
    {
        Rig r(model_small, o);
        const std::vector<int32_t> p = r.prompt(n);
        r.serve(p, true);
        must(larder_kv_flush(r.kv, nullptr, 0, nullptr));
        std::vector<char> from(n_bytes, 1), to(n_bytes, 2);
        auto t = bench::interleave(
            run.rounds(),
            {{"larder",
              [&] {
                  must(larder_kv_evict(r.kv, n, nullptr) < 0 ? LARDER_E_INTERNAL : LARDER_OK);
                  larder_seq s = 0;
                  const double d = clock([&] { s = r.begin(p); });
                  larder_kv_seq_info i = LARDER_KV_SEQ_INFO_INIT;
                  must(larder_kv_seq_get_info(r.kv, s, &i));
                  if (i.n_computed != n) std::exit(1);
                  must(larder_kv_end(r.kv, s));
                  return d;
              }},
             {"memcpy", [&] {
                  return clock([&] { std::memcpy(to.data(), from.data(), n_bytes), bench::keep(to[n_bytes / 2]); });
              }}});
        larder_kv_info i = LARDER_KV_INFO_INIT;
        must(larder_kv_get_info(r.kv, &i));
        char note[64];
        std::snprintf(note, sizeof note, "%.2f of the tensors' size below",
                      double(file ? i.file_bytes : i.host_bytes) / double(n_bytes));
        run.row({.name = std::string("load-") + tier + "-" + codec,
                 .metric = "throughput",
                 .unit = "GB/s",
                 .larder = double(n_bytes) / t["larder"] / 1e9,
                 .peers = {{"memcpy", double(n_bytes) / t["memcpy"] / 1e9}},
                 .note = note});
    }
    if (file) std::filesystem::remove_all(dir);
}

}  // namespace

BENCH_SUITE(kv, "the front door: bookkeeping per block, loads from each tier") {
    bookkeeping(run);
    loads(run, "host", "raw");
    loads(run, "host", "lossless");
    loads(run, "file", "raw");
    loads(run, "file", "lossless");
}
