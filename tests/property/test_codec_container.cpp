// The container of streams: levels, generations, what is left of a stream that was cut, and rewriting without decoding.
#include "support/stream_box.h"

#include <set>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "support/reseal.h"
#include "support/seed.h"

using namespace stream_test;
using larder::Rng;

// Says which case it was, then fails the test.
#define FAIL(...) (print_error(__VA_ARGS__), print_error("\n"), assert_true(false))

namespace {

// Chains that can be refined.
constexpr const char* refinable[] = {"int8",
                                     "int4",
                                     "kivi2",
                                     "kivi4",
                                     "kivi2 entropy=rans",
                                     "cachegen-1",
                                     "cachegen-3",
                                     "affine bits=3 group=0 entropy=rans",
                                     "larder-fast",
                                     "larder-small",
                                     "larder-small tail=8"};
constexpr larder_dtype dtypes[] = {LARDER_DTYPE_F16, LARDER_DTYPE_BF16, LARDER_DTYPE_F32};

std::string with(const char* chain, const char* setting, uint32_t n) {
    return std::string(chain) + " " + setting + "=" + std::to_string(n);
}

larder_span span(const Bytes& b) {
    return {b.data(), b.size()};
}

Bytes truncated(const Bytes& stream, uint32_t n_levels) {
    uint64_t n = 0;
    const larder_status asked = larder_stream_truncate(span(stream), n_levels, nullptr, 0, &n);
    assert_int_equal(asked, LARDER_E_BUFFER_TOO_SMALL);
    Bytes out(n);
    assert_int_equal(larder_stream_truncate(span(stream), n_levels, out.data(), n, &n), LARDER_OK);
    assert_int_equal(n, out.size());
    return out;
}

// The base is the plain chain to the last bit, each level halves the error, and a stream cut down to a level is the
// stream that encoding with that many levels gives.
void levels_nest(void**) {
    Rng r(test_seed());
    for (uint32_t round = 0; round < test_rounds(30); ++round) {
        Box box(r, small_shape(uint32_t(32 + r.below(70)), dtypes[r.below(3)]));
        const char* chain = refinable[r.below(std::size(refinable))];
        const uint32_t n = box.shape.n_tokens, chunk = uint32_t(8 + r.below(90)), refine = uint32_t(1 + r.below(4));
        larder_context_set_u64(box.context, LARDER_PARAM_ISA_LEVEL, r.below(3));
        const Bytes plain = box.encode(chain, chunk, 0, n),
                    fine = box.encode(with(chain, "refine", refine), chunk, 0, n);
        const auto base = box.decode(plain);
        assert_int_equal(base.status, LARDER_OK);
        double before = 1e30;
        for (uint32_t levels = 1; levels <= refine + 1; ++levels) {
            const auto d = box.decode(fine, 0, 0, levels);
            assert_int_equal(d.status, LARDER_OK);
            assert_int_equal(d.n_levels, levels);
            if (levels == 1 && d.planes != base.planes) FAIL("round %u: the base of %s differs", round, chain);
            const double rms = box.rms(d.planes);
            // 8-bit codes soon meet the roundings of the 16-bit elements and scales; an exact tail may be everything.
            if (!(rms < before * (std::string(chain) == "int8" ? 1.01 : 0.8) || rms == 0))
                FAIL("seed %llu round %u %s level %u: error %g after %g", (unsigned long long)test_seed(), round, chain,
                     levels - 1, rms, before);
            before = rms;
            const Bytes cut = truncated(fine, levels);
            if (cut != (levels == 1 ? plain : box.encode(with(chain, "refine", levels - 1), chunk, 0, n)))
                FAIL("round %u: %s cut down to %u levels is not what encoding gives", round, chain, levels);
            larder_stream_level l = LARDER_STREAM_LEVEL_INIT;
            assert_int_equal(larder_stream_describe_level(span(fine), levels - 1, &l), LARDER_OK);
            assert_int_equal(l.n_bytes, cut.size());
            assert_true(l.max_error_in_cells == 0.5 / (1 << (levels - 1)));
        }
        larder_stream_level l = LARDER_STREAM_LEVEL_INIT;
        assert_int_equal(larder_stream_describe_level(span(fine), refine + 1, &l), LARDER_E_NOT_FOUND);
        assert_true(truncated(fine, 5) == fine);
    }
}

// Without roundings in the way the bound of every level can be seen: whole numbers as F32, scales of whole powers of
// two.
void a_level_is_within_its_bound(void**) {
    Rng r(test_seed() + 1);
    Box box(r, small_shape(64, LARDER_DTYPE_F32));
    for (auto& plane : box.truth)
        for (size_t i = 0; i < plane.size(); i += 4) {
            const size_t c = i / 4 % 32;  // 0 and 15 * 64 in every group: the scale of a 4-bit code is 64
            const float x = c == 0 ? 0.0f : c == 1 ? 960.0f : float(r.below(961));
            std::memcpy(plane.data() + i, &x, 4);
        }
    const Bytes stream = box.encode("int4 refine=4", 20, 0, 64);
    for (uint32_t levels = 1; levels <= 5; ++levels) {
        const auto d = box.decode(stream, 0, 0, levels);
        assert_int_equal(d.status, LARDER_OK);
        double worst = 0;
        for (size_t p = 0; p < d.planes.size(); ++p)
            for (size_t i = 0; i < d.planes[p].size(); i += 4)
                worst = std::max(worst, std::fabs(double(kv_test::element(d.planes[p].data() + i, LARDER_DTYPE_F32)) -
                                                  kv_test::element(box.truth[p].data() + i, LARDER_DTYPE_F32)));
        assert_true(worst <= 32.0 / (1 << (levels - 1)));
        assert_true(worst > 0.8 * 32.0 / (1 << (levels - 1)));
    }
}

// Several generations are one stream: any tokens, any levels, planned and decoded as from their parts.
void generations_continue_each_other(void**) {
    Rng r(test_seed() + 2);
    const char* chains[] = {"lossless", "int4 refine=2", "larder-small refine=1", "kivi2 check=1", "zstd", "bfp12"};
    for (uint32_t round = 0; round < test_rounds(25); ++round) {
        Box box(r, small_shape(uint32_t(40 + r.below(60))));
        const uint32_t n = box.shape.n_tokens;
        Bytes stream;
        Planes want(box.truth.size());
        for (uint32_t first = 0, k = 0; first < n; ++k) {
            const uint32_t part = k == 3 ? n - first : uint32_t(1 + r.below(n - first));
            const std::string chain = chains[r.below(std::size(chains))];
            const uint32_t chunk = uint32_t(1 + r.below(40));
            const bool embed = r.below(2);
            const Bytes alone = box.encode(chain, chunk, first, part, nullptr, embed);
            stream = joined(stream, box.encode(chain, chunk, first, part, k ? &stream : nullptr, embed));
            const auto d = box.decode(alone, 0, part);
            assert_int_equal(d.status, LARDER_OK);
            for (size_t i = 0; i < want.size(); ++i)
                want[i].insert(want[i].end(), d.planes[i].begin(), d.planes[i].end());
            first += part;
        }
        larder_stream_info info = LARDER_STREAM_INFO_INIT;
        assert_int_equal(larder_stream_inspect(span(stream), &info), LARDER_OK);
        assert_int_equal(info.shape.n_tokens, n);
        assert_int_equal(info.n_bytes, stream.size());
        assert_int_equal(info.identity.content.bytes[0], uint8_t(n));
        assert_int_equal(larder_stream_verify(span(stream), nullptr, &info.identity.content), LARDER_OK);
        assert_true(box.decode(stream).planes == want);
        for (int k = 0; k < 6; ++k) {
            const uint32_t t0 = uint32_t(r.below(n)), nt = uint32_t(1 + r.below(n - t0));
            const auto some = box.decode(stream, t0, nt);
            assert_int_equal(some.status, LARDER_OK);
            for (size_t i = 0; i < want.size(); ++i)
                assert_memory_equal(some.planes[i].data(), want[i].data() + t0 * row_bytes(box.shape, i),
                                    some.planes[i].size());
        }
        const Bytes base = truncated(stream, 1);
        assert_int_equal(larder_stream_verify(span(base), nullptr, nullptr), LARDER_OK);
        assert_true(box.decode(base).planes == box.decode(stream, 0, 0, 1).planes);
    }
}

// Only the ranges of the plan are needed: everything else of the payload may be anything.
void planned_ranges_are_enough(void**) {
    Rng r(test_seed() + 3);
    for (uint32_t round = 0; round < test_rounds(30); ++round) {
        Box box(r, small_shape(96));
        Bytes stream = box.encode("int4 refine=3", 16, 0, 60);
        stream = joined(stream, box.encode("larder-small refine=3", 16, 60, 36, &stream));
        larder_stream_selection s = LARDER_STREAM_SELECTION_INIT;
        s.first_layer = uint32_t(r.below(2)), s.n_layers = uint32_t(1 + r.below(2 - s.first_layer));
        s.first_token = uint32_t(r.below(96)), s.n_tokens = uint32_t(1 + r.below(96 - s.first_token));
        s.n_levels = uint32_t(1 + r.below(4));
        s.max_gap = r.below(2) ? 0 : r.below(300);
        larder_stream_range ranges[400];
        uint32_t n = 0;
        assert_int_equal(larder_stream_plan_ranges(span(stream), &s, ranges, 400, &n), LARDER_OK);
        uint32_t same = 0;
        assert_int_equal(larder_stream_plan_ranges(span(stream), &s, nullptr, 0, &same), LARDER_E_BUFFER_TOO_SMALL);
        assert_int_equal(same, n);
        Bytes sparse = stream;
        std::vector<larder_stream_extent> extents(2000);
        uint32_t n_extents = 0;
        assert_int_equal(larder_stream_plan_read(span(stream), 0, 0, 0, 0, extents.data(), 2000, &n_extents),
                         LARDER_OK);
        for (uint32_t i = 0; i < n_extents; ++i)
            std::memset(sparse.data() + extents[i].offset, 0xcc, extents[i].n_bytes);
        uint64_t end = 0, sum = 0;
        for (uint32_t i = 0; i < n; ++i) {
            assert_true(ranges[i].n_bytes > 0 && (i == 0 || ranges[i].offset > end + s.max_gap));
            end = ranges[i].offset + ranges[i].n_bytes;
            sum += ranges[i].n_bytes;
            std::memcpy(sparse.data() + ranges[i].offset, stream.data() + ranges[i].offset, ranges[i].n_bytes);
        }
        auto decode = [&](const Bytes& b) {
            Planes out(2 * s.n_layers, Bytes(row_bytes(box.shape, 0) * s.n_tokens));
            const auto v = views(out);
            larder_stream_target t = LARDER_STREAM_TARGET_INIT;
            t.first_layer = s.first_layer, t.n_layers = s.n_layers, t.first_token = s.first_token;
            t.n_tokens = s.n_tokens, t.n_levels = s.n_levels, t.planes = v.data();
            const larder_profile* known[] = {box.profile};
            t.profiles = known, t.n_profiles = 1;
            assert_int_equal(larder_stream_decode(box.context, span(b), &t), LARDER_OK);
            return out;
        };
        assert_true(decode(sparse) == decode(stream));
        // Ranges hold the selection's extents and, without gaps, nothing else.
        uint64_t needed = 0;
        std::vector<larder_stream_extent> chosen(2000);
        uint32_t n_chosen = 0;
        assert_int_equal(larder_stream_plan_read(span(stream), s.first_layer, s.n_layers, s.first_token, s.n_tokens,
                                                 chosen.data(), 2000, &n_chosen),
                         LARDER_OK);
        for (uint32_t i = 0; i < n_chosen; ++i) needed += chosen[i].level < s.n_levels ? chosen[i].n_bytes : 0;
        assert_true(s.max_gap ? sum >= needed : sum == needed);
    }
}

// What a stream that was cut, or damaged, may give: an error, or with the flag verified data and PARTIAL.
// The level from `lowest` on whose bytes from .. to - 1 these are; 9: none.
uint32_t level_of(const Planes& got, const Planes* level, uint32_t lowest, uint64_t from, uint64_t to) {
    for (uint32_t l = lowest; l < 3; ++l) {
        bool same = true;
        for (size_t i = 0; i < got.size(); ++i)
            same = same && !std::memcmp(got[i].data() + from, level[l][i].data() + from, to - from);
        if (same) return l;
    }
    return 9;
}

void check_remains(Box& box, const Bytes& damaged, const Planes* level, uint32_t first_tokens, const char* what,
                   size_t where) {
    const auto d = box.decode(damaged, 0, 0, 0, LARDER_STREAM_ALLOW_PARTIAL);
    if (d.status < 0) {
        const std::set<larder_status> stored = {LARDER_E_TRUNCATED, LARDER_E_CORRUPT, LARDER_E_FORMAT,
                                                LARDER_E_VERSION};
        if (!stored.count(d.status)) FAIL("%s at %zu: status %d", what, where, d.status);
        return;
    }
    if (d.status != LARDER_PARTIAL) FAIL("%s at %zu: status %d with the flag", what, where, d.status);
    const uint64_t all = d.planes[0].size(), some = row_bytes(box.shape, 0) * first_tokens;
    const uint32_t lowest = d.n_levels - 1, first = level_of(d.planes, level, lowest, 0, some),
                   second = level_of(d.planes, level, lowest, some, all);
    bool untouched = true;
    for (const auto& p : d.planes)
        for (uint64_t i = some; i < all; ++i) untouched = untouched && p[i] == std::byte{0xa5};
    if (first == 9 || (second == 9 && !untouched)) FAIL("%s at %zu: wrong data at %u levels", what, where, d.n_levels);
    if (std::min(first, untouched ? first : second) != lowest)
        FAIL("%s at %zu: not %u levels", what, where, d.n_levels);
}

struct Victim {
    Box box;
    Bytes stream;
    Planes level[3];
    static constexpr uint32_t first_tokens = 33;
    Victim(Rng& r)
        : box(r, [] {
              larder_stream_shape s = small_shape(40);
              s.n_layers = 1, s.n_kv_heads = 1, s.k_dim = s.v_dim = 16;
              return s;
          }()) {
        stream = box.encode("affine bits=2 group=16 refine=2 check=1", 16, 0, first_tokens);
        stream = joined(stream, box.encode("cachegen-1 refine=2", 16, first_tokens, 7, &stream));
        for (uint32_t l = 0; l < 3; ++l) {
            const auto d = box.decode(stream, 0, 0, l + 1);
            assert_int_equal(d.status, LARDER_OK);
            level[l] = d.planes;
        }
    }
};

void every_cut_is_an_error_or_partial(void**) {
    Rng r(test_seed() + 4);
    Victim v(r);
    uint32_t seen_levels = 0;
    const uint64_t first_bytes = larder::load_le<uint64_t>(v.stream.data() + 8);
    for (size_t n = 0; n < v.stream.size(); ++n) {
        const Bytes cut(v.stream.begin(), v.stream.begin() + long(n));
        const auto strict = v.box.decode(cut);
        // A stream without what was appended to it is a stream.
        if (n == first_bytes) {
            assert_int_equal(strict.status, LARDER_OK);
            continue;
        }
        assert_int_equal(strict.status, LARDER_E_TRUNCATED);
        assert_int_equal(larder_stream_verify(span(cut), nullptr, nullptr), LARDER_E_TRUNCATED);
        const auto d = v.box.decode(cut, 0, 0, 0, LARDER_STREAM_ALLOW_PARTIAL);
        if (d.status == LARDER_PARTIAL) seen_levels |= 1u << d.n_levels;
        check_remains(v.box, cut, v.level, Victim::first_tokens, "cut", n);
    }
    assert_int_equal(seen_levels, 2 | 4 | 8);
}

void every_flip_is_an_error_or_partial(void**) {
    Rng r(test_seed() + 5);
    Victim v(r);
    for (size_t bit = 0; bit < 8 * v.stream.size(); ++bit) {
        Bytes flipped = v.stream;
        flipped[bit / 8] ^= std::byte(uint8_t(1u << bit % 8));
        if (larder_stream_verify(span(flipped), nullptr, nullptr) >= 0) FAIL("bit %zu goes unseen by verify", bit);
        if (v.box.decode(flipped).status >= 0) FAIL("bit %zu goes unseen by decode", bit);
        if (bit % 8 == bit / 8 % 8) check_remains(v.box, flipped, v.level, Victim::first_tokens, "bit", bit);
    }
}

// The checksum over decoded codes sees what the checksum over stored bytes was made to hide.
void changed_codes_are_seen(void**) {
    Rng r(test_seed() + 6);
    for (const char* chain : {"int4", "larder-small", "lossless"}) {
        Box box(r, small_shape(64));
        const Bytes stream = box.encode(with(chain, "check", 1), 64, 0, 64);
        assert_int_equal(box.decode(stream).status, LARDER_OK);
        larder_stream_extent e[4];
        uint32_t n = 0;
        assert_int_equal(larder_stream_plan_read(span(stream), 0, 0, 0, 0, e, 4, &n), LARDER_OK);
        for (uint64_t from_end : {1u, 2u, 3u, 4u}) {
            std::vector<uint8_t> bytes(reinterpret_cast<const uint8_t*>(stream.data()),
                                       reinterpret_cast<const uint8_t*>(stream.data()) + stream.size());
            bytes[e[1].offset - 8 - from_end] ^= 0x10;  // near the end of the first extent: codes or their checksum
            assert_true(reseal(bytes));
            const Bytes changed(reinterpret_cast<const std::byte*>(bytes.data()),
                                reinterpret_cast<const std::byte*>(bytes.data()) + bytes.size());
            assert_int_equal(box.decode(changed).status, LARDER_E_CORRUPT);
        }
    }
}

void padding_is_verified(void**) {
    Rng r(test_seed() + 7);
    Box box(r, small_shape(33));
    const Bytes stream = box.encode("int8", 16, 0, 33);
    const auto u32 = [&](size_t at) { return larder::load_le<uint32_t>(stream.data() + at); };
    const uint64_t stages_end = 128 + u32(48), n_entries = 2 * 2 * 3;
    const uint64_t index_end = (stages_end + 63) / 64 * 64 + 8 * n_entries;
    std::vector<uint64_t> places = {stages_end, index_end};
    assert_true(stages_end % 64 && index_end % 64);
    larder_stream_extent e[64];
    uint32_t n = 0;
    assert_int_equal(larder_stream_plan_read(span(stream), 0, 0, 0, 0, e, 64, &n), LARDER_OK);
    const uint64_t index = (stages_end + 63) / 64 * 64;
    for (uint32_t i = 0; i < n; ++i)
        if (u32(index + 8 * i) % 8) places.push_back(e[i].offset + e[i].n_bytes - 1);
    assert_true(places.size() > 2);
    for (uint64_t at : places) {
        std::vector<uint8_t> bytes(reinterpret_cast<const uint8_t*>(stream.data()),
                                   reinterpret_cast<const uint8_t*>(stream.data()) + stream.size());
        assert_int_equal(bytes[at], 0);
        bytes[at] = 1;
        assert_true(reseal(bytes));
        const larder_span s{bytes.data(), bytes.size()};
        assert_int_equal(larder_stream_verify(s, nullptr, nullptr), LARDER_E_CORRUPT);
    }
}

void appending_what_does_not_continue_is_refused(void**) {
    Rng r(test_seed() + 8);
    Box box(r, small_shape(40));
    const Bytes a = box.encode("int8", 16, 0, 20), b = box.encode("int8", 16, 20, 10, &a);
    larder_codec* codec = nullptr;
    assert_int_equal(larder_codec_open(box.context, nullptr, &codec), LARDER_OK);
    const auto v = views(box.truth);
    Bytes out(1 << 20);
    uint64_t n = 0;
    auto append = [&](auto change) {
        larder_stream_source s = box.source(v, 20, 10);
        change(s);
        return larder_stream_append(codec, span(a), &s, out.data(), out.size(), nullptr, 0, &n);
    };
    assert_int_equal(append([](larder_stream_source&) {}), LARDER_OK);
    assert_int_equal(append([](larder_stream_source& s) { s.identity.first_token += 1; }), LARDER_E_IDENTITY);
    assert_int_equal(append([](larder_stream_source& s) { s.identity.layout.bytes[9] = 1; }), LARDER_E_IDENTITY);
    assert_int_equal(append([](larder_stream_source& s) { s.shape.k_dim = 16; }), LARDER_E_IDENTITY);
    assert_int_equal(append([](larder_stream_source& s) { s.identity.rope = LARDER_ROPE_NONE; }), LARDER_E_IDENTITY);
    larder_codec_close(codec);
    // A generation belongs to the bytes it was made for, and cannot stand alone.
    const Bytes other = box.encode("int4", 16, 0, 20);
    assert_int_equal(larder_stream_verify(span(joined(other, b)), nullptr, nullptr), LARDER_E_CORRUPT);
    assert_int_equal(larder_stream_verify(span(b), nullptr, nullptr), LARDER_E_CORRUPT);
    assert_int_equal(larder_stream_verify(span(joined(joined(a, b), b)), nullptr, nullptr), LARDER_E_CORRUPT);
    assert_int_equal(larder_stream_verify(span(joined(a, Bytes(3))), nullptr, nullptr), LARDER_E_FORMAT);
}

void transcoding_is_decoding_and_encoding(void**) {
    Rng r(test_seed() + 9);
    Box box(r, small_shape(50));
    Bytes stream = box.encode("lossless", 16, 0, 30);
    stream = joined(stream, box.encode("lossless", 16, 30, 20, &stream));
    larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
    o.chain = "int4 refine=2", o.chunk_tokens = 32;
    larder_codec* codec = nullptr;
    assert_int_equal(larder_codec_open(box.context, &o, &codec), LARDER_OK);
    uint64_t bound = 0, n = 0;
    larder_stream_shape shape = box.shape;
    assert_int_equal(larder_codec_sizes(codec, &shape, &bound, nullptr), LARDER_OK);
    Bytes out(bound);
    assert_int_equal(larder_stream_transcode(codec, span(stream), nullptr, 0, nullptr, out.data(), bound - 1, &n),
                     LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(larder_stream_transcode(codec, span(stream), nullptr, 0, nullptr, out.data(), bound, &n),
                     LARDER_OK);
    out.resize(n);
    assert_true(out == box.encode("int4 refine=2", 32, 0, 50));
    const Bytes small = box.encode("larder-small", 32, 0, 50);
    assert_int_equal(larder_stream_transcode(codec, span(small), nullptr, 0, nullptr, out.data(), bound, &n),
                     LARDER_E_MISSING_PROFILE);
    larder_codec_close(codec);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(levels_nest),
        cmocka_unit_test(a_level_is_within_its_bound),
        cmocka_unit_test(generations_continue_each_other),
        cmocka_unit_test(planned_ranges_are_enough),
        cmocka_unit_test(every_cut_is_an_error_or_partial),
        cmocka_unit_test(every_flip_is_an_error_or_partial),
        cmocka_unit_test(changed_codes_are_seen),
        cmocka_unit_test(padding_is_verified),
        cmocka_unit_test(appending_what_does_not_continue_is_refused),
        cmocka_unit_test(transcoding_is_decoding_and_encoding),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
