/* A stream: keys and values of some tokens as one checksummed string of bytes, exact or small, read back whole or in
 * part. */
#include <larder/larder.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 2, TOKENS = 300, HEADS = 2, DIM = 64, N = TOKENS * HEADS * DIM };

static void must(larder_status s) {
    if (s < 0) {
        larder_error_info info = LARDER_ERROR_INFO_INIT;
        larder_last_error(&info);
        fprintf(stderr, "%s: %s\n", larder_status_name(s), info.message);
        exit(1);
    }
}

static float tensors[2 * LAYERS][N], decoded[2 * LAYERS][N];

static larder_span encode(larder_context* context, const char* chain) {
    larder_codec* codec;
    larder_codec_options options = LARDER_CODEC_OPTIONS_INIT;
    options.chain = chain;
    must(larder_codec_open(context, &options, &codec));
    larder_stream_plane planes[2 * LAYERS];
    memset(planes, 0, sizeof planes);
    for (int i = 0; i < 2 * LAYERS; ++i) planes[i].base = tensors[i];
    larder_stream_source source = LARDER_STREAM_SOURCE_INIT;
    source.shape.n_layers = LAYERS, source.shape.n_tokens = TOKENS, source.shape.n_kv_heads = HEADS;
    source.shape.k_dim = source.shape.v_dim = DIM, source.shape.k_dtype = LARDER_DTYPE_F32;
    source.planes = planes;
    uint64_t bound, n_bytes;
    must(larder_codec_sizes(codec, &source.shape, &bound, NULL));
    void* bytes = malloc(bound);
    if (!bytes) exit(1);
    must(larder_stream_encode(codec, &source, bytes, bound, NULL, 0, &n_bytes));
    larder_codec_close(codec); /* reading needs no codec: the stream says how it was made */
    larder_span stream = {bytes, n_bytes};
    return stream;
}

/* Layer 1, tokens 100 to 199: only their extents are read and verified. */
static larder_status decode_part(larder_context* context, larder_span stream) {
    larder_stream_plane planes[2];
    memset(planes, 0, sizeof planes);
    planes[0].base = decoded[2], planes[1].base = decoded[3];
    larder_stream_target target = LARDER_STREAM_TARGET_INIT;
    target.first_layer = 1, target.n_layers = 1, target.first_token = 100, target.n_tokens = 100;
    target.planes = planes;
    return larder_stream_decode(context, stream, &target);
}

int main(void) {
    larder_context* context;
    must(larder_context_create(NULL, &context));
    for (int i = 0; i < 2 * LAYERS; ++i)
        for (int j = 0; j < N; ++j) tensors[i][j] = sinf((float)(j % DIM) + 0.01f * (float)(j / DIM)) * (float)(1 + i);
    const char* chains[] = {"lossless", "int8", "int4"};
    for (int c = 0; c < 3; ++c) {
        larder_span stream = encode(context, chains[c]);
        must(decode_part(context, stream));
        double worst = 0;
        for (int j = 0; j < 100 * HEADS * DIM; ++j)
            worst = fmax(worst, fabs((double)decoded[2][j] - (double)tensors[2][100 * HEADS * DIM + j]));
        printf("%-8s %7llu bytes, %5.2f bits per value, largest error %g\n", chains[c],
               (unsigned long long)stream.n_bytes, 8.0 * (double)stream.n_bytes / (2.0 * LAYERS * N), worst);
        ((unsigned char*)stream.data)[stream.n_bytes / 2] ^= 1; /* damage is an error, never a wrong answer */
        larder_status whole = larder_stream_verify(stream, NULL, NULL);
        printf("         one bit flipped: %s\n", larder_status_name(whole));
        if (whole != LARDER_E_CORRUPT) return 1;
        free((void*)stream.data);
    }
    must(larder_context_destroy(context));
    return 0;
}
