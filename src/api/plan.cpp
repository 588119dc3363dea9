#include "larder/plan.h"

#include "api/guard.h"
#include "kv/ranks.h"

using namespace larder;

namespace {

ByteSpan span_of(const void* bytes, uint64_t n) noexcept {
    return {static_cast<const std::byte*>(bytes), size_t(n)};
}

larder_status check_queue(const larder_worker* worker, const larder_queue* queue) noexcept {
    if (queue) LARDER_API_HANDLE_OF(worker->context, queue, queue);
    return LARDER_OK;
}

}  // namespace

// ---------------------------------------------------------------------------------------- plans

larder_status larder_plan_get_info(const larder_plan* plan, larder_plan_info* out_info) noexcept {
    LARDER_API_HANDLE(plan, plan);
    larder_plan_info i = LARDER_PLAN_INFO_INIT;
    i.n_ops = uint32_t(plan->plan.ops.size());
    i.id = plan->plan.id;
    i.n_bytes = plan_bytes(i.n_ops);
    i.layout_identity = plan->plan.layout;
    for (const PlanOp& op : plan->plan.ops) {
        i.n_loads += op.kind == PlanOpKind::load;
        i.n_stores += op.kind == PlanOpKind::store;
        i.n_copies += op.kind == PlanOpKind::copy;
        i.n_drops += op.kind == PlanOpKind::drop;
    }
    return write_struct(out_info, i, "larder_plan_info");
}

larder_status larder_plan_export(const larder_plan* plan, void* buffer, uint64_t capacity,
                                 uint64_t* out_n_bytes) noexcept {
    LARDER_API_HANDLE(plan, plan);
    LARDER_API_NONNULL(out_n_bytes);
    *out_n_bytes = plan_bytes(plan->plan.ops.size());
    if (capacity < *out_n_bytes)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "the plan has %llu bytes", (unsigned long long)*out_n_bytes);
    LARDER_API_NONNULL(buffer);
    plan_write(plan->plan, {static_cast<std::byte*>(buffer), size_t(*out_n_bytes)});
    return LARDER_OK;
}

larder_status larder_plan_import(larder_context* context, const void* bytes, uint64_t n_bytes,
                                 larder_plan** out_plan) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(bytes);
    LARDER_API_NONNULL(out_plan);
    *out_plan = nullptr;
    Plan p(context->alloc);
    LARDER_TRY(plan_read(span_of(bytes, n_bytes), p));
    *out_plan = context->make_handle<larder_plan>(*context, std::move(p));
    return LARDER_OK;
    LARDER_API_END
}

larder_status larder_plan_validate(const void* bytes, uint64_t n_bytes) noexcept {
    LARDER_API_NONNULL(bytes);
    return plan_check(span_of(bytes, n_bytes));
}

void larder_plan_destroy(larder_plan* plan) noexcept {
    if (plan && check_handle(plan, HandleType::plan, "plan") >= 0) plan->context->drop_handle(plan);
}

// -------------------------------------------------------------------------------------- planner

larder_status larder_planner_create(larder_context* context, larder_layout* layout,
                                    const larder_planner_options* options, larder_planner** out_planner) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_HANDLE_OF(context, layout, layout);
    LARDER_API_NONNULL(out_planner);
    *out_planner = nullptr;
    return larder_planner::create(*context, *layout, options, out_planner);
    LARDER_API_END
}

void larder_planner_destroy(larder_planner* planner) noexcept {
    if (planner && check_handle(planner, HandleType::planner, "planner") >= 0) planner->context->drop_handle(planner);
}

larder_status larder_planner_match(larder_planner* planner, const larder_kv_query* query,
                                   larder_kv_match_info* out_match) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    LARDER_API_NONNULL(out_match);
    LARDER_TRY(check_output(out_match, "larder_kv_match_info"));
    larder_kv_match_info m;
    LARDER_TRY(planner->planner->match(query, m));
    return write_struct(out_match, m, "larder_kv_match_info");
    LARDER_API_END
}

larder_status larder_planner_release(larder_planner* planner, larder_lease lease) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    return planner->planner->release_lease(lease);
    LARDER_API_END
}

larder_status larder_planner_begin(larder_planner* planner, larder_lease lease, const larder_kv_begin_options* options,
                                   larder_seq* out_seq, larder_plan** out_plan) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    LARDER_API_NONNULL(out_seq);
    LARDER_API_NONNULL(out_plan);
    *out_plan = nullptr;
    larder_kv_begin_options o;
    LARDER_TRY(read_options(options, o, "larder_kv_begin_options"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    uint64_t deadline = 0;
    return planner->hand_out(
        out_plan, [&](Plan& p) { return planner->planner->begin(lease, o.max_load_tokens, *out_seq, deadline, p); });
    LARDER_API_END
}

larder_status larder_planner_reserve(larder_planner* planner, larder_seq seq, uint64_t n_tokens, uint64_t n_lookahead,
                                     larder_plan** out_plan) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    LARDER_API_NONNULL(out_plan);
    *out_plan = nullptr;
    return planner->hand_out(out_plan,
                             [&](Plan& p) { return planner->planner->reserve(seq, n_tokens, n_lookahead, p); });
    LARDER_API_END
}

larder_status larder_planner_commit(larder_planner* planner, larder_seq seq, const int32_t* tokens, uint64_t n_tokens,
                                    larder_plan** out_plan) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    LARDER_API_NONNULL(out_plan);
    *out_plan = nullptr;
    return planner->hand_out(out_plan, [&](Plan& p) { return planner->planner->commit(seq, tokens, n_tokens, p); });
    LARDER_API_END
}

larder_status larder_planner_truncate(larder_planner* planner, larder_seq seq, uint64_t n_tokens) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    return planner->planner->truncate(seq, n_tokens);
    LARDER_API_END
}

larder_status larder_planner_checkpoint(larder_planner* planner, larder_seq seq) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    return planner->planner->checkpoint(seq);
    LARDER_API_END
}

larder_status larder_planner_fork(larder_planner* planner, larder_seq seq, uint64_t n_tokens, uint32_t n,
                                  larder_seq* out_seqs) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    LARDER_API_NONNULL(out_seqs);
    LARDER_TRY(check_range(n, 1, 65536, "n"));
    return planner->planner->fork(seq, n_tokens, {out_seqs, n});
    LARDER_API_END
}

larder_status larder_planner_end(larder_planner* planner, larder_seq seq) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    return planner->planner->end(seq);
    LARDER_API_END
}

larder_status larder_planner_seq_get_info(larder_planner* planner, larder_seq seq,
                                          larder_kv_seq_info* out_info) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    larder_kv_seq_info i;
    LARDER_TRY(planner->planner->seq_info(seq, i));
    return write_struct(out_info, i, "larder_kv_seq_info");
    LARDER_API_END
}

larder_status larder_planner_view(larder_planner* planner, const larder_seq* seqs, uint32_t n,
                                  const larder_kv_view_options* options) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    if (n) LARDER_API_NONNULL(seqs);
    return planner->planner->view(seqs, n, options);
    LARDER_API_END
}

larder_status larder_planner_get_info(larder_planner* planner, larder_kv_info* out_info) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    larder_kv_info i;
    planner->planner->info(i);
    return write_struct(out_info, i, "larder_kv_info");
    LARDER_API_END
}

larder_status larder_planner_evict(larder_planner* planner, uint64_t n_blocks, uint64_t* out_n_blocks,
                                   larder_plan** out_plan) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    LARDER_API_NONNULL(out_plan);
    *out_plan = nullptr;
    uint64_t n = 0;
    const larder_status s =
        planner->hand_out(out_plan, [&](Plan& p) { return planner->planner->evict(n_blocks, n, p); });
    if (out_n_blocks) *out_n_blocks = n;
    return s == LARDER_RETRY ? LARDER_PARTIAL : s;
    LARDER_API_END
}

larder_status larder_planner_flush(larder_planner* planner, larder_plan** out_plan) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    LARDER_API_NONNULL(out_plan);
    *out_plan = nullptr;
    return planner->hand_out(out_plan, [&](Plan& p) {
        planner->planner->flush(p);
        return LARDER_OK;
    });
    LARDER_API_END
}

larder_status larder_planner_report(larder_planner* planner, larder_plan_id plan, uint32_t rank,
                                    const larder_status* statuses, uint64_t n) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    if (n) LARDER_API_NONNULL(statuses);
    Ticket* done = nullptr;
    const larder_status s = planner->planner->report(plan, rank, {statuses, size_t(n)}, done);
    planner->planner->free_tickets(done);
    return s;
    LARDER_API_END
}

larder_status larder_planner_rank_dead(larder_planner* planner, uint32_t rank) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    Ticket* done = nullptr;
    const larder_status s = planner->planner->rank_dead(rank, done);
    planner->planner->free_tickets(done);
    return s;
    LARDER_API_END
}

larder_status larder_planner_rank_alive(larder_planner* planner, uint32_t rank) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    return planner->planner->rank_alive(rank);
    LARDER_API_END
}

larder_status larder_planner_import_inventory(larder_planner* planner, uint32_t rank, const void* bytes,
                                              uint64_t n_bytes) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(planner, planner);
    LARDER_API_NONNULL(bytes);
    return planner->import_inventory(rank, span_of(bytes, n_bytes));
    LARDER_API_END
}

// --------------------------------------------------------------------------------------- worker

larder_status larder_worker_create(larder_context* context, larder_layout* layout, const larder_worker_options* options,
                                   larder_worker** out_worker) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_HANDLE_OF(context, layout, layout);
    LARDER_API_NONNULL(out_worker);
    *out_worker = nullptr;
    return larder_worker::create(*context, *layout, options, out_worker);
    LARDER_API_END
}

void larder_worker_destroy(larder_worker* worker) noexcept {
    if (worker && check_handle(worker, HandleType::worker, "worker") >= 0) worker->context->drop_handle(worker);
}

larder_status larder_worker_register(larder_worker* worker, const larder_worker_tensor* tensors, uint32_t stride,
                                     uint32_t n) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(worker, worker);
    if (n) LARDER_API_NONNULL(tensors);
    LARDER_TRY(check_range(stride, 8, 4096, "stride"));
    for (uint32_t i = 0; i < n; ++i) {
        larder_worker_tensor t;
        LARDER_TRY(read_options(
            reinterpret_cast<const larder_worker_tensor*>(reinterpret_cast<const char*>(tensors) + size_t(i) * stride),
            t, "larder_worker_tensor"));
        LARDER_TRY(worker->worker->add_tensor(t));
    }
    return LARDER_OK;
    LARDER_API_END
}

larder_status larder_worker_get_layer(larder_worker* worker, uint32_t group, uint32_t layer,
                                      larder_kv_layer_view* out_view) noexcept {
    LARDER_API_HANDLE(worker, worker);
    larder_kv_layer_view v;
    LARDER_TRY(worker->worker->layer_view(group, layer, v));
    return write_struct(out_view, v, "larder_kv_layer_view");
}

larder_status larder_worker_submit(larder_worker* worker, const larder_plan* plan, uint64_t stream, larder_queue* queue,
                                   uint64_t user_data, larder_job* out_job) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(worker, worker);
    LARDER_API_HANDLE_OF(worker->context, plan, plan);
    LARDER_TRY(check_queue(worker, queue));
    // Host memory is written by this process itself: there is no stream to follow.
    (void)stream;
    return worker->submit(plan->plan, queue, user_data, out_job);
    LARDER_API_END
}

larder_status larder_worker_take_report(larder_worker* worker, larder_plan_id plan, larder_status* statuses, uint64_t n,
                                        uint64_t* out_n) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(worker, worker);
    LARDER_API_NONNULL(out_n);
    if (n) LARDER_API_NONNULL(statuses);
    return worker->take_report(plan, statuses, n, *out_n);
    LARDER_API_END
}

larder_status larder_worker_export_inventory(larder_worker* worker, void* buffer, uint64_t capacity,
                                             uint64_t* out_n_bytes) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(worker, worker);
    LARDER_API_NONNULL(out_n_bytes);
    if (capacity) LARDER_API_NONNULL(buffer);
    return worker->inventory(buffer, capacity, *out_n_bytes);
    LARDER_API_END
}
