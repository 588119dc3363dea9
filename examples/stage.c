/* A stage of one's own: each byte of a coded extent is stored as its difference from the byte before. */
#include <larder/larder.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(larder_status status) {
    if (status == LARDER_OK) return;
    fprintf(stderr, "%s\n", larder_status_text(status));
    exit(1);
}

static uint64_t delta_bound(void* ctx, uint64_t n_bytes) {
    (void)ctx;
    return n_bytes;
}

static larder_status delta_encode(void* ctx, const void* in, uint64_t n_bytes, void* out, uint64_t capacity,
                                  uint64_t* out_n_bytes) {
    const uint8_t* from = in;
    uint8_t* to = out;
    (void)ctx;
    if (n_bytes > capacity) return LARDER_E_BUFFER_TOO_SMALL;
    for (uint64_t i = 0; i < n_bytes; ++i) to[i] = (uint8_t)(from[i] - (i ? from[i - 1] : 0));
    *out_n_bytes = n_bytes;
    return LARDER_OK;
}

static larder_status delta_decode(void* ctx, const void* in, uint64_t n_bytes, void* out, uint64_t capacity,
                                  uint64_t* out_n_bytes) {
    const uint8_t* from = in;
    uint8_t* to = out;
    (void)ctx;
    if (n_bytes > capacity) return LARDER_E_CORRUPT;
    for (uint64_t i = 0; i < n_bytes; ++i) to[i] = (uint8_t)(from[i] + (i ? to[i - 1] : 0));
    *out_n_bytes = n_bytes;
    return LARDER_OK;
}

enum { TOKENS = 64, HEADS = 2, DIM = 32 };

int main(void) {
    static uint16_t k[TOKENS * HEADS * DIM], v[TOKENS * HEADS * DIM], back[TOKENS * HEADS * DIM];
    for (int i = 0; i < TOKENS * HEADS * DIM; ++i)
        k[i] = (uint16_t)(0x3c00 + i % 97), v[i] = (uint16_t)(0xbc00 + i % 31);
    larder_context* context;
    must(larder_context_create(NULL, &context));

    larder_codec_stage stage = LARDER_CODEC_STAGE_INIT;
    stage.id = 0x8001, stage.version = 1, stage.name = "delta";
    stage.bound = delta_bound, stage.encode = delta_encode, stage.decode = delta_decode;
    must(larder_codec_stage_register(context, &stage));

    larder_codec_options options = LARDER_CODEC_OPTIONS_INIT;
    options.chain = "lossless stage=delta";
    larder_codec* codec;
    must(larder_codec_open(context, &options, &codec));

    larder_stream_plane planes[2] = {LARDER_STREAM_PLANE_INIT, LARDER_STREAM_PLANE_INIT};
    planes[0].base = k, planes[1].base = v;
    larder_stream_source source = LARDER_STREAM_SOURCE_INIT;
    source.shape.n_layers = 1, source.shape.n_tokens = TOKENS, source.shape.n_kv_heads = HEADS;
    source.shape.k_dim = source.shape.v_dim = DIM;
    source.planes = planes;
    uint64_t bound, n_bytes;
    must(larder_codec_sizes(codec, &source.shape, &bound, NULL));
    void* bytes = malloc(bound);
    must(larder_stream_encode(codec, &source, bytes, bound, NULL, 0, &n_bytes));
    larder_codec_close(codec);

    planes[0].base = back, planes[1].base = NULL;
    larder_stream_target target = LARDER_STREAM_TARGET_INIT;
    target.planes = planes;
    larder_span stream = {bytes, n_bytes};
    must(larder_stream_decode(context, stream, &target));
    int same = memcmp(k, back, sizeof k) == 0;
    larder_context_destroy(context);

    /* Without the stage the stream can be checked, but not decoded. */
    must(larder_context_create(NULL, &context));
    larder_status verified = larder_stream_verify(stream, NULL, NULL),
                  decoded = larder_stream_decode(context, stream, &target);
    larder_context_destroy(context);
    free(bytes);
    printf("%llu bytes; keys %s; without the stage: %s, %s\n", (unsigned long long)n_bytes,
           same ? "as they were" : "differ", larder_status_name(verified), larder_status_name(decoded));
    return same && verified == LARDER_OK && decoded == LARDER_E_FORMAT ? 0 : 1;
}
