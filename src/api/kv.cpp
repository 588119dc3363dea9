#include "larder/kv.h"

#include "api/guard.h"
#include "kv/kv.h"

using namespace larder;

namespace {

larder_status read_begin(const larder_kv_begin_options* user, larder_kv_begin_options& o) noexcept {
    LARDER_TRY(read_options(user, o, "larder_kv_begin_options"));
    return check_reserved(o.reserved0, "reserved0");
}

}  // namespace

#define KV_QUEUE(queue)                                                                                                \
    if (queue) LARDER_API_HANDLE_OF(kv->context, queue, queue)

larder_status larder_kv_open(larder_context* context, larder_layout* layout, const larder_kv_options* options,
                             larder_kv** out_kv) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_HANDLE_OF(context, layout, layout);
    LARDER_API_NONNULL(out_kv);
    *out_kv = nullptr;
    return larder_kv::open(*context, *layout, options, out_kv);
    LARDER_API_END
}

void larder_kv_close(larder_kv* kv) noexcept {
    if (!kv || check_handle(kv, HandleType::kv, "kv") < 0) return;
    kv->context->drop_handle(kv);
}

larder_status larder_kv_match(larder_kv* kv, const larder_kv_query* query, larder_kv_match_info* out_match) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    LARDER_API_NONNULL(out_match);
    LARDER_TRY(check_output(out_match, "larder_kv_match_info"));
    larder_kv_match_info m;
    LARDER_TRY(kv->planner->match(query, m));
    return write_struct(out_match, m, "larder_kv_match_info");
    LARDER_API_END
}

larder_status larder_kv_release(larder_kv* kv, larder_lease lease) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    return kv->planner->release_lease(lease);
    LARDER_API_END
}

larder_status larder_kv_begin(larder_kv* kv, larder_lease lease, const larder_kv_begin_options* options,
                              larder_queue* queue, uint64_t user_data, larder_seq* out_seq,
                              larder_job* out_job) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    KV_QUEUE(queue);
    LARDER_API_NONNULL(out_seq);
    larder_kv_begin_options o;
    LARDER_TRY(read_begin(options, o));
    return kv->begin(lease, o, queue, user_data, out_seq, out_job);
    LARDER_API_END
}

larder_status larder_kv_seq_get_info(larder_kv* kv, larder_seq seq, larder_kv_seq_info* out_info) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    larder_kv_seq_info i;
    LARDER_TRY(kv->planner->seq_info(seq, i));
    return write_struct(out_info, i, "larder_kv_seq_info");
    LARDER_API_END
}

larder_status larder_kv_reserve(larder_kv* kv, larder_seq seq, uint64_t n_tokens, uint64_t n_lookahead) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    return kv->reserve(seq, n_tokens, n_lookahead);
    LARDER_API_END
}

larder_status larder_kv_commit(larder_kv* kv, larder_seq seq, const int32_t* tokens, uint64_t n_tokens) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    return kv->commit(seq, tokens, n_tokens);
    LARDER_API_END
}

larder_status larder_kv_append_keys(larder_kv* kv, larder_seq seq, const larder_key* keys, uint64_t n_keys) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    if (n_keys) LARDER_API_NONNULL(keys);
    return kv->planner->append_keys(seq, keys, n_keys);
    LARDER_API_END
}

larder_status larder_kv_append_extra(larder_kv* kv, larder_seq seq, const larder_kv_extra* extra) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    LARDER_API_NONNULL(extra);
    return kv->planner->append_extra(seq, *extra);
    LARDER_API_END
}

larder_status larder_kv_truncate(larder_kv* kv, larder_seq seq, uint64_t n_tokens) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    return kv->truncate(seq, n_tokens);
    LARDER_API_END
}

larder_status larder_kv_fork(larder_kv* kv, larder_seq seq, uint64_t n_tokens, uint32_t n,
                             larder_seq* out_seqs) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    LARDER_API_NONNULL(out_seqs);
    LARDER_TRY(check_range(n, 1, 65536, "n"));
    return kv->planner->fork(seq, n_tokens, {out_seqs, n});
    LARDER_API_END
}

larder_status larder_kv_checkpoint(larder_kv* kv, larder_seq seq) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    return kv->planner->checkpoint(seq);
    LARDER_API_END
}

larder_status larder_kv_shift(larder_kv* kv, larder_seq seq, uint64_t, uint64_t, int64_t) noexcept {
    LARDER_API_HANDLE(kv, kv);
    LARDER_TRY(kv->planner->check_active(seq));
    return fail(LARDER_E_UNSUPPORTED, "seq", "keys cannot be rotated to other positions yet");
}

larder_status larder_kv_compact(larder_kv* kv, larder_seq seq, const uint64_t* src, const uint64_t* dst,
                                uint64_t n) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    if (n) LARDER_API_NONNULL(src);
    if (n) LARDER_API_NONNULL(dst);
    return kv->compact(seq, src, dst, n);
    LARDER_API_END
}

larder_status larder_kv_suspend(larder_kv* kv, larder_seq seq, larder_kv_suspend_mode mode, larder_queue* queue,
                                uint64_t user_data, larder_job* out_job) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    KV_QUEUE(queue);
    if (mode != LARDER_KV_SUSPEND_DROP && mode != LARDER_KV_SUSPEND_OFFLOAD)
        return fail(LARDER_E_INVALID, "mode", "there is no suspend mode %d", mode);
    return kv->suspend(seq, mode, queue, user_data, out_job);
    LARDER_API_END
}

larder_status larder_kv_resume(larder_kv* kv, larder_seq seq, const larder_kv_begin_options* options,
                               larder_queue* queue, uint64_t user_data, larder_job* out_job) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    KV_QUEUE(queue);
    larder_kv_begin_options o;
    LARDER_TRY(read_begin(options, o));
    return kv->resume(seq, o, queue, user_data, out_job);
    LARDER_API_END
}

larder_status larder_kv_end(larder_kv* kv, larder_seq seq) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    return kv->end(seq);
    LARDER_API_END
}

larder_status larder_kv_get_layer(larder_kv* kv, uint32_t group, uint32_t layer,
                                  larder_kv_layer_view* out_view) noexcept {
    LARDER_API_HANDLE(kv, kv);
    larder_kv_layer_view v;
    LARDER_TRY(kv->worker->layer_view(group, layer, v));
    return write_struct(out_view, v, "larder_kv_layer_view");
}

larder_status larder_kv_view(larder_kv* kv, const larder_seq* seqs, uint32_t n,
                             const larder_kv_view_options* options) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    if (n) LARDER_API_NONNULL(seqs);
    return kv->planner->view(seqs, n, options);
    LARDER_API_END
}

larder_status larder_kv_flush(larder_kv* kv, larder_queue* queue, uint64_t user_data, larder_job* out_job) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    KV_QUEUE(queue);
    return kv->flush(queue, user_data, out_job);
    LARDER_API_END
}

larder_status larder_kv_evict(larder_kv* kv, uint64_t n_blocks, uint64_t* out_n_blocks) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    uint64_t n = 0;
    const larder_status s = kv->evict(n_blocks, n);
    if (out_n_blocks) *out_n_blocks = n;
    return s;
    LARDER_API_END
}

larder_status larder_kv_explain(larder_kv* kv, const larder_kv_query* query, larder_kv_block_info* out, uint32_t stride,
                                uint64_t n, uint64_t* out_n) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    LARDER_API_NONNULL(out_n);
    if (n) LARDER_API_NONNULL(out);
    LARDER_TRY(check_range(stride, sizeof(larder_kv_block_info), 4096, "stride"));
    return kv->planner->explain(query, out, stride, n, *out_n);
    LARDER_API_END
}

larder_status larder_kv_get_info(larder_kv* kv, larder_kv_info* out_info) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(kv, kv);
    larder_kv_info i;
    kv->info(i);
    return write_struct(out_info, i, "larder_kv_info");
    LARDER_API_END
}
