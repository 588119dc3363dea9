#include <larder/larder.h>
#include <stdio.h>
#define TRY(call) do { if ((call) < 0) return fprintf(stderr, "failed: %s\n", #call), 1; } while (0)

int main(void) {
    larder_layer_group group = LARDER_LAYER_GROUP_INIT; /* fp16, blocks of 16 tokens */
    group.n_layers = 2, group.n_kv_heads = 2, group.k_dim = group.v_dim = 64;
    larder_layout_options model = LARDER_LAYOUT_OPTIONS_INIT;
    model.groups = &group, model.n_groups = 1, model.group_stride = sizeof group;
    larder_kv_options options = LARDER_KV_OPTIONS_INIT;
    options.arena_bytes = 16 << 20, options.host_bytes = 64 << 20, options.directory = "kv-cache";
    larder_context* context;
    larder_layout* layout;
    larder_kv* kv;
    TRY(larder_context_create(NULL, &context));
    TRY(larder_layout_create(context, &model, &layout));
    TRY(larder_kv_open(context, layout, &options, &kv));

    int32_t prompt[100], table[16];
    for (int32_t i = 0; i < 100; ++i) prompt[i] = i;
    larder_kv_query query = LARDER_KV_QUERY_INIT;
    query.tokens = prompt, query.n_tokens = 100;
    larder_kv_match_info found = LARDER_KV_MATCH_INFO_INIT;
    larder_kv_seq_info at = LARDER_KV_SEQ_INFO_INIT;
    larder_kv_view_options view = LARDER_KV_VIEW_OPTIONS_INIT;
    view.dst = table, view.dst_stride = 16;
    larder_seq seq;
    TRY(larder_kv_match(kv, &query, &found));                         /* what is computed already? */
    TRY(larder_kv_begin(kv, found.lease, NULL, NULL, 0, &seq, NULL)); /* take it, from RAM or disk too */
    TRY(larder_kv_seq_get_info(kv, seq, &at));
    TRY(larder_kv_reserve(kv, seq, 100 - at.n_computed, 0));          /* slots for the rest */
    TRY(larder_kv_view(kv, &seq, 1, &view));                          /* the block table for the kernels */
    /* ... the engine computes, writing K and V where larder_kv_get_layer() and the table say ... */
    TRY(larder_kv_commit(kv, seq, prompt + at.n_computed, 100 - at.n_computed));
    TRY(larder_kv_end(kv, seq));
    TRY(larder_kv_flush(kv, NULL, 0, NULL));                          /* durable: survives kill -9 */
    printf("%d of 100 tokens came from the cache\n", (int)at.n_computed); /* 0, and 96 the next time */
    return larder_kv_close(kv), larder_layout_destroy(layout), larder_context_destroy(context);
}
