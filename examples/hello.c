/* A KV cache by Larder under a toy engine: the second prompt finds what the first one computed.
   cc -std=c11 hello.c $(pkg-config --cflags --libs larder) -o hello */
#include <larder/larder.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16, HEADS = 2, DIM = 8, CONTEXT = 256 };

static void must(larder_status s) {
    if (s < 0) {
        fprintf(stderr, "%s\n", larder_status_text(s));
        exit(1);
    }
}

/* The "engine": K and V of a token are made and put into its slot. */
static void compute(larder_kv_layer_view layer, int64_t slot, int32_t token) {
    uint64_t block = (uint64_t)slot / BLOCK, place = (uint64_t)slot % BLOCK;
    char* k = (char*)layer.k + block * layer.k_block_stride_bytes + place * layer.k_token_stride_bytes;
    char* v = (char*)layer.v + block * layer.v_block_stride_bytes + place * layer.v_token_stride_bytes;
    memset(k, token, HEADS * DIM * 2), memset(v, token, HEADS * DIM * 2);
}

static void answer(larder_kv* kv, larder_kv_layer_view layer, const int32_t* tokens, uint64_t n_tokens) {
    larder_kv_query query = LARDER_KV_QUERY_INIT;
    query.tokens = tokens, query.n_tokens = n_tokens;
    larder_kv_match_info found = LARDER_KV_MATCH_INFO_INIT;
    must(larder_kv_match(kv, &query, &found)); /* what is there? */
    larder_seq seq;
    larder_kv_seq_info info = LARDER_KV_SEQ_INFO_INIT;
    must(larder_kv_begin(kv, found.lease, NULL, NULL, 0, &seq, NULL)); /* take it */
    must(larder_kv_seq_get_info(kv, seq, &info));
    uint64_t done = info.n_computed, n_new = n_tokens - done;
    must(larder_kv_reserve(kv, seq, n_new, 0)); /* slots for the rest */
    int64_t slots[CONTEXT];
    larder_kv_view_options view = LARDER_KV_VIEW_OPTIONS_INIT;
    view.format = LARDER_KV_VIEW_SLOT_MAPPING, view.dst = slots, view.dst_stride = CONTEXT;
    must(larder_kv_view(kv, &seq, 1, &view));
    for (uint64_t i = 0; i < n_new; ++i) compute(layer, slots[i], tokens[done + i]);
    must(larder_kv_commit(kv, seq, tokens + done, n_new)); /* full blocks are published */
    must(larder_kv_end(kv, seq));                          /* and stay to be found */
    printf("%3d tokens: %3d from the cache, %3d computed\n", (int)n_tokens, (int)done, (int)n_new);
}

int main(void) {
    larder_context* context;
    larder_layout* layout;
    larder_kv* kv;
    larder_layer_group group = LARDER_LAYER_GROUP_INIT;
    group.n_layers = 1, group.n_kv_heads = HEADS, group.k_dim = group.v_dim = DIM, group.block_tokens = BLOCK;
    larder_layout_options model = LARDER_LAYOUT_OPTIONS_INIT;
    model.groups = &group, model.n_groups = 1, model.group_stride = sizeof group;
    larder_kv_options options = LARDER_KV_OPTIONS_INIT;
    options.n_blocks = 64;
    must(larder_context_create(NULL, &context));
    must(larder_layout_create(context, &model, &layout));
    must(larder_kv_open(context, layout, &options, &kv));
    larder_kv_layer_view layer = LARDER_KV_LAYER_VIEW_INIT;
    must(larder_kv_get_layer(kv, 0, 0, &layer));

    int32_t prompt[120];
    for (int32_t i = 0; i < 120; ++i) prompt[i] = 1000 + i;
    answer(kv, layer, prompt, 100); /*   0 from the cache */
    answer(kv, layer, prompt, 120); /*  96: six full blocks */
    prompt[50] = 7;
    answer(kv, layer, prompt, 120); /*  50: three blocks, and two tokens of the next */

    larder_kv_close(kv);
    larder_layout_destroy(layout);
    must(larder_context_destroy(context));
    return 0;
}
