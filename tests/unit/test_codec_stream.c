/* Codecs and streams through the C ABI: presets, identity, damage, bad arguments. */
#include "support/cmocka.h"

#include <stdlib.h>
#include <string.h>

#include "larder/larder.h"

enum { LAYERS = 2, TOKENS = 21, HEADS = 2, DIM = 32, WIDTH = HEADS * DIM };

static larder_context* ctx;
static uint16_t plane_data[2 * LAYERS][TOKENS * WIDTH];

/* The first tokens, as attention sinks, and the last. */
static const float saliency[TOKENS] = {9, 3, 2, 1, 1, 1, 1, 1, 1, 1, 0.5f, 0.5f, 1, 1, -1, -0.0f, 0, 2, 3, 4, 5};

static int setup(void** state) {
    (void)state;
    assert_int_equal(larder_context_create(NULL, &ctx), LARDER_OK);
    uint32_t x = 1;
    for (int p = 0; p < 2 * LAYERS; ++p)
        for (int i = 0; i < TOKENS * WIDTH; ++i) {
            x = x * 1664525u + 1013904223u;
            plane_data[p][i] = (uint16_t)((x >> 16 & 0x83ff) | (14 + (x >> 29 & 1)) << 10);
        }
    return 0;
}
static int teardown(void** state) {
    (void)state;
    return larder_context_destroy(ctx) != LARDER_OK;
}

static larder_stream_shape shape(void) {
    larder_stream_shape s = LARDER_STREAM_SHAPE_INIT;
    s.n_layers = LAYERS;
    s.n_tokens = TOKENS;
    s.n_kv_heads = HEADS;
    s.k_dim = s.v_dim = DIM;
    return s;
}

static larder_codec* open_codec(const char* chain) {
    larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
    o.chain = chain;
    o.chunk_tokens = 8;
    larder_codec* codec = NULL;
    assert_int_equal(larder_codec_open(ctx, &o, &codec), LARDER_OK);
    return codec;
}

static void set_planes(larder_stream_plane* planes, uint16_t (*data)[TOKENS * WIDTH]) {
    for (int p = 0; p < 2 * LAYERS; ++p) {
        larder_stream_plane init = LARDER_STREAM_PLANE_INIT;
        planes[p] = init;
        planes[p].base = data[p];
    }
}

static larder_span encode(const char* chain) {
    larder_codec* codec = open_codec(chain);
    larder_stream_plane planes[2 * LAYERS];
    set_planes(planes, plane_data);
    larder_stream_source src = LARDER_STREAM_SOURCE_INIT;
    src.shape = shape();
    src.planes = planes;
    memset(src.identity.layout.bytes, 1, 32);
    memset(src.identity.content.bytes, 2, 32);
    src.identity.first_token = 64;
    src.saliency = saliency;
    uint64_t bound = 0, workspace = 0, n = 0;
    assert_int_equal(larder_codec_sizes(codec, &src.shape, &bound, &workspace), LARDER_OK);
    void* out = malloc(bound);
    assert_int_equal(larder_stream_encode(codec, &src, out, bound, NULL, 0, &n), LARDER_OK);
    assert_int_equal(larder_stream_encode(codec, &src, out, bound - 1, NULL, 0, &n), LARDER_E_BUFFER_TOO_SMALL);
    larder_codec_close(codec);
    larder_span s = {out, n};
    return s;
}

static larder_status decode(larder_span s, uint16_t (*to)[TOKENS * WIDTH]) {
    larder_stream_plane planes[2 * LAYERS];
    set_planes(planes, to);
    larder_stream_target t = LARDER_STREAM_TARGET_INIT;
    t.planes = planes;
    return larder_stream_decode(ctx, s, &t);
}

/* Every preset that works without a profile. */
static const char* preset(uint32_t* at) {
    for (;;) {
        larder_codec_info info = LARDER_CODEC_INFO_INIT;
        if (larder_codec_list((*at)++, &info) != LARDER_OK) return NULL;
        assert_true(info.bits_per_value > 0 && info.name && info.chain && info.description);
        if (!(info.needs & LARDER_CODEC_NEEDS_PROFILE)) return info.name;
    }
}

static void presets_are_listed_and_open(void** state) {
    (void)state;
    uint32_t n = 0;
    for (const char* name; (name = preset(&n)) != NULL;) {
        larder_codec* codec = open_codec(name);
        larder_quality q = 0;
        assert_int_equal(larder_codec_quality(codec, &q), LARDER_OK);
        assert_true(q == LARDER_QUALITY_EXACT || q == LARDER_QUALITY_APPROXIMATE);
        larder_codec_close(codec);
    }
    assert_true(n > 5);
}

static void a_stream_says_what_it_is(void** state) {
    (void)state;
    larder_span s = encode("int4");
    larder_stream_info info = LARDER_STREAM_INFO_INIT;
    assert_int_equal(larder_stream_inspect(s, &info), LARDER_OK);
    assert_int_equal(info.quality, LARDER_QUALITY_APPROXIMATE);
    assert_int_equal(info.shape.n_tokens, TOKENS);
    assert_int_equal(info.identity.first_token, 64);
    assert_int_equal(info.identity.rope, LARDER_ROPE_POST);
    assert_int_equal(info.n_chunks, 3);
    assert_int_equal(info.n_bytes, s.n_bytes);
    assert_string_equal(info.chain, "affine bits=4 group=32 axis=token");
    larder_key layout, other;
    memset(layout.bytes, 1, 32);
    memset(other.bytes, 3, 32);
    assert_int_equal(larder_stream_verify(s, &layout, NULL), LARDER_OK);
    assert_int_equal(larder_stream_verify(s, &other, NULL), LARDER_E_IDENTITY);
    assert_int_equal(larder_stream_verify(s, &layout, &other), LARDER_E_IDENTITY);
    free((void*)s.data);
}

static int is_stored_data_error(larder_status st) {
    return st == LARDER_E_CORRUPT || st == LARDER_E_FORMAT || st == LARDER_E_VERSION || st == LARDER_E_IDENTITY ||
           st == LARDER_E_TRUNCATED;
}

/* Every byte, every bit: an error from verify and from decode. */
static void a_flipped_bit_is_an_error(void** state) {
    (void)state;
    static uint16_t to[2 * LAYERS][TOKENS * WIDTH];
    uint32_t at = 0;
    for (const char* name; (name = preset(&at)) != NULL;) {
        larder_span s = encode(name);
        unsigned char* bytes = (unsigned char*)s.data;
        for (uint64_t i = 0; i < s.n_bytes; ++i) {
            const unsigned char flip = (unsigned char)(1u << (i % 8));
            bytes[i] ^= flip;
            if (!is_stored_data_error(larder_stream_verify(s, NULL, NULL)) ||
                (i % 7 == 0 && !is_stored_data_error(decode(s, to)))) {
                print_error("%s: byte %llu\n", name, (unsigned long long)i);
                assert_true(0);
            }
            bytes[i] ^= flip;
        }
        assert_int_equal(decode(s, to), LARDER_OK);
        free(bytes);
    }
}

static void a_cut_stream_is_truncated(void** state) {
    (void)state;
    static uint16_t to[2 * LAYERS][TOKENS * WIDTH];
    uint32_t at = 0;
    for (const char* name; (name = preset(&at)) != NULL;) {
        larder_span s = encode(name);
        for (uint64_t n = 0; n < s.n_bytes; ++n) {
            void* cut = malloc(n ? n : 1);
            memcpy(cut, s.data, n);
            larder_span c = {cut, n};
            assert_int_equal(larder_stream_verify(c, NULL, NULL), LARDER_E_TRUNCATED);
            if (n % 61 == 0) assert_int_equal(decode(c, to), LARDER_E_TRUNCATED);
            free(cut);
        }
        free((void*)s.data);
    }
}

static void lossless_is_exact_for_every_pattern(void** state) {
    (void)state;
    static uint16_t saved[2 * LAYERS][TOKENS * WIDTH], to[2 * LAYERS][TOKENS * WIDTH];
    memcpy(saved, plane_data, sizeof saved);
    static const uint16_t odd[] = {0x0000, 0x8000, 0x7c00, 0xfc00, 0x7e01, 0xfe00, 0x0001, 0x83ff, 0x7bff};
    for (int p = 0; p < 2 * LAYERS; ++p)
        for (int i = 0; i < TOKENS * WIDTH; i += 5) plane_data[p][i] = odd[(i / 5) % 9];
    larder_span s = encode("lossless");
    assert_int_equal(decode(s, to), LARDER_OK);
    assert_memory_equal(to, plane_data, sizeof to);
    memcpy(plane_data, saved, sizeof saved);
    free((void*)s.data);
}

static void bad_arguments_have_their_status(void** state) {
    (void)state;
    larder_codec* codec = NULL;
    larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
    static const struct {
        const char* chain;
        larder_status status;
    } bad[] = {{"nonsense", LARDER_E_NOT_FOUND},
               {"int4 colour=red", LARDER_E_NOT_FOUND},
               {"int4 group", LARDER_E_NOT_FOUND},
               {"int4 group=x", LARDER_E_INVALID},
               {"int4 group=99999", LARDER_E_RANGE},
               {"affine bits=0", LARDER_E_RANGE},
               {"int4 kaxis=channel group=33", LARDER_E_INVALID},
               {"", LARDER_E_INVALID},
               {"lossless entropy=magic", LARDER_E_NOT_FOUND},
               {"int4 entropy=zstd", LARDER_E_INVALID},
               {"step entropy=rans", LARDER_E_MISSING_PROFILE},
               {"int4 sort=1", LARDER_E_INVALID},
               {"fp8 sort=1", LARDER_E_INVALID},
               {"zipcache salient_bits=5", LARDER_E_INVALID},
               {"zipcache bits=1", LARDER_E_RANGE},
               {"zipcache entropy=rans", LARDER_E_INVALID},
               {"zipcache salient=101", LARDER_E_RANGE},
               {"int4 salient=60", LARDER_E_INVALID}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        o.chain = bad[i].chain;
        if (larder_codec_open(ctx, &o, &codec) != bad[i].status) print_error("chain \"%s\"\n", bad[i].chain);
        assert_int_equal(larder_codec_open(ctx, &o, &codec), bad[i].status);
        assert_null(codec);
    }
    codec = open_codec("int4");
    uint64_t bound = 0;
    larder_stream_shape s = shape();
    s.n_tokens = 0;
    assert_int_equal(larder_codec_sizes(codec, &s, &bound, NULL), LARDER_E_RANGE);
    s = shape();
    s.k_dim = 5;
    assert_int_equal(larder_codec_sizes(codec, &s, &bound, NULL), LARDER_E_UNSUPPORTED);
    s = shape();
    s.k_dtype = LARDER_DTYPE_I8;
    assert_int_equal(larder_codec_sizes(codec, &s, &bound, NULL), LARDER_E_UNSUPPORTED);
    s = shape();
    s.n_layers = 4096, s.n_tokens = 1u << 24, s.n_kv_heads = 4096, s.k_dim = 4096;
    assert_int_equal(larder_codec_sizes(codec, &s, &bound, NULL), LARDER_E_RANGE);
    s = shape();
    s.v_dtype = 99;
    assert_int_equal(larder_codec_sizes(codec, &s, &bound, NULL), LARDER_E_INVALID);
    larder_codec_close(codec);
    larder_codec_close(NULL);
    larder_span empty = {"x", 0}, foreign = {"this is not a stream at all", 27};
    larder_stream_info info = LARDER_STREAM_INFO_INIT;
    assert_int_equal(larder_stream_inspect(empty, &info), LARDER_E_TRUNCATED);
    assert_int_equal(larder_stream_inspect(foreign, &info), LARDER_E_FORMAT);
    larder_span stream = encode("lossless");
    larder_stream_target t = LARDER_STREAM_TARGET_INIT;
    assert_int_equal(larder_stream_decode(ctx, stream, &t), LARDER_E_INVALID);
    larder_stream_plane planes[2 * LAYERS] = {LARDER_STREAM_PLANE_INIT};
    t.planes = planes;
    t.first_token = TOKENS;
    assert_int_equal(larder_stream_decode(ctx, stream, &t), LARDER_E_RANGE);
    t.first_token = 0;
    t.first_layer = 1;
    t.n_layers = LAYERS;
    assert_int_equal(larder_stream_decode(ctx, stream, &t), LARDER_E_RANGE);
    free((void*)stream.data);
}

static void missing_saliency_is_refused(void** state) {
    (void)state;
    larder_codec* codec = open_codec("zipcache");
    larder_stream_plane planes[2 * LAYERS];
    set_planes(planes, plane_data);
    larder_stream_source src = LARDER_STREAM_SOURCE_INIT;
    src.shape = shape();
    src.planes = planes;
    uint64_t bound = 0, n = 0;
    assert_int_equal(larder_codec_sizes(codec, &src.shape, &bound, NULL), LARDER_OK);
    void* out = malloc(bound);
    assert_int_equal(larder_stream_encode(codec, &src, out, bound, NULL, 0, &n), LARDER_E_INVALID);
    float odd[TOKENS] = {0};
    src.saliency = odd;
    assert_int_equal(larder_stream_encode(codec, &src, out, bound, NULL, 0, &n), LARDER_OK);
    const uint32_t bad[] = {0x7f800000u, 0xff800000u, 0x7fc00000u};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        memcpy(&odd[TOKENS - 1], &bad[i], sizeof bad[i]);
        assert_int_equal(larder_stream_encode(codec, &src, out, bound, NULL, 0, &n), LARDER_E_INVALID);
    }
    larder_codec_close(codec);
    codec = open_codec("zipcache salient=0");
    src.saliency = NULL;
    assert_int_equal(larder_stream_encode(codec, &src, out, bound, NULL, 0, &n), LARDER_OK);
    larder_codec_close(codec);
    free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_are_listed_and_open),         cmocka_unit_test(a_stream_says_what_it_is),
        cmocka_unit_test(a_flipped_bit_is_an_error),           cmocka_unit_test(a_cut_stream_is_truncated),
        cmocka_unit_test(lossless_is_exact_for_every_pattern), cmocka_unit_test(bad_arguments_have_their_status),
        cmocka_unit_test(missing_saliency_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
