// Golden streams: files written by earlier versions decode to the same bits for ever, and are written the same again.
// LARDER_GOLDEN_WRITE=1 adds those that are missing; to renew one, knowingly, delete it first.
#include "support/cmocka.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "larder/larder.h"

namespace {

constexpr uint32_t layers = 2, tokens = 37, heads = 2, dim = 32, width = heads * dim;
using Planes = std::vector<std::vector<uint16_t>>;
using Bytes = std::vector<char>;

std::string folder() {
    const char* dir = std::getenv("LARDER_SOURCE_DIR");
    return std::string(dir ? dir : ".") + "/tests/golden/streams/";
}
bool renew() {
    return std::getenv("LARDER_GOLDEN_WRITE") != nullptr;
}

// Halves by integer arithmetic alone: a sum of bytes per value, scaled by channel.
Planes data() {
    Planes p(2 * layers, std::vector<uint16_t>(tokens * width));
    uint32_t x = 12345;
    for (auto& plane : p)
        for (uint32_t i = 0; i < plane.size(); ++i) {
            int32_t sum = 0;
            for (int k = 0; k < 4; ++k) x = x * 1664525u + 1013904223u, sum += int32_t(x >> 24) - 127;
            uint32_t m = uint32_t(sum < 0 ? -sum : sum) + 1, e = 15 + (i % width) % 5;
            while (m < 1024) m <<= 1, --e;
            plane[i] = uint16_t((sum < 0 ? 0x8000u : 0) | e << 10 | (m & 1023));
        }
    return p;
}

std::vector<larder_stream_plane> views(Planes& p) {
    std::vector<larder_stream_plane> v;
    for (auto& plane : p) {
        larder_stream_plane one = LARDER_STREAM_PLANE_INIT;
        one.base = plane.data();
        v.push_back(one);
    }
    return v;
}

Bytes read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return Bytes(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}
void write_file(const std::string& path, const Bytes& b) {
    std::ofstream(path, std::ios::binary).write(b.data(), std::streamsize(b.size()));
}

// Three tokens in five, scattered.
const std::vector<float>& saliency() {
    static const std::vector<float> s = [] {
        std::vector<float> v(tokens);
        for (uint32_t t = 0; t < tokens; ++t) v[t] = float(t * 7 % 11);
        return v;
    }();
    return s;
}

// Chains that a preset once stood for: their streams are read for ever too.
constexpr const char* former[][2] = {{"bfp12-unsorted", "block format=bfp group=32"}};
// What the container can do besides.
constexpr const char* further[][2] = {{"int4-levels", "int4 refine=2"},
                                      {"larder-small-levels", "larder-small refine=2 check=1"},
                                      {"lossless-checked", "lossless check=1"},
                                      {"larder-small-basis", "larder-small"}};

larder_stream_source source_of(const std::vector<larder_stream_plane>& v) {
    larder_stream_source s = LARDER_STREAM_SOURCE_INIT;
    s.shape.n_layers = layers, s.shape.n_tokens = tokens, s.shape.n_kv_heads = heads,
    s.shape.k_dim = s.shape.v_dim = dim;
    s.identity.layout.bytes[0] = 1, s.identity.content.bytes[0] = 2, s.identity.first_token = 16;
    s.planes = v.data();
    s.saliency = saliency().data();
    return s;
}

// The profile is a golden file too: calibration uses the mathematics library, coding with its result does not.
larder_profile* profile(larder_context* context, Planes& p, const char* file, uint32_t basis_heads) {
    larder_profile* out = nullptr;
    const std::string path = folder() + file;
    const Bytes b = read_file(path);
    if (!renew() || !b.empty()) {
        assert_int_equal(larder_profile_load(context, {b.data(), b.size()}, &out), LARDER_OK);
        return out;
    }
    const auto v = views(p);
    const auto s = source_of(v);
    larder_profile_options o = LARDER_PROFILE_OPTIONS_INIT;
    o.shape = s.shape;
    o.rope = LARDER_ROPE_POST;
    o.basis_heads = basis_heads;
    assert_int_equal(larder_profile_create(context, &o, &out), LARDER_OK);
    assert_int_equal(larder_profile_add(out, &s), LARDER_OK);
    assert_int_equal(larder_profile_finish(out), LARDER_OK);
    uint64_t n = 0;
    (void)larder_profile_save(out, nullptr, 0, &n);
    Bytes fresh(n);
    assert_int_equal(larder_profile_save(out, fresh.data(), n, &n), LARDER_OK);
    write_file(path, fresh);
    return out;
}

// With a basis and without.
struct Profiles {
    larder_profile* of[2];
    const larder_profile* for_chain(const std::string& name) const {
        return of[name == "cskv" || name.find("-basis") != std::string::npos];
    }
};

uint32_t decode(larder_context* context, const Bytes& stream, const Profiles& profiles) {
    Planes back(2 * layers, std::vector<uint16_t>(tokens * width, 0xffff));
    const auto v = views(back);
    larder_stream_target t = LARDER_STREAM_TARGET_INIT;
    t.planes = v.data();
    t.profiles = profiles.of;
    t.n_profiles = 2;
    assert_int_equal(larder_stream_decode(context, {stream.data(), stream.size()}, &t), LARDER_OK);
    uint32_t crc = 0;
    for (auto& plane : back) crc = larder::crc32c(crc, plane.data(), 2 * plane.size());
    return crc;
}

Bytes encode(larder_context* context, const char* chain, const larder_profile* profile, Planes& p) {
    larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
    o.chain = chain;
    o.profile = profile;
    o.chunk_tokens = 33;
    larder_codec* codec = nullptr;
    assert_int_equal(larder_codec_open(context, &o, &codec), LARDER_OK);
    const auto v = views(p);
    const auto s = source_of(v);
    uint64_t bound = 0, n = 0;
    assert_int_equal(larder_codec_sizes(codec, &s.shape, &bound, nullptr), LARDER_OK);
    Bytes out(bound);
    assert_int_equal(larder_stream_encode(codec, &s, out.data(), bound, nullptr, 0, &n), LARDER_OK);
    out.resize(n);
    larder_codec_close(codec);
    return out;
}

void golden_streams_decode_and_are_written_again(void**) {
    larder_context* context = nullptr;
    assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
    Planes p = data();
    const Profiles profiles{
        {profile(context, p, "profile.lkp", LARDER_PROFILE_NO_BASIS), profile(context, p, "profile-basis.lkp", 0)}};
    std::map<std::string, uint32_t> sums;
    {
        std::ifstream in(folder() + "decoded.tsv");
        std::string name;
        for (uint32_t crc; in >> name >> crc;) sums[name] = crc;
    }
    std::vector<std::pair<std::string, std::string>> chains;
    larder_codec_info info = LARDER_CODEC_INFO_INIT;
    for (uint32_t i = 0; !larder_codec_list(i, &info); ++i) chains.emplace_back(info.name, info.name);
    for (const auto& f : former) chains.emplace_back(f[0], f[1]);
    for (const auto& f : further) chains.emplace_back(f[0], f[1]);
    for (const auto& [name, chain] : chains) {
        const std::string path = folder() + name + ".lkv";
        const Bytes now = encode(context, chain.c_str(), profiles.for_chain(name), p);
        const Bytes then = read_file(path);
        // A name that is new is written too; what is there stays.
        if (renew() && then.empty()) {
            write_file(path, now);
            sums[name] = decode(context, now, profiles);
            continue;
        }
        if (then.empty() || !sums.count(name)) print_error("%s has no golden stream\n", name.c_str());
        assert_false(then.empty() || !sums.count(name));
        for (uint64_t isa = 0; isa < 3; ++isa) {
            larder_context_set_u64(context, LARDER_PARAM_ISA_LEVEL, isa);
            if (decode(context, then, profiles) != sums[name]) print_error("%s decodes to other bits\n", name.c_str());
            assert_int_equal(decode(context, then, profiles), sums[name]);
        }
        // zstd's bytes are its own affair.
        if (name != "zstd" && then != now) print_error("%s is written with other bytes\n", name.c_str());
        if (name != "zstd") assert_true(then == now);
    }
    if (renew()) {
        std::ofstream out(folder() + "decoded.tsv");
        for (auto& [name, crc] : sums) out << name << '\t' << crc << '\n';
    }
    for (larder_profile* one : profiles.of) larder_profile_destroy(one);
    larder_context_destroy(context);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(golden_streams_decode_and_are_written_again)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
