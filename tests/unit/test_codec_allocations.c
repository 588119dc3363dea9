/* In the steady state encoding, inspecting, verifying and decoding take nothing from any allocator: memory is the
 * caller's. */
#include "support/cmocka.h"

#include <stdlib.h>
#include <string.h>

#include "larder/larder.h"

enum { LAYERS = 2, TOKENS = 70, HEADS = 2, DIM = 64, WIDTH = HEADS * DIM };

static uint64_t n_allocations;

static void* count_alloc(void* ctx, uint64_t n, uint64_t align) {
    (void)ctx;
    ++n_allocations;
    void* p = NULL;
    return posix_memalign(&p, align < sizeof(void*) ? sizeof(void*) : (size_t)align, (size_t)n) ? NULL : p;
}
static void count_free(void* ctx, void* p, uint64_t n, uint64_t align) {
    (void)ctx, (void)n, (void)align;
    free(p);
}

static void nothing_is_allocated(void** state) {
    (void)state;
    larder_allocator allocator = LARDER_ALLOCATOR_INIT;
    allocator.alloc = count_alloc;
    allocator.free = count_free;
    larder_context_options options = LARDER_CONTEXT_OPTIONS_INIT;
    options.allocator = &allocator;
    larder_context* ctx = NULL;
    assert_int_equal(larder_context_create(&options, &ctx), LARDER_OK);
    static uint16_t data[2 * LAYERS][TOKENS * WIDTH], back[2 * LAYERS][TOKENS * WIDTH];
    static float saliency[TOKENS];
    uint32_t x = 1;
    larder_stream_plane from[2 * LAYERS], to[2 * LAYERS];
    for (int p = 0; p < 2 * LAYERS; ++p) {
        for (int i = 0; i < TOKENS * WIDTH; ++i) {
            x = x * 1664525u + 1013904223u;
            data[p][i] = (uint16_t)((x >> 16 & 0x83ff) | (14 + (x >> 29 & 1)) << 10);
        }
        const larder_stream_plane none = LARDER_STREAM_PLANE_INIT;
        from[p] = to[p] = none;
        from[p].base = data[p];
        to[p].base = back[p];
    }
    larder_stream_source source = LARDER_STREAM_SOURCE_INIT;
    source.shape.n_layers = LAYERS;
    source.shape.n_tokens = TOKENS;
    source.shape.n_kv_heads = HEADS;
    source.shape.k_dim = source.shape.v_dim = DIM;
    source.planes = from;
    source.saliency = saliency;
    uint64_t n_seen = 0;
    for (uint32_t i = 0;; ++i) {
        larder_codec_info info = LARDER_CODEC_INFO_INIT;
        if (larder_codec_list(i, &info) != LARDER_OK) break;
        if (info.needs & LARDER_CODEC_NEEDS_PROFILE) continue;
        larder_codec_options co = LARDER_CODEC_OPTIONS_INIT;
        co.chain = info.name;
        larder_codec* codec = NULL;
        assert_int_equal(larder_codec_open(ctx, &co, &codec), LARDER_OK);
        uint64_t bound = 0, workspace = 0, n = 0;
        if (larder_codec_sizes(codec, &source.shape, &bound, &workspace) != LARDER_OK) {
            larder_codec_close(codec); /* a preset that this shape is not for */
            continue;
        }
        void *out = malloc(bound), *scratch = malloc(workspace);
        const uint64_t before = n_allocations;
        assert_int_equal(larder_stream_encode(codec, &source, out, bound, scratch, workspace, &n), LARDER_OK);
        larder_span stream = {out, n};
        larder_stream_info si = LARDER_STREAM_INFO_INIT;
        assert_int_equal(larder_stream_inspect(stream, &si), LARDER_OK);
        assert_int_equal(larder_stream_verify(stream, NULL, NULL), LARDER_OK);
        void* decode_scratch = malloc(si.decode_workspace);
        larder_stream_target target = LARDER_STREAM_TARGET_INIT;
        target.planes = to;
        target.workspace = decode_scratch;
        target.workspace_bytes = si.decode_workspace;
        assert_int_equal(larder_stream_decode(ctx, stream, &target), LARDER_OK);
        if (n_allocations != before) print_error("%s: %d allocations\n", info.name, (int)(n_allocations - before));
        assert_int_equal(n_allocations, before);
        /* Without a workspace there is one allocation each, so the count would have shown. */
        assert_int_equal(larder_stream_encode(codec, &source, out, bound, NULL, 0, &n), LARDER_OK);
        assert_true(n_allocations > before);
        n_seen += 1;
        free(decode_scratch);
        free(scratch);
        free(out);
        larder_codec_close(codec);
    }
    assert_true(n_seen >= 10);
    larder_context_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_allocated)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
