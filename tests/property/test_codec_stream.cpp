// Streams against the tensors they were made from: random shapes, dtypes, strides, pages, chains and selections.
#include "support/cmocka.h"

#include "codec/extent.h"
#include "support/kv_tensors.h"
#include "support/seed.h"

using namespace kv_test;

// Says which case it was, then fails the test.
#define FAIL(...) (print_error(__VA_ARGS__), print_error("\n"), assert_true(false))

namespace {

struct Stream {
    larder_context* context = nullptr;
    larder_codec* codec = nullptr;
    larder_stream_shape shape = LARDER_STREAM_SHAPE_INIT;
    std::vector<std::vector<std::byte>> planes;  // the truth
    std::vector<std::byte> bytes;
    std::vector<float> saliency;  // made by encode() unless given

    ~Stream() {
        larder_codec_close(codec);
        larder_context_destroy(context);
    }
    void open(uint64_t isa, const char* chain, uint32_t chunk) {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        assert_int_equal(larder_context_create(&o, &context), LARDER_OK);
        larder_context_set_u64(context, LARDER_PARAM_ISA_LEVEL, isa);
        larder_codec_options c = LARDER_CODEC_OPTIONS_INIT;
        c.chain = chain;
        c.chunk_tokens = chunk;
        assert_int_equal(larder_codec_open(context, &c, &codec), LARDER_OK);
    }
    void encode(Rng& r, bool paged, bool own_workspace) {
        Memory m(r, shape, shape.n_layers, shape.n_tokens, paged);
        for (size_t i = 0; i < planes.size(); ++i)
            if (!planes[i].empty()) m.fill(i, planes[i]);
        larder_stream_source src = LARDER_STREAM_SOURCE_INIT;
        src.shape = shape;
        src.planes = m.planes.data();
        if (saliency.size() != shape.n_tokens) {
            saliency.resize(shape.n_tokens);
            for (float& x : saliency) x = float(r.below(7)) - 2;  // with many equals
        }
        src.saliency = saliency.data();
        src.identity.layout.bytes[3] = 7;
        src.identity.content.bytes[31] = 9;
        src.identity.first_token = 48;
        uint64_t bound = 0, workspace = 0, n = 0;
        assert_int_equal(larder_codec_sizes(codec, &shape, &bound, &workspace), LARDER_OK);
        bytes.assign(bound + 32, std::byte{0xee});
        std::vector<std::byte> scratch(own_workspace ? workspace + 1 : 0);
        const larder_status st =
            larder_stream_encode(codec, &src, bytes.data(), bound, own_workspace ? scratch.data() + 1 : nullptr,
                                 own_workspace ? workspace : 0, &n);
        if (st) {
            larder_error_info e = LARDER_ERROR_INFO_INIT;
            larder_last_error(&e);
            FAIL("%s: %s", e.field, e.message);
        }
        for (size_t i = bound; i < bytes.size(); ++i) assert_int_equal(uint8_t(bytes[i]), 0xee);
        assert_true(n <= bound);
        bytes.resize(n);
    }
    larder_span span() const { return {bytes.data(), bytes.size()}; }
    larder_status decode(Memory& m, uint32_t l0, uint32_t nl, uint32_t t0, uint32_t nt) {
        larder_stream_target t = LARDER_STREAM_TARGET_INIT;
        t.first_layer = l0, t.n_layers = nl, t.first_token = t0, t.n_tokens = nt;
        t.planes = m.planes.data();
        return larder_stream_decode(context, span(), &t);
    }
};

larder_stream_shape random_shape(Rng& r, bool floats) {
    larder_stream_shape s = LARDER_STREAM_SHAPE_INIT;
    static const larder_dtype types[] = {LARDER_DTYPE_F16, LARDER_DTYPE_BF16, LARDER_DTYPE_F32, LARDER_DTYPE_I8,
                                         LARDER_DTYPE_F8_E4M3};
    s.n_layers = uint32_t(1 + r.below(3));
    s.n_tokens = uint32_t(1 + r.below(r.below(3) ? 40 : 200));
    s.n_kv_heads = uint32_t(1 + r.below(4));
    s.k_dim = 32 * uint32_t(1 + r.below(2));
    s.v_dim = r.below(5) ? 32 * uint32_t(1 + r.below(2)) : 0;
    s.k_dtype = types[r.below(floats ? 3 : 5)];
    s.v_dtype = r.below(3) ? s.k_dtype : types[r.below(floats ? 3 : 5)];
    return s;
}

void lossless_gives_every_bit_back(void**) {
    Rng r(test_seed());
    static const char* chains[] = {"lossless", "raw", "zstd", "lossless tail=20"};
    for (uint32_t round = 0; round < test_rounds(150); ++round) {
        Stream s;
        s.shape = random_shape(r, false);
        if (r.below(3) == 0) s.shape.k_dim = uint32_t(1 + r.below(70));
        for (uint32_t i = 0; i < 2 * s.shape.n_layers; ++i)
            s.planes.push_back(make_plane(r, s.shape, i % 2, Data(r.below(3))));
        s.open(r.below(3), chains[r.below(4)], uint32_t(r.below(3) ? 0 : 1 + r.below(64)));
        s.encode(r, r.below(2), r.below(2));
        assert_int_equal(larder_stream_verify(s.span(), nullptr, nullptr), LARDER_OK);
        Memory m(r, s.shape, s.shape.n_layers, s.shape.n_tokens, r.below(2));
        assert_int_equal(s.decode(m, 0, 0, 0, 0), LARDER_OK);
        for (size_t i = 0; i < s.planes.size(); ++i)
            if (!s.planes[i].empty() && m.read(i) != s.planes[i])
                FAIL("seed %llu round %u plane %zu differs", (unsigned long long)test_seed(), round, i);
        assert_true(m.guarded());
    }
}

// Round trip of the affine chains: within half a step of the stored scale, plus the roundings to 16 bits.
void affine_stays_within_its_step(void**) {
    Rng r(test_seed() + 1);
    static const struct {
        const char* chain;
        double steps;
    } chains[] = {{"int8", 127 * 2},
                  {"int4", 15},
                  {"kivi4", 15},
                  {"kivi2", 3},
                  {"affine bits=3 group=16", 7},
                  {"affine bits=5 sym=1 group=0 entropy=rans", 30},
                  {"kivi2 entropy=rans", 3},
                  {"int4 entropy=rans", 15},
                  {"affine bits=8 group=32 entropy=rans", 255}};
    for (uint32_t round = 0; round < test_rounds(120); ++round) {
        const auto& chain = chains[r.below(std::size(chains))];
        Stream s;
        s.shape = random_shape(r, true);
        for (uint32_t i = 0; i < 2 * s.shape.n_layers; ++i)
            s.planes.push_back(make_plane(r, s.shape, i % 2, Data::normal));
        s.open(r.below(3), chain.chain, uint32_t(r.below(3) ? 0 : 1 + r.below(64)));
        s.encode(r, r.below(2), r.below(2));
        Memory m(r, s.shape, s.shape.n_layers, s.shape.n_tokens, r.below(2));
        assert_int_equal(s.decode(m, 0, 0, 0, 0), LARDER_OK);
        for (size_t i = 0; i < s.planes.size(); ++i) {
            if (s.planes[i].empty()) continue;
            const larder_dtype t = i % 2 ? s.shape.v_dtype : s.shape.k_dtype;
            const auto got = m.read(i);
            double widest = 0;  // no group spans more than the plane
            const uint32_t es = larder::dtype_bytes(t);
            float lo = 1e30f, hi = -1e30f;
            for (size_t j = 0; j < got.size(); j += es) {
                const float x = element(s.planes[i].data() + j, t);
                lo = std::min(lo, x), hi = std::max(hi, x);
            }
            widest = std::max({double(hi) - lo, 2.0 * std::fabs(lo), 2.0 * std::fabs(hi)});
            for (size_t j = 0; j < got.size(); j += es) {
                const double d = std::fabs(double(element(s.planes[i].data() + j, t)) - element(got.data() + j, t));
                if (!(d <= widest / chain.steps * 0.51 + widest * 0x1p-6))
                    FAIL("seed %llu round %u %s: off by %g in a range of %g", (unsigned long long)test_seed(), round,
                         chain.chain, d, widest);
            }
        }
    }
}

void a_selection_equals_the_whole(void**) {
    Rng r(test_seed() + 2);
    static const char* chains[] = {"lossless",           "raw",      "int8",  "int4",        "kivi2",
                                   "kivi4 entropy=rans", "zstd",     "mxfp4", "nvfp4",       "mustafar70",
                                   "cachegen-2",         "zipcache", "bfp12", "nvfp4 sort=1"};
    for (uint32_t round = 0; round < test_rounds(60); ++round) {
        Stream s;
        s.shape = random_shape(r, true);
        for (uint32_t i = 0; i < 2 * s.shape.n_layers; ++i)
            s.planes.push_back(make_plane(r, s.shape, i % 2, Data::normal));
        s.open(r.below(3), chains[r.below(std::size(chains))], uint32_t(1 + r.below(64)));
        s.encode(r, false, true);
        Memory whole(r, s.shape, s.shape.n_layers, s.shape.n_tokens, false);
        assert_int_equal(s.decode(whole, 0, 0, 0, 0), LARDER_OK);
        for (int k = 0; k < 5; ++k) {
            const uint32_t l0 = uint32_t(r.below(s.shape.n_layers)), nl = uint32_t(1 + r.below(s.shape.n_layers - l0));
            const uint32_t t0 = uint32_t(r.below(s.shape.n_tokens)), nt = uint32_t(1 + r.below(s.shape.n_tokens - t0));
            Memory part(r, s.shape, nl, nt, r.below(2));
            if (r.below(4) == 0) part.planes[0] = LARDER_STREAM_PLANE_INIT;
            assert_int_equal(s.decode(part, l0, nl, t0, nt), LARDER_OK);
            for (size_t i = 0; i < part.planes.size(); ++i) {
                if (s.planes[2 * l0 + i].empty() || (!part.planes[i].base && !part.planes[i].pages)) continue;
                const auto all = whole.read(2 * l0 + i), some = part.read(i);
                const size_t row = all.size() / s.shape.n_tokens;
                assert_memory_equal(all.data() + t0 * row, some.data(), nt * row);
            }
            // The extents that are to be read are those of the plan, and their sum is what the selection costs.
            std::vector<larder_stream_extent> extents(4096);
            uint32_t n = 0;
            assert_int_equal(larder_stream_plan_read(s.span(), l0, nl, t0, nt, extents.data(), 4096, &n), LARDER_OK);
            assert_true(n > 0);
            for (uint32_t e = 0; e < n; ++e)
                assert_true(extents[e].first_token < t0 + nt && extents[e].first_token + extents[e].n_tokens > t0 &&
                            extents[e].offset + extents[e].n_bytes < s.bytes.size());
        }
    }
}

// One bitstream and one decoded image, whatever the instruction set.
void instruction_sets_agree(void**) {
    Rng r(test_seed() + 3);
    static const char* chains[] = {"lossless",
                                   "int8",
                                   "int4",
                                   "kivi2",
                                   "kivi4 entropy=rans",
                                   "affine bits=5 sym=1 group=0 entropy=rans",
                                   "affine bits=8 group=16 entropy=rans",
                                   "bfp12",
                                   "mxfp4",
                                   "nvfp4",
                                   "fp8",
                                   "mustafar70",
                                   "cachegen-1",
                                   "zipcache",
                                   "separable bits=3 salient=30 salient_bits=6",
                                   "mxfp4 sort=1 group=8"};
    for (uint32_t round = 0; round < test_rounds(60); ++round) {
        Rng data(r.next());
        const larder_stream_shape shape = random_shape(data, true);
        const Data kind = Data(r.below(3));
        const char* chain = chains[r.below(std::size(chains))];
        const uint64_t plane_seed = r.next();
        std::vector<float> saliency(shape.n_tokens);
        for (float& x : saliency) x = float(r.below(9));
        std::vector<std::byte> bytes, image;
        for (uint64_t isa = 0; isa < 3; ++isa) {
            Stream s;
            s.shape = shape;
            Rng p(plane_seed);
            for (uint32_t i = 0; i < 2 * shape.n_layers; ++i) s.planes.push_back(make_plane(p, shape, i % 2, kind));
            s.open(isa, chain, 0);
            s.saliency = saliency;
            s.encode(r, r.below(2), true);
            Memory m(r, shape, shape.n_layers, shape.n_tokens, false);
            assert_int_equal(s.decode(m, 0, 0, 0, 0), LARDER_OK);
            std::vector<std::byte> got;
            for (size_t i = 0; i < s.planes.size(); ++i)
                if (!s.planes[i].empty()) {
                    const auto rows = m.read(i);
                    got.insert(got.end(), rows.begin(), rows.end());
                }
            if (isa == 0)
                bytes = s.bytes, image = got;
            else if (s.bytes != bytes || got != image)
                FAIL("seed %llu round %u: %s differs between instruction sets", (unsigned long long)test_seed(), round,
                     chain);
        }
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(lossless_gives_every_bit_back),
        cmocka_unit_test(affine_stays_within_its_step),
        cmocka_unit_test(a_selection_equals_the_whole),
        cmocka_unit_test(instruction_sets_agree),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
